"""Tokens to texts to rewards on the host: a process reads the rollouts that are its own, and only numbers go out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxsrl.data.layout import Layout
from jaxsrl.data.sheets import FORMS
from jaxsrl.data.token_bytes import decode_all
from jaxsrl.processes import fetch, from_all
from jaxsrl.rewards.checked import checked
from jaxsrl.types import Completions, Mean, Reward, Rewards, Rollouts, Scores, TokenBytes

NAMES = 64  # room for the names of metrics that processes add up


@dataclass(frozen=True, kw_only=True)
class Reader:
    """What it takes to read rollouts in this process.

    Args:
      reward: of the objective, from texts.
      described: what the device's reward says of texts, given the integers that it found; None where there is none.
      own: which jobs of a sheet are this process's to read, [jobs of a sheet] bool.
      from_all: numbers of this process -> those of every process, on a new first axis. Nothing else crosses.
    """

    reward: Reward
    described: Callable[..., Rewards] | None
    token_bytes: TokenBytes
    own: Bool[np.ndarray, "P"]
    from_all: Callable[[np.ndarray], np.ndarray] = from_all

    def reads(self, job: Int[np.ndarray, "N"]) -> Bool[np.ndarray, "N"]:
        """Which of some jobs of a step are this process's."""
        return self.own[job % len(self.own)]


@dataclass(frozen=True, kw_only=True)
class Graded:
    """Rollouts of this process with what the host's reward says of them."""

    job: Int[np.ndarray, "N"]  # of each rollout, within the step
    rollouts: Rollouts
    rewards: Rewards


def own_jobs(reader: Reader, layout: Layout, sheets: Sequence[int]) -> Int[np.ndarray, "N"]:
    """Jobs of some sheets that are this process's, ordered by demonstration, branch point and sample."""
    sheet = layout.order // len(reader.own)
    return layout.order[np.isin(sheet, sheets) & reader.reads(layout.order)]


def read(reader: Reader, layout: Layout, job: Int[np.ndarray, "N"], token, length) -> Rollouts:
    """Texts of the given jobs; `token` [P C] and `length` [P] are of all."""
    jobs, token, length = layout.jobs, token[job], length[job]
    last = token[np.arange(len(job)), np.maximum(length - 1, 0)]
    ended = (length > 0) & np.isin(last, reader.token_bytes.ends)
    given = reader.token_bytes.given.decode()
    texts = tuple(given + text for text in decode_all(token, length - ended, reader.token_bytes))
    return Rollouts(
        token=token, mask=np.arange(token.shape[1]) < length[:, None], demonstration=jobs.demonstration[job],
        form=tuple(FORMS[i] for i in jobs.form[job]), branch=jobs.branch[job], sample=jobs.sample[job],
        group=jobs.group[job], truncated=~ended, text=texts,
    )  # fmt: skip


def grade(
    reader: Reader, layout: Layout, job: Int[np.ndarray, "N"], completions: Completions, *, unfit: bool = False
) -> Graded:
    """What the reward says of the given jobs.

    Args:
      unfit: they are those that did not fit the device's rooms.
    Raises: ValueError naming the rollout whose reward is not finite.
    """
    token, length = fetch((completions.token, completions.length))
    rollouts = read(reader, layout, job, token, length)
    if unfit:
        rewards = reader.described(_unfit(len(job)), rollouts, layout.demonstrations)
    else:
        rewards = reader.reward(rollouts, layout.demonstrations)
    return Graded(job=job, rollouts=rollouts, rewards=checked(rewards, rollouts, layout.demonstrations))


def _unfit(count: int) -> Scores:
    """Of rollouts that the device could not score."""
    none, no = np.zeros(count, np.int32), np.zeros(count, bool)
    return Scores(reward=np.zeros(count), matched=none, total=none, formed=no, fits=no)


def rewards_of(reader: Reader, graded: Sequence[Graded], jobs: int) -> Float[np.ndarray, "P"]:
    """Rewards by job, those of other processes included; 0 where there is none. Whether or not one graded anything."""
    out = np.zeros(jobs)
    for part in graded:
        out[part.job] = part.rewards.reward
    return np.sum(reader.from_all(out), axis=0)


def means_of(reader: Reader, graded: Sequence[Graded]) -> dict[str, Mean]:
    """Means over the rollouts of all processes, by the names that this one knows. What goes out is a checksum of each
    name: a reward names the same means for any rollouts, none included."""
    own: dict[str, np.ndarray] = {}
    for part in graded:
        for name, mean in part.rewards.means.items():
            own[name] = own.get(name, np.zeros(2)) + np.array(mean, np.float64)
    if len(own) > NAMES:
        raise ValueError(f"a reward has {len(own)} means, and processes add up {NAMES} at most: name fewer")
    table = np.zeros((NAMES, 3))
    for row, (name, mean) in enumerate(sorted(own.items())):
        table[row] = (crc32(name.encode()), *mean)
    everyone: dict[int, Mean] = {}
    for mark, total, over in reader.from_all(table).reshape(-1, 3).tolist():
        before = everyone.get(int(mark), Mean(0.0, 0.0))
        everyone[int(mark)] = Mean(before.total + total, before.over + over)
    return {name: everyone[crc32(name.encode())] for name in sorted(own)}
