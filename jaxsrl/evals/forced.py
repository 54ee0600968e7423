"""Asking for the answer at once: what is written for the policy so that nothing but an answer can follow."""

import re

from jaxsrl.evals.probe import DoesNotApply, ProbedPolicy
from jaxsrl.rewards.answer import FinalAnswer
from jaxsrl.rewards.extract import NUMBER, extract_answer, last_boxed
from jaxsrl.rewards.format import OPEN, without_thoughts
from jaxsrl.types import Demonstration

BOX = "The answer is \\boxed{"
WORD = re.compile(r"\w+")
PLAIN = ("the", "final", "answer", "is")
LEADS = {
    "boxed": BOX, "stated": BOX, "hash": "#### ", "last_number": "The answer is ", "last_line": "", "last_action": "",
}  # fmt: skip


def lead_of(policy: ProbedPolicy, demonstration: Demonstration) -> str:
    """What stands before an answer in the form that the problem's reward reads.

    Of a task with a verifier it is what the expert's last action has before the answer, where that is its end and says
    nothing that the problem does not: operands or an entity on the way would give steps away.

    Raises: DoesNotApply where neither says it.
    """
    reward = policy.reward
    if isinstance(reward, FinalAnswer) and reward.verify is None:
        return LEADS[reward.extract]
    last = demonstration.actions[-1].strip() if demonstration.actions else ""
    if demonstration.answer and last.endswith(demonstration.answer):
        lead = last[: len(last) - len(demonstration.answer)]
        if set(WORD.findall(lead.lower())) <= {*WORD.findall(demonstration.problem.lower()), *PLAIN}:
            return lead
    raise DoesNotApply(
        f"problem {demonstration.problem_id}: nothing says how its answer is asked for at once; set lead to the text "
        "that stands before an answer"
    )


def led(text: str, lead: str) -> str:
    """The lead on a line of its own behind a text."""
    return lead if not text or text[-1].isspace() else "\n" + lead


def key_of(policy: ProbedPolicy, demonstration: Demonstration) -> str:
    """The answer alone, where the key has the mark of a whole solution."""
    reward, key = policy.reward, demonstration.answer
    if isinstance(reward, FinalAnswer) and reward.extract in ("boxed", "hash", "last_action"):
        return extract_answer(key, reward.extract) or key
    return key


def answer_in(policy: ProbedPolicy, demonstration: Demonstration, lead: str, text: str) -> str | None:
    """The answer in what was written behind the lead, on its first line; None where there is none.

    Where the key is a number it is the first number there; behind an open box what closes it; else the line. What a
    policy thinks before it answers is no answer.
    """
    if text.lstrip().startswith(OPEN):
        text = without_thoughts(text).lstrip()
    line = text.lstrip(" ").split("\n")[0].strip()
    if NUMBER.fullmatch(key_of(policy, demonstration).strip()):
        numbers = NUMBER.findall(line)
        return numbers[0] if numbers else None
    if lead.endswith("\\boxed{"):
        return last_boxed("\\boxed{" + line)
    return line.removesuffix(".").strip() or None


def is_key(policy: ProbedPolicy, demonstration: Demonstration, answer: str | None) -> bool:
    """Whether an answer is the key; no answer is not."""
    return answer is not None and bool(policy.same([(answer, key_of(policy, demonstration))])[0])
