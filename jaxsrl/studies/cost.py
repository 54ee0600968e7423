"""What a run will cost before it starts: tokens, FLOPs, and what plain products of so many FLOPs take here."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from jaxsrl.config.run import Config, Stage
from jaxsrl.data.tables import Tables, hang, tabulate
from jaxsrl.data.tokenizer import Tokenizer
from jaxsrl.data.tree import build
from jaxsrl.models.config import ModelConfig
from jaxsrl.stages.begin import Prepared
from jaxsrl.types import Demonstration, Tree

Useful = Callable[[ModelConfig, Tables], float]  # FLOPs of a gradient on these trees: `bench.flops.useful`
SAMPLE = 128  # demonstrations that stand for all of a stage's: 16 were 15 % off in a ladder


@dataclass(frozen=True)
class Cost:
    """Tokens executed (prefilled, sampled, learned from) and FLOPs of training; evaluations are not in it."""

    tokens: float = 0.0
    flops: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.tokens + other.tokens, self.flops + other.flops)

    def __mul__(self, times: float) -> "Cost":
        return Cost(self.tokens * times, self.flops * times)


def cost(config: Config, prepared: Prepared, useful: Useful) -> dict[str, Cost]:
    """Stage -> the most that it costs: every completion as long as its cap, every refill made, until its budget."""
    model, tokenizer = prepared.material.model, prepared.material.tokenizer
    return {
        stage.name: stage_cost(config, stage, model, prepared.splits[stage.name].train, tokenizer, useful)
        for stage in config.stages
    }


def stage_cost(
    config: Config, stage: Stage, model: ModelConfig, demonstrations: Sequence[Demonstration], tokenizer: Tokenizer,
    useful: Useful,
) -> Cost:  # fmt: skip
    """Of an average demonstration of a spread-out sample, times all that are drawn."""
    sample = [demonstrations[i] for i in np.unique(np.linspace(0, len(demonstrations) - 1, SAMPLE).astype(int))]
    found = Cost()
    for demonstration in sample:
        points = stage.objective.branch_points(demonstration, 0)
        tree = build(demonstration, points, stage.objective.trunk, config.template, tokenizer)
        found += _tree_cost(stage, model, tree, {(p.form, p.after): p.samples for p in points}, useful)
    drawn = stage.collect.demonstrations * stage.collect.most_rounds * (stage.steps / stage.steps_per_collection)
    whole = found * (drawn / len(sample))
    if stage.tokens is not None and whole.tokens > stage.tokens:
        return whole * (stage.tokens / whole.tokens)
    return whole


def _tree_cost(stage: Stage, model: ModelConfig, tree: Tree, samples: dict, useful: Useful) -> Cost:
    cap, rollouts = stage.sampling.max_new_tokens, sum(samples.values())
    forest = tabulate([tree])
    at = np.repeat(
        [forest.place[0][tree.branch[point]] for point in samples], list(samples.values())
    ).astype(np.int32) if samples else np.zeros(0, np.int32)  # fmt: skip
    jobs = np.arange(rollouts)
    tables = hang(forest.nodes, at, jobs, jobs)
    tables = replace(tables, length=np.where(tables.job >= 0, cap, tables.length).astype(np.int32))
    prefilled = int(forest.nodes.length.sum()) if rollouts else 0
    targets = sum(len(node.token) for node in tree.nodes if node.target)
    learned = useful(model, tables) + 8 * model.width * model.vocab * targets
    sampled = 2 * parameters(model) * (prefilled + rollouts * cap)
    times = stage.updates_per_rollout
    tokens = times * int(tables.length.sum()) + prefilled + rollouts * cap
    return Cost(float(tokens), float(times * learned + sampled))


def parameters(model: ModelConfig) -> int:
    """That a token is multiplied with: projections, feed-forward and head."""
    queries, keys = model.heads * model.head_width, model.kv_heads * model.head_width
    layer = 2 * model.width * (queries + keys) + 3 * model.width * model.mlp_width
    return layer * model.layers + model.width * model.vocab


def device_flops(size: int = 1024, seconds: float = 0.2) -> float:
    """FLOPs a second of a plain matrix product on one device here."""
    left = jnp.ones((size, size), jnp.float32)
    product = jax.jit(lambda a: a @ a)
    product(left).block_until_ready()
    count, start = 0, time.monotonic()
    while time.monotonic() - start < seconds:
        product(left).block_until_ready()
        count += 1
    return 2.0 * size**3 * count / (time.monotonic() - start)
