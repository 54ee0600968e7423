"""What a user may write for a policy, and which one is meant."""

import pytest

from jaxsrl.checkpoint import Checkpoints, PolicyName
from jaxsrl.commands.run_folder import choose_policy
from jaxsrl.runs import RunError

LAST = {stage: PolicyName(stage, "last") for stage in ("a", "a-last", "b")}
BEST = PolicyName("a", "best", 4)


@pytest.fixture
def checkpoints(tmp_path):
    """Empty folders of policies: a choice reads names alone."""
    made = Checkpoints(tmp_path / "checkpoints")
    for name in (*LAST.values(), BEST):
        (tmp_path / "checkpoints" / "policy" / name.folder).mkdir(parents=True)
    yield made
    made.close()


@pytest.mark.parametrize("text, meant, noted", [
    (None, LAST["b"], False), ("a", LAST["a"], False), ("a:last", LAST["a"], False), ("a:best", BEST, False),
    ("a:best-4", BEST, False), ("a-last:last", LAST["a-last"], False), ("b-last", LAST["b"], True),
    ("a-best-000000004", BEST, True), ("a-last-last", LAST["a-last"], True),
])  # fmt: skip
def test_a_policy_is_chosen(checkpoints, capsys, text, meant, noted):
    assert choose_policy(checkpoints, ["a", "a-last", "b"], text) == meant
    said = capsys.readouterr().err
    assert (f"write {meant}" in said) == noted and bool(said) == noted


def test_the_old_spelling_is_refused_where_it_names_a_stage(checkpoints):
    with pytest.raises(RunError, match="'a-last' may be a:last in the old spelling, or a-last:last"):
        choose_policy(checkpoints, ["a", "a-last", "b"], "a-last")
    assert choose_policy(checkpoints, ["a-last", "b"], "a-last") == LAST["a-last"]


@pytest.mark.parametrize("text", ["c", "b:best", "a:best-5", "a:worst", "a-lost"])
def test_what_is_not_there_is_named_with_what_is(checkpoints, text):
    with pytest.raises(RunError, match=f"no policy '{text}'; there are: a:best-4, a:last, a-last:last, b:last"):
        choose_policy(checkpoints, ["a", "a-last", "b"], text)
