"""What the sampler's loop turns and reads where jobs queue. The sampler's own scheduling is run; no model is.

JOBS completions of a row with made-up lengths share SLOTS slots. Beside it stands the loop in which every job has a
slot and all wait for the longest: it is called JOBS / SLOTS times, with the same slots.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from jaxsrl.models.cache import read_sizes
from jaxsrl.models.config import ModelConfig, preset
from jaxsrl.models.pages import block_size, counts, init_table, page_count, places
from jaxsrl.rollout.queue import advance, line_up, start
from jaxsrl.rollout.slots import SPREAD, sizes_of

ROWS, SLOTS, JOBS, CAP = (1, 8), 64, 576, 300
TRUNK = 1400  # tokens of a prompt row: problem and 8 of 9 actions of the shape `math`
DRAWS = 4  # of lengths, of which the mean counts


def sampler_rows(models: Sequence[str]) -> dict[str, float]:
    """`sampler/slot_steps_per_token/ROWS`, and `sampler/turn_bytes_ratio/ROWS` for the larger of the models.

    A slot-step is a slot in a turn, whether it has a job or not. First tokens, which are drawn before the loop, count
    as one each. `turn_bytes_ratio` is turns x bytes a turn, over those of the loop in which nothing queues.

    Args:
      models: presets; without any nothing is counted.
    Raises: ValueError for an unknown preset.
    """
    presets, found = [preset(name) for name in models], {}
    rng = np.random.default_rng(0)
    for rows in ROWS if presets else ():
        steps, ratios = [], []
        for _ in range(DRAWS):
            drawn = rng.lognormal(np.log(CAP / 2) - SPREAD**2 / 2, SPREAD, (rows, JOBS))
            length = np.clip(drawn, 1, CAP).astype(np.int32)
            before, (turns, columns) = all_at_once(length), (int(n) for n in _queued(length))
            steps.append(slot_steps(turns, rows) / length.sum())
            ratios.append([turn_bytes(m, rows, turns, columns) / turn_bytes(m, rows, *before) for m in presets])
        found[f"sampler/slot_steps_per_token/{rows}"] = float(np.mean(steps))
        found[f"sampler/turn_bytes_ratio/{rows}"] = float(np.mean(ratios, axis=0).max())
    return found


def slot_steps(turns: int, rows: int) -> int:
    """Of so many turns of SLOTS slots a row, and of a first token for every job."""
    return rows * (turns * SLOTS + JOBS)


def turn_bytes(model: ModelConfig, rows: int, turns: int, columns: int) -> int:
    """Bytes of weights, prompts' and own keys and values, and logits, of all turns.

    Args:
      columns: own columns read of a row, of all its slots and turns.
    """
    sizes = sizes_of(model)
    a_turn = sizes.weights + rows * (TRUNK * sizes.cached + SLOTS * sizes.logits)
    return turns * a_turn + rows * columns * sizes.cached


def all_at_once(length: Int[np.ndarray, "R K"]) -> tuple[int, int]:
    """(turns, own columns read of a row) where each call's jobs all wait for the longest."""
    sizes = np.array(read_sizes(CAP))
    longest = [int(length[:, at : at + SLOTS].max()) - 1 for at in range(0, JOBS, SLOTS)]
    columns = [sizes[np.arange(turns) // sizes[0]].sum() * SLOTS for turns in longest]
    return sum(longest), int(sum(columns))


@jax.jit
def _queued(length: Int[np.ndarray, "R K"]):
    """(turns, own columns read of a row): the loop of `rollout/queued.py` with lengths in the place of a model."""
    rows, block = len(length), block_size(CAP)
    count, of_block = page_count(SLOTS, CAP, block), jnp.array(read_sizes(block))
    of_pages, line = jnp.array(counts(count)), line_up(length > 1)

    def turn(carried):
        queue, table, columns = carried
        began = queue.turn // block * block
        pages = of_pages[jnp.sum(table.reach > of_pages[:-1])]
        columns += pages * block + of_block[(queue.turn - began) // of_block[0]] * SLOTS
        last = queue.turn - queue.begin + 2 >= jnp.take_along_axis(length, queue.job, axis=1)
        queue = advance(line, queue, queue.busy & last)
        filed = places(table, block, began, queue.begin, queue.busy)[1]
        full = queue.turn == began + block
        return queue, jax.tree.map(lambda new, old: jnp.where(full, new, old), filed, table), columns

    running = lambda carried: jnp.any(carried[0].busy)
    queue, _, columns = jax.lax.while_loop(running, turn, (start(line, SLOTS), init_table(rows, count), jnp.int32(0)))
    return queue.turn, columns
