"""Learning-rate transfer: sweeps whose optimum is known, what is refused, and the page of one from its run folders."""

import csv
import json
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from jaxsrl.__main__ import main
from jaxsrl.bench.flops import useful
from jaxsrl.stages.begin import prepare
from jaxsrl.studies.effects import coverage
from jaxsrl.studies.plan import plan, write_plan
from jaxsrl.studies.run import queue_of, run_name
from jaxsrl.studies.sweep import loss_of
from jaxsrl.studies.transfer import Transfer, arm_name, as_study, moved, optimum
from tests.sharing import COMPILED
from tests.studies.tiny_sweep import TINY, transfer

RATES = 1e-3 * 2.0 ** np.arange(8)
WIDTHS = (32, 64, 128)


def swept(rng, size, exponent=0.5, seeds=4, noise=0.002, skew=0.005) -> np.ndarray:
    """Losses [S, R] whose optimum is 8e-3 (32 / size)^exponent: a lopsided bowl, moved by each seed a little."""
    best = np.log2(8e-3 * (32 / size) ** exponent) + rng.normal(0, 0.15, (seeds, 1))
    off = np.log2(RATES) - best
    level = rng.normal(1.0, 0.05, (seeds, 1))
    return level + 0.05 * off**2 + skew * off**3 + rng.normal(0, noise, (seeds, len(RATES)))


def sweep_of(rng, exponent, **more):
    return moved("width", WIDTHS, RATES, {size: swept(rng, size, exponent, **more) for size in WIDTHS})


def test_a_parabola_finds_its_own_optimum():
    """Between two rates, where the best rate of the grid is off by up to a factor of 1.4."""
    rates = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    losses = np.stack([1 + (np.log(rates) - np.log(5.0)) ** 2, 3 + 2 * (np.log(rates) - np.log(5.0)) ** 2])
    found = optimum(rates, losses)
    assert found.rate.value == pytest.approx(5.0) and found.rate.low == pytest.approx(found.rate.high)


def test_a_seed_that_learns_worse_at_all_rates_moves_nothing():
    rates, rng = RATES, np.random.default_rng(0)
    losses = swept(rng, 32)
    other = losses + np.array([[0.0], [5.0], [1.0], [2.0]])
    assert optimum(rates, losses).rate.value == pytest.approx(optimum(rates, other).rate.value)


@pytest.mark.parametrize("change, said", [
    (lambda x: x[:, ::-1].cumsum(1), "edge of those tried"),
    (lambda x: np.where(np.arange(8) > np.argmin(x.mean(0)), np.inf, x), "above the best.*diverged"),
    (lambda x: np.full_like(x, np.inf), "every rate diverged"),
])  # fmt: skip
def test_an_optimum_that_was_not_enclosed_is_none(change, said):
    found = optimum(RATES, change(swept(np.random.default_rng(0), 32)))
    assert found.rate is None
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(found.why)


def test_a_rate_that_diverged_is_left_out():
    """The largest rates of a size that needs small ones."""
    losses = swept(np.random.default_rng(0), 128)
    broken = np.where(np.arange(8) >= 5, np.inf, losses)
    assert optimum(RATES, broken).rate.value == pytest.approx(optimum(RATES, losses).rate.value, rel=0.1)


@pytest.mark.parametrize("exponent, kind, words", [
    (1.0, "moves", r"does not transfer: take lr ~ width\^-"), (0.0, "transfers", "It transfers"),
    (-0.5, "moves", r"take lr ~ width\^0\.[456]"),
])  # fmt: skip
def test_the_verdict_follows_the_truth(exponent, kind, words):
    found = sweep_of(np.random.default_rng(1), exponent, seeds=6)
    assert found.kind == kind and found.exponent.value == pytest.approx(exponent, abs=0.15)
    assert found.factor.value == pytest.approx(2**-found.exponent.value)
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(found.words)


def test_few_seeds_do_not_say_that_a_rate_transfers():
    """Two noisy seeds: the point estimate is near 1, and the interval is not."""
    found = sweep_of(np.random.default_rng(3), 0.0, seeds=2, noise=0.02)
    assert found.kind == "undecided" and found.factor.high > 1.25


def test_sizes_without_optimum_are_named_and_too_few_are_no_law():
    rng = np.random.default_rng(0)
    losses = {size: swept(rng, size) for size in (16, *WIDTHS)}
    losses[16] = losses[16][:, ::-1].cumsum(1)
    found = moved("width", (16, *WIDTHS), RATES, losses)
    assert found.factor is not None and "Left out: width 16: the best rate" in found.words
    del losses[32]
    found = moved("width", (16, 64, 128), RATES, losses)
    assert found.kind == "undecided" and found.factor is None and "fewer than 3 sizes" in found.words


@pytest.mark.parametrize("seeds, least", [(3, 0.9), (4, 0.9)])
def test_intervals_cover_the_exponent(seeds, least):
    """95 % intervals over 200 sweeps."""
    rng = np.random.default_rng(0)
    found = [sweep_of(rng, 0.5, seeds=seeds).exponent for _ in range(200)]
    assert np.mean([one.low <= 0.5 <= one.high for one in found]) >= least
    assert np.mean([one.value for one in found]) == pytest.approx(0.5, abs=0.02)


def test_a_plain_bootstrap_of_four_seeds_is_too_narrow():
    """Why intervals are Student's below six seeds."""
    from jaxsrl.studies.effects import Interval

    def plain(values):
        drawn = np.random.default_rng(0).choice(values, (400, len(values))).mean(axis=1)
        low, high = np.quantile(drawn, (0.025, 0.975))
        return Interval(value=float(np.mean(values)), low=float(low), high=float(high), p=1.0)

    assert coverage(plain, lambda rng: rng.normal(0, 1, 4), 0.0, 400) < 0.85


@pytest.mark.parametrize("change, said", [
    (dict(rates=(1e-3, 2e-3)), "rates must be 5 or more"), (dict(seeds=(0,)), "seeds must be 2 or more"),
    (dict(widths=(), depths=()), "give widths, depths, or both"), (dict(near=1.0), "factors above 1"),
    (dict(widths=transfer().widths[:2]), "differ in width must be 3 or more"),
    (dict(widths=transfer().depths), "differ in width must be 3 or more"),
    (dict(depths=(*transfer().depths, transfer().widths[2])), "3 or more, all different"),
    (dict(widths=(*transfer().widths[:2], replace(transfer().widths[2], layers=3))), "must have equal layers"),
])  # fmt: skip
def test_a_sweep_that_could_not_answer_is_refused(change, said):
    with pytest.raises(ValueError, match=said):
        replace(transfer(), **change)


def test_a_size_of_both_axes_is_trained_once():
    made = transfer()
    names = [arm.name for arm in as_study(made).arms]
    assert len(names) == len(set(names)) == 5 * len(made.rates)


@pytest.fixture(scope="module")
def prepared():
    return prepare(transfer().base, COMPILED)


def pretend(runs, sweep: Transfer, prepared):
    """The folder of the sweep with its runs handed in: the optimum falls with the width, not with the layers."""
    sweep = replace(sweep, base=replace(sweep.base, runs=str(runs)))
    study = as_study(sweep)
    cells = plan(study, useful, lambda config: prepared)
    folder, queue = write_plan(study, cells), queue_of(study.base.runs + "/" + study.name)
    for cell in cells:
        lr, size = cell.config.stages[0].optimizer.lr, cell.config.model
        best = 4e-3 * (16 / size.width) * (1.0 + 0.02 * cell.config.seed)
        loss = 1.0 + cell.config.seed + 0.1 * np.log(lr / best) ** 2
        lease = queue.take(cell.id, "one")
        own = lease.folder / run_name(cell)
        own.mkdir(parents=True)
        lines = [{"stage": "sft", "kind": "train", "step": i, "loss": loss + (i < 10), "tokens/executed": i}
                 for i in range(1, 11)]  # fmt: skip
        (own / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        queue.hand_in(lease, "one", {"folder": f"1/{own.name}", "seconds": 1.0, "stopped": None})
    return folder


def test_the_page_says_what_the_runs_say(tmp_path, prepared, capsys, monkeypatch):
    """From the command line, on runs that are done: words, figures, and every run with its folder."""
    folder = pretend(tmp_path, transfer(), prepared)
    monkeypatch.setattr("jaxsrl.studies.plan.prepare", lambda config, compiled: prepared)
    assert main(["study", "transfer", str(TINY), "--runs", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "factor of 0.50 [0.50, 0.50] per doubling of width" in out and "take lr ~ width^-1.00" in out
    assert "factor of 1.00 [1.00, 1.00] per doubling of the number of layers" in out and "It transfers" in out
    rows = list(csv.DictReader((folder / "transfer.csv").open()))
    assert len(rows) == 5 * 6 * 2 and all((folder / row["run"] / "metrics.jsonl").exists() for row in rows)
    page = (folder / "transfer.html").read_text()
    assert "Along width" in page and "Along depth" in page and "report.html" in page and "<svg" in page
    assert (folder / "transfer.png").exists() == (find_spec("matplotlib") is not None)
    place = folder / rows[0]["run"]
    assert loss_of(place, 0.1) == pytest.approx(float(rows[0]["loss"]))
    with (place / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"stage": "sft", "kind": "train", "step": 11, "loss": None}) + "\n")
    assert loss_of(place, 0.1) == np.inf


def test_while_runs_are_missing_nothing_is_said(tmp_path, prepared, capsys, monkeypatch):
    monkeypatch.setattr("jaxsrl.studies.plan.prepare", lambda config, compiled: prepared)
    monkeypatch.setattr("jaxsrl.studies.sweep.run", lambda study, *_, **__: write_plan(study, plan(study, useful)))
    assert main(["study", "transfer", str(TINY), "--runs", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    name = arm_name(transfer().widths[0], 5e-4)
    assert f"60 runs are missing, such as {name} seed 0 (missing)" in out
    assert not list(tmp_path.glob("*/transfer.*"))
