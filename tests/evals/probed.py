"""Policies for probes, written by hand: what one says is a function of the text that it sees."""

import re
from dataclasses import replace

import numpy as np

from jaxsrl.collect.score import RowScorer
from jaxsrl.data.chat import Template
from jaxsrl.evals.direct import as_text
from jaxsrl.evals.probe import ProbedPolicy
from jaxsrl.rewards.answer import FinalAnswer
from jaxsrl.types import Demonstration

from .conftest import BYTES, CAP, evaluation_sampler, finished, first_line

GRADER = FinalAnswer(extract="last_number")
LEAD = "The answer is "


def problem(name: str, text: str, answer: str) -> Demonstration:
    return Demonstration(problem_id=name, problem=text, actions=(f"answer: {answer}",), answer=answer)


def seen(prompt: str) -> tuple[str, str]:
    """(the problem, what the policy is taken to have written) of a prompt in the plain template."""
    text, _, chain = prompt.removeprefix("<|solve|>").partition("\n")
    return text, chain


def asked(chain: str) -> str | None:
    """The chain before the lead where an answer is asked for, else None."""
    before, lead, rest = chain.rpartition(LEAD)
    return before if lead and not rest else None


def by_hand(says, logp=None, reward=GRADER, calls=None, task=None) -> ProbedPolicy:
    """A policy from `says(problem, chain, temperature, noise)` -> completion.

    Args:
      logp: (context, token) -> nats, for a policy that scores.
      task: what made its problems.
    """

    def written(prompt, temperature, sample, noise):
        return says(*seen(prompt), temperature, noise)

    whole = evaluation_sampler(written, rows={"rows": 2, "row_tokens": 512, "slots": 4}, calls=calls)
    scorer = None if logp is None else RowScorer(score=lambda params, batch: scores(logp, batch))
    return ProbedPolicy(
        name="by hand", params=None, template=Template(), tokenizer=BYTES, reward=reward, finished=finished,
        sampler=lambda call: replace(whole, max_new_tokens=CAP), first_action=first_line, scorer=scorer,
        same=as_text if reward.verify else reward.same, task=task,
    )  # fmt: skip


def scores(logp, batch) -> np.ndarray:
    """What each weighted token has for log-prob, from the tokens that it sees."""
    out = np.zeros(batch.token.shape, np.float32)
    for r, t in zip(*np.nonzero(batch.nll_weight), strict=True):
        enter = batch.enter[r, t]
        before = (batch.enter[r] <= enter) & (enter < batch.leave[r]) & (batch.position[r] < batch.position[r, t])
        order = np.argsort(batch.position[r][before])
        out[r, t] = logp(BYTES.decode(batch.token[r][before][order].tolist()), int(batch.token[r, t]))
    return out


def last_number(text: str, default: str = "0") -> str:
    return (re.findall(r"\d+", text) or [default])[-1]
