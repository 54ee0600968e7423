"""In which order demonstrations are visited; where a run stands in that order is one integer.

The order is endless and the same for every number of processes: a run stopped on 4 goes on with 8.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Order:
    """Position 0, 1, 2, … -> index of an item. Every `count` positions from 0 on are one epoch, a new permutation.

    Args:
      count: items.
      seed: of the permutations.
      shard_index, shard_count: this process and how many there are.
      parts, weights: sizes of consecutive runs of items, each shuffled by itself, and how often each is drawn from; an
        epoch is then a part's own. Empty: all items are one.
    """

    count: int
    seed: int
    shard_index: int = 0
    shard_count: int = 1
    parts: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()

    def __post_init__(self):
        if self.count < 1:
            raise ValueError(f"count must be >= 1, got {self.count}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be in 0..2**32-1, got {self.seed}")
        if not 0 <= self.shard_index < self.shard_count:
            raise ValueError(f"shard_index must be in 0..shard_count-1, got {self.shard_index=} {self.shard_count=}")

        if self.parts and (
            sum(self.parts) != self.count or min(self.parts) < 1 or len(self.parts) != len(self.weights)
        ):
            raise ValueError(f"parts must be sizes that add up to {self.count}, each with a weight, got {self.parts}")

    @cached_property
    def _dataset(self):
        import grain  # here, because it takes more than a second to import and the command line need not wait

        def endless(start: int, stop: int):
            return grain.MapDataset.range(start, stop).seed(self.seed).shuffle().repeat(None, reseed_each_epoch=True)

        if not self.parts:
            return endless(0, self.count)
        ends = np.cumsum(self.parts).tolist()
        runs = [endless(end - size, end) for size, end in zip(self.parts, ends, strict=True)]
        return grain.MapDataset.mix(runs, weights=self.weights)

    def __call__(self, position: int) -> int:
        """The item at a position, whichever process asks."""
        if position < 0:
            raise ValueError(f"position must be >= 0, got {position}")
        return int(self._dataset[position])


def take(items: Sequence[T], order: Order, position: int, n: int) -> tuple[list[T], int]:
    """This process's share of the next `n` items, and the position after them.

    Shares are consecutive, in the order of the processes: joined they are what one process would have taken.

    Args:
      items: anything with a length and random access.
      position: in the common order, the same in every process; 0 at the start of a run.
      n: items of all processes together.
    Raises: ValueError if `n` does not divide among the processes or `items` are not those the order was made for.
    """
    if len(items) != order.count:
        raise ValueError(f"the order is for {order.count} items, got {len(items)}")
    if n < 1 or n % order.shard_count:
        raise ValueError(f"n must be a positive multiple of shard_count={order.shard_count}, got {n}")
    share = n // order.shard_count
    start = position + order.shard_index * share
    return [items[order(at)] for at in range(start, start + share)], position + n
