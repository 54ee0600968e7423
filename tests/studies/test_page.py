"""The page of a study and of a fit: what it says, where it leads, and what it does with text it is given."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jaxsrl.__main__ import main
from jaxsrl.config.overrides import to_dict
from jaxsrl.models.config import parameter_count, preset
from jaxsrl.runs import RunError
from jaxsrl.studies.charts import Line, plot, signed
from jaxsrl.studies.fit_file import fit_file, read_columns
from jaxsrl.studies.identity import difference
from jaxsrl.studies.ledger import spent
from jaxsrl.studies.page import write_page
from jaxsrl.studies.plan import read_plan
from jaxsrl.studies.results import judged, results
from jaxsrl.studies.summary import summary
from tests.studies.test_fits import points, rewards

METRIC = "actions/exact"
STAGES = [{"name": name, "lr": lr} for name, lr in (("anchor", 0.1), ("again", 0.1), ("better", 0.3))]


def a_study(folder, effect=0.2, seeds=5, name="made"):
    """A study's folder as a runner leaves it, whose runs were drawn and not trained."""
    rng = np.random.default_rng(0)
    arms, costs = {}, {}
    for stage in STAGES:
        cells = {str(seed): f"cell{seed}" for seed in range(seeds)}
        arms[stage["name"]] = {"stage": stage["name"], "cells": cells, "config": {"stages": STAGES}}
    for seed in range(seeds):
        base, costs[f"cell{seed}"] = rng.normal(0.5, 0.1), {"tokens": 1e4, "flops": 1e9}
        place = folder / "cells" / f"cell{seed}"
        (place / "1" / "run").mkdir(parents=True)
        lines = []
        for stage in STAGES:
            for step in (1, 2, 3):
                value = base + (effect if stage["name"] == "better" else 0) + rng.normal(0, 0.01)
                lines.append(
                    {"stage": stage["name"], "step": step, "kind": "eval", "split": "validation", METRIC: value}
                )
                lines.append({"stage": stage["name"], "step": step, "kind": "train", "tokens/executed": 100 * step})
        (place / "1" / "run" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        result = {"folder": "1/run", "seconds": 10.0, "stopped": None}
        (place / "done").write_text(json.dumps({"token": 1, "worker": "one", "result": result}))
        (place / "lease.1").write_text("{}")
    plan = {
        "name": name, "question": "Is <b>it</b> better?", "fixed": "all", "anchor": "anchor", "repeats": ["again"],
        "estimator": {"metric": METRIC, "split": "validation", "last": 2}, "interval": "t", "smallest_effect": 0.05,
        "power": 0.8, "stop": None, "arms": arms, "costs": costs,
    }  # fmt: skip
    (folder / "study.json").write_text(json.dumps(plan))
    return folder


def test_an_estimate_is_the_mean_of_the_last_evaluations(tmp_path):
    found = results(a_study(tmp_path))
    one = next(r for r in found.runs if (r.arm, r.seed) == ("better", 2))
    assert one.value == pytest.approx(sum(one.curve[-2:]) / 2) and one.steps == (1, 2, 3) and one.tokens == 300
    assert one.value != max(one.curve)


def test_the_page_says_the_verdict_and_leads_to_every_run(tmp_path):
    folder = a_study(tmp_path)
    html = write_page(folder).read_text()
    assert "<b>better</b>" in html and "Is &lt;b&gt;it&lt;/b&gt; better?" in html and "5 pairs of the anchor" in html
    links = set(re.findall(r'href="([^"]+)"', html))
    assert {f"cells/cell{seed}/1/run/report.html" for seed in range(5)} == links
    assert "lr: 0.1 → 0.3" in html and "http" not in html.replace("http-equiv", "")
    rows = list(csv.DictReader((folder / "points.csv").open()))
    assert len(rows) == 15 and {row["arm"] for row in rows} == {"anchor", "again", "better"}
    assert write_page(folder).read_text() == html and "study fit curves.csv" in html
    (folder / "curves.fit.html").write_text("as `study fit` writes it")
    assert 'href="curves.fit.html"' in write_page(folder).read_text()
    curves = list(csv.DictReader((folder / "curves.csv").open()))
    assert (
        len(curves) == 45 and curves[0]["step"] == "1" and curves[0]["tokens"] == "100.0" and not curves[0]["compute"]
    )


def test_curves_and_ledger_by_what_was_spent(tmp_path):
    """By hand from tokens and parameters; a step that was taken twice counts once."""
    folder, model = a_study(tmp_path, seeds=2), preset("0.1M")
    for place in folder.glob("cells/*/1/run"):
        (place / "model.json").write_text(json.dumps(to_dict(model)))
        (place / "config.json").write_text("{}")
        lines = [json.loads(x) for x in (place / "metrics.jsonl").read_text().splitlines()]
        for line in lines:
            line |= {"collect/prefilled_tokens": 10, "collect/sampled_tokens": 30} if line["kind"] == "train" else {}
        (place / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
        clock = [{"stage": "better", "step": s, "seconds": {"steps": s, "evaluate": 99}} for s in (1, 2, 3, 2, 3)]
        (place / "timing.jsonl").write_text("".join(json.dumps(x) + "\n" for x in clock))
    found = spent(place, "better")
    assert found.tokens == {"prefill": 30, "sample": 90, "learn": 180}
    count = parameter_count(model)
    assert found.flops == {"prefill": 60 * count, "sample": 180 * count, "learn": 1080 * count}
    assert found.at[2] == {"tokens": 200.0, "FLOPs": 2 / 3 * sum(found.flops.values()), "seconds": 3.0}
    html = write_page(folder).read_text()
    for axis in ("tokens executed by the stage", "FLOPs of the stage", "seconds of the stage"):
        assert axis in html
    assert "learn, FLOPs" in html and next(csv.DictReader((folder / "points.csv").open()))["sample_tokens"] == "90"
    assert "nothing was learned" not in html
    line = lambda x: x | ({"collect/sampled_tokens": 90} if x["stage"] == "better" else {})
    (place / "metrics.jsonl").write_text("".join(json.dumps(line(x)) + "\n" for x in lines))
    assert f"better, seed {place.parents[1].name[-1]}: nothing was learned from" in write_page(folder).read_text()
    (place / "config.json").write_text('{"lora": {}}')
    (place / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    assert spent(place, "better").flops["learn"] == 720 * count


def test_averages_over_other_parts_of_training_are_told(tmp_path):
    """An arm evaluated at 1 and 3 of 3 steps averages from a third of its tokens on, its anchor from two thirds."""
    folder = a_study(tmp_path, seeds=2)
    assert "evaluations that are averaged begin" not in write_page(folder).read_text()
    for path in folder.glob("cells/*/1/run/metrics.jsonl"):
        lines = [json.loads(x) for x in path.read_text().splitlines()]
        kept = [x for x in lines if (x["stage"], x["kind"], x["step"]) != ("better", "eval", 2)]
        path.write_text("".join(json.dumps(x) + "\n" for x in kept))
    html = write_page(folder).read_text()
    assert "better: the evaluations that are averaged begin after 33% of its tokens, those of anchor after 67%" in html
    assert html.count("evaluations that are averaged begin") == 1


def test_same_is_a_floor_effect_where_the_anchor_itself_did_not_gain(tmp_path):
    """As good as an anchor that gained 0.01 or lost 0.3 says nothing, as one that gained 0.2 it does. Where the start
    is not known nothing is told."""
    folder = a_study(tmp_path, effect=0.0)
    assert [c.verdict for c in results(folder).comparisons] == ["same"]
    assert "floor effect" not in summary(results(folder)) and "floor effect" not in write_page(folder).read_text()
    for gain, told in ((0.01, True), (-0.3, True), (0.2, False)):
        for path in folder.glob("cells/*/1/run/metrics.jsonl"):
            lines = [json.loads(x) for x in path.read_text().splitlines()]
            lines = [x for x in lines if (x["kind"], x["step"]) != ("eval", 0)]
            ends = {x["stage"]: x[METRIC] for x in lines if x["kind"] == "eval"}
            first = [dict(lines[0], stage=name, step=0, **{METRIC: value - gain}) for name, value in ends.items()]
            path.write_text("".join(json.dumps(x) + "\n" for x in [*first, *lines]))
        for text in (summary(results(folder)), write_page(folder).read_text()):
            assert ("better: “same” is a floor effect, as anchor itself learned nothing: it moved by" in text) == told
    assert summary(results(folder)).startswith("Noise floor: the anchor differs from itself by a standard deviation")
    assert "better less anchor: " in summary(results(folder))


def test_the_curves_of_an_arm_are_fitted_from_the_study_s_own_file(tmp_path, capsys):
    """The seeds of one arm; what was evaluated before any compute is where the curve starts, and no point of it."""
    compute, reward = rewards(0)
    path = tmp_path / "curves.csv"
    lines = ["arm,seed,step,compute,reward", *(f"other,0,{i},{c},0.5" for i, c in enumerate(compute, 1))]
    lines += ["srl,0,0,0.0,0.09", "srl,1,0,0.0,0.11"]
    lines += [f"srl,{i % 2},{i},{c},{r}" for i, (c, r) in enumerate(zip(compute, reward, strict=True), 1)]
    path.write_text("\n".join(lines) + "\n")
    said, page = fit_file(path, arm="srl", draws=50)
    alone = write_csv(tmp_path / "alone.csv", compute=compute, reward=reward)
    assert said == fit_file(alone, start=0.1, draws=50)[0] and page == tmp_path / "curves.srl.fit.html"
    assert main(["study", "fit", str(path), "--arm", "sft"]) == 2
    assert "has the arms other, srl; give one of them as --arm" in capsys.readouterr().err
    with pytest.raises(ValueError, match="give one of them as --arm, got None"):
        fit_file(path)


def test_what_a_run_did_not_log_is_not_made_up(tmp_path):
    """Every second step is logged: what was sampled in the others is unknown, what was executed is not."""
    folder = a_study(tmp_path, seeds=1)
    (place,) = folder.glob("cells/*/1/run")
    (place / "model.json").write_text(json.dumps(to_dict(preset("0.1M"))))
    (place / "config.json").write_text("{}")
    lines = [x for x in (place / "metrics.jsonl").read_text().splitlines() if json.loads(x)["step"] != 1]
    (place / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    found = spent(place, "better")
    assert not found.tokens and not found.flops and found.at[2] == {"tokens": 200.0}


def test_pairing_by_problem_reads_the_completions_that_were_counted(tmp_path):
    """Problem 0 is solved by the better arm alone; other steps, modes, samples and splits are not counted."""
    folder = a_study(tmp_path, seeds=2)
    line = {"split": "validation", "step": 3, "mode": "actions", "decoding": "greedy"}
    for place in folder.glob("cells/*/1/run"):
        (place / "evals").mkdir()
        for name in ("anchor", "better"):
            right = [dict(line, problem=str(p), correct=p == 0 and name == "better") for p in range(4)]
            other = [dict(line, problem="0", correct=True) | change for change in (
                {"step": 1}, {"mode": "direct"}, {"decoding": "sampled"}, {"split": "test"})]  # fmt: skip
            text = "".join(json.dumps(x) + "\n" for x in [*right, *other])
            (place / "evals" / f"{name}.jsonl").write_text(text)
    found = results(folder)
    assert found.over_problems["better"].value == pytest.approx(0.25) and "again" not in found.over_problems
    assert found.over_problems["better"].low < 0 < found.over_problems["better"].high
    assert "other problems too" in write_page(folder).read_text()


def test_a_study_with_swapped_labels_says_the_opposite(tmp_path):
    folder = a_study(tmp_path)
    assert [c.verdict for c in results(folder).comparisons] == ["better"]
    path = folder / "study.json"
    plan = json.loads(path.read_text())
    swap = {"anchor": "better", "better": "anchor"}
    for arm in plan["arms"].values():
        arm["stage"] = swap.get(arm["stage"], arm["stage"])
    plan["repeats"] = []
    path.write_text(json.dumps(plan))
    (swapped, *_) = [c for c in results(folder).comparisons if c.arm == "better"]
    assert swapped.difference.value < 0 and swapped.verdict in ("worse", "refused")
    values = {name: {r.seed: r.value for r in results(folder).runs if r.arm == name} for name in plan["arms"]}
    again = {seed: value + 0.01 * (-1) ** seed for seed, value in values["anchor"].items()}
    _, compared = judged(plan | {"repeats": ["repeat"]}, values | {"repeat": again})
    assert next(c for c in compared if c.arm == "better").verdict == "worse"


def test_an_arm_names_what_it_is_compared_with(tmp_path):
    """The repeat is turned into an arm of its own, which the better one is compared with."""
    folder = a_study(tmp_path)
    path = folder / "study.json"
    plan = json.loads(path.read_text())
    plan["repeats"], plan["arms"]["better"]["against"] = [], "again"
    path.write_text(json.dumps(plan))
    found = results(folder)
    by_arm = {name: {r.seed: r.value for r in found.runs if r.arm == name} for name in plan["arms"]}
    (better,) = [c for c in found.comparisons if c.arm == "better"]
    assert better.against == "again"
    assert better.difference.value == pytest.approx(
        np.mean([by_arm["better"][s] - by_arm["again"][s] for s in range(5)])
    )
    html = write_page(folder).read_text()
    assert "better – again" in html and "again – anchor" in html and "read at stage better, its anchor at again" in html


def test_what_is_missing_is_named_and_the_rest_is_shown(tmp_path):
    folder = a_study(tmp_path)
    (folder / "cells" / "cell4" / "done").unlink()
    (folder / "cells" / "cell3" / "1" / "run" / "metrics.jsonl").write_text("")
    found = results(folder)
    assert sum("seed 4: " in text for text in found.missing) == 1 and len(found.missing) == 4
    assert any(text.startswith("anchor, again, better, seed 4: ") for text in found.missing)
    assert any("better, seed 3: 0 of the 2 evaluations" in text for text in found.missing)
    assert found.comparisons[0].seeds == (0, 1, 2) and "No value of better, seed 3" in write_page(folder).read_text()
    with pytest.raises(RunError, match="no study in .*nothing.*study run FILE"):
        read_plan(tmp_path / "nothing")


def test_a_last_evaluation_without_a_value_is_not_replaced_by_an_earlier_one(tmp_path):
    """A policy that ends without a well-formed action has no similarity there; what it had before does not count."""
    folder = a_study(tmp_path, seeds=2)
    path = folder / "cells" / "cell1" / "1" / "run" / "metrics.jsonl"
    lines = [json.loads(x) for x in path.read_text().splitlines()]
    for line in lines:
        if (line["stage"], line["kind"]) == ("better", "eval"):
            line |= {METRIC: None} if line["step"] == 3 else {}
    path.write_text("".join(json.dumps(x) + "\n" for x in lines))
    found = results(folder)
    assert found.missing == (
        f"better, seed 1: {METRIC} has no value at 1 of the last 2 evaluations of stage better: nothing there was well "
        "formed",
    )
    lines = [x | ({METRIC: None} if x["kind"] == "eval" and x["step"] == 1 else {METRIC: 0.5}) for x in lines]
    path.write_text("".join(json.dumps(x) + "\n" for x in lines))
    one = next(r for r in results(folder).runs if (r.arm, r.seed) == ("better", 1))
    assert one.steps == (2, 3) and one.value == 0.5


def test_a_page_without_a_single_run_is_still_a_page(tmp_path):
    folder = a_study(tmp_path, seeds=2)
    for done in folder.glob("cells/*/done"):
        done.unlink()
    html = write_page(folder).read_text()
    assert "refused" in html and "No run has two evaluations" in html


def test_configs_differ_by_key():
    one = {"a": 1, "stages": [{"name": "x", "lr": 1}, {"name": "y", "lr": 1}]}
    other = {"a": 1, "stages": [{"name": "x", "lr": 1}, {"name": "y", "lr": 2}], "b": 3}
    assert difference(one, other) == [("stages.y.lr", 1, 2), ("b", None, 3)] and difference(one, one) == []


def write_csv(path, **columns):
    rows = [",".join(columns), *(",".join(map(repr, map(float, row))) for row in zip(*columns.values(), strict=True))]
    path.write_text("\n".join(rows) + "\n")
    return path


def test_a_file_of_points_becomes_a_law_a_page_and_numbers(tmp_path, capsys):
    made = points(1)
    path = write_csv(tmp_path / "ladder.csv", params=made.params, tokens=made.tokens, loss=made.loss)
    assert main(["study", "fit", str(path), "--budgets", "1e21"]) == 0
    out = capsys.readouterr().out
    assert "alpha" in out and "N* at 1.00e+21 FLOPs" in out and "ladder.fit.html" in out
    rows = {row["number"]: row for row in csv.DictReader((tmp_path / "ladder.fit.csv").open())}
    assert float(rows["alpha"]["low"]) < 0.34 < float(rows["alpha"]["high"])
    html = (tmp_path / "ladder.fit.html").read_text()
    assert html.count("<svg") == 2 and "Extrapolation: fitted to" in html


@pytest.mark.parametrize("change, words", [
    (dict(), ()), (dict(params=np.repeat(np.geomspace(2e9, 1e11, 7), 7)), ("the split is extrapolated",)),
    (dict(noise=0.3), ("beside the law: it does not describe these losses",)),
])  # fmt: skip
def test_what_a_ladder_does_not_show_is_told(change, words, tmp_path):
    """Budgets whose best size was not tried, and losses that follow no such law; a sound ladder has no alarm."""
    sizes = np.repeat(np.geomspace(3e7, 3e9, 7), 7)
    made = points(1, **{"params": sizes, "noise": 0.002} | change)
    if not words:  # whole budgets, each with sizes on both sides of its best
        made = replace(made, tokens=np.tile(np.geomspace(1e20, 1e21, 7), 7) / 6 / made.params)
        made = points(1, 0.002, made.params, made.tokens)
    path = write_csv(tmp_path / "ladder.csv", params=made.params, tokens=made.tokens, loss=made.loss)
    said, page = fit_file(path, draws=20)
    html = page.read_text()
    assert all(text in said for text in words) and ("warning" in said) == bool(words)
    assert all(text in html for text in words) and ('class="alarms"' in html) == bool(words)


def test_a_file_of_rewards_becomes_a_sigmoid(tmp_path):
    compute, reward = rewards(0, span=(1e2, 1e4))
    path = write_csv(tmp_path / "rl.csv", compute=compute, reward=reward)
    said, page = fit_file(path, out=tmp_path / "out", start=0.1, draws=50)
    assert "C_mid" in said and page == tmp_path / "out" / "rl.fit.html"
    assert "times C_mid: below ten" in page.read_text()


@pytest.mark.parametrize("text, said", [
    ("a,b\n1,2\n", "has the columns a, b"), ("compute,reward\n", "no line"), ("", "(none)"),
    ("compute,reward\n1,2\nx,3\n", "line 3: compute='x'"), ("compute,reward\n1\n", "line 2: reward=None"),
    ("params,tokens,loss\n1,2,3\n", "8 points"),
])  # fmt: skip
def test_a_wrong_file_is_told_by_line_and_column(text, said, tmp_path, capsys):
    path = tmp_path / "x.csv"
    path.write_text(text)
    assert main(["study", "fit", str(path)]) == 2 and said in capsys.readouterr().err
    with pytest.raises(FileNotFoundError):
        read_columns(tmp_path / "none.csv")


def test_a_logarithmic_axis_of_few_decades_has_labels_between_the_powers():
    over = lambda last: str(plot("t", "x", "y", [Line(name="a", index=0, x=[1e-3, last], y=[1.0, 2.0])], log_x=True))
    assert ">2e-3<" in over(0.064) and ">1e-2<" in over(0.064) and ">2e-3<" not in over(10.0) and ">1e0<" in over(10.0)


def test_a_chart_has_no_number_that_is_none():
    line = Line(name="<x>", index=0, x=[1.0, 10.0, 100.0], y=[3.0, 2.0, 1.0], through=lambda c: 3 / c)
    for log in (False, True):
        made = str(plot("t", "x", "y", [line, replace(line, index=1, through=None)], log_x=log, log_y=log))
        assert "nan" not in made and "inf" not in made and "&lt;x&gt;" in made
    assert signed(-0.05, "actions/exact") == "−5.0 pp" and signed(0.05, "actions/similarity") == "+0.05"


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "configs" / "studies").glob("*.py")))
def test_studies_that_ship_can_be_run(path):
    """Their arms are configs, and their head says how they are run and what was seen."""
    from jaxsrl.studies.study import arm_config, load_study, seeds_of

    study, head = load_study(path), path.read_text().split('"""')[1]
    for arm in study.arms:
        assert arm_config(study, arm, seeds_of(study, arm)[0]).stages
    assert f"jaxsrl study run configs/studies/{path.name}" in head and "Seen" in head
