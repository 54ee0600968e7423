"""A warning is said when it begins, not at every step; an evaluation is one line."""

from jaxsrl.report.watch import Watch, evaluation_line

CONFIG = {"stages": [{"name": "srl", "steps": 100}], "model": {"dtype": "float32"}}


def said(rows):
    """(step, warnings) where there are some; a row a step."""
    watch = Watch(stage="srl", config=CONFIG)
    lines = [{"stage": "srl", "step": i + 1, "kind": "train"} | row for i, row in enumerate(rows)]
    return [(line["step"], found) for line in lines if (found := watch.look([line]))], watch


def test_nothing_kept_is_said_at_the_third_step_and_once():
    found, watch = said([{"collect/kept_share": 0.0, "reward/mean": -1.0}] * 9)
    first = "no group was kept at the last 3 logged steps, mean reward -1"
    assert [step for step, _ in found] == [3] and len(found[0][1]) == 1 and first in found[0][1][0]
    assert any("last 9 logged steps" in text for text in watch.look((), last=True))


def test_one_step_with_groups_is_no_alarm():
    found, _ = said([{"collect/kept_share": share} for share in (0.0, 0.0, 0.5, 0.0, 0.0, 0.5) * 2])
    assert not any("no group was kept" in text for _, texts in found for text in texts)


def test_skipped_updates_are_said_at_once_and_when_they_have_doubled():
    counts = (0, 0, 1, 1, 2, 3, 4, 4, 5)
    found, _ = said([{"update/skipped": n, "loss": 0.1} for n in counts])
    assert [step for step, _ in found] == [3, 5, 7]
    assert found[0][1] == ["1 update was skipped because a gradient was not finite."]


def test_shares_are_looked_at_every_ten_steps():
    found, _ = said([{"reward/malformed_share": 0.9}] * 25)
    assert [step for step, _ in found] == [10] and "90.0% of completions were malformed" in found[0][1][0]


def test_a_sound_stage_says_nothing():
    found, watch = said([{"update/skipped": 0, "collect/kept_share": 0.5, "reward/mean": i / 40} for i in range(40)])
    assert found == [] and watch.look((), last=True) == []
    assert Watch(stage="srl", config=CONFIG).look((), last=True) == []


def test_an_evaluation_in_one_line():
    metrics = {
        "actions/exact": 0.414, "actions/exact_low": 0.337, "actions/exact_high": 0.494, "actions/similarity": 0.794,
        "actions/malformed": 0.01, "direct/answer": None, "direct/avg@4": 0.25, "direct/avg@4_low": 0.1,
        "direct/avg@4_high": 0.4, "forced_direct/avg@4": 0.9, "actions/tokens_mean": 28.0,
    }  # fmt: skip
    line = evaluation_line(metrics, ("actions/tokens_mean",))
    assert line == (
        "actions/tokens_mean 28.0, actions/exact 41.4 % (33.7–49.4), actions/similarity 0.794, "
        "direct/avg@4 25.0 % (10.0–40.0)"
    )


def test_an_evaluation_of_which_nothing_applies_says_so():
    nothing = {"direct/problems": 0, "direct/accuracy": None}
    assert evaluation_line(nothing, ("direct/accuracy",)) == "no headline metric applies to these problems"
    assert evaluation_line(nothing | {"direct/accuracy": 0.5}, ("direct/accuracy",)) == "direct/accuracy 50.0 %"
