import json

from jaxsrl.report.curves import evaluation_curves, metric_names, training_curves
from jaxsrl.report.read import read_run


def test_bounds_places_and_empty_metrics_are_no_metrics():
    rows = [{"stage": "s", "step": 1, "kind": "eval", "a": 1, "a_low": 0, "a_high": 2, "b": None, "kl_low": 3}]
    assert metric_names(rows) == ["a", "kl_low"]


def test_losses_of_different_objectives_get_their_own_panels(make_run):
    page = training_curves(read_run(make_run(steps=4)))
    assert "<b>loss of sft</b>" in page and "<b>loss of srl</b>" in page and "<b>loss</b>" not in page
    assert page.count("<b>reward/mean</b>") == 1


def test_metrics_that_never_move_are_told_in_a_line(make_run):
    page = training_curves(read_run(make_run(stages=("srl",), steps=4)))
    assert "Without change: collect/groups 64, pack/cut_trees 0, update/skipped 0." in page
    assert "<b>pack/cut_trees</b>" not in page


def test_a_constant_reward_still_has_its_panel(tmp_path):
    rows = [{"stage": "s", "step": i, "kind": "train", "reward/mean": -1.0} for i in range(1, 4)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "<b>reward/mean</b>" in training_curves(read_run(tmp_path))


def test_validation_curves_need_two_evaluations(make_run):
    assert "<b>actions/exact</b>" in evaluation_curves(read_run(make_run(steps=4, every=4)))
    assert evaluation_curves(read_run(make_run(stages=("sft",), steps=4, every=9))) is None
