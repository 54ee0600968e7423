"""Several optimizer steps as one program: the stage's loop on the device, for models that leave the host waiting."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np

from jaxsrl.collect.collect import Collection, Collector, kept_groups, whole_step
from jaxsrl.collect.learn import Learner, own_rows_plan
from jaxsrl.collect.rollout_log import Log, log_told
from jaxsrl.collect.whole import Known, Taken, make_step, scan_steps
from jaxsrl.config.run import Config, ConfigError, Stage
from jaxsrl.data.layout import Layout, join
from jaxsrl.models.lora import with_adapters
from jaxsrl.models.transformer import rollout_copy
from jaxsrl.policy import Policy
from jaxsrl.processes import fetch
from jaxsrl.stages.material import Material
from jaxsrl.types import Mean, Metrics, TrainState
from jaxsrl.update import make_apply, optimizer


@dataclass(frozen=True, kw_only=True)
class DeviceLoop:
    """What it takes to run `steps` optimizer steps in one call.

    Args:
      run: (state, known, key, temperature, numbers, *frozen) -> (state, Taken), compiled; `known` has an axis of steps.
      key: of the stage's training.
    """

    steps: int
    run: Callable[..., tuple[TrainState, Taken]]
    collector: Collector
    learner: Learner
    key: jax.Array
    temperature: float


def make_device_loop(
    config: Config, stage: Stage, material: Material, policy: Policy, collector: Collector, learner: Learner,
    key: jax.Array,
) -> DeviceLoop | None:  # fmt: skip
    """None where the stage's steps are taken one by one.

    Raises: ConfigError where a step cannot do without the host.
    """
    if not stage.device_steps:
        return None
    check_device_loop(stage, collector, material)
    lora, model = config.lora, material.model

    def sampling(params, *frozen):
        return rollout_copy(model, params if lora is None else with_adapters(lora, *frozen, params))

    step = make_step(
        collector.draw if collector.shapes.sheets else None, collector.weigh, learner.fill, learner.gradient,
        make_apply(optimizer(stage.optimizer), learner.rate, stage.optimizer.spikes), sampling,
        collector.max_new_tokens,
    )  # fmt: skip
    run = material.compiled.once(
        ("device loop", collector.draw, collector.weigh, learner.fill, learner.gradient, stage.optimizer, stage.steps),
        lambda: jax.jit(scan_steps(step), donate_argnums=0),
    )
    return DeviceLoop(
        steps=stage.device_steps, run=run, collector=collector, learner=learner, key=key,
        temperature=stage.sampling.temperature,
    )  # fmt: skip


def check_device_loop(stage: Stage, collector: Collector, material: Material) -> None:
    """Raises ConfigError where something that the stage asks for needs the host, with what to change."""
    name, needs = f"stages.{stage.name}", stage.objective.needs
    if collector.shapes.sheets and stage.objective.device_reward is None:
        raise ConfigError(
            f"{name}.device_steps={stage.device_steps}, but its reward needs the host; give it a reward that runs on "
            "the device, such as ActionSimilarity(where='device'), or set device_steps=0"
        )
    if needs.reference or needs.reference_to_weigh or needs.whole_groups:
        raise ConfigError(
            f"{name}.device_steps={stage.device_steps}, but {type(stage.objective).__name__} compares with a frozen "
            "reference or with whole groups, which only the host's loop lays out; set device_steps=0"
        )
    if material.placement.mesh is not None:
        raise ConfigError(
            f"{name}.device_steps={stage.device_steps} is for one device; set the mesh to 1, or device_steps=0"
        )


def take_steps(
    loop: DeviceLoop, log: Log, state: TrainState, position: int, step: int
) -> tuple[TrainState, list[tuple[Metrics, Collection, dict[str, Mean], Metrics]]]:
    """The next `loop.steps` optimizer steps, and of each: its metrics, what was collected, means, and rows."""
    layouts, places, plans = [], [], []
    for n in range(loop.steps):
        rounds = []
        for refill in range(loop.collector.settings.most_rounds):
            layout, position = loop.collector.layouts(position, step + n, refill, 0.0)
            rounds.append(layout)
        layouts.append(join(rounds))
        places.append(position)
        plans.append(own_rows_plan(loop.learner, layouts[-1], loop.collector.max_new_tokens, len(rounds)))
    known = [_known(layout, plan.batches, loop.collector) for layout, plan in zip(layouts, plans, strict=True)]
    stacked = jax.tree.map(lambda *x: np.stack(x), *known)
    state, taken = loop.run(
        state, stacked, loop.key, np.float32(loop.temperature), loop.learner.numbers, *loop.learner.frozen
    )  # fmt: skip
    taken, settings = fetch(taken), loop.collector.settings
    out = []
    for n, (layout, at, plan) in enumerate(zip(layouts, places, plans, strict=True)):
        one = jax.tree.map(lambda x, n=n: x[n], taken)
        collection = Collection(
            layout=layout, position=at, step=step + n, whole=known[n].whole, completions=None, scores=None,
            weighed=None,
            length=one.length, flags=one.flags, trunk_used=None, rounds=settings.most_rounds,
            advantage=one.first_advantage,
            short=settings.prompts is not None and kept_groups(known[n].whole, one.flags) < settings.prompts,
        )  # fmt: skip
        if layout.sheets:
            log_told(log, collection, one.token, one.scores, step + n + 1)
        moved = bool(one.metrics.pop("step/moved"))
        metrics = one.metrics if moved else {name: one.metrics[name] for name in ("lr", "update/skipped")}
        out.append((metrics, collection, one.means, plan.metrics))
    return state, out


def _known(layout: Layout, batches, collector: Collector) -> Known:
    whole = whole_step(layout, collector.shapes)
    sheets = jax.tree.map(lambda *x: np.stack(x), *layout.sheets) if layout.sheets else None
    return Known(sheets=sheets, whole=whole, rows=jax.tree.map(lambda *x: np.stack(x), *batches))
