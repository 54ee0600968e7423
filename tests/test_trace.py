"""`--trace`: a profile and seconds by phase of the steps asked for, and no other bit of the run."""

import json
from dataclasses import replace

import pytest

from jaxsrl.speed import PEAK, rates, work
from jaxsrl.trace import PHASES, Steps, summary
from jaxsrl.train import train
from tests.sharing import COMPILED
from tests.tiny_config import config


def test_steps_are_read():
    assert Steps.read("3:5") == Steps(3, 5) and Steps.read("2:2").holds(2) and not Steps.read("2:3").holds(4)
    assert Steps(3, 5).holds(1, 3) and Steps(3, 5).holds(5, 3) and not Steps(3, 5).holds(1, 2)  # steps taken together
    for wrong in ("3", "5:3", "0:1", "a:b", "1:2:3", "-1:2", ""):
        with pytest.raises(ValueError, match="--trace takes FROM:TO"):
            Steps.read(wrong)


def test_rates_by_hand():
    """A model of 10^9 parameters on two chips with a peak of 197e12 each."""
    done = work(sampled=300, prefilled=100, trained=1000, parameters=10**9, adapters=False)
    assert done["sample"] == (300, 2e9 * 400) and done["learn"] == (1000, 6e9 * 1000)
    assert work(0, 0, 1000, 10**9, adapters=True) == {"learn": (1000, 4e9 * 1000)}  # nothing was sampled
    found = rates(done, {"sample": 0.5, "learn": 0.1}, "TPU v5 lite", 2)
    assert found["tokens_per_second"] == {"sample": 600.0, "learn": 10000.0}
    assert found["mfu"] == {"sample": round(8e11 / 0.5 / 394e12, 4), "learn": round(6e12 / 0.1 / 394e12, 4)}
    assert "mfu" not in rates(done, {"sample": 0.5, "learn": 0.1}, "cpu", 2)
    assert rates(done, {"learn": 0.1}, "cpu", 2) == {"tokens_per_second": {"learn": 10000.0}}
    assert all(1e14 < peak < 1e15 for peak in PEAK.values())


def test_a_summary_by_hand():
    done = work(sampled=300, prefilled=0, trained=1000, parameters=10**9, adapters=False)
    seconds = {"sample": 0.5, "gradient": 0.25, "update": 0.05}
    lines = summary("srl", 3, 1.0, seconds, done, "TPU v5 lite", 1).splitlines()
    assert lines[0] == "[srl] step 3 traced, 1 x TPU v5 lite"
    rows = {line.split()[0]: line.split()[1:] for line in lines[2:]}
    assert list(rows) == ["sample", "gradient", "update", "rest", "step"]
    assert rows["sample"] == ["0.5000", "50.0%", "600.0", "0.61%"]
    assert rows["gradient"] == ["0.2500", "25.0%", "4,000.0", "12.18%"]
    assert rows["rest"] == ["0.2000", "20.0%"] and rows["step"] == ["1.0000", "100.0%"]


def test_a_run_with_a_trace_is_the_same_run(tmp_path):
    folders = []
    for name, steps in (("plain", None), ("traced", Steps(2, 2))):
        folders.append(train(replace(config(), runs=str(tmp_path / name)), compiled=COMPILED, trace=steps))
    plain, traced = folders
    assert (plain / "metrics.jsonl").read_bytes() == (traced / "metrics.jsonl").read_bytes()
    assert not (plain / "trace").exists()
    for stage, phases in (("sft", {"fill", "gradient", "update"}), ("srl", set(PHASES)), ("rlvr", set(PHASES))):
        folder = traced / "trace" / stage
        first = 1 if stage == "rlvr" else 2  # its collections are learned from twice
        assert {path.name for path in folder.iterdir()} == {f"step_{first}", "summary.txt"}
        assert list(folder.glob("step_*/**/*.xplane.pb"))
        found = {line.split()[0] for line in (folder / "summary.txt").read_text().splitlines()[2:] if line}
        assert phases <= found, stage
    lines = [json.loads(line) for line in (traced / "timing.jsonl").read_text().splitlines()]
    assert {
        tuple(line["phases"]["tokens_per_second"])
        for line in lines
        if line.get("stage") == "srl" and line["tokens_per_second"]
    } == {("sample", "learn")}
    page = next(traced.glob("*.html")).read_text()
    assert "sample " in page and "learn " in page
