"""Several optimizer steps as one program: the stage's loop on the device, for models that leave the host waiting."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxsrl.collect.collect import Collection, Collector, kept_groups, whole_step
from jaxsrl.collect.learn import Learner, own_rows_plan
from jaxsrl.collect.rollout_log import Log, log_told
from jaxsrl.collect.whole import Known, Taken, make_step, scan_steps
from jaxsrl.config.run import Config, ConfigError, Stage
from jaxsrl.data.compaction import Plan
from jaxsrl.data.layout import Layout, join
from jaxsrl.models.lora import with_adapters
from jaxsrl.models.transformer import rollout_copy
from jaxsrl.objectives.numbers import with_arrays
from jaxsrl.policy import Policy
from jaxsrl.processes import fetch
from jaxsrl.stages.material import Material
from jaxsrl.types import DeviceReward, Mean, Metrics, Numbers, TrainState
from jaxsrl.update import learning_rate, make_apply, optimizer, steps_in_rate

Told = tuple[Metrics, Collection, dict[str, Mean], Metrics]  # metrics of a step, what was collected, means, rows


@dataclass(frozen=True, kw_only=True)
class DeviceLoop:
    """What it takes to run `steps` optimizer steps in one call.

    Args:
      run: (state, known, key, temperature, numbers, *frozen) -> (state, Taken), compiled; `known` has an axis of steps.
      step_with: (numbers of the reward, of the optimizer) -> the step with these as arrays, see `whole.make_step`. A
        population, whose runs differ in them, is made of it.
      key: of the stage's training.
    """

    steps: int
    run: Callable[..., tuple[TrainState, Taken]]
    step_with: Callable[[Numbers, Numbers], Callable[..., tuple[TrainState, Taken]]]
    collector: Collector
    learner: Learner
    key: jax.Array
    temperature: float


def make_device_loop(
    config: Config, stage: Stage, material: Material, policy: Policy, collector: Collector, learner: Learner,
    key: jax.Array, draw_with: Callable[[DeviceReward], Callable[..., Any]],
) -> DeviceLoop | None:  # fmt: skip
    """None where the stage's steps are taken one by one.

    Args:
      draw_with: a reward -> what draws with it, see `device.make_draw`.
    Raises: ConfigError where a step cannot do without the host.
    """
    if not stage.device_steps:
        return None
    check_device_loop(stage, collector, material)
    lora, model, reward = config.lora, material.model, stage.objective.device_reward

    def sampling(params, *frozen):
        return rollout_copy(model, params if lora is None else with_adapters(lora, *frozen, params))

    def step_with(of_reward: Numbers, of_optimizer: Numbers):
        adamw = with_arrays(stage.optimizer, of_optimizer)
        rate = learning_rate(adamw, stage.steps) if of_optimizer else learner.rate
        draw = draw_with(with_arrays(reward, of_reward)) if of_reward else collector.draw
        return make_step(
            draw if collector.shapes.sheets else None, collector.weigh, learner.fill, learner.gradient,
            make_apply(optimizer(adamw), rate, adamw.spikes), sampling, collector.max_new_tokens,
        )  # fmt: skip

    run = material.compiled.once(
        ("device loop", collector.draw, collector.weigh, learner.fill, learner.gradient, stage.optimizer,
         steps_in_rate(stage.optimizer, stage.steps)),
        lambda: jax.jit(scan_steps(step_with({}, {})), donate_argnums=0),
    )  # fmt: skip
    return DeviceLoop(
        steps=stage.device_steps, run=run, step_with=step_with, collector=collector, learner=learner, key=key,
        temperature=stage.sampling.temperature,
    )  # fmt: skip


def needs_host(stage: Stage, samples: bool) -> str | None:
    """Why the stage's steps cannot be one program, with what to change; None where they can be.

    Args:
      samples: whether completions are drawn.
    """
    needs = stage.objective.needs
    if samples and stage.objective.device_reward is None:
        return (
            "its reward needs the host; give it a reward that runs on the device, such as "
            "ActionSimilarity(where='device'), or set device_steps=0"
        )
    if needs.reference or needs.reference_to_weigh or needs.whole_groups:
        return (
            f"{type(stage.objective).__name__} compares with a frozen reference or with whole groups, which only the "
            "host's loop lays out; set device_steps=0"
        )
    return None


def check_device_loop(stage: Stage, collector: Collector, material: Material) -> None:
    """Raises ConfigError where something that the stage asks for needs the host, with what to change."""
    name = f"stages.{stage.name}"
    if reason := needs_host(stage, bool(collector.shapes.sheets)):
        raise ConfigError(f"{name}.device_steps={stage.device_steps}, but {reason}")
    if material.placement.mesh is not None:
        raise ConfigError(
            f"{name}.device_steps={stage.device_steps} is for one device; set the mesh to 1, or device_steps=0"
        )


@dataclass(frozen=True, kw_only=True)
class Ahead:
    """The next optimizer steps before a token is sampled; of each, the position behind it and where its rows stand."""

    layouts: list[Layout]
    positions: list[int]
    plans: list[Plan]
    known: list[Known]


def lay_out_steps(loop: DeviceLoop, position: int, step: int) -> Ahead:
    """Of the next `loop.steps` optimizer steps."""
    layouts, positions, plans = [], [], []
    for n in range(loop.steps):
        rounds = []
        for refill in range(loop.collector.settings.most_rounds):
            layout, position = loop.collector.layouts(position, step + n, refill, 0.0)
            rounds.append(layout)
        layouts.append(join(rounds))
        positions.append(position)
        plans.append(own_rows_plan(loop.learner, layouts[-1], loop.collector.max_new_tokens, len(rounds)))
    known = [_known(layout, plan.batches, loop.collector) for layout, plan in zip(layouts, plans, strict=True)]
    return Ahead(layouts=layouts, positions=positions, plans=plans, known=known)


def take_steps(
    loop: DeviceLoop, log: Log, state: TrainState, position: int, step: int
) -> tuple[TrainState, list[Told]]:
    """The next `loop.steps` optimizer steps, and what is told of each."""
    ahead = lay_out_steps(loop, position, step)
    stacked = jax.tree.map(lambda *x: np.stack(x), *ahead.known)
    state, taken = loop.run(
        state, stacked, loop.key, np.float32(loop.temperature), loop.learner.numbers, *loop.learner.frozen
    )  # fmt: skip
    return state, tell_steps(loop, log, ahead, step, fetch(taken))


def tell_steps(loop: DeviceLoop, log: Log, ahead: Ahead, step: int, taken: Taken) -> list[Told]:
    """What is told of steps that were taken from `step` on; their rollouts go to the log."""
    settings, out = loop.collector.settings, []
    for n, (layout, at, plan) in enumerate(zip(ahead.layouts, ahead.positions, ahead.plans, strict=True)):
        one, whole = jax.tree.map(lambda x, n=n: x[n], taken), ahead.known[n].whole
        collection = Collection(
            layout=layout, position=at, step=step + n, whole=whole, completions=None, scores=None, weighed=None,
            length=one.length, flags=one.flags, trunk_used=None, rounds=settings.most_rounds,
            advantage=one.first_advantage,
            short=settings.prompts is not None and kept_groups(whole, one.flags) < settings.prompts,
        )  # fmt: skip
        if layout.sheets:
            log_told(log, collection, one.token, one.scores, step + n + 1)
        moved = bool(one.metrics.pop("step/moved"))
        metrics = one.metrics if moved else {name: one.metrics[name] for name in ("lr", "update/skipped")}
        out.append((metrics, collection, one.means, plan.metrics))
    return out


def _known(layout: Layout, batches, collector: Collector) -> Known:
    whole = whole_step(layout, collector.shapes, collector.settings.most_rounds)
    sheets = jax.tree.map(lambda *x: np.stack(x), *layout.sheets) if layout.sheets else None
    return Known(sheets=sheets, whole=whole, rows=jax.tree.map(lambda *x: np.stack(x), *batches))
