"""Every arm of a study against compute: its sigmoid, and which arm is best at which budget."""

import csv

import numpy as np
import pytest

from jaxsrl.__main__ import main
from jaxsrl.studies.fit_arms import Curves, arms_of, fit_arms, standing
from jaxsrl.studies.sigmoid import Sigmoid

# A small model rises early and ends low, a large one late and high: they cross where both are 0.4, at 1e3.
SMALL = Sigmoid(R0=0.0, A=0.44, C_mid=1e2, B=1.0)
LARGE = Sigmoid(R0=0.0, A=0.8, C_mid=1e3, B=2.0)
COMPUTE = np.geomspace(1e1, 2e4, 14)


def write_curves(path, arms, seeds=3, noise=0.005):
    """What `study report` writes, of arms whose curves are given."""
    rng = np.random.default_rng(0)
    lines = ["arm,seed,step,tokens,compute,seconds,reward"]
    for name, reward in arms.items():
        for seed in range(seeds):
            lines.append(f"{name},{seed},0,0,0.0,0,{reward(1e-9):.6f}")
            for step, c in enumerate(COMPUTE, 1):
                lines.append(f"{name},{seed},{step},0,{c},0,{reward(c) + rng.normal(0, noise):.6f}")
    path.write_text("\n".join(lines) + "\n")
    return path


def test_every_arm_is_fitted_and_the_best_one_changes_where_they_cross(tmp_path, capsys):
    """From the command line; an arm that does not move has no end, and does not stop the others."""
    path = write_curves(tmp_path / "curves.csv", {"small": SMALL.reward, "large": LARGE.reward, "flat": lambda c: 0.1})
    assert main(["study", "fit", str(path)]) == 0
    said = capsys.readouterr().out
    assert "flat: R0 0.1  A not determined" in said and "end is not determined: flat." in said
    rows = {(row["arm"], row["number"]): row for row in csv.DictReader((tmp_path / "curves.fit.csv").open())}
    for name, truth in (("small", SMALL), ("large", LARGE)):
        row = rows[name, "A"]
        assert float(row["value"]) == pytest.approx(truth.A, abs=0.02)
        assert float(row["low"]) - 0.01 <= truth.A <= float(row["high"]) + 0.01
        assert float(rows[name, "C_mid"]["value"]) == pytest.approx(truth.C_mid, rel=0.1)
    best = [line.split("FLOPs: ")[1].split()[0] for line in said.splitlines() if line.startswith("at ")]
    assert best[0] == "flat" and "small" in best and best[-1] == "large" and best == sorted(best, key=best.index)
    html = (tmp_path / "curves.fit.html").read_text()
    assert html.count("<svg") == 1 and "<b>0.7" in html and "what was trained before it is not in it" in html


def test_budgets_are_those_that_are_asked_for(tmp_path):
    path = write_curves(tmp_path / "curves.csv", {"small": SMALL.reward, "large": LARGE.reward}, noise=0.0)
    said, page = fit_arms(path, out=tmp_path / "out", budgets=(5e2, 5e3, 1e9), draws=20)
    assert "at 5.00e+02 FLOPs: small" in said and "at 5.00e+03 FLOPs: large" in said and "1.00e+09" not in said
    assert page == tmp_path / "out" / "curves.fit.html" and not (tmp_path / "curves.fit.html").exists()
    assert arms_of(path) == ("small", "large") and arms_of(tmp_path / "none.csv") == ()


@pytest.mark.parametrize("middle, known", [(3e2, "C_mid 29"), (1e-1, "C_mid before the"), (1e6, None)])
def test_an_end_is_known_where_it_was_come_near(tmp_path, middle, known):
    """Not where most of it lies behind the last evaluation. What was won before the first one has no known middle."""
    truth = Sigmoid(R0=0.0, A=0.6, C_mid=middle, B=1.0)
    path = write_curves(tmp_path / "curves.csv", {"one": truth.reward, "other": LARGE.reward})
    said, _ = fit_arms(path, draws=20)
    own = next(line for line in said.splitlines() if line.startswith("one: "))
    assert known in own and "A 0." in own if known else "A not determined  C_mid not determined" in own
    assert "other: R0 0  A 0.8" in said or "other: R0 0  A 0.79" in said


def test_who_is_best_by_hand():
    """Between two evaluations by a line; a seed that did not get there has no value, and none is carried on."""
    of = lambda name, **seeds: Curves(
        name=name, seeds={seed: (np.array([0.0, 10.0, last]), np.array(own)) for seed, (last, own) in seeds.items()}
    )
    even = of("even", a=(20, [0.0, 0.4, 0.5]), b=(20, [0.0, 0.42, 0.52]), c=(12, [0.0, 0.9, 0.9]))
    lower = of("lower", a=(20, [0.0, 0.3, 0.4]), b=(20, [0.0, 0.32, 0.42]))
    near = of("near", a=(20, [0.0, 0.0, 0.55]), b=(20, [0.0, 0.0, 0.42]))
    found = standing([even, lower, near], 15.0)
    assert found.best == "even" and found.rewards["even"][0] == pytest.approx(0.46)
    assert found.rewards["lower"][0] == pytest.approx(0.36) and found.close == ("near",)
    found = standing([even, lower, near], 20.0)
    assert found.rewards["near"][0] == pytest.approx(0.485) and found.close == ("near",)
    assert standing([even, lower], 5.0).rewards["even"][0] == pytest.approx((0.2 + 0.21 + 0.45) / 3)
    assert standing([even, lower], 21.0) is None
