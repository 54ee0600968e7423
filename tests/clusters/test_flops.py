"""FLOPs by formula against the programs as JAX traces them. Nothing is computed but integers."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import Jaxpr

from jaxsrl.bench import flops as counted
from jaxsrl.bench.flops import SHAPES, executed, one_row
from jaxsrl.clusters import flops
from jaxsrl.models.cache import PromptCache, init_own_cache
from jaxsrl.models.config import ModelConfig, preset
from jaxsrl.models.lora import LoRA, init_adapters, with_adapters
from jaxsrl.models.transformer import decode, init_params
from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.numbers import as_arrays, numbers_of
from jaxsrl.objectives.srl import SRL
from jaxsrl.ops.tree_attention import TILES
from jaxsrl.types import Batch
from jaxsrl.update import make_loss, on_base

MODEL = ModelConfig(
    vocab=1024, width=256, layers=3, heads=4, kv_heads=2, head_width=64, mlp_width=512, dtype="bfloat16", remat="full"
)
CHUNK = 1024  # tokens of a step of the head on a CPU


@pytest.fixture
def row(monkeypatch):
    """One tree."""
    monkeypatch.setattr(counted, "BATCH_TOKENS", 1)
    return one_row(SHAPES["grpo"])


def pairs_of(batch: Batch) -> int:
    """Of whole tiles: a key tile is met by every query tile up to the last token that sees one of its tokens."""
    tile, total = TILES["cpu"].tile, 0
    for enter, leave in zip(np.asarray(batch.enter), np.asarray(batch.leave), strict=True):
        there = enter >= 0
        last = np.searchsorted(enter[there], leave[there]) - 1
        for first in range(0, there.sum(), tile):
            total += (last[first : first + tile].max() // tile - first // tile + 1) * tile**2
    return total


def test_a_gradient_is_counted_to_two_percent(row):
    """And what `remat` makes anew is seen: the other's formula is off by more."""
    batch, tables = row
    sizes = preset("qwen2.5-1.5b", remat="full")
    scored = -(-int(tables.length[tables.job >= 0].sum()) // CHUNK) * CHUNK
    found, pairs = executed(sizes, batch), pairs_of(batch)
    assert flops.gradient(sizes, batch.token.size, scored, pairs) == pytest.approx(found, rel=0.02)
    other = replace(sizes, remat="dots")
    assert abs(flops.gradient(other, batch.token.size, scored, pairs) / found - 1) > 0.1
    assert flops.useful_gradient(sizes, batch.token.size, scored, pairs) < found


def products(jaxpr: Jaxpr) -> float:
    """FLOPs of a trace: a scan's body as often as it runs, of branches the one with most; loops must have none."""
    total = 0.0
    for equation in jaxpr.eqns:
        inner = [
            x for x in jax.tree.leaves(list(equation.params.values())) if hasattr(x, "eqns") or hasattr(x, "jaxpr")
        ]
        counts = [products(x.jaxpr if hasattr(x, "jaxpr") else x) for x in inner]
        match equation.primitive.name:
            case "dot_general":
                (contracted, _), _ = equation.params["dimension_numbers"]
                left = equation.invars[0].aval.shape
                total += 2.0 * np.prod(equation.outvars[0].aval.shape) * np.prod([left[i] for i in contracted])
            case "scan":
                total += equation.params["length"] * sum(counts)
            case "cond":
                total += max(counts)
            case "while":
                assert not any(counts), "a loop that does not say how often it runs"
            case _:
                total += sum(counts)
    return total


def test_a_turn_of_the_sampler_is_counted_to_two_percent():
    c, rows, slots, prompt, cap = MODEL, 2, 8, 192, 64
    params = jax.eval_shape(lambda: init_params(c, jax.random.key(0)))
    ids = jax.ShapeDtypeStruct((rows, slots), jnp.int32)
    cache = jax.ShapeDtypeStruct((c.layers, rows, c.kv_heads, prompt, c.head_width), jnp.bfloat16)
    mask = jax.ShapeDtypeStruct((rows, slots, prompt), jnp.bool_)
    own = jax.eval_shape(lambda: init_own_cache(c, rows, slots, cap, jnp.bfloat16))
    run = lambda p, token, position, k, mask, at, own: decode(
        c, p, token, position, PromptCache(k=k, v=k), mask, at, own, jnp.int32(cap - 1)
    )
    positions = jax.ShapeDtypeStruct((rows, prompt), jnp.int32)
    traced = jax.make_jaxpr(run)(params, ids, ids, cache, mask, positions, own)
    last = products(traced.jaxpr)  # the branch that reads all columns
    head = 2 * rows * slots * c.width * c.vocab
    whole, before = (flops.decode(c, rows, prompt, slots, n) for n in (cap + 1, cap))
    assert flops.own_columns(cap)[-1] == cap and flops.own_columns(cap)[0] == cap // 4
    layers = 2 * c.layers * flops.layer_parameters(c) * rows * slots
    attention = 4 * c.layers * c.heads * c.head_width * (prompt + cap) * rows * slots
    assert layers + attention == pytest.approx(last, rel=0.02)
    assert whole - before == pytest.approx(last + head, rel=0.05)  # one turn more; quarters shift a little


@pytest.mark.parametrize("remat", ["full", "dots"])
def test_adapters_cost_no_gradient_of_the_base(remat):
    """Counted without attention, whose loops depend on the data: a row of one tile takes none of them."""
    c, lora, tokens = replace(MODEL, remat=remat), LoRA(rank=8), 64
    base = jax.eval_shape(lambda: init_params(c, jax.random.key(0)))
    adapters = jax.eval_shape(lambda: init_adapters(c, lora, jax.random.key(0)))
    assert sum(x.size for x in jax.tree.leaves(adapters)) == flops.adapter_parameters(c, lora)
    objective = SRL(reward=None, policy=GRPO(filter_std=None))
    loss, numbers = on_base(make_loss(c, objective, 1.0), lora), as_arrays(numbers_of(objective))
    ids, reals = (jnp.zeros((1, tokens), dtype) for dtype in (jnp.int32, jnp.float32))
    names = ("token", "position", "enter", "leave", "parent", "rollout")
    batch = Batch(**dict.fromkeys(names, ids), nll_weight=reals, pg_weight=reals, advantage=reals, behavior_logp=reals)
    gradient = lambda a, b, base: jax.grad(lambda a: loss(a, b, numbers, base)[0])(a)
    found = _outside_loops(jax.make_jaxpr(gradient)(adapters, batch, base).jaxpr)
    assert flops.gradient(c, tokens, 0, 0, lora) == pytest.approx(found, rel=0.02)
    whole = flops.gradient(c, tokens, 0, 0)
    assert found < 0.85 * whole
    assert with_adapters(lora, {"layers": {}}, {"layers": {}}) == {"layers": {"adapters": {}}}


def _outside_loops(jaxpr: Jaxpr) -> float:
    total = 0.0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "while":
            continue  # attention and the head, which `gradient` is asked to leave out by 0 pairs and 0 scored tokens
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            total += 2.0 * np.prod(equation.outvars[0].aval.shape) * np.prod([left[i] for i in contracted])
            continue
        inner = [
            x for x in jax.tree.leaves(list(equation.params.values())) if hasattr(x, "eqns") or hasattr(x, "jaxpr")
        ]
        times = equation.params["length"] if equation.primitive.name == "scan" else 1
        total += times * sum(_outside_loops(x.jaxpr if hasattr(x, "jaxpr") else x) for x in inner)
    return total
