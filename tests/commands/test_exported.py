"""A policy that `convert` wrote says in Transformers what it says here, and stops where it stops here."""

import json

import pytest

from tests.commands.exported import ENDS, GOLDEN, MOST, exported, ours, theirs


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("exported"))


def test_greedy_tokens_and_stops_are_those_of_transformers(folders):
    """The stored ones, made by `exported.py`: some end in one of the ends, some at the cap."""
    golden = json.loads(GOLDEN.read_text())
    assert ours(folders[0]) == golden
    last = [row["written"][-1] for row in golden]
    lengths = [len(row["written"]) for row in golden]
    assert any(token in ENDS for token in last) and any(length == MOST for length in lengths)
    assert all(length == MOST or token in ENDS for token, length in zip(last, lengths, strict=True))


@pytest.mark.needs("torch")
@pytest.mark.needs("transformers")
def test_transformers_still_says_so(folders):
    assert theirs(folders[1]) == json.loads(GOLDEN.read_text())
