import json
import re

from jaxsrl.report.read import read_run
from jaxsrl.report.rollouts import MOST_OF_GROUP, MOST_ROWS, choose, rollouts


def test_first_middle_and_last_step_with_a_kept_and_a_dropped_group(make_run):
    groups = choose(read_run(make_run(steps=9)), [])
    assert [(g.stage, g.step) for g in groups[::2]] == [(s, k) for s in ("srl", "rlvr") for k in (1, 5, 9)]
    assert [g.rows[0]["kept"] for g in groups[:2]] == [True, False]
    assert all(g.size == 8 and len(g.rows) == MOST_OF_GROUP for g in groups)
    for group in groups:
        rewards = [r["reward"] for r in group.rows]
        assert rewards == sorted(rewards, reverse=True) and rewards[-1] == -1.0


def test_the_page_stays_short_however_many_stages(make_run, sampled):
    folder = make_run(stages=("srl",), steps=3)
    for i in range(30):
        rows = "".join(json.dumps(row) + "\n" for s in (1, 2, 3) for row in sampled(f"s{i}", s, 2))
        (folder / f"rollouts/s{i}.jsonl").write_text(rows)
    groups = choose(read_run(folder), [])
    assert 0 < sum(len(g.rows) for g in groups) <= max(MOST_ROWS, 31 * 3)


def test_a_filter_for_every_stage_that_needs_no_script(make_run):
    page = rollouts(read_run(make_run(steps=2)), [])
    assert re.findall(r'type="radio" name="stage" id="stage-(\w+)"', page) == ["all", "1", "2"]
    assert '#stage-2:checked~.groups>:not([data-stage="2"])' in page
    assert 'type="radio"' not in rollouts(read_run(make_run(stages=("srl",), steps=2)), [])


def test_broken_rows_are_counted_and_odd_ones_shown(make_run):
    folder = make_run(stages=("srl",), steps=1)
    odd = {"stage": "srl", "step": 1, "completion": "x", "reward": None, "advantage": "?", "tokens": None, "group": [1]}
    path = folder / "rollouts/srl.jsonl"
    path.write_text(json.dumps(odd) + "\nnot json\n" + '{"step": 1}\n' + '{"step": 1, "completion": "cut')
    complaints: list[str] = []
    page = rollouts(read_run(folder), complaints)
    assert complaints == ["2 lines of rollouts/srl.jsonl could not be read and were left out"]
    assert page.count("<article") == 1 and "malformed" in page


def test_no_rollouts_is_said(make_run):
    assert "No rollouts" in rollouts(read_run(make_run(stages=("sft",), steps=1)), [])
