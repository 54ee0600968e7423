"""Sets of which not every row is looked at before training."""

from collections.abc import Sequence

import numpy as np

from jaxsrl.types import Demonstration

MEASURED_WHOLE = 50_000  # rows that are all measured before the first step
SAMPLED = 2_000  # of more rows


def sampled(demonstrations: Sequence[Demonstration]) -> Sequence[Demonstration]:
    """All rows where they are few, else some drawn at random, the same ones whenever asked."""
    if len(demonstrations) <= MEASURED_WHOLE:
        return demonstrations
    drawn = np.random.default_rng(0).choice(len(demonstrations), SAMPLED, replace=False)
    return [demonstrations[int(i)] for i in np.sort(drawn)]
