import json

import pytest

from jaxsrl.report.read import ReportError, is_number, lines, read_run, step_of


def test_a_folder_that_is_no_run_is_refused_by_name(tmp_path):
    with pytest.raises(ReportError, match="no such folder"):
        read_run(tmp_path / "nowhere")
    with pytest.raises(ReportError, match=r"neither config\.json nor metrics\.jsonl"):
        read_run(tmp_path)


def test_a_run_is_read_whole(make_run):
    run = read_run(make_run(steps=4, every=2))
    assert run.name == "srl_arithmetic" and run.stages == ("sft", "srl", "rlvr") and run.attempts == 2
    assert run.quarantined == 2  # the stages share their data, so they name the same rows
    assert [line["step"] for line in run.train["srl"]] == [1, 2, 3, 4]
    assert [(e["step"], e["split"]) for e in run.evals["srl"]].count((4, "test")) == 1
    assert list(run.rollouts) == ["rlvr", "srl"] and not run.complaints


def test_a_last_line_cut_by_a_kill_is_left_out_and_others_are_counted(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"a": 1}\nnot json\n[1]\n\n{"a": "\xff"}\n' + b"[" * 100_000 + b'\n{"a": 2')
    complaints: list[str] = []
    assert [row["a"] for row in lines(path, complaints)] == [1, "\ufffd"]
    assert complaints == ["3 lines of metrics.jsonl could not be read and were left out"]


def test_lines_without_a_place_are_ignored_and_the_last_of_equal_places_wins(tmp_path):
    rows = [
        {"stage": "a", "step": 2, "kind": "train", "x": 1}, {"stage": "a", "step": 1, "kind": "train", "x": 5},
        {"stage": "a", "step": 2, "kind": "train", "x": 3}, {"stage": "a", "step": None}, {"step": 1},
        {"stage": "a", "step": -1}, {"stage": "a", "step": 10**30}, {"stage": "a", "step": 2, "kind": "eval"},
    ]  # fmt: skip
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = read_run(tmp_path)
    assert run.values("a", "x") == [(1, 5), (2, 3)] and len(run.evals["a"]) == 1
    assert "there is no config.json" in run.complaints


def test_numbers_that_cannot_be_drawn_are_none(tmp_path):
    assert [is_number(v) for v in (1, 0.5, True, None, "1", float("nan"), float("-inf"), 10**400, 1e200)] == [
        True, True, False, False, False, False, False, False, False,
    ]  # fmt: skip


def test_the_step_of_a_line_is_found_whatever_its_texts_say():
    for nasty in ('"step": 7', '\\"step": 7', '{"step":7}', '\n"step":7'):
        line = {"stage": "s", "problem": nasty, "completion": nasty, "step": 3}
        for separators in ((",", ":"), (", ", ": ")):
            assert step_of(json.dumps(line, separators=separators).encode()) == 3
    assert step_of(b'{"stage": "s"}') is None
