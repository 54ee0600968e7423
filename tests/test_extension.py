"""A new objective is three new files and no edited line: this test writes them and trains with them."""

import importlib.util
import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from jaxsrl.config.overrides import load
from jaxsrl.metrics import read
from jaxsrl.train import train

OBJECTIVE = '''
"""Bookends: completions at the problem and before the last action, paid for digits, weighed towards their ends."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from jaxsrl.objectives.advantage import group_advantage
from jaxsrl.types import BranchPoint, Grades, TokenWeights, means


@dataclass(frozen=True, kw_only=True)
class Bookends:
    samples: int = 3
    trunk: tuple = ("step",)
    kl_coef: float = 0.0

    def branch_points(self, demonstration, stats, step):
        last = len(demonstration.actions) - 1
        return (
            BranchPoint(after=0, samples=self.samples, form="solve"),
            BranchPoint(after=last, samples=self.samples, form="step"),
        )

    def reward(self, rollouts, demonstrations):
        reward = np.array([sum(map(str.isdigit, text)) + len(text) / 100 for text in rollouts.text], float)
        expert = tuple(demonstrations[m].actions[k] for m, k in zip(rollouts.demonstration, rollouts.branch))
        shown = means({"reward/mean": reward})
        return Grades(reward=reward, action=rollouts.text, expert=expert, settings={}, means=shown)

    def weigh(self, rollouts, reward, target, step):
        ramp = np.cumsum(rollouts.mask, axis=1) * rollouts.mask
        advantage = group_advantage(reward, rollouts.group, std="none")[:, None] * rollouts.mask
        zero = np.zeros(target.shape)
        trunk = TokenWeights(nll=target * (step + 1) / max(target.sum(), 1), pg=zero, advantage=zero)
        return trunk, TokenWeights(nll=np.zeros(ramp.shape), pg=ramp / max(ramp.sum(), 1), advantage=advantage)

    def token_loss(self, logp, batch):
        gain = jnp.where(batch.pg_weight != 0, batch.pg_weight * batch.advantage * logp, 0.0)
        nll = jnp.where(batch.nll_weight != 0, -batch.nll_weight * logp, 0.0)
        return jnp.sum(nll) - jnp.sum(gain), {"bookends/nll": jnp.sum(nll)}
'''

TEST = """
import numpy as np
from bookends import Bookends
from jaxsrl.types import Demonstration


def test_branch_points():
    three = Demonstration(problem_id="p", problem="x", actions=("a", "b", "c"))
    points = Bookends().branch_points(three, {}, 0)
    assert [(p.after, p.form, p.samples) for p in points] == [(0, "solve", 3), (2, "step", 3)]
"""

CONFIG = """
from bookends import Bookends
from jaxsrl.collect import Collect, Rows
from jaxsrl.config import Config, Stage, Validate
from jaxsrl.config.demonstrations import ArithmeticTask
from jaxsrl.evals.evaluate import Evaluation
from jaxsrl.models.config import ModelConfig
from jaxsrl.rollout.sampling import Sampling
from jaxsrl.tasks.arithmetic import Arithmetic


def config():
    stage = Stage(
        name="bookends", objective=Bookends(), steps=2, collect=Collect(demonstrations=2),
        data=ArithmeticTask(settings=Arithmetic(run=(2, 3)), train=4, validation=1, test=1),
        sampling=Sampling(max_new_tokens=8), step_tokens=8, solve_tokens=8,
        validate=Validate(problems=1, evaluation=Evaluation(modes=("steps",))),
    )
    model = ModelConfig(vocab=272, width=16, layers=1, heads=2, kv_heads=1, head_width=8, mlp_width=16)
    rows = Rows(tokens=160, rows=1, prompt_tokens=64, prompt_rows=1, slots=6, evaluate_rows=1, evaluate_slots=4)
    return Config(name="bookends", model=model, rows=rows, stages=(stage,))
"""


@pytest.fixture
def written(tmp_path, monkeypatch):
    for name, text in (("bookends", OBJECTIVE), ("test_bookends", TEST), ("config", CONFIG)):
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("bookends", None)


def test_an_objective_is_three_files(written, shared_programs):
    """It moves the branch points, the reward and the weights; the loop, the log and the report know nothing of it."""
    spec = importlib.util.spec_from_file_location("test_bookends", written / "test_bookends.py")
    its_test = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(its_test)
    its_test.test_branch_points()

    folder = train(replace(load(written / "config.py"), runs=str(written / "runs")))
    lines = [x for x in read(folder / "metrics.jsonl") if x["kind"] == "train"]
    assert [x["step"] for x in lines] == [1, 2] and all(x["grad/norm"] > 0 for x in lines)
    # The second step's trunk weighs twice the first's, so does its NLL, but for what was learned.
    assert lines[1]["bookends/nll"] == pytest.approx(2 * lines[0]["bookends/nll"], rel=0.15)
    rollouts = [json.loads(x) for x in (folder / "rollouts" / "bookends.jsonl").read_text().splitlines()]
    assert {(x["direct_or_chained"], x["branch"] == 0) for x in rollouts} == {("direct", True), ("chained", False)}
    groups = {(x["step"], x["group"]) for x in rollouts}
    assert len(groups) == 8 and len(rollouts) == 24  # two points on each of two demonstrations, twice
    for step, group in groups:
        mine = [x for x in rollouts if (x["step"], x["group"]) == (step, group)]
        reward = np.array([sum(map(str.isdigit, x["completion"])) + len(x["completion"]) / 100 for x in mine])
        assert np.allclose([x["reward"] for x in mine], reward)
        assert np.allclose([x["advantage"] for x in mine], reward - reward.mean(), atol=1e-6)
    assert (folder / "report.html").stat().st_size > 1000
