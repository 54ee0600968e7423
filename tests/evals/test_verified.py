"""Checks while a solution is written: what they mend, what they cost, and what they must not say."""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import jax
import pytest

from jaxsrl.data.byte_tokenizer import ByteTokenizer
from jaxsrl.data.chat import Template
from jaxsrl.evals.audits import verified
from jaxsrl.evals.audits.verified import leaks, pieces_of
from jaxsrl.evals.probe import DoesNotApply
from jaxsrl.tasks.operators import Operators
from jaxsrl.types import Demonstration

from .told import Told

TASK = Operators(operators=(4, 4), per_action=(1,))
SOME = [TASK.demonstration("test", i) for i in range(4)]
KEY = jax.random.key(0)
CAP = 200


@dataclass(frozen=True, kw_only=True)
class Writer(Told):
    """Writes `says(demonstration, what it wrote so far, temperature)`."""

    template: Template = Template()
    tokenizer: ByteTokenizer = ByteTokenizer()
    row: int = 500

    def sampler(self, call):
        return SimpleNamespace(max_new_tokens=CAP, row_tokens=self.row)

    def write(self, call, demonstrations, paths, key, temperature=0.0, samples=1):
        return [
            [(self._written(self.says(one, "".join(path), temperature)),) for path in some]
            for one, some in zip(demonstrations, paths, strict=True)
        ]


def asked(says, some=SOME, probe=verified.PROBE, task=TASK, **more):
    return probe(Writer(says=says, verdict=TASK.right, task=task, cap=CAP, **more), some, KEY)


def slip(one, at):
    """The expert's line with a wrong sum."""
    return f"{one.actions[at].partition('=')[0]}=999"


def slips_twice(one, so_far, temperature):
    """Goes wrong in lines 2 and 3 of its own accord; behind feedback it writes that line rightly and goes on."""
    told, right = so_far.count("wrong:"), list(one.actions)
    if told == 0:
        return "\n".join([right[0], slip(one, 1), "0+0=0"])
    return "\n".join([right[1], slip(one, 2), "0"] if told == 1 else right[2:])


def test_two_slips_are_mended_where_they_are_made():
    found, records = asked(slips_twice)
    assert found["right_intermediate"] == found["clean_intermediate"] == found["gained"] == 1
    assert found["right_none"] == found["right_final"] == 0 and found["interventions"] == 2 and found["leak"] == 0
    assert records[0]["texts"]["intermediate"] == "\n".join(SOME[0].actions)
    assert records[0]["told"][0] == [
        slip(SOME[0], 1),
        f"wrong: {slip(SOME[0], 1).partition('=')[0]} does not come to that\n",
    ]
    assert found["tokens_final"] == 400 or found["tokens_final"] > found["tokens_none"]
    assert found["false_alarm"] is None


def test_corrections_and_budget_are_bounded():
    stubborn = lambda one, so_far, temperature: slip(one, 0) + "\n" + "9" * 20
    found, records = asked(stubborn, probe=replace(verified.PROBE, corrections=2))
    assert found["interventions"] == 2 and found["right_intermediate"] == found["clean_intermediate"] == 0
    tight, _ = asked(stubborn, probe=replace(verified.PROBE, budget=40))
    assert tight["interventions"] == 1 and tight["tokens_intermediate"] == tight["tokens_final"] <= 2 * 40
    full, _ = asked(stubborn, row=60)  # prompt rows hold no feedback
    assert full["interventions"] < 5


def test_a_right_solution_is_left_alone():
    found, _ = asked(lambda one, so_far, temperature: "\n".join(one.actions))
    assert found["right_none"] == found["right_intermediate"] == 1 and found["interventions"] == 0
    assert found["false_alarm"] == found["broken"] == 0 and found["leak"] is None
    assert found["tokens_none"] == found["tokens_final"] == found["tokens_intermediate"]


def test_a_false_alarm_is_counted_and_so_is_what_it_breaks():
    """Right in the end by two faults that cancel: the check speaks up, and the policy then loses its way."""

    def cancels(one, so_far, temperature):
        return "5" if "wrong:" in so_far else "\n".join([slip(one, 0), one.actions[-1]])

    found, _ = asked(cancels)
    assert found["right_none"] == 1 and found["false_alarm"] == found["broken"] == 1


def test_a_line_can_be_taken_back_instead():
    """This policy never reads feedback; sampled again, it is right."""
    says = lambda one, so_far, temperature: "\n".join(
        one.actions[so_far.count("\n") :] if temperature else [one.actions[0], slip(one, 1)]
    )
    found, records = asked(says, probe=replace(verified.PROBE, feedback=""))
    assert found["right_intermediate"] == found["right_final"] == 1 and found["interventions"] == 1
    assert found["tokens_intermediate"] < found["tokens_final"]
    assert "wrong" not in records[0]["texts"]["intermediate"]


def test_arithmetic_is_checked_where_there_is_no_task():
    one = Demonstration(problem_id="p", problem="2 and 3 and 4", actions=("9",), answer="9")
    says = lambda one, so_far, temperature: "so 5 + 4 = 9" if so_far else "<think>hm\n1 + 1 = 3</think>so\n6 + 4 = 10"
    verdict = lambda text, one: text.endswith("= 9")
    found, records = asked(says, [one], task=None)
    assert records[0]["told"] == [["<think>hm\n1 + 1 = 3</think>so", "wrong: 1 + 1 = 3 does not hold\n"]]
    assert verdict(records[0]["texts"]["intermediate"], one)
    with pytest.raises(DoesNotApply, match="could be checked"):
        asked(lambda one, so_far, temperature: "well", [one], task=None)


def test_leaks_and_pieces():
    assert leaks("3 + 4 = 8", "wrong: it is 7", "7") and not leaks("3 + 4 = 7", "3 + 4 = 7 is wrong", "7")
    assert not leaks("a", "b", None)
    text = "a\n<think>b\nc</think>d\ne"
    assert pieces_of(text) == ["a\n", "<think>b\nc</think>d\n", "e"] and "".join(pieces_of(text)) == text
    with pytest.raises(ValueError, match="must hold one"):
        replace(verified.PROBE, feedback="wrong")
