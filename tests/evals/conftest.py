"""A policy written by hand: what it says is a function of its prompt, so every metric is known beforehand."""

import re

import jax
import numpy as np
import pytest

from jaxsrl.collect.complete import Sampler
from jaxsrl.data.byte_tokenizer import MARKS, ByteTokenizer
from jaxsrl.data.chat import Template
from jaxsrl.evals.direct import as_text
from jaxsrl.evals.evaluate import Evaluation, evaluate
from jaxsrl.rewards.answer import FinalAnswer
from jaxsrl.types import Completions, Demonstration

BYTES = ByteTokenizer()
CAP = 64
ROWS = {"rows": 2, "row_tokens": 96, "slots": 4}


def tokens(text: str) -> list[int]:
    """Text with marks to ids, the end token added unless the text says `<|cut|>`, which runs into the cap."""
    ids: list[int] = []
    for piece in re.split("(" + "|".join(map(re.escape, MARKS)) + ")", text.removesuffix("<|cut|>")):
        ids += BYTES.special(piece) if piece in MARKS else BYTES.encode(piece)
    full = ids + [ord("~")] * CAP if text.endswith("<|cut|>") else [*ids, BYTES.end]
    assert len(full) <= CAP or text.endswith("<|cut|>"), text
    return full[:CAP]


def shown(prompts, row: int, slot: int) -> str:
    """The prompt a slot sees."""
    enter = prompts.slot_enter[row, slot]
    seen = (prompts.enter[row] <= enter) & (enter < prompts.leave[row])
    return BYTES.decode(prompts.token[row][seen].tolist())


def evaluation_sampler(policy, template=None, rows=ROWS, calls=None) -> Sampler:
    """A sampler whose completion is `policy(prompt, temperature, sample, noise)`.

    `noise` is a number from the key and the slot's address, as a real sampler's; `calls` collects batch shapes.
    """

    def sample(params, prompts, key, temperature):
        if calls is not None:
            calls.append(tuple(x.shape for x in jax.tree.leaves(prompts)))
        count, slots = prompts.slot_parent.shape
        token, length = np.zeros((count, slots, CAP), np.int32), np.zeros((count, slots), np.int32)
        words = np.asarray(jax.random.key_data(key)).tolist()
        for r, k in zip(*np.nonzero(prompts.slot_active), strict=True):
            address = prompts.slot_address[r, k].tolist()
            noise = np.random.default_rng([*words, *address]).random()
            ids = tokens(policy(shown(prompts, r, k), float(temperature), address[-1], noise))
            token[r, k, : len(ids)], length[r, k] = ids, len(ids)
        flat = token.reshape(-1, CAP)
        return Completions(token=flat, logp=np.zeros(flat.shape, np.float32), length=length.reshape(-1))

    return Sampler(sample=sample, tokenizer=BYTES, template=template or Template(), max_new_tokens=CAP, **rows)


def sums(*numbers: int, name: str) -> Demonstration:
    """A running sum: one action per addition, then the answer."""
    total, actions = numbers[0], []
    for number in numbers[1:]:
        actions.append(f"{total} + {number} = {total + number}")
        total += number
    return Demonstration(
        problem_id=name, problem="sum:\n" + " ".join(map(str, numbers)), actions=(*actions, f"answer: {total}"),
        answer=str(total),
    )  # fmt: skip


DEMONSTRATIONS = (
    sums(1, 2, name="a"), sums(4, 5, 6, name="b"), sums(7, 8, 9, 10, name="c"), sums(20, 30, name="d"),
    sums(3, 1, 4, name="e"),
)  # fmt: skip


def expert_of(prompt: str) -> tuple[Demonstration, int]:
    """The demonstration a prompt is about, and how many actions it shows."""
    lines = re.sub(r"<\|\w+\|>|<think>", "", prompt).strip().splitlines()
    demonstration = next(d for d in DEMONSTRATIONS if d.problem.splitlines()[1] == lines[1])
    return demonstration, len(lines) - 2


def perfect(prompt: str, temperature: float, sample: int, noise: float) -> str:
    """Thinks and writes what the expert writes, in both forms; as far as its own actions are the expert's."""
    demonstration, given = expert_of(prompt)
    opening = "" if prompt.endswith("<think>") else "<think>"
    if prompt.startswith("<|solve|>"):
        return f"{opening}t</think>" + "\n".join(demonstration.actions)
    return f"{opening}a thought</think>{demonstration.actions[given]}"


def finished(action: str, demonstration: Demonstration) -> bool:
    return action.startswith("answer:")


def first_line(text: str) -> str:
    return text.split("\n")[0]


GRADER = FinalAnswer(extract="last_number")


@pytest.fixture
def run():
    """run(policy, **settings) -> (metrics, records)"""

    def run(
        policy, demonstrations=DEMONSTRATIONS, *, template=None, rows=ROWS, calls=None, seed=0, reward=GRADER,
        same=as_text, **settings,
    ):  # fmt: skip
        return evaluate(
            evaluation_sampler(policy, template, rows, calls), None, jax.random.key(seed), demonstrations,
            Evaluation(**settings), reward=reward, finished=finished,
            first_action=first_line, same=same,
        )  # fmt: skip

    return run
