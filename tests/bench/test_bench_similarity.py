"""The bench compares everything with difflib, says what it leaves out, and finds a wrong number."""

import importlib.util
import json
import sys
from difflib import SequenceMatcher
from types import SimpleNamespace

import numpy as np
import pytest

from jaxsrl.__main__ import main
from jaxsrl.bench import similarity
from jaxsrl.bench.pairs import KINDS, pairs
from jaxsrl.ops.similarity import host


def test_the_command_prints_tables_and_writes_the_numbers(tmp_path, capsys):
    file = tmp_path / "bench.json"
    some = ["--backends", "difflib", "gallop", "--chars", "100", "--tokens", "32", "--seconds", "0.04"]
    assert main(["bench", "similarity", *some, "--repeat", "64", "--json", str(file)]) == 0
    printed = capsys.readouterr().out
    assert "chars 100" in printed and "tokens 32" in printed and "period 2 against 3" in printed
    assert "mismatches: 0 of" in printed and "WRONG" not in printed
    made = json.loads(file.read_text())
    cells = [(r["name"], r["unit"], r["length"], r["autojunk"]) for r in made["rates"]]
    want = [(n, u, x, j) for u, x in (("chars", 100), ("tokens", 32)) for j in (False, True) for n in some[1:3]]
    assert sorted(cells) == sorted(want)
    assert all(r["compared"] and set(r["kinds"]) == set(KINDS) for r in made["rates"])
    assert {s["case"] for s in made["pathological"]} == set(similarity.repetitive(64))


def test_what_is_missing_is_said_and_never_replaced(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    lines = []
    similarity.bench((), (), (), 0.01, 0, out=lines.append)
    assert host.COMMAND in "\n".join(lines) and "needs a TPU" in "\n".join(lines)
    if importlib.util.find_spec("difflib_fast") is None:
        assert "difflib_fast (not installed; pip install 'difflib-fast>=0.4,<0.5')" in "\n".join(lines)
    assert main(["bench", "similarity", "--backends", "host"]) == 1
    assert host.COMMAND in capsys.readouterr().err
    assert main(["bench", "similarity", "--backends", "dificult"]) == 2
    assert "unknown implementation 'dificult', have difflib" in capsys.readouterr().err


def test_a_wrong_value_is_counted(monkeypatch):
    one = similarity.one
    monkeypatch.setattr(similarity, "one", lambda name, aj: (lambda a, b: 1) if name == "gallop" else one(name, aj))
    rate = similarity.cell(["gallop"], "tokens", 32, False, 0.02)[0]
    assert 0 < rate.mismatches <= rate.compared
    assert "WRONG" in similarity.table([rate])


def test_batched_backends_give_difflibs_values():
    made = pairs("half", 32, 24, unit="tokens")
    want = [sum(n for *_, n in SequenceMatcher(None, a, b, False).get_matching_blocks()) for a, b in made]
    assert similarity.measure("xla", made, 24, False, 0.0)[1] == want


def test_difflib_fast_is_asked_without_autojunk(monkeypatch):
    """A stand-in for the package, which takes texts: ids of half the code points, where surrogates lie, come back."""
    texts = []

    def ratio(pairs, threads):
        texts.extend(pairs)
        return [SequenceMatcher(None, a, b, False).ratio() for a, b in pairs]

    monkeypatch.setitem(sys.modules, "difflib_fast", SimpleNamespace(ratio=ratio, __spec__=object()))
    made = [([1, 0xD7FF, 0xD800, 0xDFFF, 9], [0xD7FF, 0xD800, 0xDFFF]), ([5, 6], [6, 5, 6])]
    assert similarity.batched("difflib_fast", made, 8, False)() == [3, 2]
    assert texts[0][0].encode() and [len(a) for a, _ in texts] == [5, 2]
    rates = [similarity.cell(["difflib_fast"], "tokens", 32, autojunk, 0.02) for autojunk in (False, True)]
    assert rates[0][0].mismatches == 0 < rates[0][0].compared and rates[1] == []


def test_a_straggler_is_timed_in_its_batch():
    stalls = similarity.straggling(["gallop", "xla"], 48, False)
    assert [s.case for s in stalls] == [f"{case}, one of 64" for case in similarity.STRAGGLERS]
    assert all(s.name == "xla" and s.equal for s in stalls)
    assert "one of 64" in similarity.stall_table([*similarity.pathological(["gallop"], 48, False), *stalls])


@pytest.mark.parametrize("unit", ["chars", "tokens"])
def test_steps_are_related_as_their_kind_says(unit):
    """Mean ratios fall from near to unrelated; seeded, full, and never longer than asked for."""
    ratios = {}
    for kind in KINDS:
        made = pairs(kind, 40, 150, unit=unit)
        assert made == pairs(kind, 40, 150, unit=unit) != pairs(kind, 40, 150, unit=unit, seed=1)
        lengths = np.array([[len(a), len(b)] for a, b in made])
        assert lengths.max() <= 150 and lengths.mean() > 75
        ratios[kind] = np.mean([SequenceMatcher(None, a, b, False).ratio() for a, b in made])
    assert 1 > ratios["near"] > ratios["paraphrased"] + 0.05 > ratios["half"] > ratios["unrelated"] + 0.05, ratios
