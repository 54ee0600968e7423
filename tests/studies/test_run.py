"""A tiny study from the command line: planned, run, resumed, ended early; and the page that it makes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from jaxsrl.__main__ import main
from jaxsrl.bench.flops import useful
from jaxsrl.config.overrides import to_dict
from jaxsrl.config.run import ConfigError
from jaxsrl.metrics import read
from jaxsrl.policy import Compiled
from jaxsrl.stages.begin import prepare
from jaxsrl.studies.cost import cost, parameters
from jaxsrl.studies.plan import plan
from jaxsrl.studies.queue import Queue
from jaxsrl.studies.run import fired, hopeless, perform_cell, run, run_name, take_over
from jaxsrl.studies.study import Arm, StopBelow, load_study
from tests.sharing import COMPILED
from tests.studies.tiny_study import study

TINY = str(Path(__file__).parent / "tiny_study.py")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a tiny study that has been run to its end."""
    runs = tmp_path_factory.mktemp("studies")
    made = load_study(TINY, {"runs": str(runs)})
    assert run(made, useful, lambda: False, compiled=COMPILED) == 4
    return runs / "tiny-study"


def cells_of(folder):
    return {
        cell
        for arm in json.loads((folder / "study.json").read_text())["arms"].values()
        for cell in arm["cells"].values()
    }


def test_arms_that_read_stages_of_one_config_share_its_runs(whole):
    """Three arms and two seeds: the anchor and its repeat are stages of the same two runs."""
    arms = json.loads((whole / "study.json").read_text())["arms"]
    assert arms["anchor"]["cells"] == arms["again"]["cells"] and len(cells_of(whole)) == 4
    assert {path.name for path in (whole / "cells").iterdir()} == cells_of(whole)


def test_a_cell_holds_an_ordinary_run_folder(whole):
    for cell in cells_of(whole):
        done = json.loads((whole / "cells" / cell / "done").read_text())
        folder = whole / "cells" / cell / done["result"]["folder"]
        assert done["token"] == 1 and done["result"]["stopped"] is None and (folder / "report.html").exists()


def test_asked_again_nothing_starts(whole, capsys):
    before = {path: path.stat().st_mtime_ns for path in whole.glob("cells/*/1/*/metrics.jsonl")}
    assert main(["study", "run", TINY, "--runs", str(whole.parent)]) == 0
    assert "4 runs, all done" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in whole.glob("cells/*/1/*/metrics.jsonl")}


def test_status_tells_of_every_run(whole, capsys):
    assert main(["study", "status", TINY, "--runs", str(whole.parent)]) == 0
    out = capsys.readouterr().out
    assert "4 runs: 4 done" in out and out.count("anchor seed 0, again seed 0") == 1 and "faster seed 1" in out


def test_status_of_what_was_never_run_names_the_folder(tmp_path, capsys):
    assert main(["study", "status", TINY, "--runs", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert f"no study in {tmp_path}" in said and "`jaxsrl study run FILE` starts it" in said


def test_one_wrong_arm_and_nothing_starts(tmp_path):
    made = study()
    bad = Arm(name="bad", settings={"rows.tokens": 8, "rows.prompt_tokens": 8})
    made = replace(made, arms=(*made.arms, bad), base=replace(made.base, runs=str(tmp_path)))
    with pytest.raises(ConfigError, match="arm 'bad'.*rows.tokens=8"):
        run(made, useful, lambda: False)
    assert not list(tmp_path.iterdir())


def test_a_plan_starts_nothing_and_says_what_it_costs(tmp_path, capsys):
    assert main(["study", "run", TINY, "--runs", str(tmp_path), "--plan"]) == 0
    out = capsys.readouterr().out
    assert "4 runs, 0 done, 4 to do: at most" in out and "on this device" in out
    assert not (tmp_path / "tiny-study" / "cells").exists() or not list((tmp_path / "tiny-study" / "cells").iterdir())


def test_a_cost_is_what_was_executed(whole):
    """SFT executes what its trees have, and all of its demonstrations here have equally many tokens."""
    (folder, *_) = whole.glob("cells/*/1/*")
    lines = [x for x in read(folder / "metrics.jsonl") if x["kind"] == "train"]
    executed = {line["stage"]: line["tokens/executed"] for line in lines}
    config = study().base
    found = cost(config, prepare(config, COMPILED), useful)
    assert {name: found[name].tokens for name in executed} == pytest.approx(executed)


def test_a_budget_of_tokens_bounds_the_cost():
    config = study().base
    first = config.stages[0]
    short = replace(
        config, stages=(replace(first, tokens=100, steps=2, optimizer=replace(first.optimizer, warmup_steps=0)),)
    )
    prepared = prepare(short, COMPILED)
    assert cost(short, prepared, useful)["sft"].tokens == 100
    wide = replace(short.model, width=48)
    assert parameters(wide) > parameters(short.model)


def test_a_run_that_samples_costs_at_most_what_its_caps_allow():
    """Prompts, completions at their caps and every refill, sampled and then learned from."""
    from tests.tiny_config import config

    tiny = config()
    found = cost(tiny, prepare(tiny, COMPILED), useful)
    stage = tiny.stages[1]
    completions = stage.steps * stage.collect.demonstrations * stage.collect.most_rounds * 2 * 4 * 6
    assert found["srl"].tokens > 2 * completions > 0.1 * found["srl"].tokens and found["srl"].flops > 0


def test_a_run_that_is_taken_over_goes_on_from_what_was_saved(tmp_path):
    """The second holder has the first one's steps, and ends with the same metrics as a run left alone."""
    made = study()
    made = replace(made, base=replace(made.base, runs=str(tmp_path)), seeds=(0,))
    (cell, *_) = plan(made, useful)
    queue, calls = Queue(folder=tmp_path / "cells"), []
    first = queue.take(cell.id, "one")
    first.folder.mkdir()
    assert perform_cell(cell, first, None, lambda: calls.append(1) or len(calls) > 6, COMPILED) is None
    queue.hand_back(first)
    second = queue.take(cell.id, "two")
    second.folder.mkdir()
    before = len(read(first.folder / run_name(cell) / "metrics.jsonl"))
    result = perform_cell(cell, second, None, lambda: False, COMPILED)
    assert result["folder"] == f"2/{run_name(cell)}" and 0 < before
    assert len(list((second.cell / result["folder"] / "logs").iterdir())) == 2  # it was resumed, not begun again
    alone = queue.take("alone", "one")
    alone.folder.mkdir()
    perform_cell(cell, alone, None, lambda: False, COMPILED)
    lines = [read(place.folder / run_name(cell) / "metrics.jsonl") for place in (second, alone)]
    assert lines[0] == lines[1] and before < len(lines[0])


def test_what_cannot_be_resumed_is_begun_again(tmp_path):
    (tmp_path / "1" / "run").mkdir(parents=True)
    take_over(tmp_path / "1" / "run", tmp_path / "2" / "run")
    assert not (tmp_path / "2").exists()


def test_a_rule_ends_a_hopeless_run_and_says_by_what(tmp_path):
    made = study()
    made = replace(made, base=replace(made.base, runs=str(tmp_path)), seeds=(0,))
    (cell, *_) = plan(made, useful)
    lease = Queue(folder=tmp_path / "cells").take(cell.id, "one")
    lease.folder.mkdir()
    rule = StopBelow(stage="anchor", metric="actions/similarity", below=2.0, after=2)
    result = perform_cell(cell, lease, rule, lambda: False, COMPILED)
    assert result["stopped"]["step"] == 2 and result["stopped"]["stage"] == "anchor"
    steps = [(x["stage"], x["step"]) for x in read(lease.cell / result["folder"] / "metrics.jsonl")]
    assert ("anchor", 2) in steps and ("anchor", 4) not in steps


def test_a_rule_judges_its_own_stage_after_its_step_and_is_off_by_default(tmp_path):
    rule = StopBelow(stage="a", metric="m/x", below=0.5, after=2)
    line = lambda stage, step, value, split="validation": {
        "kind": "eval", "split": split, "stage": stage, "step": step, "m/x": value,
    }  # fmt: skip
    spared = [line("b", 9, 0.0), line("a", 1, 0.0), line("a", 2, 0.5), line("a", 9, 0.0, "test")]
    assert fired(rule, spared) is None and fired(None, [line("a", 3, 0.0)]) is None
    assert fired(rule, [*spared, line("a", 3, 0.4)])["step"] == 3
    assert hopeless(tmp_path, rule)() is None and study().stop is None


def test_cells_differ_as_their_configs_do(tmp_path):
    cells = plan(study(), useful, lambda config: prepare(config, Compiled()))
    assert len({cell.id for cell in cells}) == 4 and len({json.dumps(to_dict(cell.config)) for cell in cells}) == 4
