"""A population of runs that differ in state, seed and numbers is one program, and each member is its run alone."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from jaxsrl.collect.collect import whole_step
from jaxsrl.collect.device import make_draw, make_weigh
from jaxsrl.collect.whole import Known, make_step
from jaxsrl.data.byte_tokenizer import ByteTokenizer
from jaxsrl.data.chat import Template
from jaxsrl.data.choose import Room, choose_shapes
from jaxsrl.data.compaction import plan
from jaxsrl.data.fill import fill
from jaxsrl.data.layout import lay_out
from jaxsrl.data.token_bytes import token_bytes
from jaxsrl.data.tree import build
from jaxsrl.models.config import ModelConfig
from jaxsrl.models.transformer import init_params
from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.numbers import as_arrays, numbers_of
from jaxsrl.objectives.srl import SRL
from jaxsrl.rewards.similarity import ActionSimilarity
from jaxsrl.rollout.sampler import make_sampler
from jaxsrl.rollout.sampling import Sampling
from jaxsrl.types import Rooms
from jaxsrl.update import AdamW, init_state, learning_rate, make_apply, make_gradient, make_loss, optimizer
from tests.tiny_config import spelled

BYTES, CAP, MEMBERS = ByteTokenizer(), 7, 3
# With a tiny epsilon Adam's first step has one size however small a gradient is, and so has what rounding makes of one.
ADAM = AdamW(lr=1e-3, epsilon=1e-4)
MODEL = ModelConfig(vocab=BYTES.vocab_size, width=20, layers=2, heads=2, kv_heads=1, head_width=10, mlp_width=24)
REWARD = ActionSimilarity(autojunk=False, malformed=-0.5, think="optional", where="device")
OBJECTIVE = SRL(reward=REWARD, policy=GRPO(filter_std=0.0, clip_high=0.3), group_size=4)


@pytest.fixture(scope="module")
def known() -> Known:
    demonstrations = [spelled(i) for i in range(3)]
    points = [OBJECTIVE.branch_points(d, 0) for d in demonstrations]
    trees = [build(d, p, (), Template(), BYTES) for d, p in zip(demonstrations, points, strict=True)]
    shapes = choose_shapes(trees, points, Room(demonstrations=3, completion_tokens=CAP, code_points=64))
    layout = lay_out(demonstrations, points, shapes, template=Template(), tokenizer=BYTES, sheets=shapes.sheets)
    active = layout.jobs.active
    rows = (max(shapes.rows),) * -(-shapes.round_rows // max(shapes.rows))
    planned = plan(layout.tables, np.where(active, CAP, 0), active, np.zeros(3, bool), shapes, rows=rows)
    stack = lambda parts: jax.tree.map(lambda *x: np.stack(x), *parts)
    made = Known(sheets=stack(layout.sheets), whole=whole_step(layout, shapes, 1), rows=stack(planned.batches))
    return made, shapes.tokens


@pytest.fixture(scope="module")
def step(known):
    tokens = token_bytes(BYTES, Template())
    sample = make_sampler(MODEL, Sampling(max_new_tokens=CAP), BYTES.ends)
    draw = make_draw(sample, REWARD, tokens, Rooms(bytes=64, code_points=64))
    filling = lambda segments, trunk, completions, weights, group: fill(segments, trunk, completions, weights, known[1])
    return make_step(
        draw, make_weigh(OBJECTIVE, BYTES.ends, 4, REWARD, unfit_on_host=False), filling,
        make_gradient(make_loss(MODEL, OBJECTIVE, 1.0)), make_apply(optimizer(ADAM), learning_rate(ADAM, 4)),
        lambda params: params, CAP,
    )  # fmt: skip


@pytest.fixture(scope="module")
def members():
    """Start, key and numbers of each member."""
    tx = optimizer(ADAM)
    start = lambda m: init_state(init_params(MODEL, jax.random.key(m)), tx, jax.random.key(0))
    stack = lambda make: jax.tree.map(lambda *x: jnp.stack(x), *map(make, range(MEMBERS)))
    own = as_arrays(numbers_of(OBJECTIVE))
    numbers = stack(lambda m: jax.tree.map(lambda x: jnp.asarray(x) * (1 + m / 2), own))
    return stack(start), jax.vmap(jax.random.key)(jnp.arange(MEMBERS)), numbers


def test_each_member_is_its_run_alone(known, step, members):
    """Two steps: tokens are identical, parameters agree to 1e-6 after one."""
    one = jax.tree.map(lambda x: x, known[0])
    many = jax.jit(jax.vmap(step, in_axes=(0, None, 0, None, 0)))
    alone = jax.jit(step)
    states, keys, numbers = members
    after, taken = many(states, one, keys, jnp.float32(1.0), numbers)
    moved = []
    for m in range(MEMBERS):
        of = partial(jax.tree.map, lambda x, m=m: x[m])
        want, told = alone(of(states), one, keys[m], jnp.float32(1.0), of(numbers))
        np.testing.assert_array_equal(taken.token[m], told.token)
        np.testing.assert_array_equal(taken.flags[m], told.flags)
        for got, right in zip(jax.tree.leaves(of(after.params)), jax.tree.leaves(want.params), strict=True):
            np.testing.assert_allclose(got, right, atol=1e-6)
        moved.append(bool(told.metrics["step/moved"]))
    assert any(moved) and len({x.tobytes() for x in np.asarray(taken.token)}) == MEMBERS


def test_the_program_selects_and_scatters_no_cache(known, step, members):
    """The samplers' loops in it ask one question for all members."""
    states, keys, numbers = members
    traced = jax.make_jaxpr(jax.vmap(step, in_axes=(0, None, 0, None, 0)))(
        states, known[0], keys, jnp.float32(1.0), numbers
    )
    rows, slots = known[0].sheets.prompts.slot_parent.shape[1:]
    cache = (MEMBERS, MODEL.layers, rows, MODEL.kv_heads, slots, CAP, MODEL.head_width)
    loops = [e for e in equations(traced.jaxpr) if e.primitive.name == "while" and cache in shapes_of(e.outvars)]
    assert len(loops) == 1 and loops[0].params["cond_jaxpr"].out_avals[0].shape == ()
    body = [e for e in equations(loops[0].params["body_jaxpr"].jaxpr) if cache in shapes_of(e.invars)]
    assert body and not {e.primitive.name for e in body} & {"select_n", "scatter", "gather"}


def shapes_of(variables) -> set[tuple[int, ...]]:
    return {v.aval.shape for v in variables}


def equations(jaxpr):
    """Of a program and of all within it."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from equations(inner)
