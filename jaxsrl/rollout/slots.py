"""How many slots the jobs of a row share: as many as make turns x bytes a turn the least.

A turn reads the weights, the prompts' keys and values and each slot's own, and writes logits. Fewer slots than jobs
take more turns, but fewer slot-steps in all: what would wait for the longest completion has another job meanwhile.
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Int

from jaxsrl.models.cache import read_sizes
from jaxsrl.models.config import ModelConfig, parameter_count
from jaxsrl.models.pages import SHRINK, block_size, page_count
from jaxsrl.sharding import RULES
from jaxsrl.types import Prompts

SPREAD = 0.6  # of the logarithm of a completion's length, which is half the cap on average
MOST = 16  # times as many jobs as slots, at most
GAIN = 0.85  # of the cost that queueing may have at most: what pages cost beside their bytes is not counted
TURN = 2**24  # bytes: a turn takes as long as reading these, however little it reads; small models take few, long turns
ROWS = 8  # of a call whose turns are counted


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Bytes of what is read: all weights, a token's keys and values, and a token's logits."""

    weights: int
    cached: int
    logits: int


def sizes_of(config: ModelConfig) -> Sizes:
    """Of a model in its own dtype; logits are float32."""
    width = {"bfloat16": 2, "float32": 4, "float64": 8}[config.dtype]
    looked_up = 0 if config.tied else config.vocab * config.width  # of a table that is no head, some rows are read
    return Sizes(
        weights=(parameter_count(config) - looked_up) * width,
        cached=2 * config.layers * config.kv_heads * config.head_width * width, logits=4 * config.vocab,
    )  # fmt: skip


def choose_slots(configs: Sequence[ModelConfig], cap: int, mesh: jax.sharding.Mesh | None, prompts: Prompts) -> int:
    """Slots of a row, for a call of these prompts' shape, whose completions have at most `cap` tokens.

    Only shapes are read, so it may be called while a program is traced. The number of jobs means that none waits.
    """
    (rows, jobs), tokens = prompts.slot_parent.shape, prompts.token.shape[1]
    parts = 1 if mesh is None else math.prod(mesh.shape[name] for name in RULES["rows"])
    rows = max(rows // parts, 1)
    of = [sizes_of(config) for config in configs]
    weights, cached, logits = (sum(getattr(x, name) for x in of) for name in ("weights", "cached", "logits"))
    length = expected_lengths(min(rows, ROWS), jobs, cap)

    def cost(slots: int) -> float:
        queued = slots < jobs
        turns = _turns(length, slots) if queued else int(length.max())
        columns = own_columns(length, cap, queued=queued)
        return turns * (TURN + weights + rows * (tokens * cached + slots * (columns * cached + logits)))

    tried = sorted({-(-jobs // n) for n in range(1, MOST + 1)})
    best = min(tried, key=cost)
    return best if cost(best) <= GAIN * cost(jobs) else jobs


def own_room(jobs: int, slots: int, cap: int) -> int:
    """Columns of keys and values that the slots of a row have room for: their own, or pages and a block for each."""
    if slots >= jobs:
        return jobs * cap
    block = block_size(cap)
    return (page_count(slots, cap, block) + slots) * block


def cache_bytes(
    config: ModelConfig, cap: int, mesh: jax.sharding.Mesh | None, prompts: Prompts, slots: int | None
) -> int:
    """Bytes of keys and values that a call holds on a device, of its prompts and of its slots.

    Args:
      prompts: of which only the shapes are read. slots: None has them chosen.
    """
    (rows, jobs), tokens = prompts.slot_parent.shape, prompts.token.shape[1]
    growing = slots or choose_slots((config,), cap, mesh, prompts)
    tensor = 1 if mesh is None or config.kv_heads % mesh.shape["tensor"] else mesh.shape["tensor"]
    parts = 1 if mesh is None else math.prod(mesh.shape[name] for name in RULES["rows"])
    return sizes_of(config).cached * rows * (tokens + own_room(jobs, growing, cap)) // (parts * tensor)


def expected_lengths(rows: int, jobs: int, cap: int) -> Int[np.ndarray, "R K"]:
    """Made-up lengths of completions, in tokens: lognormal, half the cap on average before they are cut at the cap."""
    drawn = np.random.default_rng(0).lognormal(math.log(cap / 2) - SPREAD**2 / 2, SPREAD, (rows, jobs))
    return np.clip(drawn, 1, cap).astype(int)


def own_columns(length: Int[np.ndarray, "R K"], cap: int, *, queued: bool) -> float:
    """Own columns that are read of a slot at a turn, on average."""
    if not queued:  # all are at the same index
        sizes = np.array(read_sizes(cap))
        return float(sizes[np.arange(cap) // sizes[0]].mean())
    age = (length.astype(float) ** 2).sum() / (2 * length.sum())
    return min((age + block_size(cap)) * (1 + 1 / SHRINK) / 2, cap)


def _turns(length: Int[np.ndarray, "R K"], slots: int) -> int:
    """Until the last row is done, each of whose slots takes the next job when it is free."""
    longest = 0
    for row in (length - 1).tolist():
        free = [0] * slots
        for turns in row:
            heapq.heapreplace(free, free[0] + turns)
        longest = max(longest, *free)
    return longest
