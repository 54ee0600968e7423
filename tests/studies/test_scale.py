"""A ladder of sizes: what it plans, what it refuses, and the law that it finds in runs whose law is known."""

import csv
import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from jaxsrl.__main__ import main
from jaxsrl.bench.flops import useful
from jaxsrl.config.run import ConfigError
from jaxsrl.stages.begin import Prepared, prepare
from jaxsrl.studies import scale as scaled
from jaxsrl.studies.cost import parameters
from jaxsrl.studies.ladder import Ladder, Rung, as_study, rungs, shaped
from jaxsrl.studies.plan import plan, write_plan
from jaxsrl.studies.queue import Queue
from jaxsrl.studies.run import queue_of, run_name
from jaxsrl.studies.scaling import Law
from jaxsrl.studies.study import load_made, load_study
from tests.sharing import COMPILED
from tests.studies.tiny_ladder import ladder

TINY = str(Path(__file__).parent / "tiny_ladder.py")
CONFIGS = Path(__file__).parents[2] / "configs"
TRUTH = Law(E=0.5, A=60.0, B=40.0, alpha=0.5, beta=0.4)


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(ladder().base, COMPILED)


@pytest.fixture(scope="module")
def planned(prepared) -> tuple[Rung, ...]:
    return rungs(ladder(), prepared, useful)


def pretend(runs, planned, prepared, left_out: int = 0, truth: Law = TRUTH) -> Path:
    """The folder of the ladder with its runs handed in. Rate 1 reaches the law's loss, the others 5 % more."""
    made = ladder()
    made = replace(made, base=replace(made.base, runs=str(runs)))
    study = as_study(made, planned)
    cells = plan(study, useful, lambda config: prepared)
    folder = write_plan(study, cells)
    by_arm = dict(zip((arm.name for arm in study.arms), planned, strict=True))
    for cell in cells[left_out:]:
        hand_in(queue_of(folder), cell, by_arm[cell.arms[0]], truth)
    return folder


def hand_in(queue: Queue, cell, rung: Rung, truth: Law) -> None:
    """Ten steps, of which the last is the only one at its final loss."""
    lease = queue.take(cell.id, "one")
    own = lease.folder / run_name(cell)
    own.mkdir(parents=True)
    loss = truth.loss(parameters(rung.size), rung.tokens) * (1.0 if rung.rate == 1 else 1.05)
    head = {"stage": "sft", "kind": "train"}
    lines = [
        head | {"step": i, "loss": float(loss) + (i < 10), "tokens/executed": rung.tokens * i / 10}
        for i in range(1, 11)
    ]  # fmt: skip
    (own / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    queue.hand_in(lease, "one", {"folder": f"1/{own.name}", "seconds": 1.0, "stopped": None})


def test_every_size_meets_every_budget(planned):
    """Within the rounding to whole steps, at a learning rate that falls with the width, by each factor."""
    made = ladder()
    assert len(planned) == 6 * 3 * 3
    for rung in planned:
        assert 6 * parameters(rung.size) * rung.tokens == pytest.approx(rung.budget, rel=0.05) and rung.steps >= 10
    of = lambda width, rate: next(r.lr for r in planned if (r.size.width, r.rate) == (width, rate))
    assert of(32, 1.0) == made.base.stages[0].optimizer.lr == 4 * of(128, 1.0) == 2 * of(128, 2.0)


def test_a_batch_grows_with_the_data(planned, prepared):
    made = ladder()
    grown = rungs(replace(made, batch_exponent=0.5), prepared, useful)
    most = max(grown, key=lambda rung: rung.tokens)
    assert {rung.demonstrations for rung in planned} == {2} and most.demonstrations > 8
    assert most.steps < max(planned, key=lambda rung: rung.tokens).steps


def test_steps_of_one_program_are_planned_whole(prepared):
    """The same tokens of a demonstration, and as many steps but for the rounding."""
    made, tiny = ladder(), ladder().base
    loop = replace(tiny, stages=(replace(tiny.stages[0], steps=8, compact=False, device_steps=2),), checkpoint_every=2)
    several = rungs(replace(made, base=loop), prepared, useful)
    for one, other in zip(several, rungs(made, prepared, useful), strict=True):
        assert one.steps % 2 == 0 and abs(one.steps - other.steps) < 2
        assert one.tokens / one.steps == pytest.approx(other.tokens / other.steps)


@pytest.mark.parametrize(("change", "words"), [
    ({"budgets": (1e9, 2e9)}, "would take .* steps.*raise that budget"),
    ({"budgets": (2e10, 1e12)}, "but there are 8000.*seen once"),
])  # fmt: skip
def test_what_a_ladder_cannot_show_is_refused(change, words, prepared):
    with pytest.raises(ConfigError, match=words):
        rungs(replace(ladder(), **change), prepared, useful)


def test_a_ladder_that_is_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match="6 sizes or more, got 2"):
        replace(ladder(), sizes=ladder().sizes[:2])
    with pytest.raises(ValueError, match="of SFT"):
        from tests.tiny_config import config

        replace(ladder(), base=config())
    with pytest.raises(ValueError, match="width 40 is no multiple of 32"):
        shaped((40,), ladder().sizes[0])
    with pytest.raises(ConfigError, match=r"must define study\(\) -> Study"):
        load_study(TINY)


def test_the_law_of_the_runs_is_found(tmp_path, planned, prepared, capsys, monkeypatch):
    """From the command line: the best rate counts, the last steps alone, and every point names its run."""
    folder = pretend(tmp_path, planned, prepared)
    monkeypatch.setattr(
        "jaxsrl.studies.plan.prepare", lambda config, compiled: prepared
    )  # once, not for each of 54 arms
    assert main(["study", "scale", TINY, "--runs", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "54 runs, all done" in out and "points.fit.html" in out and "edge" not in out
    points = list(csv.DictReader((folder / "points.csv").open()))
    assert len(points) == 18 and all((folder / p["runs"] / "metrics.jsonl").exists() for p in points)
    for point in points:
        assert float(point["loss"]) == pytest.approx(float(TRUTH.loss(float(point["params"]), float(point["tokens"]))))
    fitted = {x["number"]: float(x["value"]) for x in csv.DictReader((folder / "points.fit.csv").open())}
    assert fitted["alpha"] == pytest.approx(0.5, rel=0.02) and fitted["beta"] == pytest.approx(0.4, rel=0.02)
    page = (folder / "points.fit.html").read_text()
    assert "Extrapolation: fitted to" in page and "parabola" in page and "tiny-ladder: How should a budget" in page
    assert all(f'href="{p["runs"]}/report.html"' in page for p in points)
    assert (folder / "points.png").exists() == (find_spec("matplotlib") is not None)
    assert main(["study", "status", TINY, "--runs", str(tmp_path)]) == 0
    assert "tiny-ladder: 54 runs: 54 done" in capsys.readouterr().out


def test_runs_that_show_no_law_are_kept_and_no_error(tmp_path, planned, prepared, capsys, monkeypatch):
    """The loss rises with size; exit 2 would say that nothing was trained."""
    folder = pretend(tmp_path, planned, prepared, truth=replace(TRUTH, A=-6.0))
    monkeypatch.setattr("jaxsrl.studies.plan.prepare", lambda config, compiled: prepared)
    assert main(["study", "scale", TINY, "--runs", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "warning: no law: the points show no loss that falls with parameters" in out and "points.csv" in out
    assert len(list(csv.DictReader((folder / "points.csv").open()))) == 18
    assert not (folder / "points.fit.html").exists()


def test_while_runs_are_missing_nothing_is_fitted(tmp_path, planned, prepared):
    folder = pretend(tmp_path, planned, prepared, left_out=2)
    made = ladder()
    found, missing = scaled.reached(folder, made, planned)
    assert not found and len(missing) == 2 and missing[0].endswith("seed 0 (missing)")


def test_a_best_rate_at_the_edge_is_said(planned):
    own = [rung for rung in planned if rung.size == planned[0].size and rung.budget == planned[0].budget]
    ends = lambda best: {scaled.arm_name(r): [(1.0 + abs(r.rate - best), 1e5, Path("run"))] for r in own}
    middle, edge = (scaled._best(1, own, ends(best)) for best in (1.0, 2.0))
    assert not middle.edge and edge.edge and edge.lr == 2 * middle.lr
    assert scaled._edges([middle]) == []
    (said,) = scaled._edges([middle, *[edge] * 4])
    assert "At 4 of 5 points" in said and said.count("1 parameters at") == 3 and "…" in said


@pytest.mark.needs("matplotlib")
def test_the_picture_is_drawn(tmp_path):
    path = tmp_path / "points.csv"
    with path.open("w") as file:
        file.write("params,tokens,loss\n")
        for n in (1e5, 3e5, 1e6):
            file.writelines(f"{n},{d},{TRUTH.loss(n, d)}\n" for d in (1e6, 1e7, 1e8))
    assert scaled.draw(path).read_bytes().startswith(b"\x89PNG")


def test_the_ladder_that_ships_is_one():
    path = CONFIGS / "ladders" / "arithmetic.py"
    made = load_made(path, {"ladder": Ladder})
    assert "Run:" in path.read_text() and len({parameters(size) for size in made.sizes}) == 6
