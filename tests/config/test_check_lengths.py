"""Whether demonstrations fit is asked by all processes together, and answered as one would."""

import json
from pathlib import Path

import pytest

from jaxsrl.config import check_lengths
from jaxsrl.config.overrides import ConfigError, load, override
from jaxsrl.data.byte_tokenizer import ByteTokenizer

TINY = Path(__file__).parents[1] / "tiny_config.py"


def three(shares):
    """Three processes, one after the other; `shares` collects how many demonstrations each has measured."""

    def measured(measure, demonstrations):
        said = []
        for index in range(3):
            own = check_lengths.share(demonstrations, index, 3)
            shares.append(len(own))
            said += json.loads(json.dumps([measure(d) for d in own]))
        return said

    return measured


def said(*assignments, **how) -> str | None:
    """What is said of the stage `srl`, error or warning."""
    config = override(load(TINY), assignments)
    stage = config.stages[1]
    try:
        return check_lengths.check_fits(config, stage, stage.data.load(None), ByteTokenizer(), **how)
    except ConfigError as error:
        return str(error)


CASES = [(), ("stages.srl.sampling.max_new_tokens=3",), ("rows.prompt_tokens=10",), ("rows.tokens=10",)]


def test_one_process_says_what_does_not_fit():
    assert [found and found[:17] for found in map(lambda case: said(*case), CASES)] == [
        None, "10 of 10 expert a", "stage srl: 7 of 7", "stage srl: 5 of 5",
    ]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_processes_measure_shares_and_say_the_same(case):
    shares = []
    assert said(*case, measured=three(shares)) == said(*case)
    assert shares[:3] == [2, 2, 1] and sum(shares[3:6]) == 2  # five to train on, two held out


def test_a_share_that_is_left_out_is_missed():
    """The control: two processes of three do not say it all."""
    few = lambda measure, demonstrations: [measure(d) for d in demonstrations if d.problem_id == "none"]
    assert said("rows.tokens=10") != said("rows.tokens=10", measured=few)
