"""The only loop: stages one after the other, each collecting, updating, evaluating and saving."""

import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np

from jaxsrl.checkpoint import state_hash
from jaxsrl.collect import Collection, batches, collect, rollout_lines, with_reference
from jaxsrl.config.demonstrations import tokenizer_path
from jaxsrl.config.fits import check_fits
from jaxsrl.config.overrides import check_unchanged, to_dict
from jaxsrl.config.run import Config, ConfigError, Splits, Stage
from jaxsrl.data.curation import curate, profiled
from jaxsrl.data.sources import Order, take
from jaxsrl.data.tokenizer import Tokenizer, load_tokenizer
from jaxsrl.data.tokenizer_files import write_files
from jaxsrl.data.used_ids import used_ids
from jaxsrl.evals.evaluate import Evaluation
from jaxsrl.metrics import merge, read
from jaxsrl.models.config import ModelConfig
from jaxsrl.models.families import read_config
from jaxsrl.models.lora import init_adapters
from jaxsrl.processes import Stopped, from_first, is_first
from jaxsrl.programs import ADAPT, EVALUATE, TRAIN, Programs, address, first_params
from jaxsrl.progress import Progress
from jaxsrl.report.page import write_report
from jaxsrl.runs import Run, open_run, write_json
from jaxsrl.sharding import place_rows, placed_shapes, state_sharding, to_device, to_host
from jaxsrl.types import Demonstration, Params, TrainState
from jaxsrl.update import init_state, learning_rate, optimizer


@dataclass(frozen=True, kw_only=True)
class Demonstrations:
    """The training split in its endless order: a `Source`."""

    items: tuple[Demonstration, ...]
    order: Order

    def take(self, position: int, count: int) -> tuple[list[Demonstration], int]:
        return take(self.items, self.order, position, count)


def load_data(config: Config) -> tuple[dict[str, Splits], Tokenizer, ModelConfig]:
    """The splits of every stage, the tokenizer, and the model with that tokenizer's vocabulary.

    Raises: ConfigError where the model's vocabulary is too small; WeightsError where `weights` cannot be read.
    """
    loaded: dict[Any, Splits] = {}
    for stage in config.stages:
        if stage.data not in loaded:
            loaded[stage.data] = stage.data.load(config.data_dir)
    splits = {stage.name: loaded[stage.data] for stage in config.stages}
    tokenizer, model = load_tokenizer(tokenizer_path(config)), config.model
    if config.weights is not None:
        model = replace(read_config(Path(config.weights)), dtype=model.dtype, remat=model.remat)
    if config.used_ids_only:
        texts = (t for s in loaded.values() for d in s.train for t in (d.problem, *d.actions, *(d.thoughts or ())))
        tokenizer = used_ids(tokenizer, texts)
        model = replace(model, vocab=tokenizer.vocab_size)
    elif model.vocab < tokenizer.vocab_size:
        raise ConfigError(
            f"model.vocab={model.vocab} is smaller than the {tokenizer.vocab_size} tokens of {tokenizer.name}; "
            f"set model.vocab={tokenizer.vocab_size}"
        )
    return splits, tokenizer, model


def train(config: Config, stop: Callable[[], bool] = lambda: False) -> Path:
    """Runs or resumes a run to its end and writes its report. Returns the run folder.

    Args:
      stop: asked before every step and every call of a sampler, by every process; where it is true, what is
        complete is saved and the run left.

    Raises: ConfigError where demonstrations do not fit the settings or the folder holds another run; RunError where
      it cannot be used; Stopped where `stop` said so.
    """
    _check_devices(config)
    folder = Path(config.runs) / config.name
    with Progress(silent=not is_first()).wait("reading and measuring the demonstrations"):
        splits, tokenizer, model = load_data(config)
        warnings = {stage.name: check_fits(config, stage, splits[stage.name], tokenizer) for stage in config.stages}
    with open_run(folder, to_dict(config), check_unchanged) as run:
        start = _first_stage(config, run.record)
        if is_first():
            write_json(folder / "config.json", to_dict(config))  # settings that may change: those of the last attempt
            _write_model(folder, config, model)
        if len(jax.devices()) > config.mesh.size:
            run.progress.say(f"{config.mesh.size} of {len(jax.devices())} devices are used; set mesh.fsdp or mesh.data")
        for name, part in splits.items():
            _write_quarantine(run, name, part)
            if warnings[name]:
                run.progress.say(f"[{name}] {warnings[name]}")
        programs = Programs(config, model, tokenizer, stop=stop)
        for index in range(start, len(config.stages)):
            record = run.record if run.record and run.record["index"] == index else None
            state = run_stage(run, config, index, programs, splits[config.stages[index].name], record)
            run.progress.say(f"[{config.stages[index].name}] done: state {state_hash(state)}")
    if is_first():
        print(f"report: {write_report(folder)}")
    return folder


def _check_devices(config: Config) -> None:
    """A device without a share of the rows would leave its process with nothing to hold."""
    if jax.process_count() > 1 and config.mesh.size != len(jax.devices()):
        raise ConfigError(
            f"{jax.process_count()} processes have {len(jax.devices())} devices, {config.mesh} is {config.mesh.size}: "
            f"the mesh of several processes takes all; set mesh.fsdp={len(jax.devices())} or cut it otherwise"
        )


def _write_model(folder: Path, config: Config, model: ModelConfig) -> None:
    """What `convert` needs beside the parameters, so that a run folder can be moved without its sources."""
    write_json(folder / "model.json", to_dict(model))
    if config.weights is not None:
        shutil.copyfile(Path(config.weights) / "config.json", folder / "weights_config.json")
    if not config.used_ids_only:
        write_files(tokenizer_path(config), folder / "tokenizer")


def _first_stage(config: Config, record: Mapping[str, Any] | None) -> int:
    if record is None:
        return 0
    for stage in config.stages[: record["index"]]:
        if stage.steps != record["earlier_steps"][stage.name]:
            raise ConfigError(
                f"stages.{stage.name}.steps={stage.steps}, but that stage ended with "
                f"{record['earlier_steps'][stage.name]} and a later one has begun; keep the old value or use a new name"
            )
    stage = config.stages[record["index"]]
    return record["index"] + (record["done"] and _is_over(stage, record["step"], record["executed"]))


def _is_over(stage: Stage, step: int, executed: int) -> bool:
    return step >= stage.steps or (stage.tokens is not None and executed >= stage.tokens)


def _write_quarantine(run: Run, name: str, splits: Splits) -> None:
    counts = ", ".join(f"{value} {key}" for key, value in splits.counts.items())
    sizes = f"{len(splits.train)} train, {len(splits.validation)} validation, {len(splits.test)} test"
    run.progress.say(f"[{name}] demonstrations: {sizes}" + (f" (of {counts})" if counts else ""))
    if splits.quarantine and is_first():
        path = run.folder / "quarantine" / f"{name}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(splits.quarantine) + "\n", encoding="utf-8")
        run.progress.say(f"[{name}] {len(splits.quarantine)} bad rows set aside in {path}")


def start_params(run: Run, config: Config, index: int, programs: Programs) -> Params:
    """What a stage trains, as it starts: random or published, or what an earlier stage ended with or found best.

    Under LoRA it trains adapters, which are random or an earlier stage's, and their base is made or read.
    """
    stage, model, like = config.stages[index], programs.model, programs.shapes()
    where = None if programs.mesh is None else state_sharding(programs.mesh, like)
    reading = config.weights is not None and (stage.start_from is None or config.lora is not None)
    with run.progress.wait(f"[{stage.name}] reading {config.weights}") if reading else nullcontext():
        programs.load_base(stage.name)
        if stage.start_from is None and config.lora is None:
            return first_params(model, config.seed, index, config.weights, programs.mesh)
    if stage.start_from is None:
        key = address(config.seed, index, ADAPT)
        params = jax.jit(init_adapters, static_argnums=(0, 1), out_shardings=where)(model, config.lora, key)
    else:
        name, _, which = stage.start_from.partition(":")
        best = [p for p in from_first(run.checkpoints.policies) if p.startswith(f"{name}-best-")] if which else []
        like = placed_shapes(programs.mesh, like)
        params = run.checkpoints.restore_policy(best[-1] if best else f"{name}-last", like)
    return params


def run_stage(
    run: Run, config: Config, index: int, programs: Programs, splits: Splits, record: Mapping[str, Any] | None
) -> TrainState:
    """Trains one stage to its end, from its start or from `record`.

    Raises: Stopped once what was complete is saved when the run was told to stop.
    """
    stage = config.stages[index]
    key = jax.random.fold_in(jax.random.key(config.seed), index)
    initial = start_params(run, config, index, programs)
    state = init_state(initial, optimizer(stage.optimizer, stage.steps), key)
    state = programs.place(state)
    loop = StageLoop(run, config, index, programs, splits, initial)
    del initial  # held by the loop where a reference is wanted; else its memory is free after the first step
    if record:
        state = run.checkpoints.restore(run.count, state)
        loop.take_up(record)
    try:
        loop.validate_if_owed(state)
        while not loop.is_over(state):
            state = loop.step(state)
            loop.after(state)
        loop.finish(state)
    except Stopped:
        loop.leave(state)
    return state


class StageLoop:
    """What a stage carries from step to step beside its `TrainState`: position, last metrics, best checkpoint."""

    def __init__(self, run: Run, config: Config, index: int, programs: Programs, splits: Splits, initial):
        self.run, self.config, self.index, self.stage = run, config, index, config.stages[index]
        self.splits, self.programs = splits, programs
        self.initial = self._held(initial)  # what the stage started from, if it is the frozen reference of a KL
        seed = (config.seed * 1009 + index) % 2**32
        items = self.curated()
        self.source = Demonstrations(items=items, order=Order(count=len(items), seed=seed))
        self.rows = self.stage.rows or config.rows
        self.actor = programs.actor(self.stage.sampling, self.rows)
        self.train_step = programs.train_step(self.stage)
        self.lr = learning_rate(self.stage.optimizer, self.stage.steps)
        self.position, self.stats, self.best, self.executed = 0, {}, None, 0
        self.started = time.monotonic()
        self.steps_before = 0
        self.fresh = True  # the first step compiles
        self.owed = self.stage.steps > 0  # a validation of the state as it is; the last one is that of `finish`
        self.due = False  # a checkpoint of it
        self.saved: int | None = None  # the step of the last one
        self.timing: dict[str, Any] = {}

    def _held(self, initial: Params) -> Params | None:
        if not self.stage.has_reference:
            return None
        if self.stage.reference_on == "device":
            return initial
        try:
            return to_host(initial)
        except ValueError as error:
            name = f"stages.{self.stage.name}.reference_on"
            raise ConfigError(f"{name}=host: {error}; set {name}=device") from error

    def curated(self) -> tuple[Demonstration, ...]:
        """The training demonstrations that the stage's curation chooses, with their profile where it names one."""
        items, settings = self.splits.train, self.stage.curation
        if settings is None:
            return items
        try:
            if settings.profile is not None:
                items = profiled(items, read(self.run.folder / "rollouts" / f"{settings.profile}.jsonl"))
            chosen = curate(items, settings)
        except ValueError as error:
            raise ConfigError(f"stages.{self.stage.name}.curation: {error}") from error
        self.run.progress.say(f"[{self.stage.name}] curation: {len(chosen)} of {len(items)} demonstrations")
        return chosen

    def take_up(self, record: Mapping[str, Any]) -> None:
        self.position, self.stats, self.best = record["position"], record["stats"], record["best"]
        self.steps_before, self.executed = record["step"], record["executed"]
        self.owed, self.saved = record["owed"], record["step"]
        self.drop_worse()

    def is_over(self, state: TrainState) -> bool:
        return _is_over(self.stage, int(state.step), self.executed)

    def key(self, purpose: int, step: int) -> jax.Array:
        return jax.random.fold_in(address(self.config.seed, self.index, purpose), step)

    def step(self, state: TrainState) -> TrainState:
        """One collection and its optimizer steps; `after` does whatever is due then.

        Raises: Stopped, and nothing has changed, if the run is told to before the optimizer steps.
        """
        if self.programs.stop():
            raise Stopped
        first = int(state.step)
        clock = [time.monotonic()]
        # Later steps say how long they take on the progress line.
        name = f"[{self.stage.name}] first step: compiling"
        with self.run.progress.wait(name) if self.fresh else nullcontext():
            collection, reshard = self.collect(state, first)
            clock.append(time.monotonic())
            state, lines = self.update(state, collection)
            clock.append(time.monotonic())
        self.fresh = False
        self.position, self.stats = collection.position, lines[0] | lines[-1]
        self.run.journal.write("metrics.jsonl", [x for x in lines if x["step"] % self.config.log_every == 0])
        if collection.grades is not None:
            name = f"rollouts/{self.stage.name}.jsonl"
            self.run.journal.write(name, rollout_lines(collection, self.stage.name, first + 1))
        self.show(lines[-1])
        now, more = int(state.step), not self.is_over(state)
        self.owed = more and _due(first, now, self.stage.validate.every)
        self.due = more and _due(first, now, self.config.checkpoint_every)
        seconds = dict(zip(("collect", "update"), np.diff(clock).round(4).tolist(), strict=True))
        tokens = lines[0].get("pack/tokens", 0) / max(sum(seconds.values()), 1e-9)
        line = {"stage": self.stage.name, "step": now, "seconds": seconds, "tokens_per_second": round(tokens, 1)}
        self.timing = line | ({"reshard": reshard} if reshard else {})
        return state

    def after(self, state: TrainState) -> None:
        """What is due after a step: evaluation, checkpoint, and its clocks."""
        clock = [time.monotonic()]
        self.validate_if_owed(state)
        clock.append(time.monotonic())
        if self.due:
            self.save(state, done=False)
        clock.append(time.monotonic())
        seconds = dict(zip(("evaluate", "checkpoint"), np.diff(clock).round(4).tolist(), strict=True))
        self.run.timing(self.timing | {"seconds": self.timing["seconds"] | seconds})

    def collect(self, state: TrainState, first: int) -> tuple[Collection, dict[str, float]]:
        """A step's material, and what sending parameters to the sampler took, where it has a layout of its own.

        They are sent when first sampled from, and gone before the learner's activations come.
        """
        sent = cache(lambda: self.programs.for_sampling(state.params))
        actor = replace(self.actor, sample=lambda _, *rest: self.actor.sample(sent()[0], *rest))
        collection = collect(
            self.stage.objective, self.source, self.position, first, self.stats, self.stage.collect,
            actor, state.params, self.key(TRAIN, first), self.stage.sampling.temperature, self.reference(),
        )  # fmt: skip
        return collection, sent()[1] if sent.cache_info().currsize else {}

    def reference(self):
        """Scores a batch under the stage's first parameters, for objectives with the KL in the reward; else None."""
        if not getattr(self.stage.objective, "reward_kl_coef", 0.0):
            return None
        score = self.programs.scorer(self.stage.sampling.temperature)
        return lambda batch: score(to_device(self.initial), place_rows(self.programs.mesh, batch))

    def update(self, state: TrainState, collection) -> tuple[TrainState, list[dict[str, Any]]]:
        """The optimizer steps on one collection; one metrics line each."""
        packed, pack_metrics = batches(collection, self.rows)
        packed = [place_rows(self.programs.mesh, batch) for batch in packed]
        scorer = self.programs.scorer(self.stage.sampling.temperature)
        if self.stage.objective.kl_coef:
            reference = to_device(self.initial)  # for all batches once, and not kept
            packed = [with_reference(batch, scorer, reference) for batch in packed]
            del reference
        if self.stage.behavior_logp == "recompute":
            packed = [replace(batch, behavior_logp=scorer(state.params, batch)) for batch in packed]
        lines = []
        for i in range(self.stage.updates_per_rollout):
            rate = float(self.lr(int(state.step)))
            if packed:
                state, metrics = self.train_step(state, packed)
            else:  # every group was dropped, and the refill bound met: a step that moves nothing
                state, metrics = replace(state, step=state.step + 1), {"loss": None, "update/skipped": state.skipped}
            drawn = collection.metrics if i == 0 else {}
            self.executed += pack_metrics["pack/tree_tokens"]
            self.executed += drawn.get("collect/prefilled_tokens", 0) + drawn.get("collect/sampled_tokens", 0)
            line = {
                "stage": self.stage.name, "step": int(state.step), "kind": "train", "lr": rate,
                "tokens/executed": self.executed,
            }  # fmt: skip
            lines.append(
                line | merge([jax.device_get(metrics)] + ([collection.metrics, pack_metrics] if i == 0 else []))
            )
        return state, lines

    def show(self, line: Mapping[str, Any]) -> None:
        step, steps = line["step"], self.stage.steps
        if self.stage.tokens:  # the step that the budget will end with, at this pace
            steps = min(steps, max(step, -(-step * self.stage.tokens // max(self.executed, 1))))
        pace = (time.monotonic() - self.started) / max(step - self.steps_before, 1)
        shown = " ".join(
            f"{label} {line[name]:.3g}"
            for label, name in (("loss", "loss"), ("reward", "reward/mean"), ("kept", "collect/kept_share"))
            if line.get(name) is not None
        )
        left = f"{pace:.2f} s/step, {pace * (steps - step):.0f} s left"
        self.run.progress.line(f"[{self.stage.name}] {step}/{steps} {shown} ({left})", last=step >= steps)

    def validate(self, state: TrainState) -> None:
        """Evaluates on the validation split and keeps the best parameters."""
        settings = self.stage.validate
        metrics = self.evaluate(state, "validation", settings.evaluation, settings.problems)
        if settings.metric not in metrics:
            known = ", ".join(sorted(metrics))
            raise ConfigError(f"stages.{self.stage.name}.validate.metric={settings.metric!r} is none of: {known}")
        value, step = metrics[settings.metric], int(state.step)
        if value is not None and (self.best is None or value > self.best["value"]):
            self.best = {"step": step, "value": value}
            self.run.checkpoints.save_policy(self.best_name(), state.params)
        self.owed = False

    def validate_if_owed(self, state: TrainState) -> None:
        """A run that is told to stop in a validation makes it up when it goes on."""
        if self.owed:
            self.validate(state)

    def best_name(self) -> str:
        return f"{self.stage.name}-best-{self.best['step']:09d}"

    def evaluate(self, state: TrainState, split: str, settings: Evaluation, count: int) -> dict[str, Any]:
        """Evaluation has its own keys and clock; nothing it does reaches training."""
        problems = getattr(self.splits, split)[:count]
        if not problems:
            return {}
        step = int(state.step)
        with self.run.progress.wait(f"[{self.stage.name}] evaluating {len(problems)} {split} problems"):
            metrics, rows = self.programs.evaluate(
                self.stage, state.params, self.key(EVALUATE, step), problems, self.splits, settings
            )
        head = {"stage": self.stage.name, "step": step, "kind": "eval", "split": split}
        metrics = merge([metrics])
        self.run.journal.write("metrics.jsonl", [head | metrics])
        self.run.journal.write(f"evals/{self.stage.name}.jsonl", [head | row for row in rows])
        return metrics

    def save(self, state: TrainState, *, done: bool) -> None:
        """Metrics and rollouts are durable before the checkpoint that knows their length is."""
        record = {
            "stage": self.stage.name, "index": self.index, "step": int(state.step), "position": self.position,
            "stats": self.stats, "best": self.best, "executed": self.executed, "owed": self.owed, "done": done,
            "offsets": self.run.journal.offsets(),
            "earlier_steps": {stage.name: stage.steps for stage in self.config.stages[: self.index]},
        }  # fmt: skip
        saved = self.run.checkpoints
        if done:  # before the save: a kill in between leaves a stage that is not done, and finds its best again
            self.drop_worse()
        saved.save((saved.latest() or 0) + 1, state, record)
        self.saved = int(state.step)
        if done:
            saved.wait()

    def leave(self, state: TrainState) -> NoReturn:
        """Saves a state in the midst of a stage, if its step is not saved yet; a resume goes on from it."""
        if self.saved != int(state.step):
            self.save(state, done=False)
        self.run.checkpoints.wait()
        at = f"[{self.stage.name}] stopped at step {int(state.step)}, which is saved; the same command goes on"
        self.run.progress.say(at)
        raise Stopped(at)

    def drop_worse(self) -> None:
        """Removes best policies but the best, those of a killed attempt included."""
        self.run.checkpoints.drop_policies(f"{self.stage.name}-best-", self.best_name() if self.best else None)

    def finish(self, state: TrainState) -> None:
        """The last evaluations. What was trained is safe before: one that fails or is killed is repeated alone."""
        self.run.checkpoints.save_policy(f"{self.stage.name}-last", state.params)
        self.save(state, done=False)
        self.validate(state)
        if self.stage.test is not None:
            self.evaluate(state, "test", self.stage.test, self.stage.test_problems)
        self.save(state, done=True)


def _due(before: int, now: int, every: int) -> bool:
    return every > 0 and now // every > before // every
