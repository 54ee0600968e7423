"""From demonstrations to weighed rollouts: refills, groups, and what a stranger can recompute from the logged lines."""

import difflib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxsrl.collect import Actor, Collect, Rows, batches, collect, complete, rollout_lines, select
from jaxsrl.config.overrides import load
from jaxsrl.data.byte_tokenizer import ByteTokenizer
from jaxsrl.data.chat import Template
from jaxsrl.metrics import read
from jaxsrl.models.transformer import init_params
from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.sft import SFT
from jaxsrl.objectives.srl import SRL
from jaxsrl.programs import INIT, Programs
from jaxsrl.rewards.similarity import StepSimilarity
from jaxsrl.train import train
from jaxsrl.types import Demonstration

BYTES = ByteTokenizer()
pytestmark = pytest.mark.usefixtures("shared_programs")
ROWS = Rows(tokens=128, rows=2, prompt_tokens=32, prompt_rows=2, slots=8)
CAP = 6


def demonstration(name: str, *actions: str, problem: str | None = None) -> Demonstration:
    return Demonstration(problem_id=name, problem=problem or name, actions=actions)


@dataclass
class Listed:
    """Demonstrations one after the other, from the start again."""

    items: list
    taken: list = field(default_factory=list)

    def take(self, position, count):
        self.taken.append((position, count))
        return [self.items[(position + i) % len(self.items)] for i in range(count)], position + count


def actor(write) -> Actor:
    """An actor whose completion is `write(refill, sample)`; what it is asked for is in no other way part of it."""

    def sample(params, prompts, key, temperature):
        shape = prompts.slot_parent.shape
        token, length = np.zeros((*shape, CAP), np.int32), np.zeros(shape, np.int32)
        for r, k in zip(*np.nonzero(prompts.slot_active), strict=True):
            refill, *_, index = prompts.slot_address[r, k].tolist()
            ids = [*BYTES.encode(write(refill, index)), BYTES.end]
            token[r, k, : len(ids)], length[r, k] = ids, len(ids)
        return token, np.full(token.shape, -0.5, np.float32), length

    return Actor(sample=sample, tokenizer=BYTES, template=Template(), rows=ROWS, max_new_tokens=CAP)


def srl(**settings) -> SRL:
    return SRL(
        grader=StepSimilarity(autojunk=False, think="optional"), policy=GRPO(filter_std=0.05), samples=2, **settings
    )


def gather(write, settings, items, objective=None):
    source = Listed(items)
    found = collect(
        objective or srl(), source, 0, 0, {}, settings, actor(write), None, jax.random.key(0), 1.0
    )  # fmt: skip
    return found, source


PAIR = [demonstration("p", "aa", "bb"), demonstration("q", "ac", "bb"), demonstration("r", "ad", "bb")]
SPREAD = lambda refill, sample: "ax"[: sample + 1] if sample else "zzz"
FLAT = lambda refill, sample: "a"


@pytest.mark.fast
def test_refill_ends_at_its_bound_and_says_it_is_short():
    found, source = gather(FLAT, Collect(demonstrations=2, prompts=3, max_refills=2), PAIR)
    assert source.taken == [(0, 2), (2, 2), (4, 2)] and found.position == 6
    assert found.metrics["collect/rounds"] == 3 and found.metrics["collect/short"] == 1
    assert found.metrics["collect/kept_share"] == 0.0 and found.metrics["collect/groups"] == 6
    assert not found.kept.any() and batches(found, ROWS)[0] == []


@pytest.mark.fast
def test_refill_goes_on_until_there_is_enough_and_no_further():
    write = lambda refill, sample: FLAT(refill, sample) if refill == 0 else SPREAD(refill, sample)
    found, source = gather(write, Collect(demonstrations=2, prompts=2, max_refills=5), PAIR)
    assert len(source.taken) == 2
    assert found.metrics["collect/rounds"] == 2 and found.metrics["collect/short"] == 0
    assert found.metrics["collect/kept_share"] == 0.5
    assert found.kept.tolist() == [False] * 4 + [True] * 4
    assert np.unique(found.rollouts.group).tolist() == [0, 1, 2, 3]


@pytest.mark.fast
def test_a_mean_over_some_rollouts_is_theirs_in_several_rounds_too():
    """One of four is well formed in the first round, all in the second."""
    write = lambda refill, sample: SPREAD(refill, sample) if refill else ""
    some = lambda refill, sample: "a" if (refill, sample) == (0, 1) else write(refill, sample)
    found, _ = gather(some, Collect(demonstrations=2, prompts=4, max_refills=1), PAIR)
    reward, formed = found.grades.reward, np.array([a is not None for a in found.grades.action])
    by_all = np.mean([reward[:4][formed[:4]].mean(), reward[4:][formed[4:]].mean()])
    assert found.metrics["reward/similarity"] == pytest.approx(reward[formed].mean()) != pytest.approx(by_all)
    assert found.metrics["reward/malformed_share"] == pytest.approx(np.mean(~formed))


@pytest.mark.fast
@pytest.mark.parametrize("processes", [2, 3, 8])
def test_processes_grade_groups_of_their_own(processes, monkeypatch):
    """Some have none; together they say what one says, through JSON and to the last bit."""

    def from_each(make):
        said = []
        for index in range(processes):
            monkeypatch.setattr(jax, "process_index", lambda index=index: index)
            said.append(json.loads(json.dumps(make())))
        return said

    def grade(self, rollouts, demonstrations):
        seen.append(np.unique(rollouts.group).tolist())
        return real(self, rollouts, demonstrations)

    real, seen = StepSimilarity.__call__, []
    settings = Collect(demonstrations=4)
    alone, _ = gather(SPREAD, settings, PAIR)
    monkeypatch.setattr(StepSimilarity, "__call__", grade)
    monkeypatch.setattr("jaxsrl.collect.from_each", from_each)
    monkeypatch.setattr(jax, "process_count", lambda: processes)
    found, _ = gather(SPREAD, settings, PAIR)
    assert seen == {2: [[0, 1], [2, 3]], 3: [[0, 1], [2], [3]], 8: [[0], [1], [2], [3]]}[processes]
    assert found.grades.reward.tolist() == alone.grades.reward.tolist()
    assert (found.grades.action, found.grades.expert) == (alone.grades.action, alone.grades.expert)
    assert found.metrics == pytest.approx(alone.metrics)
    assert list(found.metrics) == list(alone.metrics)
    assert [*found.grades.metrics] == sorted(found.grades.means) != [*StepSimilarity()(found.rollouts, PAIR * 2).means]
    assert rollout_lines(found, "srl", 1) == rollout_lines(alone, "srl", 1)


@pytest.mark.fast
def test_the_reference_scores_every_rollout_where_it_stands():
    """Over a refill: a scorer that sees tokens alone gives each rollout's own tokens back, in their order."""
    write = lambda refill, sample: FLAT(refill, sample) if refill == 0 else SPREAD(refill, sample)
    objective = SRL(
        grader=StepSimilarity(autojunk=False, think="optional"), samples=2,
        policy=GRPO(filter_std=0.05, reward_kl="token", reward_kl_coef=0.5),
    )  # fmt: skip
    score = lambda batch: np.where(batch.pg_weight != 0, -batch.token / 100, np.nan)
    settings, source = Collect(demonstrations=2, prompts=2, max_refills=5), Listed(PAIR)
    found = collect(objective, source, 0, 0, {}, settings, actor(write), None, jax.random.key(0), 1.0, score)
    r = found.rollouts
    np.testing.assert_allclose(r.ref_logp, np.where(r.mask, -r.token / 100, 0.0), rtol=1e-6)
    plain, _ = gather(write, settings, PAIR)
    first = r.mask[4].sum()
    k1 = -0.5 + r.token[4][:first] / 100
    want = plain.rollout_weights.advantage[4][:first] - 0.5 * np.cumsum(k1[::-1])[::-1]
    np.testing.assert_allclose(found.rollout_weights.advantage[4][:first], want, rtol=1e-6)


@pytest.mark.fast
def test_surplus_groups_are_out_of_every_mean():
    found, _ = gather(SPREAD, Collect(demonstrations=3, prompts=1), PAIR)
    alone, _ = gather(SPREAD, Collect(demonstrations=1), PAIR)
    assert found.kept.tolist() == [True] * 2 + [False] * 4
    np.testing.assert_array_equal(found.rollout_weights.pg[:2], alone.rollout_weights.pg)
    assert found.rollout_weights.pg.sum() == pytest.approx(1) and not found.rollout_weights.pg[2:].any()
    # The control: without a bound the same rollouts share the mean with the others.
    wide, _ = gather(SPREAD, Collect(demonstrations=3), PAIR)
    assert wide.kept.all() and wide.rollout_weights.pg[:2].sum() < 0.5
    # What a surplus group's rewards say is logged all the same.
    np.testing.assert_array_equal(found.rollout_weights.advantage, wide.rollout_weights.advantage)
    packed = batches(found, ROWS)[0]
    assert sorted({int(i) for b in packed for i in np.unique(b.rollout)} - {-1}) == [0, 1]


@pytest.mark.fast
def test_equal_prompts_with_different_targets_are_groups_of_their_own():
    """Trap: a baseline over prompt texts would mix rewards that were compared with different actions."""
    twins = [demonstration("1", "aa", "x", problem="same"), demonstration("2", "zz", "x", problem="same")]
    found, _ = gather(lambda refill, sample: "a" if sample else "aa", Collect(demonstrations=2), twins)
    assert found.rollouts.group.tolist() == [0, 0, 1, 1]
    reward = found.grades.reward
    np.testing.assert_allclose(reward, [1, 2 / 3, 0, 0])
    np.testing.assert_allclose(found.rollout_weights.advantage[:, 0], [1, -1, 0, 0], atol=1e-4)
    # and one demonstration that is drawn twice is two groups
    twice, _ = gather(SPREAD, Collect(demonstrations=2), twins[:1])
    assert twice.rollouts.group.tolist() == [0, 0, 1, 1]


@pytest.mark.fast
def test_demonstrations_without_branch_points():
    single, double = demonstration("s", "only"), demonstration("d", "aa", "b")
    found, _ = gather(SPREAD, Collect(demonstrations=2), [single])
    assert len(found.rollouts) == 0 and found.grades is None and batches(found, ROWS)[0] == []
    found, source = gather(SPREAD, Collect(demonstrations=1, prompts=1, max_refills=3), [single, double])
    assert len(source.taken) == 2 and found.rollouts.demonstration.tolist() == [1, 1]
    assert [line["problem"] for line in rollout_lines(found, "srl", 1)] == ["d", "d"]
    # SFT never samples, so it never refills
    _, source = gather(SPREAD, Collect(demonstrations=2, prompts=3), PAIR, SFT())
    assert len(source.taken) == 1


@pytest.mark.fast
def test_complete_without_any_branch_point_is_empty():
    empty = complete(actor(FLAT), None, jax.random.key(0), 1.0, [], [])
    assert len(empty) == 0 and empty.token.shape == empty.mask.shape == (0, CAP)


@pytest.mark.fast
@pytest.mark.parametrize("values", [{"demonstrations": 0}, {"prompts": 0}, {"max_refills": -1}])
def test_wrong_settings_are_named(values):
    with pytest.raises(ValueError, match=f"{next(iter(values))}=|{next(iter(values))} and"):
        Collect(**values)


def tiny(runs, stages=("srl",), **changes):
    """The run of `tiny_config.py` with some of its stages, each from random parameters."""
    config = load(Path(__file__).parent / "tiny_config.py")
    of_stage = {name: changes.pop(name) for name in ("optimizer", "validate", "steps") if name in changes}
    kept = tuple(replace(s, start_from=None, test=None, **of_stage) for s in config.stages if s.name in stages)
    return replace(config, stages=kept, runs=str(runs), checkpoint_every=100, **changes)


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    """SFT and three steps of SRL from it, so that rewards differ."""
    config = load(Path(__file__).parent / "tiny_config.py")
    sft, grpo = config.stages[0], replace(config.stages[1], steps=3)
    runs = tmp_path_factory.mktemp("sampled")
    return train(replace(config, stages=(sft, grpo), runs=str(runs), checkpoint_every=100))


def train_lines(folder):
    return [x for x in read(folder / "metrics.jsonl") if x["kind"] == "train"]


def test_a_stranger_recomputes_rewards_and_advantages(sampled):
    """From the lines alone, with difflib and NumPy: nothing of this project is asked."""
    lines = [json.loads(line) for line in (sampled / "rollouts" / "srl.jsonl").read_text().splitlines()]
    assert {line["step"] for line in lines} == {1, 2, 3}
    for line in lines:
        action = None if line["truncated"] else line["completion"].strip() or None
        settings = line["reward_settings"]
        expected = settings["malformed"] if action is None else difflib.SequenceMatcher(
            None, action, line["expert_action"], settings["autojunk"]
        ).ratio()  # fmt: skip
        assert line["reward"] == expected and line["action"] == action
    groups = {}
    for line in lines:
        groups.setdefault((line["step"], line["group"]), []).append(line)
    spread, kept = [], []
    for members in groups.values():
        reward = np.array([m["reward"] for m in members])
        expected = (reward - reward.mean()) / (reward.std() + 1e-6) if np.ptp(reward) else 0 * reward
        np.testing.assert_allclose([m["advantage"] for m in members], expected, atol=1e-9)
        assert {(m["problem"], m["branch"], m["expert_action"]) for m in members} == {
            (members[0]["problem"], members[0]["branch"], members[0]["expert_action"])
        }
        assert [m["sample"] for m in members] == [0, 1, 2, 3]
        assert {m["kept"] for m in members} <= ({True, False} if reward.std() > 0.01 else {False})
        spread.append(reward.std() > 0.01)
        kept.append(members[0]["kept"])
    assert 0 < sum(kept) and sum(spread) > len(groups) / 3  # the check has something to check
    for line in [x for x in train_lines(sampled) if x["stage"] == "srl"]:
        own = [x for x in lines if x["step"] == line["step"]]
        assert line["reward/mean"] == pytest.approx(np.mean([x["reward"] for x in own]), rel=1e-12)
        assert line["collect/groups"] == len({x["group"] for x in own})
        assert line["completion/tokens_mean"] == pytest.approx(np.mean([x["tokens"] for x in own]))


def test_evaluation_leaves_training_alone(tmp_path):
    often = train(tiny(tmp_path / "often", steps=4))
    config = tiny(tmp_path / "never", steps=4)
    never = train(
        replace(config, stages=tuple(replace(s, validate=replace(s.validate, every=0)) for s in config.stages))
    )
    evals = [sum(x["kind"] == "eval" for x in read(f / "metrics.jsonl")) for f in (often, never)]
    assert evals == [3, 2]
    assert train_lines(often) == train_lines(never)
    assert (often / "rollouts" / "srl.jsonl").read_bytes() == (never / "rollouts" / "srl.jsonl").read_bytes()


def test_the_seed_reaches_the_sampler(tmp_path):
    """With the same parameters, another key draws other tokens, and the same key the same ones."""
    config = tiny(tmp_path)
    params = init_params(config.model, jax.random.key(0))
    programs = Programs(config, config.model, BYTES)
    real = programs.actor(config.stages[0].sampling, config.rows)
    drawn = []
    for seed in (0, 0, 1):
        found = collect(
            srl(), Listed(PAIR), 0, 0, {}, Collect(demonstrations=2), real, params, jax.random.key(seed), 1.0
        )  # fmt: skip
        drawn.append(found.rollouts)
    np.testing.assert_array_equal(drawn[0].token, drawn[1].token)
    np.testing.assert_array_equal(drawn[0].behavior_logp, drawn[1].behavior_logp)
    assert (drawn[0].token != drawn[2].token).any(axis=1).mean() > 0.9


def test_without_a_learning_rate_nothing_drifts(tmp_path):
    """Sampler and learner give a token the same probability, and go on doing so when nothing is learned."""
    config = tiny(tmp_path, ("rlvr",), steps=20)
    stage = config.stages[0]
    still = replace(
        stage, optimizer=replace(stage.optimizer, lr=0.0), updates_per_rollout=1,
        objective=replace(stage.objective, policy=GRPO()),  # keeps every group, so that every step measures
    )  # fmt: skip
    folder = train(replace(config, stages=(still,)))
    lines = train_lines(folder)
    kl = [x["pg/behavior_kl"] for x in lines]
    assert len(kl) == 20 and max(np.abs(kl)) < 1e-9, kl
    assert all(abs(x["pg/ratio_mean"] - 1) < 1e-5 for x in lines)
    assert all(x["pg/outside_clip_share"] == 0 for x in lines)
    assert _policy_bits(folder, "rlvr-last") == first_params(config)


def first_params(config):
    """What the first stage starts from, as bits."""
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(config.seed), 0), INIT)
    first = jax.jit(init_params, static_argnums=0)(config.model, key)
    return [np.asarray(x).tobytes() for x in jax.tree.leaves(first)]


def _policy_bits(folder, name):
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as reader:
        tree = reader.restore((folder / "checkpoints" / "policy" / name).absolute())
    return [np.asarray(x).tobytes() for x in jax.tree.leaves(tree)]


def test_a_step_with_nothing_kept_counts_and_moves_nothing(tmp_path):
    """A grader whose rewards are all equal: every group is dropped, the step is taken, parameters stay."""
    config = tiny(tmp_path, steps=2)
    flat = GRPO(filter_std=10.0)
    folder = train(
        replace(config, stages=tuple(replace(s, objective=replace(s.objective, policy=flat)) for s in config.stages))
    )
    lines = train_lines(folder)
    assert [x["step"] for x in lines] == [1, 2]
    assert all(x["loss"] is None and x["collect/kept_share"] == 0 and x["collect/short"] == 1 for x in lines)
    assert all(x["collect/rounds"] == 2 for x in lines)
    assert _policy_bits(folder, "srl-last") == first_params(config)


@pytest.mark.fast
def test_rewards_do_not_depend_on_what_is_graded_beside_them():
    grader = StepSimilarity(autojunk=False, think="optional")
    found, _ = gather(SPREAD, Collect(demonstrations=3), PAIR)
    together = grader(found.rollouts, found.demonstrations).reward
    one = lambda i: select(found.rollouts, np.array([i]))
    alone = [grader(one(i), found.demonstrations).reward[0] for i in range(len(together))]
    assert together.tolist() == alone and len(set(alone)) > 1


def test_branch_point_order_is_that_of_the_rollouts():
    found, _ = gather(SPREAD, Collect(demonstrations=1), [demonstration("long", "aa", "bb", "cc")])
    assert found.rollouts.branch.tolist() == [0, 0, 1, 1]
    assert found.rollouts.sample.tolist() == [0, 1, 0, 1]
