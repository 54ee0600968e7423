"""`jaxsrl train --trace FROM:TO`: a profile of some optimizer steps of every stage, and their seconds by phase."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import jax

from jaxsrl.processes import is_first
from jaxsrl.speed import Work, rates
from jaxsrl.stages.parts import Parts

PHASES = ("sample", "reward", "weigh", "fill", "gradient", "update")
# Which of them a phase's tokens were worked on in: `learn` is the gradient and the update.
TOKENS_OF = {"sample": "sample", "gradient": "learn"}


@dataclass(frozen=True)
class Steps:
    """Optimizer steps of a stage, from the first to the last, counted from 1."""

    first: int
    last: int

    @classmethod
    def read(cls, text: str) -> "Steps":
        """From FROM:TO. Raises: ValueError for anything else."""
        first, colon, last = text.partition(":")
        if not colon or not first.isdecimal() or not last.isdecimal() or not 1 <= int(first) <= int(last):
            raise ValueError(f"--trace takes FROM:TO, two steps with 1 <= FROM <= TO, as 3:5; got {text!r}")
        return cls(int(first), int(last))

    def holds(self, step: int, count: int = 1) -> bool:
        """Whether one of `count` steps, from `step` on, is among them."""
        return step <= self.last and self.first < step + count


@contextmanager
def traced(parts: Parts, step: int, steps: Steps | None) -> Iterator[tuple[Parts, dict[str, float]]]:
    """Gives the parts to take an optimizer step with, and where its seconds by phase will stand: {} of one not traced.

    A traced step waits at the end of every phase, so that a phase's seconds are its own, and takes longer for it. Its
    profile lies in RUN/trace/STAGE/step_N. Optimizer steps on one collection are traced together, under the first of
    them. So are steps of one program, which have no phases.
    """
    if not is_traced(parts, step, steps):
        yield parts, {}
        return
    seconds: dict[str, float] = {}
    with jax.profiler.trace(str(folder(parts) / f"step_{step}")):
        yield parts if parts.device_loop is not None else _watched(parts, partial(_timed, seconds)), seconds


def is_traced(parts: Parts, step: int, steps: Steps | None) -> bool:
    """Whether the steps that are taken together from `step` on are."""
    together = max(parts.stage.device_steps, parts.stage.steps_per_collection)
    return steps is not None and steps.holds(step, together)


def folder(parts: Parts) -> Path:
    return parts.run.folder / "trace" / parts.stage.name


def _watched(parts: Parts, watch: Callable[[str, Callable], Callable]) -> Parts:
    """The same, with every phase's functions watched."""
    collector, learner, reader = parts.collector, parts.learner, parts.collector.reader
    if reader.reward is not None:
        reader = replace(reader, reward=watch("reward", reader.reward))
    collector = replace(
        collector, draw=watch("sample", collector.draw), weigh=watch("weigh", collector.weigh), reader=reader
    )
    fill, step = watch("fill", learner.fill), partial(learner.train_step, watch=watch)
    return replace(parts, collector=collector, learner=replace(learner, fill=fill, train_step=step))


def _timed(seconds: dict[str, float], phase: str, run: Callable) -> Callable:
    def timed(*args, **settings):
        started = time.monotonic()
        with jax.profiler.TraceAnnotation(phase):
            out = jax.block_until_ready(run(*args, **settings))
        seconds[phase] = seconds.get(phase, 0.0) + time.monotonic() - started
        return out

    return timed


def write_summary(
    parts: Parts, step: int, whole: float, seconds: Mapping[str, float], done: Mapping[str, Work]
) -> None:
    """A table of a traced step, printed and put behind those of earlier ones in summary.txt.

    Args:
      whole: seconds of the step; what no phase took is the host's.
      done: see `speed.work`.
    """
    if not is_first():
        return
    text = summary(parts.stage.name, step, whole, seconds, done, jax.devices()[0].device_kind, jax.device_count())
    folder(parts).mkdir(parents=True, exist_ok=True)
    with (folder(parts) / "summary.txt").open("a") as file:
        file.write(text + "\n\n")
    parts.run.console.say(text)


def summary(
    stage: str, step: int, whole: float, seconds: Mapping[str, float], done: Mapping[str, Work], kind: str, devices: int
) -> str:
    """Seconds, share of the step, tokens a second and MFU of every phase."""
    of_phase = {phase: done[name] for phase, name in TOKENS_OF.items() if name in done}
    found = rates(of_phase, seconds, kind, devices)
    rest = max(whole - sum(seconds.values()), 0.0)
    head = f"{'phase':<10}{'seconds':>10}{'share':>8}{'tokens/s':>12}{'MFU':>8}"
    lines = [f"[{stage}] step {step} traced, {devices} x {kind}", head]
    for phase, spent in [*((p, seconds[p]) for p in PHASES if p in seconds), ("rest", rest), ("step", whole)]:
        speed, mfu = (found.get(name, {}).get(phase) for name in ("tokens_per_second", "mfu"))
        shown = f"{'' if speed is None else format(speed, ',.1f'):>12}{'' if mfu is None else format(mfu, '.2%'):>8}"
        lines.append(f"{phase:<10}{spent:>10.4f}{spent / max(whole, 1e-9):>8.1%}{shown}".rstrip())
    return "\n".join(lines)
