import json

import pytest

from jaxsrl.report.alarms import alarms
from jaxsrl.report.read import read_run


def run_of(tmp_path, rows, **config):
    (tmp_path / "config.json").write_text(
        json.dumps({"name": "r", "stages": [{"name": "s", "steps": len(rows)}]} | config)
    )
    (tmp_path / "environment.json").write_text("{}")
    lines = [{"stage": "s", "step": i + 1, "kind": "train", "loss": 0.1} | row for i, row in enumerate(rows)]
    lines.append({"stage": "s", "step": len(rows), "kind": "eval", "split": "validation", "actions/exact": 0.5})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return read_run(tmp_path)


def test_a_sound_run_has_none(make_run):
    assert alarms(read_run(make_run(steps=40, every=20))) == []


@pytest.mark.parametrize(
    ("bad", "good", "said"),
    [({"reward/mean": 0.25}, None, "0.25 for the last 30"),
     ({"collect/kept_share": 0.05}, {"collect/kept_share": 0.15}, "only 5.0% of groups were kept"),
     ({"collect/kept_share": 0.0, "reward/mean": -1.0}, None,
      "no group was kept at the last 30 logged steps, mean reward -1: nothing is learned"),
     ({"reward/malformed_share": 0.6}, {"reward/malformed_share": 0.4}, "60.0% of completions were malformed"),
     ({"completion/truncated_share": 0.7}, {"completion/truncated_share": 0.3}, "70.0% of completions ran to the cap"),
     ({"collect/short": 1}, {"collect/short": 0}, "refill bound was met at 100%"),
     ({"reward/timeout_share": 0.01}, {"reward/timeout_share": 0.0}, "bits of this run are not promised"),
     ({"update/skipped": 3}, {"update/skipped": 0}, "3 updates were skipped"),
     ({"pg/behavior_kl": 0.02}, {"pg/behavior_kl": 0.002}, "pg/behavior_kl is 0.02 at step 1"),
     ({"loss": None}, {"loss": 0.2}, "no value at 30 logged steps")],
)  # fmt: skip
def test_each_alarm_sounds_and_only_then(tmp_path, bad, good, said):
    assert any(said in text for text in alarms(run_of(tmp_path, [bad] * 30)))
    fine = [good or {"reward/mean": 0.25 + 0.01 * (i % 3)} for i in range(30)]
    assert alarms(run_of(tmp_path, fine)) == []


def test_shares_are_of_the_last_steps_not_of_the_first(tmp_path):
    rows = [{"reward/malformed_share": 0.9}] * 20 + [{"reward/malformed_share": 0.1}] * 10
    assert alarms(run_of(tmp_path, rows)) == []


def test_what_is_missing_is_said(tmp_path):
    (tmp_path / "config.json").write_text('{"stages": [{"name": "srl", "steps": 10}]}')
    said = alarms(read_run(tmp_path))
    for part in (
        "There is no environment.json.",
        "No training step",
        "No eval yet",
        "srl: not started, 10 steps planned.",
    ):
        assert any(part in text for text in said)


def test_a_stage_that_was_cut_short_is_told_by_its_metrics_not_by_its_clocks(make_run):
    folder = make_run(stages=("srl",), steps=8, every=4)
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(x for x in lines if json.loads(x)["step"] <= 5))
    assert "srl: at step 5 of 8." in alarms(read_run(folder))


def test_a_later_step_on_old_rollouts_may_differ_from_the_sampler(tmp_path):
    rows = [{"pg/behavior_kl": 0.02}] * 4
    stages = [{"name": "s", "steps": 4, "updates_per_rollout": 2}]
    assert alarms(run_of(tmp_path, rows, stages=stages)) == []


def test_float32_agrees_more_closely_than_bfloat16(tmp_path):
    rows = [{"pg/behavior_kl": 0.0}, {"pg/behavior_kl": 0.001}]
    assert alarms(run_of(tmp_path, rows, model={"dtype": "bfloat16"})) == []
    assert "0.001 at step 2" in alarms(run_of(tmp_path, rows, model={"dtype": "float32"}))[0]
