"""Jobs that queue for slots: who has which when, and tokens that are those of any number of slots."""

import heapq
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from jaxsrl.models.config import ModelConfig
from jaxsrl.models.pages import block_size, counts, page_count
from jaxsrl.models.transformer import init_params
from jaxsrl.rollout import queued, sampler
from jaxsrl.rollout.queue import advance, line_up, most_turns, start
from jaxsrl.rollout.sampler import make_sampler
from jaxsrl.rollout.sampling import Sampling
from jaxsrl.sharding import MeshShape, make_mesh, place_rows, state_sharding
from jaxsrl.types import Prompts

R, K, T, CAP, ENDS = 2, 7, 8, 30, (0, 1)
MODEL = ModelConfig(
    vocab=32, width=16, layers=2, heads=4, kv_heads=2, head_width=8, mlp_width=10, qk_norm=True, window=5,
    global_layers=(1,),
)  # fmt: skip


def prompts():
    """Every row is one path from which jobs branch off; some jobs are empty."""
    rng = np.random.default_rng(0)
    return Prompts(
        token=rng.integers(1, MODEL.vocab, (R, T)).astype(np.int32), position=np.tile(np.arange(T, dtype="i"), (R, 1)),
        enter=np.zeros((R, T), np.int32), leave=np.ones((R, T), np.int32),
        slot_parent=rng.integers(2, T, (R, K)).astype(np.int32), slot_enter=np.zeros((R, K), np.int32),
        slot_active=np.arange(R * K).reshape(R, K) % 6 != 2,
        slot_address=rng.integers(0, 99, (R, K, 6)).astype(np.uint32),
    )  # fmt: skip


def sampling(slots, mesh=None, config=MODEL):
    return make_sampler(config, Sampling(max_new_tokens=CAP), ENDS, mesh, slots=slots)


@pytest.fixture(scope="module")
def given():
    return init_params(MODEL, jax.random.key(0)), prompts(), jax.random.key(1), np.float32(1.0)


whole = jax.jit(sampling(None))


@pytest.fixture(scope="module")
def all_at_once(given):
    out = jax.device_get(whole(*given))
    length, (row, number) = out.length.reshape(R, K), np.nonzero(given[1].slot_active)
    assert (length[row, number] > 0).all() and length.sum() == length[row, number].sum()
    assert length.max() == CAP and 0 < (length[row, number] < CAP // 2).sum() < len(row)  # slots do take further jobs
    return out


def check(got, want):
    np.testing.assert_array_equal(got.token, want.token)
    np.testing.assert_array_equal(got.length, want.length)
    np.testing.assert_allclose(got.logp, want.logp, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("slots", [1, 3])
def test_tokens_are_those_of_any_number_of_slots(slots, given, all_at_once, monkeypatch):
    """With windows, grouped heads, several pages a job, and jobs that end with their first token.

    The loop turns no longer than it takes when a free slot is given the next job at once.
    """
    assert CAP - 1 > 2 * block_size(CAP)
    turned, by_job = [], queued._by_job

    def telling(line, grown, cap):
        jax.debug.callback(lambda turn: turned.append(int(turn)), grown.queue.turn)
        return by_job(line, grown, cap)

    monkeypatch.setattr(queued, "_by_job", telling)
    check(jax.jit(sampling(slots))(*given), all_at_once)
    jax.effects_barrier()
    turns = all_at_once.length.reshape(R, K) - 1
    assert turned == [max(by_hand(row[row > 0], slots)[0] for row in turns)]


def test_nothing_queues_where_all_jobs_fit(given):
    text = lambda slots: str(jax.make_jaxpr(sampling(slots))(*given))
    shape = f"i32[{R},3,"
    assert shape not in text(K) and shape in text(3) and len(text(K)) == len(text(None)) == len(text(lambda _: 99))


def test_a_job_does_not_see_the_one_before(given, all_at_once, monkeypatch):
    """The control: with what a slot wrote before its job began, tokens are others."""
    earlier = queued.Earlier
    monkeypatch.setattr(queued, "Earlier", lambda **found: earlier(**found | {"begin": found["begin"] * 0}))
    got = jax.jit(sampling(3))(*given)
    assert not np.array_equal(got.token, all_at_once.token)


def test_a_mesh_draws_the_same(given, all_at_once):
    """Rows and heads are cut; no device gathers another one's caches."""
    params, shared, *rest = given
    mesh = make_mesh(MeshShape(fsdp=2, tensor=2))
    placed = jax.device_put(params, state_sharding(mesh, params)), place_rows(mesh, shared)
    compiled = jax.jit(sampling(3, mesh)).lower(*placed, *rest).compile()
    check(compiled(*placed, *rest), all_at_once)
    pages = page_count(3, CAP, block_size(CAP))
    cut = f"f32[{R // 2},{pages},{MODEL.layers},{MODEL.kv_heads // 2},{block_size(CAP)},{MODEL.head_width}]"
    text = compiled.as_text()
    assert cut in text and not [
        line
        for line in text.splitlines()
        if "all-gather(" in line and f",{block_size(CAP)},{MODEL.head_width}]" in line
    ]


def test_members_and_steps_draw_what_they_draw_alone(given, all_at_once):
    """In a scan under vmap, as the device loop has it: one predicate for all members."""
    params, shared, key, temperature = given
    other = init_params(MODEL, jax.random.key(5))
    both, one = jax.tree.map(lambda *x: jnp.stack(x), params, other), sampling(3)

    def steps(params, key):
        step = lambda key, _: (jax.random.fold_in(key, 1), one(params, shared, key, temperature))
        return jax.lax.scan(step, key, None, length=2)[1]

    run = jax.vmap(steps, in_axes=(0, None))
    got = jax.jit(run)(both, key)
    of = lambda m, n: jax.tree.map(lambda x: x[m, n], got)
    check(of(0, 0), all_at_once)
    check(of(1, 1), whole(other, shared, jax.random.fold_in(key, 1), temperature))
    drawn = (2, R, 3, most_turns(K, 3, CAP - 1) + CAP - 1)
    loops = [
        e for e in equations(jax.make_jaxpr(run)(both, key).jaxpr)
        if e.primitive.name == "while" and any(v.aval.shape == drawn for v in e.outvars)
    ]  # fmt: skip
    assert [e.params["cond_jaxpr"].out_avals[0].shape for e in loops] == [(), ()]  # of blocks, and of turns in one


def equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from equations(inner)


@pytest.mark.parametrize("slots", [None, 3])
def test_no_weight_is_cast_in_the_loop(slots, given, monkeypatch):
    """Parameters in float32 of a model in bfloat16: cast before the loop. The control casts where they are used."""
    config = replace(MODEL, dtype="bfloat16")
    one = {x.shape for name, x in given[0]["layers"].items() if not name.endswith("norm")}  # of all layers
    weights = one | {shape[1:] for shape in one} | {given[0]["embedding"].shape, given[0]["embedding"].shape[::-1]}

    def casts():
        made = jax.make_jaxpr(sampling(slots, config=config))(*given)
        loops = [e for e in equations(made.jaxpr) if e.primitive.name == "while"]
        inside = [e for loop in loops for e in equations(loop.params["body_jaxpr"].jaxpr)]
        found = [
            e for e in inside if e.primitive.name == "convert_element_type" and e.outvars[0].aval.dtype == "bfloat16"
        ]
        return [e for e in found if e.invars[0].aval.dtype == "float32" and e.invars[0].aval.shape in weights]

    assert not casts()
    monkeypatch.setattr(sampler, "rollout_copy", lambda config, params: params)
    assert len(casts()) >= 7  # of every matrix of a layer


def by_hand(length, slots):
    """(turns, turn at which each job begins): the next job goes to the slot that is free first."""
    free, begins = [0] * slots, []
    for turns in length:
        begins.append(heapq.heappop(free))
        heapq.heappush(free, begins[-1] + turns)
    return max(free), begins


def test_a_free_slot_takes_the_next_in_line():
    """Against list scheduling by hand, in rows of other lengths, with jobs that do not wait."""
    rng, rows, jobs, slots = np.random.default_rng(0), 3, 20, 4
    turns = rng.integers(1, 9, (rows, jobs))
    waiting = rng.random((rows, jobs)) < 0.8

    @partial(jax.jit, static_argnums=1)
    def run(turns, slots):
        line = line_up(waiting)

        def turn(queue):
            ended = queue.turn - queue.begin + 1 >= jnp.take_along_axis(turns, queue.job, axis=1)
            return advance(line, queue, queue.busy & ended)

        return line, jax.lax.while_loop(lambda queue: jnp.any(queue.busy), turn, start(line, slots))

    line, done = run(turns, slots)
    want = [by_hand(turns[r][waiting[r]], slots) for r in range(rows)]
    assert done.turn == max(last for last, _ in want) <= most_turns(jobs, slots, 8)
    for r, (_, begins) in enumerate(want):
        n = waiting[r].sum()
        assert line.order[r, :n].tolist() == np.flatnonzero(waiting[r]).tolist() and done.taken[r] == n
        assert done.begin_of[r, :n].tolist() == begins
        at = sorted(
            (int(s), b, b + int(t)) for s, b, t in zip(done.slot_of[r, :n], begins, turns[r][waiting[r]], strict=True)
        )
        assert all(a[0] != b[0] or a[2] <= b[1] for a, b in zip(at, at[1:], strict=False))  # one after the other


def test_pages_are_read_in_static_sizes():
    assert counts(100) == [33, 41, 52, 65, 80, 100] and counts(12) == [4, 12] and counts(1) == [1]
    assert [block_size(cap) for cap in (1, 64, 300, 1024, 10_000)] == [8, 8, 16, 48, 128]
    assert page_count(4, 2, 8) == 4 and page_count(4, 300, 16) == 4 * 19
    with pytest.raises(ValueError, match="slots must be >= 1"):
        sampling(0)
