import json

from jaxsrl.report.read import read_run
from jaxsrl.report.results import interval, result_rows, results


def test_rows_are_the_last_evaluation_of_each_stage_and_the_first_model(make_run):
    run = read_run(make_run(steps=12, every=4))
    assert [(r.name, r.line["step"]) for r in result_rows(run, "validation")] == [
        ("before sft", 0), ("sft", 12), ("srl", 12), ("rlvr", 12),
    ]  # fmt: skip
    assert [r.name for r in result_rows(run, "test")] == ["sft", "srl", "rlvr"]


def test_the_table_has_modes_baselines_forced_variants_and_intervals(make_run):
    folder = make_run(stages=("srl",), steps=4, every=4)
    page = results(read_run(folder))
    for part in ("test split", "validation split", "next action", "baseline<small>other problem</small>",
                 "baseline<small>previous</small>", "forced_chained", "think&gt; written for the model"):  # fmt: skip
        assert part in page
    lines = [json.loads(x) for x in (folder / "metrics.jsonl").read_text().splitlines()]
    last = [x for x in lines if x.get("split") == "test"][-1]
    exact, low, high = (100 * last["actions/exact" + end] for end in ("", "_low", "_high"))
    assert f"{exact:.1f}" in page and f"<small>{low:.1f}–{high:.1f}</small>" in page
    assert page.index("test split") < page.index("validation split")


def test_the_highest_of_a_column_is_bold_and_a_tie_is_not(tmp_path):
    line = {"step": 1, "kind": "eval", "split": "test", "direct/answer": 0.5}
    rows = [line | {"stage": "a", "actions/exact": 0.2}, line | {"stage": "b", "actions/exact": 0.4}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = results(read_run(tmp_path))
    assert page.count("<strong") == 1 and ">40.0</strong>" in page


def test_sampled_shares_stand_beside_the_greedy_one(tmp_path):
    line = {"step": 1, "kind": "eval", "split": "test", "stage": "a", "direct/answer": 0.5, "direct/thinks": 0.1}
    line |= {"direct/avg@8": 0.4, "direct/pass@8": 0.9, "direct/sampled_thinks": 0.3}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    page = results(read_run(tmp_path)).partition("All 5 metrics")[0]
    places = [page.index(f'title="direct/{name}"') for name in ("answer", "avg@8", "pass@8", "thinks")]
    assert places == sorted(places) and "sampled_thinks" not in page


def test_missing_and_null_metrics_are_dashes(tmp_path):
    line = {"step": 1, "kind": "eval", "split": "test"}
    rows = [
        line | {"stage": "a", "actions/exact": None, "chained/answer": 0.25},
        line | {"stage": "b", "actions/exact": 0.4},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert results(read_run(tmp_path)).count("–</td>") >= 2


def test_intervals_below_zero_are_not_read_as_dashes():
    assert interval(0.1, 0.2, "actions/exact") == "10.0–20.0"
    assert interval(-0.1, 0.2, "reward/mean") == "−0.100 to 0.200"


def test_every_mode_has_a_table_of_its_own_that_a_window_holds(tmp_path):
    """Side by side they took 1,417 pixels of 1,280; a mode has 13 columns at most, and what is wider scrolls."""
    line = {"step": 1, "kind": "eval", "split": "test", "stage": "a"}
    names = ("exact", "similarity", "similarity_previous", "similarity_other_problem", "malformed", "thinks", "tokens")
    line |= {f"{mode}/{name}": 0.5 for mode in ("actions", "chained", "direct") for name in names}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    page = results(read_run(tmp_path)).partition("All 21 metrics")[0]
    tables = page.split('<div class="scroll"')[1:] or page.split('class="scroll"')[1:]
    assert [t.count('scope="col"') for t in tables] == [8, 8, 8]
    assert [mode in t for mode, t in zip(("actions<", "chained<", "direct<"), tables, strict=True)] == [True] * 3
