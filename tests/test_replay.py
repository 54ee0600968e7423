"""A bit that flips on a device is found, and the device named."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsrl.train as loop
from jaxsrl.config import Survive
from jaxsrl.config.overrides import load, override
from jaxsrl.metrics import read
from jaxsrl.sharding import MeshShape, make_mesh, place_state
from jaxsrl.stages import replay
from jaxsrl.stages.replay import Corrupted, check_replay, check_replicas, copied, device_sums
from jaxsrl.update import AdamW, init_state, optimizer
from tests.sharing import train


@pytest.fixture(scope="module")
def state():
    params = {"embedding": jnp.arange(64.0).reshape(16, 4), "final_norm": jnp.ones(4, jnp.bfloat16)}
    made = init_state(params, optimizer(AdamW()), jax.random.key(3))
    return place_state(make_mesh(MeshShape(data=2, fsdp=4)), made)


def flipped(x, device: int):
    """The array with one bit changed in what one device holds."""
    parts = []
    for shard in x.addressable_shards:
        data = np.array(shard.data)
        if shard.device.id == device:
            data.view(np.uint8).reshape(-1)[1] ^= 4
        parts.append(jax.device_put(data, shard.device))
    return jax.make_array_from_single_device_arrays(x.shape, x.sharding, parts)


@pytest.mark.parametrize("name", ["embedding", "final_norm"])
def test_a_replica_that_differs_is_named(state, name):
    check_replicas(state, "step 8")
    wrong = replace(state, params=state.params | {name: flipped(state.params[name], 5)})
    if name == "final_norm":  # eight replicas: the majority knows
        with pytest.raises(Corrupted, match=r"^step 8: device 5 \(.*process 0\) holds other bits than its replicas"):
            check_replicas(wrong, "step 8")
    else:  # cut over fsdp: two hold each part, and one of them is wrong
        with pytest.raises(Corrupted, match=r"device [15] \("):
            check_replicas(wrong, "step 8")


def test_a_step_that_comes_out_otherwise_names_the_device(state):
    check_replay(state, copied(state), "step 8")
    again = copied(state)
    moved = jax.tree.map(lambda x: x, again.opt_state[1][0].mu) | {
        "embedding": flipped(again.opt_state[1][0].mu["embedding"], 2)
    }
    adam = again.opt_state[1][0]._replace(mu=moved)
    wrong = replace(again, opt_state=(again.opt_state[0], (adam, *again.opt_state[1][1:])))
    with pytest.raises(Corrupted, match=r"^step 8: computed twice from the same state, device 2 \(.*other bits"):
        check_replay(state, wrong, "step 8")


def test_a_sum_sees_every_place(state):
    devices, sums = device_sums(state)
    assert [d.id for d in devices] == list(range(8)) and sums.shape == (8,)
    compiled = replay._sums._cache_size()
    swapped = replace(state, params=state.params | {"embedding": state.params["embedding"][:, ::-1]})
    assert (device_sums(swapped)[1] != sums).all() and replay._sums._cache_size() == compiled  # not again each time


def replays_at(step: int, every: int, each: int) -> bool:
    """Whether the collection from `step` on is replayed, of which each is learned from in `each` steps."""
    parts = SimpleNamespace(
        stage=SimpleNamespace(steps_per_collection=each), config=SimpleNamespace(survive=Survive(replay_every=every))
    )
    return loop.replays(parts, step)


def test_a_run_that_replays_has_the_same_bits_and_ends_where_they_differ(tmp_path, monkeypatch):
    config = override(load("tests/tiny_config.py"), ["stages.sft.validate.every=0"])
    config = replace(config, runs=str(tmp_path), stages=config.stages[:1])
    plain = read(train(replace(config, name="plain")) / "metrics.jsonl")
    checked, learned = [], []
    # Two steps on a collection are computed again together, after twice as many: of all steps no more than one in four.
    where = lambda every, each: [x for x in range(0, 24, each) if replays_at(x, every, each)]
    assert where(4, 1) == [3, 7, 11, 15, 19, 23] and where(4, 2) == [6, 14, 22] and where(4, 8) == [] == where(0, 1)
    monkeypatch.setattr(loop, "check_replay", lambda *args: checked.append(args[2]) or check_replay(*args))
    replaying = replace(config, survive=Survive(replay_every=4))
    assert read(train(replace(replaying, name="twice")) / "metrics.jsonl") == plain
    assert checked == ["[sft] step 4", "[sft] step 8"]

    def learn(*args):
        state, *rest = loop_learn(*args)
        learned.append(1)
        if len(learned) == 5:  # the second time of the fourth step
            params = state.params | {"final_norm": state.params["final_norm"] + 1}
            state = replace(state, params=params)
        return state, *rest

    loop_learn = loop.learn
    monkeypatch.setattr(loop, "learn", learn)
    with pytest.raises(Corrupted, match=r"\[sft\] step 4: computed twice"):
        train(replace(replaying, name="wrong"))
    with pytest.raises(ValueError, match="replays the host.s loop"):
        stage = replace(
            config.stages[0], compact=False, device_steps=1, validate=replace(config.stages[0].validate, every=0)
        )
        replace(replaying, stages=(stage,))
