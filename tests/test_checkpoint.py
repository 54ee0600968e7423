"""States and policies come back to the bit, and a save that was cut off is none."""

import shutil
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsrl.checkpoint import Checkpoints, array_hash, state_hash
from jaxsrl.types import TrainState
from jaxsrl.update import AdamW, init_state, optimizer


def make_state(value: float = 1.0, step: int = 3) -> TrainState:
    params = {"layer": {"w": jnp.full((2, 3), value), "a_norm": jnp.array([np.pi, -0.0, 1e-42], jnp.float32)}}
    return replace(init_state(params, optimizer(AdamW(), 10), jax.random.key(5)), step=jnp.int32(step))


@pytest.fixture
def checkpoints(tmp_path):
    made = Checkpoints(tmp_path / "checkpoints")
    yield made
    made.close()


@pytest.mark.fast
def test_state_and_record_come_back(checkpoints):
    record = {"step": 3, "stats": {"loss": 0.1, "none": None}, "best": None, "offsets": {"metrics.jsonl": 7}}
    state = make_state()
    checkpoints.save(1, state, record)
    checkpoints.wait()
    assert checkpoints.latest() == 1 and checkpoints.record(1) == record
    back = checkpoints.restore(1, make_state(0.0, 0))
    assert state_hash(back) == state_hash(state)
    assert jax.random.uniform(back.key) == jax.random.uniform(state.key)
    assert jax.tree.structure(back) == jax.tree.structure(state)


@pytest.mark.fast
def test_hash_sees_every_bit_and_name():
    base = make_state()
    params = base.params
    others = [
        replace(base, step=base.step + 1),
        replace(base, skipped=base.skipped + 1),
        replace(base, key=jax.random.key(6)),
        replace(base, params={"layer": params["layer"] | {"w": params["layer"]["w"].at[0, 0].set(1 + 2**-23)}}),
        replace(base, params={"layer": params["layer"] | {"a_norm": params["layer"]["a_norm"].at[1].set(0.0)}}),
        replace(base, params={"other": params["layer"]}),
    ]
    hashes = [state_hash(state) for state in (base, *others)]
    assert len(set(hashes)) == len(hashes)
    assert array_hash({"a": np.zeros(2)}) != array_hash({"a": np.zeros((2, 1))})


@pytest.mark.fast
def test_keeps_the_newest_two(checkpoints, tmp_path):
    for count in range(1, 5):
        checkpoints.save(count, make_state(float(count)), {"step": count})
    checkpoints.wait()
    assert sorted(p.name for p in (tmp_path / "checkpoints" / "resume").iterdir()) == ["3", "4"]
    assert state_hash(checkpoints.restore(3, make_state())) == state_hash(make_state(3.0))


def test_half_written_save_is_none(tmp_path):
    first = Checkpoints(tmp_path)
    for count in (1, 2):
        first.save(count, make_state(count), {"step": count})
    first.save_policy("srl-last", make_state().params)
    first.close()
    shutil.copytree(tmp_path / "resume" / "2", tmp_path / "resume" / "3.orbax-checkpoint-tmp-1")
    shutil.copytree(tmp_path / "policy" / "srl-last", tmp_path / "policy" / "sft-last.orbax-checkpoint-tmp-1")
    second = Checkpoints(tmp_path)
    assert second.latest() == 2 and second.policies() == ["srl-last"]
    second.sweep()
    assert not list(tmp_path.glob("*/*tmp*"))
    second.save(3, make_state(3), {"step": 3})
    second.close()
    third = Checkpoints(tmp_path)
    assert third.latest() == 3 and third.record(3) == {"step": 3}
    third.close()


def test_policies_by_name(checkpoints):
    like = make_state().params
    for name, value in (("sft-best-000000001", 1.0), ("sft-best-000000004", 4.0), ("sft-last", 5.0)):
        checkpoints.save_policy(name, make_state(value).params)
    checkpoints.save_policy("sft-last", make_state(6.0).params)
    checkpoints.wait()
    assert checkpoints.policies() == ["sft-best-000000001", "sft-best-000000004", "sft-last"]
    assert array_hash(checkpoints.restore_policy("sft-last", like)) == array_hash(make_state(6.0).params)
    checkpoints.drop_policies("sft-best-", "sft-best-000000004")
    assert checkpoints.policies() == ["sft-best-000000004", "sft-last"]
    with pytest.raises(FileNotFoundError, match="'rlvr-last'.*there are: sft-best-000000004, sft-last"):
        checkpoints.restore_policy("rlvr-last", like)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Orbax leaves its other reads behind
def test_parameters_of_another_shape_are_refused(checkpoints):
    checkpoints.save_policy("p", make_state().params)
    checkpoints.wait()
    wrong = {"layer": {"w": jnp.zeros((2, 4)), "a_norm": jnp.zeros(3)}}
    with pytest.raises(ValueError, match=r"\(2, ?4\)|shape"):
        checkpoints.restore_policy("p", wrong)
