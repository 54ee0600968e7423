"""The loop in which the jobs of a row queue for its slots."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from jaxsrl.models.cache import Earlier, OwnCache, PromptCache, init_own_cache
from jaxsrl.models.config import ModelConfig
from jaxsrl.models.pages import Pages, PageTable, block_size, file, init_pages, init_table, page_count, places
from jaxsrl.models.shared_index import any_member, write_at
from jaxsrl.models.transformer import decode
from jaxsrl.rollout.queue import Jobs, Queue, advance, line_up, most_turns, start
from jaxsrl.sharding import constrain
from jaxsrl.types import Params, Prompts

DrawHidden = Callable[..., tuple[Int[Array, "R S"], Float[Array, "R S"]]]


class Job(NamedTuple):
    """What a slot has to know of its job; of all jobs [R K …], of those at hand [R S …]."""

    key: Key[Array, "R K"]
    parent: Int[Array, "R K"]  # its last prompt token
    enter: Int[Array, "R K"]
    depth: Int[Array, "R K"]  # position of its first token
    first: Int[Array, "R K"]  # its first token


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model, its parameters, and the keys and values of the prompts."""

    config: ModelConfig
    params: Params
    prompt: PromptCache


class Grown(NamedTuple):
    """What the loop carries; the pages only from block to block."""

    queue: Queue
    newest: Int[Array, "R S"]
    token: Int[Array, "R S W"]  # by turn: what was drawn
    logp: Float[Array, "R S W"]
    own: tuple[OwnCache, ...]  # of each model, the columns of a block


def grow(
    models: Sequence[Model], prompts: Prompts, jobs: Job, waiting: Bool[Array, "R K"], draw: DrawHidden,
    mask: Callable[[Prompts, Array, Array], Bool[Array, "R S T"]], *, slots: int, cap: int, ends: Sequence[int], dtype,
    mesh: jax.sharding.Mesh | None,
) -> tuple[Int[Array, "R K C-1"], Float[Array, "R K C-1"]]:  # fmt: skip
    """Tokens behind the first one, and their log-probs, of the jobs that wait; behind an end they mean nothing.

    Args:
      waiting: jobs whose first token does not end them.
      draw: (hidden states of every model [R S D], keys, indices) -> tokens and log-probs.
      mask: (prompts, enter, parent) -> which prompt tokens each slot sees.
      dtype: of log-probs.
    """
    rows, block = waiting.shape[0], block_size(cap)
    count = page_count(slots, cap, block)
    line = line_up(waiting)
    row = jax.vmap(lambda x, at: x[at])

    def turn(grown: Grown, begin: Int[Array, ""], pages: tuple[Pages, ...], table: PageTable) -> Grown:
        queue = grown.queue
        mine, drawn = jax.tree.map(lambda x: row(x, queue.job), jobs), queue.turn - queue.begin + 1
        seen, last, own = mask(prompts, mine.enter, mine.parent), [], []
        for model, cache, filed in zip(models, grown.own, pages, strict=True):
            earlier = Earlier(pages=filed, table=table, start=begin, begin=queue.begin)
            x, cache = decode(
                model.config, model.params, grown.newest, mine.depth + drawn - 1, model.prompt, seen, prompts.position,
                cache, queue.turn, earlier,
            )  # fmt: skip
            last.append(x)
            own.append(cache)
        token, logp = draw(last, mine.key, drawn)
        ended = queue.busy & ((drawn + 1 >= cap) | (sum(token == end for end in ends) > 0))
        after = advance(line, queue, ended)
        fresh = after.busy & (after.begin == after.turn)
        newest = jnp.where(fresh, row(jobs.first, after.job), token)
        put = lambda all, new: write_at(all, new[:, :, None], (queue.turn * 0, queue.turn * 0, queue.turn))
        return Grown(
            queue=after, newest=newest, token=put(grown.token, token), logp=put(grown.logp, logp), own=tuple(own)
        )

    def one_block(carried):
        grown, pages, table = carried
        begin = grown.queue.turn
        inside = lambda grown: (grown.queue.turn < begin + block) & any_member(grown.queue.busy)
        grown = jax.lax.while_loop(inside, lambda grown: turn(grown, begin, pages, table), grown)
        place, table = places(table, block, begin, grown.queue.begin, grown.queue.busy)
        filed = zip(pages, grown.own, strict=True)
        return grown, tuple(placed(file(some, own.k, own.v, place)) for some, own in filed), table

    placed = lambda pages: jax.tree.map(lambda x: constrain(mesh, x, "rows", None, None, "heads", None, None), pages)
    in_block = lambda own: jax.tree.map(lambda x: constrain(mesh, x, None, "rows", "heads", None, None, None), own)
    queue, width = start(line, slots), most_turns(waiting.shape[1], slots, cap - 1) + cap - 1
    grown = Grown(
        queue=queue, newest=row(jobs.first, queue.job), token=jnp.zeros((rows, slots, width), jnp.int32),
        logp=jnp.zeros((rows, slots, width), dtype),
        own=tuple(in_block(init_own_cache(m.config, rows, slots, block, m.prompt.k.dtype)) for m in models),
    )  # fmt: skip
    pages = tuple(placed(init_pages(m.config, rows, count, block, m.prompt.k.dtype)) for m in models)
    running = lambda carried: any_member(carried[0].queue.busy)
    grown, _, _ = jax.lax.while_loop(running, one_block, (grown, pages, init_table(rows, count)))
    return _by_job(line, grown, cap)


def _by_job(line: Jobs, grown: Grown, cap: int):
    """What each job's slot drew from the turn on at which it began."""
    place = jnp.argsort(line.order, axis=1)
    of = lambda x: jnp.take_along_axis(x, place, axis=1)
    one = lambda all, slot, turn: jax.lax.dynamic_slice(all, (slot, turn), (1, cap - 1))[0]
    cut = jax.vmap(jax.vmap(one, in_axes=(None, 0, 0)))
    return tuple(cut(x, of(grown.queue.slot_of), of(grown.queue.begin_of)) for x in (grown.token, grown.logp))
