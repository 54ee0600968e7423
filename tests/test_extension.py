"""A new objective is three new files and no edited line: this test writes them and trains with them, twice over.

One moves the branch points, the reward and the weights. The other compares pairs with a frozen reference: it needs
whole groups in a row and the reference's log-probs, and says so.
"""

import importlib.util
import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from jaxsrl.config.overrides import load
from jaxsrl.metrics import read
from tests.sharing import train

BOOKENDS = '''
"""Bookends: completions at the problem and before the last action, paid for digits, weighed towards their ends."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from jaxsrl.objectives.advantage import group_advantage, in_groups, of_rollouts
from jaxsrl.types import BranchPoint, Rewards, Objective, TokenWeights, Weights, means


@dataclass(frozen=True, kw_only=True)
class Bookends(Objective):
    group_size: int = 3
    trunk: tuple = ("action",)
    slope: float = 1.0

    def branch_points(self, demonstration, step):
        last = len(demonstration.actions) - 1
        return (
            BranchPoint(after=0, samples=self.group_size, form="solve"),
            BranchPoint(after=last, samples=self.group_size, form="action"),
        )

    def reward(self, rollouts, demonstrations):
        reward = np.array([sum(map(str.isdigit, text)) + len(text) / 100 for text in rollouts.text], float)
        expert = tuple(demonstrations[m].actions[k] for m, k in zip(rollouts.demonstration, rollouts.branch))
        shown = means({"reward/mean": reward})
        return Rewards(reward=reward, action=rollouts.text, expert=expert, settings={}, means=shown)

    def weigh(self, collected, reward, numbers):
        mask, groups, target = collected.mask, collected.groups, collected.target
        ramp = numbers["slope"] * jnp.cumsum(mask, axis=1) * mask
        above = group_advantage(in_groups(reward, groups), groups.present, std="none")
        advantage = of_rollouts(above, groups)[:, None] * mask
        zero = jnp.zeros(target.shape)
        trunk = TokenWeights(nll=target * (collected.step + 1) / jnp.maximum(target.sum(), 1), pg=zero, advantage=zero)
        rollouts = TokenWeights(nll=0.0 * ramp, pg=ramp / jnp.maximum(ramp.sum(), 1), advantage=advantage)
        return Weights(trunk=trunk, rollouts=rollouts)

    def token_loss(self, logp, batch, numbers):
        gain = jnp.where(batch.pg_weight != 0, batch.pg_weight * batch.advantage * logp, 0.0)
        nll = jnp.where(batch.nll_weight != 0, -batch.nll_weight * logp, 0.0)
        return jnp.sum(nll) - jnp.sum(gain), {"bookends/nll": jnp.sum(nll)}
'''

BOOKENDS_TEST = """
from bookends import Bookends
from jaxsrl.types import Demonstration


def test_it():
    three = Demonstration(problem_id="p", problem="x", actions=("a", "b", "c"))
    points = Bookends().branch_points(three, 0)
    assert [(p.after, p.form, p.samples) for p in points] == [(0, "solve", 3), (2, "action", 3)]
"""

ODDS = '''
"""Odds: of each group the completion with the largest sum of token ids against the one with the smallest."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxsrl.objectives.advantage import in_groups, of_rollouts
from jaxsrl.types import BranchPoint, Rewards, Needs, Objective, TokenWeights, Weights


@dataclass(frozen=True, kw_only=True)
class Odds(Objective):
    group_size: int = 3
    beta: float = 0.5
    needs: Needs = Needs(reference=True, whole_groups=True)

    def branch_points(self, demonstration, step):
        return tuple(BranchPoint(after=k, samples=self.group_size) for k in range(len(demonstration.actions) - 1))

    def reward(self, rollouts, demonstrations):
        nothing = (None,) * len(rollouts)
        return Rewards(reward=np.where(rollouts.mask, rollouts.token, 0).sum(1) / 100, action=nothing, expert=nothing,
                      settings={})

    def weigh(self, collected, reward, numbers):
        groups = collected.groups
        r = in_groups(reward, groups)
        best = jnp.argmax(jnp.where(groups.present, r, -jnp.inf), axis=1)
        worst = jnp.argmin(jnp.where(groups.present, r, jnp.inf), axis=1)
        column = jnp.arange(r.shape[1])[None]
        side = 1.0 * (column == best[:, None]) - 1.0 * (column == worst[:, None])
        side = of_rollouts(side, groups)[:, None] * collected.mask
        none, trunk = jnp.zeros(side.shape), jnp.zeros(collected.target.shape)
        return Weights(
            trunk=TokenWeights(nll=trunk, pg=trunk, advantage=trunk),
            rollouts=TokenWeights(nll=none, pg=jnp.abs(side), advantage=side),
            extra={"pairs": jnp.full(len(side), groups.present.any(axis=1).sum(), side.dtype)},
        )

    def token_loss(self, logp, batch, numbers):
        used = batch.pg_weight != 0
        gain = jnp.where(used, batch.advantage * (logp - jnp.where(used, batch.ref_logp, 0.0)), 0.0)
        room = batch.group.shape[0] * 64
        of = jnp.where(used, batch.group, room - 1).reshape(-1)
        sums = lambda x: jax.ops.segment_sum(x.reshape(-1), of, room)
        there, margin = sums(1.0 * used) > 0, numbers["beta"] * sums(gain)
        pairs = jnp.max(jnp.where(used, batch.extra["pairs"], 0.0))
        loss = jnp.where(there, jax.nn.softplus(-margin), 0.0).sum() / jnp.maximum(pairs, 1)
        return loss, {"odds/pairs": there.sum(), "odds/margin": jnp.abs(margin).sum()}
'''

ODDS_TEST = """
import jax.numpy as jnp
import numpy as np
import pytest
from odds import Odds
from jaxsrl.types import Batch


def test_it():
    '''At the reference a pair costs log 2.'''
    row = lambda *x: np.array([x], float)
    none = np.zeros((1, 4), np.int32)
    batch = Batch(token=none, position=none, enter=none, leave=none, parent=none, rollout=none, nll_weight=0.0 * none,
                  pg_weight=row(1, 1, 1, 0), advantage=row(1, 1, -1, 0), behavior_logp=0.0 * none,
                  ref_logp=row(-1, -2, -3, 9), group=np.array([[5, 5, 5, -1]]), extra={"pairs": row(1, 1, 1, 0)})
    loss = lambda logp: float(Odds().token_loss(jnp.asarray(logp), batch, {"beta": 0.5})[0])
    assert loss(batch.ref_logp) == pytest.approx(np.log(2))
    assert loss(batch.ref_logp + row(1, 0, -1, 0)) == pytest.approx(np.log1p(np.exp(-1.0)))
"""

CONFIG = """
from NAME import CLASS
from jaxsrl.collect import Collect, BatchShapes
from jaxsrl.config import Config, Stage, Validate
from jaxsrl.config.demonstrations import ArithmeticTask
from jaxsrl.evals.evaluate import Evaluation
from jaxsrl.models.config import ModelConfig
from jaxsrl.rollout.sampling import Sampling
from jaxsrl.tasks.arithmetic import Arithmetic


def config():
    stage = Stage(
        name="NAME", objective=CLASS(), steps=2, collect=Collect(demonstrations=2),
        data=ArithmeticTask(settings=Arithmetic(run=(2, 3)), train=4, validation=1, test=1),
        sampling=Sampling(max_new_tokens=8), action_tokens=8, solve_tokens=8,
        validate=Validate(problems=1, evaluation=Evaluation(modes=("actions",))),
    )
    model = ModelConfig(vocab=272, width=16, layers=1, heads=2, kv_heads=1, head_width=8, mlp_width=16)
    rows = BatchShapes(tokens=160, rows=1, prompt_tokens=64, prompt_rows=1, slots=6, evaluate_rows=1, evaluate_slots=4)
    return Config(name="NAME", model=model, rows=rows, stages=(stage,))
"""


@pytest.fixture
def write(tmp_path):
    """write(name, class, objective, test) -> folder; importable while the test runs."""
    names = []

    def write(name, of, objective, its_test):
        config = CONFIG.replace("NAME", name).replace("CLASS", of)
        for stem, text in ((name, objective), (f"test_{name}", its_test), ("config", config)):
            (tmp_path / f"{stem}.py").write_text(text)
        names.append(name)
        return tmp_path

    sys.path.insert(0, str(tmp_path))
    yield write
    sys.path.remove(str(tmp_path))
    for name in names:
        sys.modules.pop(name, None)


def run(folder, name):
    """The objective's own test, then a run: lines of its steps, and its rollouts."""
    spec = importlib.util.spec_from_file_location(f"test_{name}", folder / f"test_{name}.py")
    its_test = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(its_test)
    its_test.test_it()
    made = train(replace(load(folder / "config.py"), runs=str(folder / "runs")))
    lines = [x for x in read(made / "metrics.jsonl") if x["kind"] == "train"]
    assert [x["step"] for x in lines] == [1, 2] and all(x["grad/norm"] > 0 for x in lines)
    assert (made / "report.html").stat().st_size > 1000
    return lines, [json.loads(x) for x in (made / "rollouts" / f"{name}.jsonl").read_text().splitlines()]


def test_an_objective_is_three_files(write):
    """It moves the branch points, the reward and the weights; the loop, the log and the report know nothing of it."""
    lines, rollouts = run(write("bookends", "Bookends", BOOKENDS, BOOKENDS_TEST), "bookends")
    # The second step's trunk weighs twice the first's, so does its NLL, but for what was learned.
    assert lines[1]["bookends/nll"] == pytest.approx(2 * lines[0]["bookends/nll"], rel=0.15)
    assert {(x["form"], x["branch"] == 0) for x in rollouts} == {("solve", True), ("action", False)}
    groups = {(x["step"], x["group"]) for x in rollouts}
    assert len(groups) == 8 and len(rollouts) == 24  # two points on each of two demonstrations, twice
    for step, group in groups:
        mine = [x for x in rollouts if (x["step"], x["group"]) == (step, group)]
        reward = np.array([sum(map(str.isdigit, x["completion"])) + len(x["completion"]) / 100 for x in mine])
        assert np.allclose([x["reward"] for x in mine], reward)
        assert np.allclose([x["advantage"] for x in mine], reward - reward.mean(), atol=1e-6)


def test_one_that_compares_pairs_says_what_it_needs(write):
    """The first step is at the reference, the second is not; a pair of a group that was parted would be two halves."""
    lines, rollouts = run(write("odds", "Odds", ODDS, ODDS_TEST), "odds")
    for line in lines:
        mine = [x for x in rollouts if x["step"] == line["step"]]
        assert line["odds/pairs"] == line["collect/groups"] == len({x["group"] for x in mine}) > 1
        for group in {x["group"] for x in mine}:
            members = [x for x in mine if x["group"] == group]
            reward = np.array([x["reward"] for x in members])
            side = [x["advantage"] for x in members]
            assert side == np.where(reward == reward.max(), 1.0, np.where(reward == reward.min(), -1.0, 0.0)).tolist()
    assert lines[0]["loss"] == pytest.approx(np.log(2), rel=1e-5) and lines[0]["odds/margin"] < 1e-4
    assert lines[1]["odds/margin"] > 1e-2
