"""Members of a population are the runs made alone, in ordinary run folders; what cannot be one is refused."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxsrl.__main__ import main
from jaxsrl.bench.flops import useful
from jaxsrl.checkpoint import Checkpoints, PolicyName
from jaxsrl.collect import Collect
from jaxsrl.config.run import ConfigError, Stage
from jaxsrl.metrics import read
from jaxsrl.models.lora import LoRA
from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.srl import SRL
from jaxsrl.policy import trained_shapes
from jaxsrl.processes import Stopped
from jaxsrl.rewards.similarity import ActionSimilarity
from jaxsrl.stages.begin import prepare
from jaxsrl.studies.agreement import agreement
from jaxsrl.studies.grid import product
from jaxsrl.studies.members import check_members, own_numbers
from jaxsrl.studies.plan import plan
from jaxsrl.studies.population import How, train_population
from jaxsrl.studies.queue import Queue, work_groups
from jaxsrl.studies.results import results
from jaxsrl.studies.run import groups_of, run, status
from jaxsrl.studies.study import Estimator, StopBelow, Study, arms, study_folder
from jaxsrl.studies.together import devices_for
from jaxsrl.update import AdamW
from tests.sharing import COMPILED, train
from tests.tiny_config import config as tiny_config

pytestmark = pytest.mark.usefixtures("optimized")  # agreement is promised of programs as they are compiled for runs
STEPS, LR = 20, 3e-3  # at this rate the loss falls steadily


def a_run(runs, name: str, *stages: Stage, **changes):
    """A tiny run of stages in the device loop; the model's sizes are this module's own."""
    config = tiny_config()
    model = replace(config.model, width=20, head_width=10, mlp_width=28)
    return replace(
        config, stages=stages, runs=str(runs), name=name, checkpoint_every=10, layout_workers=0, model=model, **changes
    )


def on_device(which: int, **changes) -> Stage:
    """A stage of the tiny config, evaluated at its begin and end alone."""
    stage = tiny_config().stages[which]
    validate = replace(stage.validate, every=0)
    common = dict(steps=STEPS, collect=Collect(demonstrations=2), compact=False, device_steps=10, validate=validate)
    return replace(stage, **common, **changes)


def sft(runs, seed: int, name: str | None = None, lr: float = 2e-2, **changes):
    return a_run(runs, name or f"seed{seed}", on_device(0, optimizer=AdamW(lr=lr)), seed=seed, **changes)


def srl(runs, member: int):
    """SFT, then SRL. Members differ in seed, and in numbers of objective, reward and optimizer."""
    reward = ActionSimilarity(
        metric="exact", autojunk=False, malformed=-member / 4, think="optional", where="device"
    )  # exact compiles in less time than ratio
    objective = SRL(reward=reward, policy=GRPO(filter_std=0.0, clip_high=0.2 + member / 10), group_size=4)
    optimizer = AdamW(lr=LR * (1 + member), epsilon=1e-4, weight_decay=0.01 * member)
    stages = on_device(0, optimizer=AdamW(lr=2e-2)), on_device(1, objective=objective, optimizer=optimizer)
    return a_run(runs, f"m{member}", *stages, seed=member)


def folder_of(config) -> Path:
    return Path(config.runs) / config.name


def params(config):
    checkpoints = Checkpoints(folder_of(config) / "checkpoints")
    try:
        name = PolicyName(config.stages[-1].name, "last")
        return checkpoints.restore_policy(name, trained_shapes(config.model, config.lora))
    finally:
        checkpoints.close()


def check_same(many, alone):
    for got, want in zip(jax.tree.leaves(params(many)), jax.tree.leaves(params(alone)), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("populations")


@pytest.fixture(scope="module")
def pair(runs):
    """Two members, and the second of them alone."""
    configs, alone = [srl(runs / "pair", member) for member in range(2)], srl(runs / "alone", 1)
    train_population(configs, "pair", compiled=COMPILED, how=How(by="map"))
    train(alone)
    return *configs, alone


def test_a_member_is_the_run_made_alone(pair):
    """20 steps of SRL: the tokens are the same, parameters agree to 1e-5, and the other member is another run."""
    first, second, alone = pair
    found = agreement(folder_of(second), folder_of(alone))
    assert found.first is None and found.equal == found.rollouts == STEPS * 16 and found.loss < 1e-5
    check_same(second, alone)
    other = agreement(folder_of(first), folder_of(alone))
    assert other.first == ("srl", 1) and other.equal < other.rollouts and "step 1" in str(other)
    lines = [x for x in read(folder_of(second) / "metrics.jsonl") if x["kind"] == "train" and x["stage"] == "srl"]
    assert (
        len(lines) == STEPS
        and lines[0]["lr"] == pytest.approx(2 * LR)
        and sum(x.get("grad/norm", 0) > 0 for x in lines) > 10
    )


def test_two_runs_are_compared_from_the_command_line(pair, runs, capsys):
    first, second, alone = (str(folder_of(one)) for one in pair)
    assert main(["study", "agree", second, alone]) == 0
    assert "completions, all equal" in capsys.readouterr().out
    assert main(["study", "agree", first, alone]) == 1
    assert "the first that is not is of stage srl, step 1" in capsys.readouterr().out
    assert main(["study", "agree", first, str(runs / "none")]) == 2


def test_a_member_has_an_ordinary_folder_that_names_its_population(pair):
    """That of `train`, and the population's name beside it; its rollouts have the reward of its own settings."""
    many, alone = map(folder_of, pair[1:])
    files = lambda folder: {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert {name for name in files(many) ^ files(alone) if "checkpoints/" not in name} == {"population.json"}
    told = json.loads((many / "population.json").read_text())
    assert told == {"name": "pair", "member": 1, "members": ["m0", "m1"], "by": "map"}
    assert {x["reward"] for x in read(many / "rollouts" / "srl.jsonl") if x["action"] is None} == {-0.25}
    assert "member 2 of 2 of the population pair" in (many / "logs" / "attempt_1" / "log.txt").read_text()


def test_adapters_train_over_one_frozen_base_and_spread_over_devices(runs):
    """Four members all at once on two devices, two of them on each. Seeds that make bases of their own are refused."""
    assert devices_for(4, 2) == 2 and devices_for(4, 3) == 2 and devices_for(5, 3) == 1
    adapters = lambda place, number: sft(runs / place, 0, f"rate{number}", LR * number, lora=LoRA(rank=2, alpha=4.0))
    configs = [adapters("adapters", number) for number in range(1, 5)]
    train_population(configs, "adapters", compiled=COMPILED, how=How(by="vmap", devices=2))
    alone = adapters("adapters_alone", 4)
    train(alone)
    check_same(configs[3], alone)
    first, last = ([np.asarray(x) for x in jax.tree.leaves(params(configs[i]))] for i in (0, 3))
    assert max(np.abs(a - b).max() for a, b in zip(first, last, strict=True)) > 1e-3
    with pytest.raises(ConfigError, match="one frozen base.*set weights"):
        check_members([configs[0], replace(configs[1], seed=5)])


def test_members_that_were_left_at_different_steps_come_together(runs):
    """One member has stopped in the middle, the other never began: both end as if nothing had happened."""
    configs, how = [sft(runs / "left", seed) for seed in range(2)], How(by="map")

    def after(calls: int):
        asked = []
        return lambda: asked.append(1) or len(asked) > calls

    trained = lambda config: [x for x in read(folder_of(config) / "metrics.jsonl") if x["kind"] == "train"]
    with pytest.raises(Stopped):
        train(configs[1], after(2))
    assert len(trained(configs[1])) == STEPS / 2
    with pytest.raises(Stopped):
        train_population(configs, "left", after(2), COMPILED, how)
    assert [len(trained(config)) for config in configs] == [STEPS / 2, STEPS / 2]
    folders = train_population(configs, "left", compiled=COMPILED, how=how)
    for config, folder in zip(configs, folders, strict=True):
        alone = sft(runs / "whole", config.seed)
        train(alone)
        assert agreement(folder, folder_of(alone)).loss < 1e-5
        check_same(config, alone)


@pytest.mark.parametrize(("change", "words"), [
    ({"steps": 10}, "differ in stages.srl.steps.*20 and 10"),
    ({"optimizer": AdamW(lr=LR, epsilon=1e-4, clip_norm=0.0)}, "stages.srl.optimizer.clip_norm.*a number and 0"),
    ({"optimizer": AdamW(lr=LR, epsilon=1e-4, warmup_steps=2)}, "warmup_steps"),
])  # fmt: skip
def test_runs_that_differ_in_more_are_refused(tmp_path, change, words):
    one = srl(tmp_path, 1)
    other = replace(srl(tmp_path, 2), stages=(one.stages[0], replace(one.stages[1], **change)))
    with pytest.raises(ConfigError, match=words):
        check_members([one, other])


def test_what_the_device_loop_cannot_do_is_refused_with_the_reason(tmp_path):
    def pair(**change):
        configs = [srl(tmp_path, member) for member in range(2)]
        return [replace(one, stages=(one.stages[0], replace(one.stages[1], **change))) for one in configs]

    with pytest.raises(ConfigError, match="device_steps=0.*compact=false"):
        check_members(pair(device_steps=0))
    host = ActionSimilarity(autojunk=False, malformed=0.0, think="optional", where="host")
    with pytest.raises(ConfigError, match="stages.srl: its reward needs the host.*where='device'"):
        check_members(pair(objective=SRL(reward=host, policy=GRPO(), group_size=4)))
    with pytest.raises(ConfigError, match="compares with a frozen reference"):
        reward = srl(tmp_path, 0).stages[1].objective.reward
        check_members(pair(objective=SRL(reward=reward, policy=GRPO(kl_coef=0.1), group_size=4)))
    with pytest.raises(ConfigError, match="two members are named 'm0'"):
        check_members([srl(tmp_path, 0)] * 2)
    with pytest.raises(ConfigError, match="two members or more"):
        check_members([srl(tmp_path, 0)])


def test_what_is_equal_stays_a_constant(tmp_path):
    """Only numbers that differ are arrays of reward and optimizer; an objective's always are."""
    found = own_numbers([srl(tmp_path, member).stages[1] for member in range(3)])
    assert set(found.optimizer) == {"lr", "weight_decay"} and set(found.reward) == {"malformed"}
    np.testing.assert_allclose(found.optimizer["lr"], [LR, 2 * LR, 3 * LR], rtol=1e-6)
    np.testing.assert_allclose(found.objective["policy"]["clip_high"], [0.2, 0.3, 0.4], rtol=1e-6)
    assert own_numbers([srl(tmp_path, 1).stages[1]] * 2).optimizer == {}


def test_a_study_trains_cells_that_differ_in_numbers_as_one_program(runs, capsys, monkeypatch):
    """Two rates of two seeds are one population, two sizes are two. Status says so, and results read their folders.
    Data that the study has prepared are not read again."""
    base = sft(runs / "study", 0)
    made = Study(
        name="rates", question="Which rate?", fixed="everything", base=base, seeds=(0, 1), smallest_effect=0.1,
        arms=arms(product({"stages.sft.optimizer.lr": (1e-2, 2e-2)})), anchor="lr=0.01", population=4,
        estimator=Estimator(metric="actions/exact", last=1),
    )  # fmt: skip
    cells = plan(made, useful)
    (group,) = groups_of(made, cells)
    assert set(group) == {cell.id for cell in cells} and len(group) == 4
    assert list(map(len, groups_of(replace(made, population=3), cells))) == [3, 1]
    rule = StopBelow(stage="sft", metric="actions/exact", below=0.0, after=2)
    for alone in (replace(made, population=1), replace(made, population=None), replace(made, stop=rule)):
        assert list(map(len, groups_of(alone, cells))) == [1] * 4
    wide = [replace(cells[0], id="wide", config=replace(base, model=replace(base.model, mlp_width=32)))]
    assert sorted(map(len, groups_of(made, [*cells, *wide]))) == [1, 4]
    adapters = [replace(cell, config=replace(cell.config, lora=LoRA(rank=2))) for cell in cells]
    assert list(map(len, groups_of(made, adapters))) == [2, 2]  # a base of each seed
    # Two seeds of one rate, whose program the tests above have compiled.
    made = replace(made, population=2, arms=made.arms[1:], anchor=made.arms[1].name)
    prepared = prepare(made.base, COMPILED)
    monkeypatch.delattr("jaxsrl.studies.population.prepare")
    assert run(made, useful, lambda: False, compiled=COMPILED, prepared_by=lambda config: prepared) == 2
    assert "populations of 2 runs; 0 runs alone" in capsys.readouterr().out
    said = status(study_folder(made))
    assert "2 runs: 2 done" in said and said.count("its share of the 2 of rates-") == 2
    assert len(results(study_folder(made)).runs) == 2


def test_a_lost_cell_of_a_group_is_not_counted_and_the_others_are(tmp_path):
    """While two cells are performed, another worker takes one over."""
    queue = Queue(folder=tmp_path / "cells", lease_seconds=60)

    def perform(leases, stopped):
        queue.hand_back(leases[0])
        assert queue.take("a", "other").token == 2 and not stopped()
        return [{"cell": lease.cell.name} for lease in leases]

    assert work_groups(queue, [("a", "b")], perform, wait=False) == 1
    assert queue.state("a").kind == "running" and queue.state("b").result == {"cell": "b"}


def test_a_group_that_fails_says_so_of_each_cell(tmp_path):
    queue = Queue(folder=tmp_path / "cells")
    work_groups(queue, [("a", "b"), ("c",)], lambda leases, stopped: [1 / (len(leases) - 2)] * len(leases), wait=False)
    assert [queue.state(cell).kind for cell in "abc"] == ["failed", "failed", "done"]
