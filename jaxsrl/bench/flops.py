"""FLOPs that the learner's gradient executes over those that its trees need. Nothing is run but the integers.

The program is walked as JAX traced it, with every loop multiplied out: XLA's own count takes a loop's body once. How
often a loop runs that depends on the data follows from the batch, whose integers are computed on the way.

Useful are 6 FLOPs a parameter and token for the products of the layers; 8 D V a scored token for the head, whose logits
are made again; 14 a visible pair and channel for attention, whose scores are made again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from jaxsrl.data.compaction import plan
from jaxsrl.data.fill import fill
from jaxsrl.data.shapes import Shapes
from jaxsrl.data.tables import Tables, hang, tabulate
from jaxsrl.models.config import ModelConfig, preset
from jaxsrl.models.transformer import init_params
from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.numbers import as_arrays, numbers_of
from jaxsrl.objectives.srl import SRL
from jaxsrl.types import Batch, Completions, Node, TokenWeights, Tree, Trunk, Weights
from jaxsrl.update import make_loss

BATCH_TOKENS = 2**16  # of a row, which holds as many whole trees as fit, and at least one
MODELS = ("qwen2.5-0.5b", "qwen2.5-1.5b")
REMAT = ("none", "full")


@dataclass(frozen=True)
class Shape:
    """One demonstration: Q prompt tokens, S of an action, branch points, R of a completion, G at a branch point."""

    prompt: int
    action: int
    points: int
    completion: int
    samples: int


SHAPES = {
    "math": Shape(200, 150, 9, 300, 8),
    "long": Shape(250, 200, 15, 400, 8),
    "agent": Shape(2000, 400, 19, 300, 8),
    "grpo": Shape(200, 0, 1, 1024, 8),
}


def executed_over_useful(models: Sequence[str] = MODELS, shapes: Sequence[str] = tuple(SHAPES)) -> dict[str, float]:
    """`executed_over_useful/SHAPE/REMAT` -> the largest ratio of the models, with the tiles of JAX's platform here.

    Args:
      models: presets; without any there is nothing to count.
    Raises: ValueError for an unknown preset.
    """
    presets = [preset(name) for name in models]
    found = {}
    for name in shapes if presets else ():
        batch, tables = one_row(SHAPES[name])
        for remat in REMAT:
            sizes = [replace(model, remat=remat) for model in presets]
            ratios = [executed(size, batch) / useful(size, tables) for size in sizes]
            found[f"executed_over_useful/{name}/{remat}"] = float(max(ratios))
    return found


def one_row(shape: Shape) -> tuple[Batch, Tables]:
    """A row of whole trees whose completions have all the same length, and the trees' tables with these lengths."""
    actions = [Node(token=np.zeros(shape.action, np.int32), parent=k) for k in range(shape.points - 1)]
    nodes = (Node(token=np.zeros(shape.prompt, np.int32)), *actions)
    rollouts = shape.points * shape.samples
    size = sum(len(node.token) for node in nodes) + rollouts * shape.completion
    count = max(BATCH_TOKENS // size, 1)
    forest = tabulate([Tree(nodes=nodes, branch={})] * count)
    jobs = np.arange(count * rollouts)
    tables = hang(forest.nodes, np.repeat(np.concatenate(forest.place), shape.samples), jobs, jobs // shape.samples)
    tables = replace(tables, length=np.where(tables.job >= 0, shape.completion, tables.length).astype(np.int32))
    tokens = -(-count * size // 64) * 64
    shapes = Shapes(
        prompt_rows=1, prompt_tokens=1, slots=1, groups=1, group_size=shape.samples, code_points=0, sheets=0,
        trunk_tokens=1, demonstrations=count, targets=0, tokens=tokens, runs=len(tables), rows=(1,), round_rows=1,
    )  # fmt: skip
    length = np.full(len(jobs), shape.completion, np.int32)
    every, no_trunk = np.ones(len(jobs), bool), np.zeros(count, bool)
    (segments,) = plan(tables, length, every, no_trunk, shapes).batches
    of_trunk, one = np.zeros((count, 0), np.float32), np.ones((len(jobs), shape.completion), np.float32)
    weights = Weights(
        trunk=TokenWeights(nll=of_trunk, pg=of_trunk, advantage=of_trunk),
        rollouts=TokenWeights(nll=0 * one, pg=one, advantage=one),
    )
    completions = Completions(token=one.astype(np.int32), logp=0 * one, length=length)
    trunk = Trunk(token=forest.token, target=np.zeros((count, 0), bool))
    arrays = jax.tree.map(jnp.asarray, (segments, trunk, completions, weights))
    return jax.jit(fill, static_argnums=4)(*arrays, tokens), tables


def useful(model: ModelConfig, tables: Tables) -> float:
    """FLOPs of a gradient that computes what the trees need, once but for logits and scores."""
    queries, keys = model.heads * model.head_width, model.kv_heads * model.head_width
    layer = 2 * model.width * (queries + keys) + 3 * model.width * model.mlp_width
    length, position = tables.length.astype(np.int64), tables.position.astype(np.int64)
    visible = int(np.sum(length * position + length * (length + 1) // 2))
    scored = int(length[tables.job >= 0].sum())
    products = 6 * layer * model.layers * int(length.sum()) + 8 * model.width * model.vocab * scored
    return products + 14 * queries * model.layers * visible


def executed(model: ModelConfig, batch: Batch) -> float:
    """FLOPs of the products in the gradient of SRL's loss on a batch."""
    objective = SRL(reward=None, policy=GRPO(filter_std=None))
    loss, numbers = make_loss(model, objective, 1.0), as_arrays(numbers_of(objective))
    params = jax.eval_shape(lambda: init_params(model, jax.random.key(0)))
    gradient = lambda params, batch: jax.value_and_grad(loss, has_aux=True)(params, batch, numbers)
    traced = jax.make_jaxpr(gradient)(params, batch)
    known = [UNKNOWN] * len(jax.tree.leaves(params)) + jax.tree.leaves(batch)
    return _walk(traced.jaxpr, traced.consts, known)[0]


UNKNOWN = None  # a value that follows from parameters
INNER = ("jaxpr", "call_jaxpr", "fun_jaxpr", "call")  # where a primitive that only calls keeps what it calls


def _walk(jaxpr: Jaxpr, consts: Sequence[Any], arguments: Sequence[Any]) -> tuple[float, list[Any]]:
    """(FLOPs of its products, results, UNKNOWN where they follow from something unknown)."""
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *arguments), strict=True))
    read = lambda x: x.val if isinstance(x, Literal) else values.get(x, UNKNOWN)
    flops = 0.0
    for equation in jaxpr.eqns:
        own, results = _equation(equation, [read(x) for x in equation.invars])
        flops += own
        values |= zip(equation.outvars, results, strict=True)
    return flops, [read(x) for x in jaxpr.outvars]


def _equation(equation, given: list[Any]) -> tuple[float, list[Any]]:
    name, params = equation.primitive.name, equation.params
    nothing = [UNKNOWN] * len(equation.outvars)
    if name == "dot_general":
        return _product(equation), nothing
    if name == "scan":
        return _scan(equation, given, nothing)
    if name == "while":
        return _while(params, given), nothing
    if name == "cond":
        costs = [_called(branch, given[1:])[0] for branch in params["branches"]]
        if any(costs):
            raise ValueError("products within a condition cannot be counted: which branch is taken is not known")
    inner = next((params[key] for key in INNER if key in params), None)
    if inner is not None:
        return _called(inner, given)
    if any(x is UNKNOWN for x in given):
        return 0.0, nothing
    results = equation.primitive.bind(*given, **params)
    return 0.0, list(results) if equation.primitive.multiple_results else [results]


def _called(inner: Jaxpr | ClosedJaxpr, given: Sequence[Any]) -> tuple[float, list[Any]]:
    """Of the two classes of jax 0.10 one keeps its constants; since 0.12 there is one."""
    return _walk(inner.jaxpr, inner.consts, given) if isinstance(inner, ClosedJaxpr) else _walk(inner, (), given)


def _product(equation) -> float:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left, out = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
    return 2.0 * np.prod(out) * np.prod([left[i] for i in contracted])


def _scan(equation, given, nothing) -> tuple[float, list[Any]]:
    """One turn, as often as it runs. What is the same at every turn is known within it, and what it makes of that.

    What is cut and stacked has an axis less within; how else a scan says which is which depends on jax's version.
    """
    body, length = equation.params["jaxpr"], equation.params["length"]
    carried = sum(x.aval.ndim == own.ndim for x, own in zip(equation.outvars, body.out_avals, strict=True))
    fixed = sum(x.aval.ndim == own.ndim for x, own in zip(equation.invars, body.in_avals, strict=True)) - carried
    same = lambda x: UNKNOWN if x is UNKNOWN or not bool(jnp.all(x[:1] == x)) else x[0]
    inside = given[:fixed] + [UNKNOWN] * carried + [same(x) for x in given[fixed + carried :]]
    flops, results = _called(body, inside)
    stacked = [x if x is UNKNOWN else jnp.broadcast_to(x, (length, *jnp.shape(x))) for x in results[carried:]]
    return length * flops, nothing[:carried] + stacked


def _while(params, given) -> float:
    """A loop over a counter: its first two carried values are the counter and where it ends."""
    body, before = params["body_jaxpr"], params["cond_nconsts"]
    outer = given[before : before + params["body_nconsts"]]
    carried = given[before + params["body_nconsts"] :]
    flops, _ = _called(body, [*outer, *[UNKNOWN] * len(carried)])
    if not flops:
        return 0.0
    (test,) = params["cond_jaxpr"].jaxpr.eqns
    if test.primitive.name != "lt" or carried[0] is UNKNOWN or carried[1] is UNKNOWN:
        raise ValueError("a loop with products cannot be counted: how often it runs does not follow from the batch")
    return flops * int(carried[1] - carried[0])
