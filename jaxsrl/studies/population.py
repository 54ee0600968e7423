"""Runs that differ in seed and numbers, trained as one program into run folders of their own.

    train_population(configs, "rates")     like `train` for each of them

Of each run everything but its optimizer steps goes as it does alone: what it draws, when it is evaluated and saved, and
what is written. So a run that was begun alone may go on as a member, and the other way round; bits are not promised
across that, as another program adds in another order.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import jax

from jaxsrl.checkpoint import state_hash
from jaxsrl.config.overrides import check_unchanged, to_dict
from jaxsrl.config.run import Config, Stage
from jaxsrl.policy import Compiled
from jaxsrl.processes import Stopped
from jaxsrl.progress import Progress
from jaxsrl.report.page import write_report
from jaxsrl.runs import Run, open_run, write_json
from jaxsrl.stages.begin import Prepared, begin, is_over, prepare
from jaxsrl.stages.device_loop import DeviceLoop, Told, lay_out_steps, take_steps, tell_steps
from jaxsrl.stages.parts import Parts, make_parts
from jaxsrl.stages.save import drop_worse, keep_last
from jaxsrl.stages.start import make_base
from jaxsrl.studies.members import check_members, own_numbers
from jaxsrl.studies.together import DEFAULT_BY, By, devices_for, make_together, take_together
from jaxsrl.train import (
    after_steps,
    finish,
    in_training,
    leave,
    limits,
    say_interrupted,
    validate,
    write_ledger,
    write_steps,
)
from jaxsrl.types import TrainState

FILE = "population.json"  # of a run folder that was made in one


@dataclass(frozen=True, kw_only=True)
class How:
    """How members are computed.

    Args:
      by: `map`, one after the other, or `vmap`, all at once; None takes what is faster on the backend.
      devices: among which they are divided, at most; None takes all that divide their number.
    """

    by: By | None = None
    devices: int | None = None

    def __post_init__(self):
        if self.by not in (None, "map", "vmap") or (self.devices is not None and self.devices < 1):
            raise ValueError(f"by must be map, vmap or None, and devices >= 1, got by={self.by!r} {self.devices=}")


@dataclass(frozen=True, kw_only=True)
class Member:
    """A run in the midst of a stage. `saved`: the step that is saved already."""

    parts: Parts
    state: TrainState
    progress: Progress
    saved: int | None

    @property
    def over(self) -> bool:
        return is_over(self.parts.stage, self.progress)


def train_population(
    configs: Sequence[Config], name: str, stop: Callable[[], bool] = lambda: False,
    compiled: Compiled | None = None, how: How | None = None,
    prepared_by: Callable[[Config], Prepared] | None = None,
) -> list[Path]:  # fmt: skip
    """Runs or resumes all these runs to their end and writes their reports. Returns their folders.

    Members that were left at different steps are taken from the last of them on, until they are together.

    Args:
      name: of the population, in every member's `population.json`.
      stop, compiled: see `train`.
      prepared_by: where their data are read and checked already, see `plan`; None does it here, with `compiled`.
    Raises: ConfigError where they cannot be one population, with the reason; else as `train`.
    """
    check_members(configs)
    how = how or How()
    began = time.monotonic()
    prepared = prepared_by(configs[0]) if prepared_by else prepare(configs[0], compiled or Compiled())
    took, trained = time.monotonic() - began, []
    with in_training(trained), ExitStack() as held:
        nowhere = held.enter_context(open(os.devnull, "w"))
        runs = [
            held.enter_context(
                open_run(Path(one.runs) / one.name, to_dict(one), check_unchanged, nowhere if number else None)
            )
            for number, one in enumerate(configs)
        ]
        for number, run in enumerate(runs):
            run.watch.began, run.watch.ledger["begin"] = began, took
            note(run, name, number, configs, how)
        _run_stages(runs, configs, prepared, stop, how, trained)
    print(f"{len(runs)} members of {name}; reports:")
    with in_training(trained):
        for run in runs:
            print(f"  {write_report(run.folder)}")
    return [run.folder for run in runs]


def note(run: Run, name: str, number: int, configs: Sequence[Config], how: How) -> None:
    """Says in a run's folder and log in which population it is trained."""
    told = {"name": name, "member": number, "members": [one.name for one in configs], "by": by_of(how)}
    write_json(run.folder / FILE, told)
    run.console.say(
        f"member {number + 1} of {len(configs)} of the population {name} ({told['by']}): its bits may differ from "
        "those of the run alone"
    )


def by_of(how: How) -> By:
    return how.by or DEFAULT_BY[jax.default_backend()]


def _run_stages(
    runs: Sequence[Run], configs: Sequence[Config], prepared: Prepared, stop: Callable[[], bool], how: How,
    trained: list[str],
) -> None:  # fmt: skip
    first = [begin(run, config, prepared) for run, config in zip(runs, configs, strict=True)]
    watch = runs[0].watch
    told = watch.heard(stop)
    with watch.watching(limits(configs[0].survive)):
        for index in range(min(first), len(configs[0].stages)):
            own = [(run, config) for run, config, at in zip(runs, configs, first, strict=True) if at <= index]
            _run_stage(own, index, prepared, told, how, trained)
        for run in runs:
            run.checkpoints.wait()


def _run_stage(
    runs: Sequence[tuple[Run, Config]], index: int, prepared: Prepared, stop: Callable[[], bool], how: How,
    trained: list[str],
) -> None:  # fmt: skip
    """One stage of these runs, from its start or from where each of them was saved."""
    config, members = runs[0][1], []
    splits = prepared.splits[config.stages[index].name]
    base = make_base(config, index, prepared.material) if config.lora is not None else None
    try:
        for run, own in runs:
            run.watch.enter("begin")
            parts, state, progress = make_parts(run, own, index, prepared.material, splits, stop, base)
            saved = progress.step if run.record and run.record["index"] == index else None
            members.append(Member(parts=parts, state=state, progress=progress, saved=saved))
            run.watch.enter("other")
            if saved is not None:
                drop_worse(parts, progress)
        trained.append(config.stages[index].name)
        _train(members, prepared.material.compiled, how)
    finally:
        for one in members:
            one.parts.writer.close()


def _train(members: list[Member], compiled: Compiled, how: How) -> None:
    """The loop; `members` always holds what each has come to."""
    try:
        for i, one in enumerate(members):
            members[i] = replace(one, progress=validate(one.parts, one.state, one.progress))
        while not all(one.over for one in members):
            least = min(one.progress.step for one in members if not one.over)
            behind = [i for i, one in enumerate(members) if not one.over and one.progress.step == least]
            until = min((one.progress.step for one in members if one.progress.step > least), default=None)
            _take_steps(members, behind, until, compiled, how)
        for i, one in enumerate(members):
            with one.parts.run.watch.phase("checkpoint"):
                keep_last(one.parts, one.state, one.progress)
            members[i] = one = replace(one, saved=one.progress.step)
            finish(one.parts, one.state, one.progress)
    except Stopped:
        _leave(members)
        raise
    except KeyboardInterrupt:
        for one in members:
            say_interrupted(one.parts, one.progress, one.saved)
        raise
    finally:
        for one in members:
            write_ledger(one.parts.run)
    for one in members:
        for text in one.parts.warnings.look((), last=True):
            one.parts.run.console.say(f"[{one.parts.stage.name}] warning: {text}")
        one.parts.run.console.say(f"[{one.parts.stage.name}] done: state {state_hash(one.state)}")


def _take_steps(members: list[Member], which: Sequence[int], until: int | None, compiled: Compiled, how: How) -> None:
    """Steps of the members `which`, which are equally far, until their end or until they are where the others are."""
    own = [members[i].parts for i in which]
    take = _one_program([parts.device_loop for parts in own], [parts.stage for parts in own], compiled, how)
    lead, begun = members[which[0]].parts, False
    while not members[which[0]].over and (until is None or members[which[0]].progress.step < until):
        before, clock = members[which[0]].progress.step, time.monotonic()
        if lead.stop():
            raise Stopped
        waiting = f"[{lead.stage.name}] first steps of {len(which)} members: compiling"
        with _all_in("step" if begun else "compile", own), nullcontext() if begun else lead.run.console.wait(waiting):
            states, told = take([members[i] for i in which])
        share, begun = (time.monotonic() - clock) / len(which), True  # of a member
        timings = []
        for i, state, steps in zip(which, states, told, strict=True):  # all of them, before anyone is evaluated
            progress, timing = write_steps(members[i].parts, members[i].progress, steps, share)
            members[i] = replace(members[i], state=state, progress=progress)
            timings.append(timing)
        for i, timing in zip(which, timings, strict=True):
            one, now = members[i], time.monotonic()
            progress, saved = after_steps(
                one.parts, one.state, one.progress, before, one.saved, timing, [now - share, now]
            )  # fmt: skip
            members[i] = replace(one, progress=progress, saved=saved)


def _one_program(
    loops: Sequence[DeviceLoop], stages: Sequence[Stage], compiled: Compiled, how: How
) -> Callable[[Sequence[Member]], tuple[list[TrainState], list[list[Told]]]]:
    """What takes the next steps of these members. One that has to catch up alone does so by its own program."""

    def alone(members: Sequence[Member]):
        (one,) = members
        state, told = take_steps(loops[0], one.parts.log, one.state, one.progress.position, one.progress.step)
        return [state], [told]

    if len(loops) == 1:
        return alone
    devices = devices_for(len(loops), how.devices)
    together = make_together(loops, own_numbers(stages), by_of(how), devices, compiled)

    def take(members: Sequence[Member]):
        each = list(zip(loops, members, strict=True))
        ahead = [lay_out_steps(loop, one.progress.position, one.progress.step) for loop, one in each]
        states, taken = take_together(together, [one.state for one in members], [known.known for known in ahead])
        told = [
            tell_steps(loop, one.parts.log, known, one.progress.step, found)
            for (loop, one), known, found in zip(each, ahead, taken, strict=True)
        ]
        return states, told

    return take


@contextmanager
def _all_in(phase: str, all_parts: Sequence[Parts]) -> Iterator[None]:
    """The ledger of every member counts what is done for all of them."""
    with ExitStack() as held:
        for parts in all_parts:
            held.enter_context(parts.run.watch.phase(phase))
        yield


def _leave(members: Sequence[Member]) -> None:
    """Saves every member where it is."""
    for one in members:
        with suppress(Stopped), one.parts.run.watch.phase("checkpoint"):
            leave(one.parts, one.state, one.progress, one.saved)
