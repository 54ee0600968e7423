"""The only loop: stages one after the other, each collecting, updating, evaluating and saving."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import jax

from jaxsrl.checkpoint import PolicyName, state_hash
from jaxsrl.collect.collect import Collection, collect, collection_metrics
from jaxsrl.collect.learn import learn
from jaxsrl.collect.rollout_log import log_rollouts
from jaxsrl.config.overrides import check_unchanged, to_dict
from jaxsrl.config.run import Config, ConfigError, Stage, TaskData
from jaxsrl.evals.evaluate import Evaluation
from jaxsrl.metrics import merge, process_file
from jaxsrl.policy import EVALUATE, TRAIN, Compiled, address, sampling_params
from jaxsrl.processes import Stopped, fetch, is_first
from jaxsrl.progress import Best, Progress, is_due
from jaxsrl.report.page import write_report
from jaxsrl.runs import Run, offsets, open_run
from jaxsrl.stages.begin import Prepared, begin, is_over, prepare
from jaxsrl.stages.device_loop import take_steps
from jaxsrl.stages.evaluation import evaluate_policy
from jaxsrl.stages.material import Material
from jaxsrl.stages.parts import Parts, make_parts
from jaxsrl.types import Metrics, TrainState


def train(config: Config, stop: Callable[[], bool] = lambda: False, compiled: Compiled | None = None) -> Path:
    """Runs or resumes a run to its end and writes its report. Returns the run folder.

    Args:
      stop: asked by every process before every step, every round of refills that waits for the one before, and every
        call of a sampler in an evaluation; where it is true, what is complete is saved and the run left.
      compiled: functions that other runs have compiled already.

    Raises: ConfigError where demonstrations do not fit the settings or the folder holds another run; RunError where
      it cannot be used; Stopped where `stop` said so.
    """
    prepared = prepare(config, compiled or Compiled())
    with open_run(Path(config.runs) / config.name, to_dict(config), check_unchanged) as run:
        run_stages(run, config, prepared, stop)
    if is_first():
        print(f"report: {write_report(run.folder)}")
    return run.folder


def run_stages(run: Run, config: Config, prepared: Prepared, stop: Callable[[], bool]) -> None:
    """The stages of an open run, from its checkpoint on. Raises as `train` does."""
    for index in range(begin(run, config, prepared), len(config.stages)):
        name = config.stages[index].name
        state = run_stage(run, config, index, prepared.material, prepared.splits[name], stop)
        run.console.say(f"[{name}] done: state {state_hash(state)}")


def run_stage(
    run: Run, config: Config, index: int, material: Material, splits: TaskData, stop: Callable[[], bool]
) -> TrainState:
    """Trains one stage to its end, from its start or from the run's checkpoint: sample, reward, weigh, update.

    Raises: Stopped once what was complete is saved when the run was told to stop.
    """
    parts, state, progress = make_parts(run, config, index, material, splits, stop)
    saved = progress.step if run.record and run.record["index"] == index else None
    try:
        if saved is not None:
            drop_worse(parts, progress)
        progress = validate(parts, state, progress)
        while not is_over(parts.stage, progress):
            before, clock = progress.step, [time.monotonic()]
            take = optimizer_step if parts.device_loop is None else device_steps
            state, progress, timing = take(parts, state, progress)
            clock.append(time.monotonic())
            progress = validate(parts, state, progress)
            clock.append(time.monotonic())
            if not is_over(parts.stage, progress) and is_due(before, progress.step, config.checkpoint_every):
                save(parts, state, progress)
                saved = progress.step
            clock.append(time.monotonic())
            write_timing(parts, progress, timing, clock)
        keep_last(parts, state, progress)
        saved = progress.step
        finish(parts, state, progress)
    except Stopped:
        leave(parts, state, progress, saved)
    finally:
        parts.writer.close()
    return state


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
        state, found, rows = learn(parts.learner, state, collection, parts.reference)
        log_rollouts(parts.log, collection, first + 1)
        found, means = fetch((found, collection.weighed.means))
        clock.append(time.monotonic())
    drawn = collection_metrics(parts.collector.reader, collection, means) | rows
    drawn |= {"curriculum/level": progress.level} if stage.curriculum else {}
    progress, lines = _advance(stage, progress, collection, found, drawn)
    parts.run.journal.write("metrics.jsonl", [x for x in lines if x["step"] % parts.config.log_every == 0])
    show(parts, progress)
    seconds = dict(zip(("collect", "update"), [round(b - a, 4) for a, b in pairwise(clock)], strict=True))
    return state, progress, {"seconds": seconds, "tokens": rows["pack/tokens"], "reshard": reshard}


def device_steps(parts: Parts, state: TrainState, progress: Progress) -> tuple[TrainState, Progress, dict[str, Any]]:
    """As `optimizer_step`, for as many optimizer steps as the stage takes in one program."""
    first, clock, tokens = progress.step, [time.monotonic()], 0
    if parts.stop():
        raise Stopped
    waiting = f"[{parts.stage.name}] first steps: compiling"
    with parts.run.console.wait(waiting) if first == parts.first_step else nullcontext():
        state, taken = take_steps(parts.device_loop, parts.log, state, progress.position, first)
    clock.append(time.monotonic())
    pending = False
    for metrics, collection, means, rows in taken:
        drawn = collection_metrics(parts.collector.reader, collection, means) | rows
        progress, lines = _advance(parts.stage, progress, collection, [metrics], drawn)
        pending, tokens = pending or progress.validation_pending, tokens + rows["pack/tokens"]
        parts.run.journal.write("metrics.jsonl", [x for x in lines if x["step"] % parts.config.log_every == 0])
    show(parts, progress)
    seconds = {"steps": round(clock[1] - clock[0], 4)}
    return state, replace(progress, validation_pending=pending), {"seconds": seconds, "tokens": tokens, "reshard": {}}


def _collect(parts: Parts, state: TrainState, progress: Progress) -> tuple[Collection, dict[str, float]]:
    """A step's material, and what sending parameters to the sampler took, where it has a layout of its own.

    They are sent when first sampled from, and gone before the learner's activations come.
    """
    sent = cache(lambda: sampling_params(replace(parts.policy, params=state.params)))
    key = jax.random.fold_in(address(parts.config.seed, parts.index, TRAIN), progress.step)
    collection = collect(
        parts.collector, progress.position, progress.step, lambda: sent()[0], key, parts.stage.sampling.temperature,
        ask=lambda: leave_if_told(parts.stop), level=progress.level,
    )  # fmt: skip
    return collection, sent()[1] if sent.cache_info().currsize else {}


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


def show(parts: Parts, progress: Progress) -> None:
    """The progress line."""
    step, steps, stage, line = progress.step, parts.stage.steps, parts.stage, progress.metrics
    if stage.tokens:  # the step that the budget will end with, at this pace
        steps = min(steps, max(step, -(-step * stage.tokens // max(progress.executed, 1))))
    pace = (time.monotonic() - parts.started) / max(step - parts.first_step, 1)
    shown = " ".join(
        f"{label} {line[name]:.3g}"
        for label, name in (("loss", "loss"), ("reward", "reward/mean"), ("kept", "collect/kept_share"))
        if line.get(name) is not None
    )
    left = f"{pace:.2f} s/step, {pace * (steps - step):.0f} s left"
    parts.run.console.line(f"[{stage.name}] {step}/{steps} {shown} ({left})", last=step >= steps)
    say_timeouts(parts, f"step {step}", line)


def say_timeouts(parts: Parts, where: str, metrics: Metrics) -> None:
    """A run in which a comparison was given up says so: another machine, or a busier one, may have finished it."""
    share = max((v for name, v in metrics.items() if name.endswith("timeout_share") and v), default=0.0)
    if share:
        parts.run.console.say(
            f"[{parts.stage.name}] {where}: comparing {share:.2%} of the answers ran out of time or memory; they count "
            "as wrong, and the bits of this run are not promised"
        )


def write_timing(parts: Parts, progress: Progress, timing: dict[str, Any], clock: list[float]) -> None:
    """A line of clock readings of a step and what was due after it."""
    after = dict(zip(("evaluate", "checkpoint"), [round(b - a, 4) for a, b in pairwise(clock[1:])], strict=True))
    speed = round(timing["tokens"] / max(sum(timing["seconds"].values()), 1e-9), 1)
    line = {"stage": parts.stage.name, "step": progress.step, "seconds": timing["seconds"] | after}
    reshard = {"reshard": timing["reshard"]} if timing["reshard"] else {}
    parts.run.timing(line | {"tokens_per_second": speed} | reshard)


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
        best = Best(step=progress.step, value=value)
        parts.run.checkpoints.save_policy(best_name(parts.stage, best), state.params)
    return replace(progress, best=best, validation_pending=False)


def evaluate(
    parts: Parts, state: TrainState, step: int, split: str, settings: Evaluation, count: int
) -> dict[str, Any]:
    """Evaluation has its own keys and clock; nothing it does reaches training."""
    problems, stage = getattr(parts.splits, split)[:count], parts.stage
    if not problems:
        return {}
    key = jax.random.fold_in(address(parts.config.seed, parts.index, EVALUATE), step)
    policy = replace(parts.policy, params=state.params)
    with parts.run.console.wait(f"[{stage.name}] evaluating {len(problems)} {split} problems"):
        metrics, rows = evaluate_policy(
            policy, parts.config, stage, parts.splits, parts.tokenizer, key, problems, settings, parts.evaluation,
            parts.stop,
        )  # fmt: skip
    head = {"stage": stage.name, "step": step, "kind": "eval", "split": split}
    metrics = merge([metrics])
    say_timeouts(parts, f"{split} at step {step}", metrics)
    parts.run.journal.write("metrics.jsonl", [head | metrics])
    own = process_file("evals", stage.name, jax.process_index())
    parts.run.rollout_journal.write(own, [head | row for row in rows])
    return metrics


def save(parts: Parts, state: TrainState, progress: Progress) -> None:
    """Metrics and rollouts are durable before the checkpoint that knows their length is."""
    parts.writer.drain()
    saved = parts.run.checkpoints
    if progress.done:  # before the save: a kill in between leaves a stage that is not done, and finds its best again
        drop_worse(parts, progress)
    record = progress.to_record() | {"offsets": offsets(parts.run)}
    saved.save((saved.latest() or 0) + 1, state, record)
    if progress.done:
        saved.wait()


def leave(parts: Parts, state: TrainState, progress: Progress, saved: int | None) -> NoReturn:
    """Saves a state in the midst of a stage, if its step is not saved yet; a resume goes on from it."""
    if saved != progress.step:
        save(parts, state, progress)
    parts.run.checkpoints.wait()
    at = f"[{parts.stage.name}] stopped at step {progress.step}, which is saved; the same command goes on"
    parts.run.console.say(at)
    raise Stopped(at)


def keep_last(parts: Parts, state: TrainState, progress: Progress) -> None:
    """What was trained is safe before the last evaluations: one that fails or is killed is repeated alone."""
    parts.run.checkpoints.save_policy(PolicyName(parts.stage.name, "last"), state.params)
    save(parts, state, progress)


def finish(parts: Parts, state: TrainState, progress: Progress) -> None:
    """The last evaluations. If the run is left in them, all of their lines are cut when it goes on."""
    progress = validate(parts, state, progress, always=True)
    if parts.stage.test is not None:
        evaluate(parts, state, progress.step, "test", parts.stage.test, parts.stage.test_problems)
    save(parts, state, replace(progress, done=True))


def best_name(stage: Stage, best: Best) -> PolicyName:
    return PolicyName(stage.name, "best", best.step)


def drop_worse(parts: Parts, progress: Progress) -> None:
    """Removes best policies but the best, those of a killed attempt included."""
    best = None if progress.best is None else best_name(parts.stage, progress.best)
    parts.run.checkpoints.drop_best(parts.stage.name, best)
