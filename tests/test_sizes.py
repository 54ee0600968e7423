"""Sizes that nobody set: chosen from the data and from memory, saved with the run, and used again."""

import json
from dataclasses import replace

import jax
import pytest

from jaxsrl.collect import BatchShapes
from jaxsrl.config.overrides import load
from jaxsrl.data.byte_tokenizer import ByteTokenizer
from jaxsrl.stages import sizes
from jaxsrl.stages.sizes import MOST_TOKENS, batch_tokens, evaluation_shapes
from tests.sharing import train
from tests.test_collect import tiny, train_lines

BYTES = ByteTokenizer()


def test_a_run_without_any_size_trains_evaluates_and_resumes(tmp_path):
    config = replace(tiny(tmp_path, ("srl",), steps=4), rows=BatchShapes())
    stage = replace(config.stages[0], rows=None)
    config = replace(config, stages=(stage,), checkpoint_every=2)
    folder = train(config)
    saved = json.loads((folder / "shapes" / "srl.json").read_text())
    fixed = train(replace(tiny(tmp_path / "fixed", ("srl",), steps=4), checkpoint_every=2))
    same = ("reward/mean", "collect/groups", "completion/tokens_mean", "collect/sampled_tokens")
    for one, other in zip(train_lines(folder), train_lines(fixed), strict=True):
        assert [one[name] for name in same] == [other[name] for name in same]
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-5)
    stage = replace(stage, steps=6)  # goes on with the sizes that it has
    train(replace(config, stages=(stage,)))
    assert json.loads((folder / "shapes" / "srl.json").read_text()) == saved
    assert len(train_lines(folder)) == 6


def test_evaluation_has_room_for_every_held_out_prompt():
    config = replace(load("tests/tiny_config.py"), rows=BatchShapes(evaluate_slots=3))
    stage = config.stages[1]
    splits = stage.data.load(None)
    long = replace(splits.test[0], problem="x" * 200)  # far above what sizes are rounded to
    splits = replace(splits, test=(long, *splits.test))
    found = evaluation_shapes(config, stage, splits, BYTES)
    longest = max(sizes.longest_prompt(config, d, BYTES) for d in (*splits.validation, *splits.test))
    assert found.prompt_tokens >= longest * 1.5 and found.prompt_tokens % 64 == 0
    assert (found.evaluate_rows, found.evaluate_slots) == (16, 3)


def test_a_batch_follows_memory(monkeypatch):
    config = load("tests/tiny_config.py")
    assert batch_tokens(config.model, config) == MOST_TOKENS  # a CPU tells nothing

    class Device:
        def __init__(self, limit):
            self.limit = limit

        def memory_stats(self):
            return {"bytes_limit": self.limit}

    found = []
    for limit in (2**20, 2**24, 2**25, 2**40):
        monkeypatch.setattr(jax, "local_devices", lambda limit=limit: [Device(limit)])
        found.append(batch_tokens(config.model, config))
    assert 1 <= found[0] < found[1] < found[2] < found[3] == MOST_TOKENS
