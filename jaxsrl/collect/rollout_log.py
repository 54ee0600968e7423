"""Rollouts as lines on disk, written behind the learner: enough of each to recompute its reward and advantage."""

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jaxsrl.collect.collect import Collection
from jaxsrl.collect.device import KEPT
from jaxsrl.collect.grading import Graded, Reader, own_jobs, read
from jaxsrl.data.problem_lines import demonstration_key, problem_lines
from jaxsrl.metrics import Journal
from jaxsrl.processes import fetch
from jaxsrl.types import Demonstration, Form, Scores

WAITING = 4  # steps whose lines may be waiting; a slow disk then holds the loop up


def rollout_lines(collection: Collection, graded: Graded, stage: str, step: int) -> list[dict[str, Any]]:
    """One record per rollout. Problem and actions given are those of its `demonstration`, see `shown_problems`."""
    r, g, lines = graded.rollouts, graded.rewards, []
    tokens, kept = r.mask.sum(axis=1).tolist(), ((collection.flags[graded.job] & KEPT) != 0).tolist()
    settings, shown = dict(g.settings), sorted(set(r.demonstration.tolist()))
    keys = {m: demonstration_key(collection.layout.demonstrations[m]) for m in shown}
    for i, job in enumerate(graded.job.tolist()):
        demonstration = collection.layout.demonstrations[r.demonstration[i]]
        lines.append({
            "stage": stage, "step": step, "problem": demonstration.problem_id,
            "demonstration": keys[int(r.demonstration[i])], "branch": int(r.branch[i]),
            "group": int(r.group[i]), "sample": int(r.sample[i]), "expert_action": g.expert[i],
            "completion": r.text[i], "truncated": bool(r.truncated[i]), "action": g.action[i],
            "reward": float(g.reward[i]), "advantage": float(collection.advantage[job]), "kept": kept[i],
            "tokens": tokens[i],
            "form": r.form[i], "reward_settings": settings,
        } | _written(demonstration, r.form[i], int(r.branch[i])))  # fmt: skip
    return lines


def shown_problems(collection: Collection, graded: Graded, stage: str, step: int) -> list[dict[str, Any]]:
    """The texts of the demonstrations that the rollouts branch off, one line each: a share of 1 / G of a step's lines
    at most, which refer to them by key."""
    shown = sorted(set(graded.rollouts.demonstration.tolist()))
    return problem_lines((collection.layout.demonstrations[m] for m in shown), {"stage": stage, "step": step})


def _written(demonstration: Demonstration, form: Form, after: int) -> dict[str, str]:
    """The expert's action as its file has it, where the tokenizer spells it otherwise."""
    whole = demonstration.written or ()
    if form != "action" or after >= len(whole) or whole[after] == demonstration.actions[after]:
        return {}
    return {"expert_written": whole[after]}


@dataclass(frozen=True, kw_only=True)
class Writer:
    """A thread that does small host work in the order it is given, behind the device's.

    What it raises is raised by the next `put` or `drain`.
    """

    waiting: queue.Queue
    failed: list[BaseException]
    thread: threading.Thread

    def put(self, work: Callable[[], None]) -> None:
        """Waits where too much is waiting."""
        self._raise()
        self.waiting.put(work)

    def drain(self) -> None:
        """Returns when all that was put is done."""
        self.waiting.join()
        self._raise()

    def close(self) -> None:
        """Returns when what was waiting is done and the thread has ended: nothing is written from here on.

        Raises nothing. What failed was raised by `drain`, or another error is on its way already.
        """
        self.waiting.put(None)
        self.thread.join()

    def _raise(self) -> None:
        if self.failed:
            raise self.failed[0]


def start_writer() -> Writer:
    """A running one; whoever starts it closes it."""
    waiting, failed = queue.Queue(WAITING), []
    thread = threading.Thread(target=_work, args=(waiting, failed), name="rollout lines", daemon=True)
    thread.start()
    return Writer(waiting=waiting, failed=failed, thread=thread)


def _work(waiting: queue.Queue, failed: list[BaseException]) -> None:
    while (work := waiting.get()) is not None:
        try:
            if not failed:  # what comes after a failure would be out of order
                work()
        except BaseException as error:
            failed.append(error)
        finally:
            waiting.task_done()


@dataclass(frozen=True, kw_only=True)
class Log:
    """Where a stage's rollouts and the texts of their problems go, and who reads them."""

    journal: Journal
    writer: Writer
    name: str  # of the file of rollouts
    problems: str  # of the file of problems
    stage: str
    reader: Reader


def log_rollouts(log: Log, collection: Collection, step: int) -> None:
    """Hands the lines of a step to the writer; called when the learner is at work, and gone before it is done.

    What the device rewarded is fetched now: tokens, and the integers of each ratio.
    """
    if not collection.layout.sheets:
        return
    if collection.scores is not None:
        log_told(log, collection, *fetch((collection.completions.token, collection.scores)), step)
        return
    small = replace(collection, whole=None, completions=None, scores=None, weighed=None)  # keeps no device array alive

    def write() -> None:
        for part in small.graded:
            _write(log, small, part, step)

    log.writer.put(write)


def log_told(log: Log, collection: Collection, token: np.ndarray, scores: Scores, step: int) -> None:
    """Hands the lines of rollouts that the device rewarded to the writer, which reads their texts."""
    small = replace(collection, whole=None, completions=None, scores=None, weighed=None)

    def write() -> None:
        _write(log, small, told(log.reader, small, token, scores), step)

    log.writer.put(write)


def _write(log: Log, collection: Collection, graded: Graded, step: int) -> None:
    """Both files are opened even for no lines: a checkpoint asks every process for the same ones."""
    log.journal.write(log.problems, shown_problems(collection, graded, log.stage, step))
    log.journal.write(log.name, rollout_lines(collection, graded, log.stage, step))


def told(reader: Reader, collection: Collection, token: np.ndarray, scores: Scores) -> Graded:
    """Rollouts that the device rewarded, with rewards from the integers: difflib's to the last bit."""
    layout = collection.layout
    job = own_jobs(reader, layout, range(len(layout.sheets)))
    rollouts = read(reader, layout, job, token, collection.length)
    scores = Scores(**{name: value[job] for name, value in vars(scores).items()})
    return Graded(job=job, rollouts=rollouts, rewards=reader.described(scores, rollouts, layout.demonstrations))
