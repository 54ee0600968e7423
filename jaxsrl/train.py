"""The only loop: stages one after the other, each collecting, updating, evaluating and saving."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import jax

from jaxsrl.checkpoint import state_hash
from jaxsrl.collect.collect import Collection, collect, collection_metrics
from jaxsrl.collect.learn import learn
from jaxsrl.collect.rollout_log import log_rollouts
from jaxsrl.config.overrides import check_unchanged, to_dict
from jaxsrl.config.run import Config, ConfigError, Stage, TaskData
from jaxsrl.config.survive import Survive
from jaxsrl.data.problem_lines import problem_lines
from jaxsrl.evals.evaluate import Evaluation
from jaxsrl.metrics import merge, process_file
from jaxsrl.mirrors import check_installed, open_mirrors
from jaxsrl.models.config import parameter_count
from jaxsrl.pace import validations_left
from jaxsrl.policy import EVALUATE, TRAIN, Compiled, address, copied_bytes, sampling_params
from jaxsrl.processes import Stopped, fetch, is_first
from jaxsrl.progress import Best, Progress, is_due
from jaxsrl.report.page import write_report
from jaxsrl.report.watch import evaluation_line
from jaxsrl.rollout.slots import cache_bytes
from jaxsrl.runs import Run, open_run
from jaxsrl.speed import Work, rates, work
from jaxsrl.stages.begin import Prepared, begin, is_over, prepare
from jaxsrl.stages.device_loop import Told, take_steps
from jaxsrl.stages.evaluation import evaluate_policy
from jaxsrl.stages.material import Material
from jaxsrl.stages.parts import Parts, make_parts
from jaxsrl.stages.replay import check_replay, copied
from jaxsrl.stages.save import drop_worse, insist, keep_best, keep_last, save, save_whole
from jaxsrl.stages.skipped import count_skipped
from jaxsrl.stores.keep import kept
from jaxsrl.trace import Steps, is_traced, traced, write_summary
from jaxsrl.types import Metrics, TrainState
from jaxsrl.watchdog import Limits

STUCK = 60.0  # seconds that native code may keep Python's lock, at least


class TrainingError(RuntimeError):
    """A value or a file was wrong after training had begun; the message is the first error's."""


def train(
    config: Config, stop: Callable[[], bool] = lambda: False, compiled: Compiled | None = None,
    trace: Steps | None = None,
) -> Path:  # fmt: skip
    """Runs or resumes a run to its end and writes its report. Returns the run folder.

    Args:
      stop: asked by every process before every step, every round of refills that waits for the one before, and every
        call of a sampler in an evaluation; where it is true, what is complete is saved and the run left.
      compiled: functions that other runs have compiled already.
      trace: steps of every stage that are profiled; see `trace.py`.

    Raises: ConfigError where demonstrations do not fit the settings or the folder holds another run; RunError where
      it cannot be used; Stopped where `stop` said so.
    """
    check_installed(config.mirrors)
    began, trained = time.monotonic(), []
    prepared = prepare(config, compiled or Compiled())
    with in_training(trained), kept(config.runs, config.name, config.survive.failed_saves) as place:
        with open_run(place.folder, to_dict(config), check_unchanged) as run, place.storing(run.console.say):
            # The ledger is of the whole call: what came before there was one was a part of its begin.
            run.watch.began, run.watch.ledger["begin"] = began, run.watch.began - began
            names = config.mirrors if is_first() else ()
            with open_mirrors(names, run.folder, config.name, to_dict(config), run.console.say) as mirrors:
                run_stages(replace(run, mirrors=mirrors), config, prepared, place.asked(stop), trace, trained)
        if is_first():
            print(f"report: {write_report(run.folder)}")
    return run.folder


def run_stages(
    run: Run, config: Config, prepared: Prepared, stop: Callable[[], bool], trace: Steps | None = None,
    trained: list[str] | None = None,
) -> None:  # fmt: skip
    """The stages of an open run, from its checkpoint on. Raises as `train` does.

    Args:
      trained: gets the name of each stage once its training begins.
    """
    told, watch = run.watch.heard(stop), run.watch
    trained = [] if trained is None else trained
    first = begin(run, config, prepared)
    with in_training(trained), watch.watching(limits(config.survive)):
        for index in range(first, len(config.stages)):
            name = config.stages[index].name
            state = run_stage(run, config, index, prepared.material, prepared.splits[name], told, trace, trained)
            run.console.say(f"[{name}] done: state {state_hash(state)}")
        run.checkpoints.wait()


def limits(survive: Survive) -> Limits:
    return Limits(
        warn=survive.warn_after, hang=survive.hang_after, slow=survive.slow_after,
        stuck=max(2 * survive.hang_after, STUCK),
    )  # fmt: skip


@contextmanager
def in_training(trained: list[str]) -> Iterator[None]:
    """Errors of values and files are another's once a stage trains: a relauncher is to trust exit code 2.

    Also those of what comes after training: last saves, mirrors, the report.

    A device without room is said in one line, not in the compiler's hundred, with what tells how to make some.
    """
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        if not trained:
            raise
        raise TrainingError(str(error)) from error
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise TrainingError(
            f"a device has no room left: {str(error).splitlines()[0]}. `jaxsrl plan CONFIG --target NAME` says which "
            "program needs how much, and three settings that save some"
        ) from error


def run_stage(
    run: Run, config: Config, index: int, material: Material, splits: TaskData, stop: Callable[[], bool],
    trace: Steps | None, trained: list[str],
) -> TrainState:  # fmt: skip
    """Trains one stage to its end, from its start or from the run's checkpoint: sample, reward, weigh, update.

    Raises: Stopped once what was complete is saved when the run was told to stop.
    """
    run.watch.enter("begin")
    parts, state, progress = make_parts(run, config, index, material, splits, stop)
    saved = progress.step if run.record and run.record["index"] == index else None
    trained.append(config.stages[index].name)
    try:
        if saved is not None:
            drop_worse(parts, progress)
        return _take_steps(parts, state, progress, saved, trace)
    finally:
        parts.writer.close()


def _take_steps(
    parts: Parts, state: TrainState, progress: Progress, saved: int | None, trace: Steps | None
) -> TrainState:
    """The loop. `saved`: the step that is saved already."""
    watch = parts.run.watch
    watch.enter("other")
    try:
        progress = validate(parts, state, progress)
        while not is_over(parts.stage, progress):
            before, clock = progress.step, [time.monotonic()]
            take = optimizer_step if parts.device_loop is None else device_steps
            entered = watch.phase("step" if before > parts.first_step else "compile")
            with entered, traced(parts, before + 1, trace) as (watched, phases):
                state, progress, timing = take(watched, state, progress)
            clock.append(time.monotonic())
            if is_traced(parts, before + 1, trace):
                write_summary(parts, before + 1, sum(timing["seconds"].values()), phases, timing["work"])
            progress, saved = after_steps(parts, state, progress, before, saved, timing, clock)
        with watch.phase("checkpoint"):
            keep_last(parts, state, progress)
        saved = progress.step
        finish(parts, state, progress)
    except Stopped:
        with watch.phase("checkpoint"):
            leave(parts, state, progress, saved)
    except KeyboardInterrupt:
        say_interrupted(parts, progress, saved)
        raise
    finally:
        write_ledger(parts.run)
    for text in parts.warnings.look((), last=True):
        parts.run.console.say(f"[{parts.stage.name}] warning: {text}")
    return state


def after_steps(
    parts: Parts, state: TrainState, progress: Progress, before: int, saved: int | None, timing: dict[str, Any],
    clock: list[float],
) -> tuple[Progress, int | None]:  # fmt: skip
    """What is due once steps were taken: an evaluation, a checkpoint, and a line of clock readings.

    Args:
      before: optimizer steps before them; `saved`: the step that is saved already.
      timing: see `optimizer_step`; `clock`: readings at their begin and end.
    Returns: progress, and the step that is saved now.
    """
    progress = validate(parts, state, progress)
    clock.append(time.monotonic())
    if not is_over(parts.stage, progress) and is_due(before, progress.step, parts.config.checkpoint_every):
        with parts.run.watch.phase("checkpoint"):
            saved = progress.step if save(parts, state, progress) else saved
        write_ledger(parts.run)
    clock.append(time.monotonic())
    write_timing(parts, progress, timing, clock)
    return progress, saved


def write_ledger(run: Run) -> None:
    """Where the attempt's time went, in seconds; the last such line of an attempt counts. They add up to its wall."""
    run.timing({"ledger": run.watch.totals(), "wall": round(time.monotonic() - run.watch.began, 3)})


def optimizer_step(parts: Parts, state: TrainState, progress: Progress) -> tuple[TrainState, Progress, dict[str, Any]]:
    """One collection and the optimizer steps on it. Also returns clock readings.

    Raises: Stopped, and nothing has changed, if the run is told to before the optimizer steps.
    """
    stage, first, clock = parts.stage, progress.step, [time.monotonic()]
    # Later steps say how long they take on the progress line.
    waiting = f"[{stage.name}] first step: compiling"
    with parts.run.console.wait(waiting) if first == parts.first_step else nullcontext():
        collection, reshard = _collect(parts, state, progress)
        clock.append(time.monotonic())
        again = copied(state) if replays(parts, first) else None
        state, found, rows = learn(parts.learner, state, collection, parts.reference)
        if again is not None:
            again, _, _ = learn(parts.learner, again, collection, parts.reference)
            check_replay(state, again, f"[{stage.name}] step {first + stage.steps_per_collection}")
        log_rollouts(parts.log, collection, first + 1)
        found, means = fetch((found, collection.weighed.means))
        clock.append(time.monotonic())
    drawn = collection_metrics(parts.collector.reader, collection, means) | rows
    drawn |= {"curriculum/level": progress.level} if stage.curriculum else {}
    before = progress
    progress, lines = _advance(stage, progress, collection, found, drawn)
    write_metrics(parts, [x for x in lines if x["step"] % parts.config.log_every == 0])
    progress = count_skipped(parts, before, progress, lines, collection.layout.demonstrations)
    parts.pace.took(clock[-1] - clock[0], len(lines))
    show(parts, progress, lines)
    seconds = dict(zip(("collect", "update"), [round(b - a, 4) for a, b in pairwise(clock)], strict=True))
    done = _work(parts, drawn, rows["pack/tokens"] * parts.stage.updates_per_rollout)
    return state, progress, {"seconds": seconds, "tokens": rows["pack/tokens"], "reshard": reshard, "work": done}


def replays(parts: Parts, step: int) -> bool:
    """Whether the steps on the collection from here on are to be computed twice: of them all one in `replay_every`."""
    collections = step // parts.stage.steps_per_collection
    return is_due(collections, collections + 1, parts.config.survive.replay_every)


def device_steps(parts: Parts, state: TrainState, progress: Progress) -> tuple[TrainState, Progress, dict[str, Any]]:
    """As `optimizer_step`, for as many optimizer steps as the stage takes in one program."""
    first, began = progress.step, time.monotonic()
    if parts.stop():
        raise Stopped
    waiting = f"[{parts.stage.name}] first steps: compiling"
    with parts.run.console.wait(waiting) if first == parts.first_step else nullcontext():
        state, told = take_steps(parts.device_loop, parts.log, state, progress.position, first)
    return state, *write_steps(parts, progress, told, time.monotonic() - began)


def write_steps(parts: Parts, progress: Progress, told: list[Told], seconds: float) -> tuple[Progress, dict[str, Any]]:
    """Writes the lines of steps that one program took. Returns progress after them, and clock readings."""
    pending, tokens, drawn_all, written = False, 0, [], []
    for metrics, collection, means, rows in told:
        drawn = collection_metrics(parts.collector.reader, collection, means) | rows
        before = progress
        progress, lines = _advance(parts.stage, progress, collection, [metrics], drawn)
        pending, tokens = pending or progress.validation_pending, tokens + rows["pack/tokens"]
        write_metrics(parts, [x for x in lines if x["step"] % parts.config.log_every == 0])
        progress = count_skipped(parts, before, progress, lines, collection.layout.demonstrations)
        drawn_all.append(drawn)
        written += lines
    parts.pace.took(seconds, len(written))
    show(parts, progress, written)
    total = {name: sum(drawn[name] for drawn in drawn_all) for name in DRAWN}
    timing = {
        "seconds": {"steps": round(seconds, 4)}, "tokens": tokens, "reshard": {}, "work": _work(parts, total, tokens),
    }  # fmt: skip
    return replace(progress, validation_pending=pending), timing


MIB = 2**20
DRAWN = ("collect/sampled_tokens", "collect/prefilled_tokens")


def _work(parts: Parts, drawn: Metrics, trained: int) -> dict[str, Work]:
    """What sampling and learning did; `trained` tokens were learned from."""
    sampled, prefilled = (drawn[name] for name in DRAWN)
    adapters = parts.config.lora is not None
    return work(sampled, prefilled, trained, parameter_count(parts.policy.model), adapters=adapters)


def _collect(parts: Parts, state: TrainState, progress: Progress) -> tuple[Collection, dict[str, float]]:
    """A step's material, and what sending parameters to the sampler took, where it has a layout of its own.

    They are sent when first sampled from, and gone before the learner's activations come.
    """
    policy = replace(parts.policy, params=state.params)
    sent = cache(lambda: sampling_params(policy))
    key = jax.random.fold_in(address(parts.config.seed_of(parts.index), parts.index, TRAIN), progress.step)
    collection = collect(
        parts.collector, progress.position, progress.step, lambda: sent()[0], key, parts.stage.sampling.temperature,
        ask=lambda: leave_if_told(parts.stop), level=progress.level,
    )  # fmt: skip
    if not sent.cache_info().currsize:
        return collection, {}
    if progress.step == parts.first_step:
        parts.run.console.say(_held(parts, collection, copied_bytes(policy, sent()[0])))
    return collection, sent()[1]


def _held(parts: Parts, collection: Collection, copied: int) -> str:
    """What the sampler held on a device beside the learner's state."""
    rows, cap = parts.stage.rows or parts.config.rows, parts.stage.sampling.max_new_tokens
    prompts, mesh = collection.layout.sheets[0].prompts, parts.policy.placement.sampler_mesh
    caches = cache_bytes(parts.policy.model, cap, mesh, prompts, rows.at_once)
    return (
        f"[{parts.stage.name}] sampler: {caches / MIB:,.1f} MiB of keys and values and {copied / MIB:,.1f} MiB of "
        "copied weights on a device, released before the gradient"
    )


def leave_if_told(stop: Callable[[], bool]) -> None:
    """Raises Stopped where it says so."""
    if stop():
        raise Stopped


def _advance(
    stage: Stage, progress: Progress, collection: Collection, found: list[Metrics], drawn: Metrics
) -> tuple[Progress, list[dict[str, Any]]]:
    """Progress after a collection's optimizer steps, and a line for each of them."""
    lines, executed = [], progress.executed
    passed_over = collection.position - progress.position - collection.rounds * stage.collect.demonstrations
    drawn = drawn | ({"collect/too_long": passed_over} if passed_over > 0 else {})
    for i, metrics in enumerate(found):
        executed += drawn["pack/tree_tokens"]
        executed += 0 if i else drawn["collect/prefilled_tokens"] + drawn["collect/sampled_tokens"]
        head = {
            "stage": stage.name, "step": progress.step + 1 + i, "kind": "train", "lr": metrics.get("lr"),
            "tokens/executed": executed,
        }  # fmt: skip
        rest = {name: value for name, value in metrics.items() if name != "lr"}
        lines.append(merge([head, {"loss": None} | rest, {} if i else drawn]))
    now = progress.step + len(found)
    after = replace(
        progress, step=now, position=collection.position, executed=executed,
        metrics=lines[0] | lines[-1],
    )  # fmt: skip
    if stage.curriculum:
        after = replace(after, level=stage.curriculum.next_level(progress.level, after.metrics))
    more = not is_over(stage, after)
    return replace(after, validation_pending=more and is_due(progress.step, now, stage.validate.every)), lines


def show(parts: Parts, progress: Progress, lines: list[dict[str, Any]]) -> None:
    """The progress line, and warnings that begin with these lines of training."""
    step, steps, stage, line = progress.step, parts.stage.steps, parts.stage, progress.metrics
    if stage.tokens:  # the step that the budget will end with, at this pace
        steps = min(steps, max(step, -(-step * stage.tokens // max(progress.executed, 1))))
    shown = " ".join(
        f"{label} {line[name]:.3g}"
        for label, name in (("loss", "loss"), ("reward", "reward/mean"), ("kept", "collect/kept_share"))
        if line.get(name) is not None
    )
    left = parts.pace.says(steps - step, evaluations_left(parts, step, steps))
    parts.run.console.line(f"[{stage.name}] {step}/{steps} {shown} ({left})", last=step >= steps)
    for text in parts.warnings.look(lines):
        parts.run.console.say(f"[{stage.name}] warning at step {step}: {text}")
    say_timeouts(parts, f"step {step}", line)


def evaluations_left(parts: Parts, step: int, steps: int) -> dict[str, int]:
    """How often each split will still be evaluated in the stage."""
    validations = validations_left(step, steps, parts.stage.validate.every) if parts.splits.validation else 0
    return {"validation": validations, "test": int(parts.stage.test is not None and bool(parts.splits.test))}


def say_timeouts(parts: Parts, where: str, metrics: Metrics) -> None:
    """A run in which a comparison was given up says so: another machine, or a busier one, may have finished it."""
    share = max((v for name, v in metrics.items() if name.endswith("timeout_share") and v), default=0.0)
    if share:
        parts.run.console.say(
            f"[{parts.stage.name}] {where}: comparing {share:.2%} of the answers ran out of time or memory; they count "
            "as wrong, and the bits of this run are not promised"
        )


def write_metrics(parts: Parts, lines: list[dict[str, Any]]) -> None:
    """Into the run's folder, and what mirrors it."""
    parts.run.journal.write("metrics.jsonl", lines)
    parts.run.mirrors.write(lines)


def write_timing(parts: Parts, progress: Progress, timing: dict[str, Any], clock: list[float]) -> None:
    """A line of clock readings of a step and what was due after it."""
    after = dict(zip(("evaluate", "checkpoint"), [round(b - a, 4) for a, b in pairwise(clock[1:])], strict=True))
    speed = round(timing["tokens"] / max(sum(timing["seconds"].values()), 1e-9), 1)
    line = {"stage": parts.stage.name, "step": progress.step, "seconds": timing["seconds"] | after}
    reshard = {"reshard": timing["reshard"]} if timing["reshard"] else {}
    spent = timing["seconds"]
    spent = {"sample": spent.get("collect", 0.0), "learn": spent.get("update", 0.0)} if "steps" not in spent else {}
    found = rates(timing["work"], spent, jax.devices()[0].device_kind, jax.device_count())
    by_phase = {"phases": found} if found["tokens_per_second"] else {}
    parts.run.timing(line | {"tokens_per_second": speed} | by_phase | reshard)


def validate(parts: Parts, state: TrainState, progress: Progress, *, always: bool = False) -> Progress:
    """Evaluates on the validation split where that is pending, and keeps the best parameters.

    An interrupted validation is rerun on resume.
    """
    if not (progress.validation_pending or always):
        return progress
    settings = parts.stage.validate
    metrics = evaluate(parts, state, progress.step, "validation", settings.evaluation, settings.problems)
    if settings.metric not in metrics:
        known = ", ".join(sorted(metrics))
        raise ConfigError(f"stages.{parts.stage.name}.validate.metric={settings.metric!r} is none of: {known}")
    value, best = metrics[settings.metric], progress.best
    if value is not None and (best is None or value > best.value):
        found = Best(step=progress.step, value=value)
        best = found if keep_best(parts, state, found) else best
    return replace(progress, best=best, validation_pending=False)


def evaluate(
    parts: Parts, state: TrainState, step: int, split: str, settings: Evaluation, count: int
) -> dict[str, Any]:
    """Evaluation has its own keys and clock; nothing it does reaches training."""
    problems, stage = getattr(parts.splits, split)[:count], parts.stage
    if not problems:
        return {}
    key = jax.random.fold_in(address(parts.config.seed_of(parts.index), parts.index, EVALUATE), step)
    policy = replace(parts.policy, params=state.params)
    calls, started, before = [0], time.monotonic(), parts.pace.calls.get(split)

    def stop() -> bool:
        """Asked before every call of the sampler."""
        calls[0] += 1
        return parts.stop()

    how_far = lambda: f"call {calls[0]} of the sampler" + (f", {before} the last time" if before else "")
    waiting = f"[{stage.name}] evaluating {len(problems)} {split} problems"
    with parts.run.console.wait(waiting, how_far), parts.run.watch.phase("evaluate"):
        metrics, rows = evaluate_policy(
            policy, parts.config, stage, parts.splits, parts.tokenizer, key, problems, settings, parts.evaluation,
            stop,
        )  # fmt: skip
    parts.pace.evaluated(split, time.monotonic() - started, calls[0])
    head = {"stage": stage.name, "step": step, "kind": "eval", "split": split}
    metrics = merge([metrics])
    found = evaluation_line(metrics, (stage.validate.metric,))
    parts.run.console.say(f"[{stage.name}] {split} at step {step}, {len(problems)} problems: {found}")
    say_timeouts(parts, f"{split} at step {step}", metrics)
    write_metrics(parts, [head | metrics])
    own = {folder: process_file(folder, stage.name, jax.process_index()) for folder in ("evals", "problems")}
    asked = {row.get("demonstration") for row in rows}  # a probe's record need not have one
    shown = problem_lines(problems, {"stage": stage.name, "step": step})
    told = [one for one in shown if one["demonstration"] in asked]
    # In their place behind those of the steps before, whose lines may be waiting still.
    parts.writer.put(lambda: parts.run.rollout_journal.write(own["problems"], told))
    parts.run.rollout_journal.write(own["evals"], [head | row for row in rows])
    return metrics


def leave(parts: Parts, state: TrainState, progress: Progress, saved: int | None) -> NoReturn:
    """Saves a state in the midst of a stage, if its step is not saved yet; a resume goes on from it."""
    if saved != progress.step:
        save_whole(parts, state, progress)
    insist(parts, parts.run.checkpoints.wait)
    at = f"[{parts.stage.name}] stopped at step {progress.step}, which is saved; the same command goes on"
    parts.run.console.say(at)
    raise Stopped(at)


def say_interrupted(parts: Parts, progress: Progress, saved: int | None) -> None:
    """Where an interrupted run goes on: nothing is saved on the way out."""
    back = f"step {saved}, its last checkpoint" if saved is not None else "its start, as nothing of it is saved yet"
    at = f"[{parts.stage.name}] interrupted after step {progress.step}; the same command goes back to {back}"
    parts.run.console.say(at)


def finish(parts: Parts, state: TrainState, progress: Progress) -> None:
    """The last evaluations. If the run is left in them, all of their lines are cut when it goes on."""
    progress = validate(parts, state, progress, always=True)
    if parts.stage.test is not None:
        evaluate(parts, state, progress.step, "test", parts.stage.test, parts.stage.test_problems)
    with parts.run.watch.phase("checkpoint"):
        save_whole(parts, state, replace(progress, done=True))
