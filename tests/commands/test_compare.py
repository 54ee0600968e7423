"""The table over seeds: means, intervals, what is counted."""

import math

import pytest

from jaxsrl.commands.compare import compare, interval
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
