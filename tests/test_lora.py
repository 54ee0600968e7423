"""Runs that train adapters: every objective, killed and taken up again, evaluated, sampled from, written out whole."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxsrl.__main__ import main
from jaxsrl.checkpoint import Checkpoints, PolicyName, fingerprint
from jaxsrl.commands.doctor import run_state
from jaxsrl.commands.evaluate import evaluate_saved
from jaxsrl.commands.policy import load_policy
from jaxsrl.commands.sample import choose, sample_text
from jaxsrl.config.overrides import ConfigError, load, override
from jaxsrl.metrics import read
from jaxsrl.models.families import read_config
from jaxsrl.models.load import SINGLE, load_weights
from jaxsrl.models.lora import LoRA, frozen, init_adapters, with_adapters
from jaxsrl.models.save import save_weights
from jaxsrl.models.transformer import forward, init_params
from jaxsrl.objectives.chord import CHORD
from jaxsrl.objectives.dpo import DPO
from jaxsrl.policy import Compiled, first_ancestor, first_params, make_placement, make_policy, sampling_params
from jaxsrl.runs import OtherInputs
from jaxsrl.sharding import MeshShape, make_mesh, state_sharding
from tests.coin import coin
from tests.sharing import train

TINY = Path(__file__).parent / "tiny_config.py"
SET = ("lora.rank=3", "lora.alpha=6", "checkpoint_every=1", "model.width=16")
SHORT = ("stages.sft.steps=2", "stages.srl.steps=2", "stages.rlvr.steps=2")


def config(runs, *assignments):
    """The tiny run with adapters, and a stage of CHORD and of DPO after it."""
    made = override(load(TINY), (*SET, *SHORT, *assignments))
    sft, srl, rlvr = (replace(x, objective=x.objective if x.name == "sft" else replace(x.objective, reward=coin))
                      for x in made.stages)  # fmt: skip
    chord, dpo = (
        replace(rlvr, name=name, objective=objective, updates_per_rollout=1, start_from="rlvr", test=None)
        for name, objective in (("chord", CHORD(reward=coin, group_size=4)), ("dpo", DPO(reward=coin, group_size=4)))
    )
    return replace(made, stages=(sft, srl, rlvr, chord, dpo), runs=str(runs))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train(config(tmp_path_factory.mktemp("runs")))


def adapters(run: Path, stage: str):
    checkpoints, made = Checkpoints(run / "checkpoints"), config("")
    like = jax.eval_shape(lambda: init_adapters(made.model, made.lora, jax.random.key(0)))
    try:
        return checkpoints.restore_policy(PolicyName(stage, "last"), like)
    finally:
        checkpoints.close()


def test_every_objective_trains_adapters_and_saves_nothing_else(run):
    made = config("")
    count = sum(x.size for x in jax.tree.leaves(jax.eval_shape(
        lambda: init_adapters(made.model, made.lora, jax.random.key(0)))))  # fmt: skip
    said = run_state(run)
    assert f"parameters: {count}\n" in said and "adapters: rank 3" in said
    lines = [x for x in read(run / "metrics.jsonl") if x["kind"] == "train"]
    assert [x["stage"] for x in lines] == [stage.name for stage in made.stages for _ in range(2)]
    assert all(x["loss"] is not None and np.isfinite(x["loss"]) and x["grad/norm"] > 0 for x in lines)
    ends = [adapters(run, stage.name) for stage in made.stages]
    for before, after in zip(ends, ends[1:], strict=False):
        assert all((x != y).any() for x, y in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True))


def test_other_settings_are_refused(run):
    for change, said in (("lora.rank=4", "lora.rank was 3, is 4"), ("lora=None", "lora.type was 'LoRA', is None")):
        with pytest.raises(ConfigError, match=said):
            train(config(run.parent, change))


def test_a_policy_is_evaluated_and_sampled_from(run):
    made = config(run.parent)
    policy = load_policy(made, "srl")
    assert "actions/exact" in evaluate_saved(made, policy, "test", 2)
    text = sample_text(
        made, policy, choose(policy, 0, None, 1), form="action", after=1, samples=2, temperature=1.0, seed=0
    )
    assert text.count("── ") == 2


def test_the_base_is_not_copied_for_the_sampler():
    """Its arrays are those that the policy holds; adapters are made narrow, as every product wants them."""
    model = replace(config("").model, dtype="bfloat16", width=24)
    lora, key = LoRA(rank=2), jax.random.key(0)
    base = frozen(model, init_params(model, key))
    policy = make_policy(
        model, init_adapters(model, lora, key), base, lora, make_placement(MeshShape(), MeshShape()), (0,), Compiled()
    )
    sampled, _ = sampling_params(policy)
    assert sampled["embedding"] is base["embedding"] and sampled["layers"]["query"] is base["layers"]["query"]
    assert {x.dtype.name for x in jax.tree.leaves(sampled["layers"]["adapters"])} == {"bfloat16"}
    scaled = with_adapters(lora, base, policy.params)["layers"]["adapters"]["query"]["a"]
    np.testing.assert_array_equal(sampled["layers"]["adapters"]["query"]["a"], scaled.astype("bfloat16"))


def logits(params, model):
    ids = np.random.default_rng(0).integers(0, model.vocab, (2, 9)).astype(np.int32)
    position = np.tile(np.arange(9, dtype=np.int32), (2, 1))
    hidden = jax.jit(partial(forward, model))(params, ids, position, position * 0, position * 0 + 1)
    return np.asarray(hidden @ params["embedding"].T)


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
    to = tmp_path_factory.mktemp("out") / "model"
    assert main(["convert", str(run), "--to", str(to), "--policy", "dpo", "--dtype", "float32"]) == 0
    return to


def test_what_is_written_is_merged(run, folder):
    """The folder's logits are those of base and adapters, and not those of the base."""
    made = config("")
    base = first_params(made.model, made.seed, 0, None)
    whole = with_adapters(made.lora, base, adapters(run, "dpo"))
    got, want = logits(load_weights(folder, made.model), made.model), logits(whole, made.model)
    np.testing.assert_allclose(got, want, atol=1e-5 * np.abs(want).max())
    assert np.abs(logits(base, made.model) - want).max() > 1e-3


def test_adapters_of_published_weights_need_the_same_files(folder, tmp_path):
    weights = tmp_path / "weights"
    shutil.copytree(folder, weights)
    short = override(config(tmp_path, "name=on"), [f"weights={weights}"])
    short = replace(short, stages=tuple(replace(x, steps=0) for x in short.stages[:2]))
    done = train(short)
    assert main(["convert", str(done), "--to", str(tmp_path / "again"), "--dtype", "float32"]) == 0
    held = [load_weights(x, read_config(x)) for x in (weights, tmp_path / "again")]
    jax.tree.map(np.testing.assert_array_equal, *held)  # nothing was trained
    moved = jax.tree.map(lambda x: x * 1.01, held[0])
    save_weights(tmp_path / "moved", short.model, moved, dtype="float32")
    shutil.copyfile(tmp_path / "moved" / SINGLE, weights / SINGLE)
    longer = replace(short, stages=(*short.stages[:1], replace(short.stages[1], steps=1)))
    with pytest.raises(OtherInputs, match="put the old files back"):
        train(longer)
    assert main(["convert", str(done), "--to", str(tmp_path / "third")]) == 2


def test_a_killed_run_goes_on(tmp_path):
    """SIGKILL in the middle; the same bits as a run that was not stopped, from a base that is made anew."""
    settings = (*SET, "stages.sft.steps=5", "stages.srl.steps=0", "stages.rlvr.steps=0")
    command = [sys.executable, "-m", "jaxsrl", "train", str(TINY), "--runs", str(tmp_path), *(
        word for x in settings for word in ("--set", x))]  # fmt: skip
    same = {"JAX_NUMPY_RANK_PROMOTION": "raise", "JAX_NUM_CPU_DEVICES": str(len(jax.devices()))}
    process = subprocess.Popen(command, env=os.environ | same, cwd=TINY.parents[1], stdout=subprocess.DEVNULL)
    timing = tmp_path / "tiny" / "timing.jsonl"
    while process.poll() is None and not (timing.exists() and len(timing.read_text().splitlines()) >= 3):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    made = replace(override(load(TINY), settings), runs=str(tmp_path))
    killed, whole = train(made), train(replace(made, name="whole"))
    assert "resuming" in (killed / "logs" / "attempt_2" / "log.txt").read_text()
    state = lambda folder: next(x for x in run_state(folder).splitlines() if x.startswith("state"))
    assert state(killed) == state(whole)
    assert (killed / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


def test_the_base_is_that_of_the_first_stage():
    starts = {"a": None, "b": "a", "c": None, "d": "b:best", "e": "c"}
    assert [first_ancestor(starts, name) for name in starts] == [0, 0, 2, 0, 2]


def test_a_fingerprint_is_of_bits_and_places_on_any_mesh():
    rng = np.random.default_rng(0)
    params = {"embedding": rng.normal(size=(8, 6)).astype(np.float32), "final_norm": np.ones(6, np.float32)}
    mesh = make_mesh(MeshShape(fsdp=2))
    assert fingerprint(jax.device_put(params, state_sharding(mesh, params))) == fingerprint(params)
    swapped = params | {"embedding": params["embedding"][::-1]}
    nudged = params | {"final_norm": np.nextafter(params["final_norm"], np.float32(2))}
    assert len({fingerprint(x) for x in (params, swapped, nudged)}) == 3
