"""Turns and bytes of the sampler's loop against what is known about them."""

import numpy as np
import pytest

from jaxsrl.bench import sampler
from jaxsrl.bench.sampler import CAP, JOBS, SLOTS, all_at_once, sampler_rows, turn_bytes
from jaxsrl.models.config import preset


@pytest.fixture(scope="module")
def found():
    return sampler_rows(["qwen2.5-0.5b"])


@pytest.mark.parametrize("rows, most", [(1, 1.18), (8, 1.22)])
def test_little_is_waited_for(found, rows, most):
    assert 1 < found[f"sampler/slot_steps_per_token/{rows}"] <= most
    assert 0.4 < found[f"sampler/turn_bytes_ratio/{rows}"] <= 0.65


def test_equal_lengths_gain_nothing():
    """All jobs of a wave end together. What they wrote is read, and what fills up a block and a static size."""
    turns, columns = (int(n) for n in sampler._queued(np.full((2, JOBS), CAP, np.int32)))
    assert turns == JOBS // SLOTS * (CAP - 1) == all_at_once(np.full((2, JOBS), CAP))[0]
    needed = turns * SLOTS * CAP / 2
    assert needed < columns < 1.35 * needed  # a pool is read to 0.26 at least, however little is in it


def test_bytes_by_hand():
    model = preset("qwen2.5-0.5b")
    cached, logits = 24 * 2 * 64 * 2 * 2, 151_936 * 4
    weights = turn_bytes(model, 1, 1, 0) - 1400 * cached - 64 * logits
    assert 0.95e9 < weights < 1.0e9  # 494 million, the head among them, in bfloat16
    assert turn_bytes(model, 2, 3, 5) == 3 * (weights + 2 * (1400 * cached + 64 * logits)) + 2 * 5 * cached


def test_nothing_is_counted_without_a_model():
    assert sampler_rows([]) == {}
    with pytest.raises(ValueError, match="no preset"):
        sampler_rows(["nothing"])
