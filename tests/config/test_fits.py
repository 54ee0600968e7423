"""Whether demonstrations fit is asked by all processes together, and answered as one would."""

import json
from pathlib import Path

import jax
import pytest

from jaxsrl.config import fits
from jaxsrl.config.overrides import ConfigError, load, override
from jaxsrl.data.byte_tokenizer import ByteTokenizer

TINY = Path(__file__).parents[1] / "tiny_config.py"


@pytest.fixture
def three(monkeypatch):
    """Three processes, one after the other; yields how many demonstrations each has laid out."""

    def from_each(make):
        said = []
        for index in range(3):
            monkeypatch.setattr(jax, "process_index", lambda index=index: index)
            before = len(built)
            said.append(json.loads(json.dumps(make())))
            shares.append(len(built) - before)
        return said

    def build(*args):
        built.append(args[0])
        return real(*args)

    real, built, shares = fits.build, [], []
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    monkeypatch.setattr(fits, "from_each", from_each)
    monkeypatch.setattr(fits, "build", build)
    return shares


def said(*assignments) -> str | None:
    """What is said of the stage `srl`, error or warning."""
    config = override(load(TINY), assignments)
    stage = config.stages[1]
    try:
        return fits.check_fits(config, stage, stage.data.load(None), ByteTokenizer())
    except ConfigError as error:
        return str(error)


CASES = [(), ("stages.srl.sampling.max_new_tokens=3",), ("rows.prompt_tokens=10",), ("rows.tokens=10",)]


def test_one_process_says_what_does_not_fit():
    assert [found and found[:17] for found in map(lambda case: said(*case), CASES)] == [
        None, "10 of 10 expert a", "stage srl: 7 of 7", "stage srl: 5 of 5",
    ]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_processes_measure_shares_and_say_the_same(case, three, monkeypatch):
    shared = said(*case)
    assert three[:3] == [2, 2, 1] and sum(three[3:6]) == 2  # five to train on, two held out
    monkeypatch.undo()
    assert said(*case) == shared
