"""Systems measured turn by turn: with processes that only print, and the material that real ones read."""

import json
import sys

import pytest

from jaxsrl.bench import against
from jaxsrl.bench.against import MODEL, SHAPES, WARM, interleaved, main, write_material
from jaxsrl.data.tokenizer import load_tokenizer
from jaxsrl.models.load import load_weights

COUNTS = "import time, json\nfor step in range(1, 10000):\n    print('noise'); print(json.dumps(dict(step=step, cpu=step / {by}, tokens=9)), flush=True); time.sleep(0.005)"  # noqa: E501


def test_systems_take_turns():
    """A turn drops the step that spans the pause; the steps of a system go on where it was stopped."""
    commands = {name: [sys.executable, "-c", COUNTS.format(by=by)] for name, by in (("a", 1), ("b", 10))}
    found = list(interleaved(commands, turns=3))
    assert [name for name, _ in found] == ["a", "b"] * 3
    for name, by in (("a", 1), ("b", 10)):
        own = [line for system, line in found if system == name]
        steps = [line["step"] for line in own]
        assert steps[0] >= WARM + 2 and all(b >= a + 2 for a, b in zip(steps, steps[1:], strict=False))
        assert all(line == {"step": line["step"], "cpu": line["step"] / by, "tokens": 9} for line in own)


def test_a_system_that_ends_says_why():
    dies = [sys.executable, "-c", "raise SystemExit('no such trainer')"]
    with pytest.raises(RuntimeError, match="ended with 1:\nno such trainer"):
        next(interleaved({"a": dies}, turns=1))


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=f"{tmp_path} has no trl: python3 -m venv .* install trl==1.16.0"):
        main([f"trl={tmp_path}"], (), 1, None)
    with pytest.raises(ValueError, match="--against takes trl=FOLDER or tunix=FOLDER, got 'verl=x'"):
        main(["verl=x"], (), 1, None)
    (tmp_path / "lib/python3.11/site-packages/trl").mkdir(parents=True)
    with pytest.raises(ValueError, match="shapes are grpo, srl and turns >= 1"):
        main([f"trl={tmp_path}"], ("sft",), 1, None)


def test_every_step_is_written_at_once(tmp_path, monkeypatch, capsys):
    """What was measured before a system dies is in the file."""
    (tmp_path / "lib/python3.11/site-packages/trl").mkdir(parents=True)
    monkeypatch.setattr(against, "write_material", lambda folder, shape: None)

    def some(commands, turns):
        yield "trl", {"step": 4, "cpu": 2.5, "tokens": 80.5}
        yield "jaxsrl", {"step": 4, "cpu": 1.5, "tokens": 81.0}
        raise RuntimeError("died")

    monkeypatch.setattr(against, "interleaved", some)
    with pytest.raises(RuntimeError, match="died"):
        main([f"trl={tmp_path}"], ("srl",), 2, tmp_path / "out.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert lines == [
        {"key": "seconds/trl/srl", "step": 4, "cpu_seconds": 2.5, "completion_tokens": 80.5},
        {"key": "seconds/jaxsrl/srl", "step": 4, "cpu_seconds": 1.5, "completion_tokens": 81.0},
    ]
    assert "80.5 tokens a completion" in capsys.readouterr().out


def test_the_material_is_read_by_us(tmp_path):
    write_material(tmp_path, SHAPES["srl"])
    assert load_weights(tmp_path / "model", MODEL)["embedding"].shape == (512, 128)
    tokenizer = load_tokenizer(str(tmp_path / "model"), template="plain")
    assert len(tokenizer.encode("a bc\n")) == 5 and tokenizer.end == 2
    rows = [json.loads(line) for line in (tmp_path / "prompts.jsonl").read_text().splitlines()]
    whole = [json.loads(line) for line in (tmp_path / "demonstrations.jsonl").read_text().splitlines()]
    sizes = json.loads((tmp_path / "sizes.json").read_text())
    assert len(rows) == 7 * len(whole) and sizes["prompts"] == 14
    assert rows[3]["expert"] == whole[0]["actions"][3] and rows[3]["prompt"].endswith(whole[0]["actions"][2] + "\n")
