"""Which job a slot has: the jobs of a row wait in line, and a slot whose job has ended takes the next one.

    jobs = line_up(waiting)                          [R K], R rows of K jobs
    queue = start(jobs, slots)                       S slots a row have the first S jobs
    while any slot is busy:                          a turn: every busy slot draws a token
        queue = advance(jobs, queue, ended)          ended [R S]: whose job ended with this token

Nothing here depends on what a job is. The sampler's loop and `bench/sampler.py` run the same functions.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


class Jobs(NamedTuple):
    """The line of each row."""

    order: Int[Array, "R K"]  # jobs that wait, in order, and behind them the others
    count: Int[Array, "R"]  # how many wait at first


class Queue(NamedTuple):
    """Who does what at a turn, and who did what before."""

    turn: Int[Array, ""]  # one number for all rows, and members of a population
    job: Int[Array, "R S"]  # of each slot; of an idle one its last, or 0
    begin: Int[Array, "R S"]  # turn of its first token here
    busy: Bool[Array, "R S"]
    taken: Int[Array, "R"]  # jobs that have left the line
    slot_of: Int[Array, "R K"]  # by place in the line: which slot took the job
    begin_of: Int[Array, "R K"]  # and at which turn it began


def line_up(waiting: Bool[Array, "R K"]) -> Jobs:
    """A line of the jobs that wait, in the order of their numbers."""
    order = jnp.argsort(~waiting, axis=1, stable=True).astype(jnp.int32)
    return Jobs(order=order, count=jnp.sum(waiting, axis=1, dtype=jnp.int32))


def start(jobs: Jobs, slots: int) -> Queue:
    """Turn 0: every slot takes a job."""
    of_slots = jnp.zeros((jobs.order.shape[0], slots), jnp.int32)
    queue = Queue(
        turn=jnp.int32(0), job=of_slots, begin=of_slots, busy=of_slots > 0, taken=jobs.count * 0,
        slot_of=jobs.order * 0, begin_of=jobs.order * 0,
    )  # fmt: skip
    return _take(jobs, queue)


def advance(jobs: Jobs, queue: Queue, ended: Bool[Array, "R S"]) -> Queue:
    """The next turn. A slot whose job has ended takes the next in line."""
    return _take(jobs, queue._replace(turn=queue.turn + 1, busy=queue.busy & ~ended))


def most_turns(jobs: int, slots: int, turns: int) -> int:
    """After how many turns `slots` slots are done with any `jobs` jobs of at most `turns` turns each."""
    return (jobs * turns) // slots + turns


def _take(jobs: Jobs, queue: Queue) -> Queue:
    free, most = ~queue.busy, jobs.order.shape[1] - 1
    place = queue.taken[:, None] + jnp.cumsum(free, axis=1, dtype=jnp.int32) - 1  # in line, of a free slot
    takes = free & (place < jobs.count[:, None])
    job = jnp.take_along_axis(jobs.order, jnp.clip(place, 0, most), axis=1)
    number = jnp.sum(takes, axis=1, dtype=jnp.int32)
    ahead = jnp.arange(most + 1, dtype=jnp.int32)[None] - queue.taken[:, None]  # by place in line
    leaves = (ahead >= 0) & (ahead < number[:, None])
    slots = jnp.argsort(queue.busy, axis=1, stable=True).astype(jnp.int32)  # free ones first
    by = jnp.take_along_axis(slots, jnp.clip(ahead, 0, slots.shape[1] - 1), axis=1)
    return Queue(
        turn=queue.turn, job=jnp.where(takes, job, queue.job), begin=jnp.where(takes, queue.turn, queue.begin),
        busy=queue.busy | takes, taken=queue.taken + number, slot_of=jnp.where(leaves, by, queue.slot_of),
        begin_of=jnp.where(leaves, queue.turn, queue.begin_of),
    )  # fmt: skip
