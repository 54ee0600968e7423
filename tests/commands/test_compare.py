"""The table over seeds: means, intervals, what is counted."""

import math

import pytest

from jaxsrl.commands.compare import compare, interval
from jaxsrl.commands.doctor import run_state
from jaxsrl.commands.weights import convert
from jaxsrl.metrics import Journal
from jaxsrl.runs import RunError


def test_interval_is_students():
    """1, 2, 3: deviation 1, 4.303 / sqrt(3)."""
    mean, half = interval([1.0, 2.0, 3.0])
    assert mean == 2.0 and half == pytest.approx(2.4843, abs=1e-3)
    assert math.isnan(interval([1.0])[1])


def write_run(folder, exact, tokens):
    journal = Journal(folder)
    journal.write(
        "metrics.jsonl", [{"stage": "srl", "step": s, "kind": "train", "tokens/executed": s * tokens} for s in (1, 2)]
    )
    head = {"stage": "srl", "kind": "eval", "split": "test"}
    journal.write(
        "metrics.jsonl", [head | {"step": 0, "actions/exact": 0.9}, head | {"step": 2, "actions/exact": exact}]
    )
    journal.close()


def test_the_last_evaluation_of_each_run_counts(tmp_path):
    for seed, exact in enumerate((0.2, 0.4)):
        (tmp_path / str(seed)).mkdir()
        write_run(tmp_path / str(seed), exact, 1500)
    table = compare([tmp_path / "0", tmp_path / "1"], "test")
    assert "| stage | tokens (k) | actions/exact |" in table
    assert "| srl | 3 ± 0 | 0.3 ± 1.3 |" in table
    with pytest.raises(RunError, match="validation"):
        compare([tmp_path / "0"], "validation")
    assert "| stage | tokens (k) | actions/exact |" in compare([tmp_path / "0"], "test", ["actions/exact"])
    with pytest.raises(RunError, match="no stage has the metric 'actions/exakt'; there are: actions/exact"):
        compare([tmp_path / "0"], "test", ["actions/exakt"])


def test_differences_are_within_a_run(tmp_path):
    """Starts differ by 0.4, gains by nothing: the interval of the gain has no width."""
    for seed, start in enumerate((0.1, 0.5)):
        (tmp_path / str(seed)).mkdir()
        write_run(tmp_path / str(seed), start, 1500)
        journal = Journal(tmp_path / str(seed))
        line = {"stage": "more", "kind": "eval", "split": "test", "step": 2, "actions/exact": start + 0.25}
        journal.write("metrics.jsonl", [line])
        journal.close()
    folders = [tmp_path / "0", tmp_path / "1"]
    table = compare(folders, "test", against="srl")
    assert "| srl | 3 ± 0 | 0.3 ± 2.5 |" in table and "| more | 0 ± 0 | 0.25 ± " in table and "from srl" in table
    assert "| more | 0 ± 0 | 0.55 ± 2.5 |" in compare(folders, "test")
    with pytest.raises(RunError, match="no stage 'base' to compare with; there are: srl, more"):
        compare(folders, "test", against="base")


def test_the_page_lies_where_it_is_asked_for(tmp_path):
    (tmp_path / "0").mkdir()
    write_run(tmp_path / "0", 0.2, 1500)
    page = tmp_path / "both.html"
    assert compare([tmp_path / "0"], "test", page=page).endswith(f"page: {page}")
    assert "actions/exact" in page.read_text() and "<svg" in page.read_text()


@pytest.mark.parametrize("command", [
    lambda folder, to: compare([folder], "test"), lambda folder, to: run_state(folder),
    lambda folder, to: convert(folder, to, None, "bfloat16", 8),
])  # fmt: skip
def test_a_missing_run_is_named_with_the_nearest(tmp_path, command):
    (tmp_path / "srl_a").mkdir()
    (tmp_path / "srl_a" / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"no run folder .*srl_b; did you mean .*srl_a\?"):
        command(tmp_path / "srl_b", tmp_path / "to")
    with pytest.raises(FileNotFoundError, match=r"has: srl_a$"):
        command(tmp_path / "zzz", tmp_path / "to")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty is no run folder: it has neither"):
        command(tmp_path / "empty", tmp_path / "to")
