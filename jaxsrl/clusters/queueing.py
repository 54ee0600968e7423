"""The sampler's queue as a plan counts it: how many slots grow at once, what they hold, and how often loops run.

queued(config, rows=32, tokens=512, jobs=64, cap=512)    64 jobs of a row share 22 slots: 3 rounds
"""

from dataclasses import dataclass

from jax.sharding import AbstractMesh

from jaxsrl.clusters.arrays import prompts_of
from jaxsrl.config.run import Config
from jaxsrl.models.pages import block_size
from jaxsrl.rollout.queue import most_turns
from jaxsrl.rollout.slots import choose_slots, own_room
from jaxsrl.sharding import AXES


@dataclass(frozen=True, kw_only=True)
class Queued:
    """Jobs of a row that share slots; completions are as long as the cap, in tokens."""

    jobs: int
    slots: int
    cap: int

    @property
    def waits(self) -> bool:
        """Whether a job waits for a slot: the loop is another one."""
        return self.slots < self.jobs

    @property
    def rounds(self) -> int:
        """Jobs that a slot has, one after another."""
        return -(-self.jobs // self.slots)

    @property
    def columns(self) -> int:
        """Of keys and values that the slots of a row have room for."""
        return own_room(self.jobs, self.slots, self.cap)

    @property
    def written(self) -> int:
        """Tokens of a row that there is room for: of completions, and by turn where jobs queue."""
        turns = most_turns(self.jobs, self.slots, self.cap - 1) + self.cap - 1
        return self.jobs * self.cap + (self.slots * turns if self.waits else 0)

    @property
    def turns(self) -> tuple[int, ...]:
        """How often the loops run that do not say so themselves, the outer one first: blocks, and turns of a block."""
        if not self.waits:
            return (self.cap,)
        block = block_size(self.cap)
        return -(-self.rounds * (self.cap - 1) // block), block


def queued(config: Config, *, rows: int, tokens: int, jobs: int, cap: int, at_once: int | None = None) -> Queued:
    """As the sampler chooses it for a call.

    Args:
      rows, tokens: of prompts. jobs: of a row.
      at_once: slots that the config asks for; None has them chosen.
    """
    layout = config.layout_to_sample
    mesh = AbstractMesh(layout.shape, AXES)
    chosen = at_once or choose_slots((config.model,), cap, mesh, prompts_of(rows, tokens, jobs))
    return Queued(jobs=jobs, slots=min(chosen, jobs), cap=cap)
