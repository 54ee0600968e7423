"""The functions of a stage's steps, compiled once for all stages that can share them."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any
from zlib import crc32

import jax
import numpy as np

from jaxsrl.collect.collect import Collector
from jaxsrl.collect.device import make_draw, make_weigh, make_weigh_part, put
from jaxsrl.collect.grading import Reader
from jaxsrl.collect.learn import Learner, log_probs
from jaxsrl.config.run import Config, Stage
from jaxsrl.data.ahead import ahead
from jaxsrl.data.fill import fill, unfill
from jaxsrl.data.layout import Layout, lay_out
from jaxsrl.data.shapes import Shapes
from jaxsrl.data.tokenizer import Tokenizer
from jaxsrl.objectives.numbers import as_arrays, numbers_of, static_of
from jaxsrl.policy import Policy, whole_params
from jaxsrl.rollout.sampler import Sample
from jaxsrl.sharding import (
    own_rows,
    place_rows,
    place_sheet,
    place_whole,
    rows_held_here,
    rows_sharding,
    whole_sharding,
)
from jaxsrl.stages.material import Material, Source
from jaxsrl.stages.sizes import device_rooms
from jaxsrl.types import DeviceReward, Params, Rooms
from jaxsrl.update import (
    at_rate,
    learning_rate,
    make_gradient,
    make_loss,
    make_still,
    make_train_step,
    make_update,
    on_base,
    optimizer,
    steps_in_rate,
)

# What sets the learning rate, which an update takes as an argument.
RATES = {"lr": 0.0, "schedule": "constant", "warmup_steps": 0, "final_share": 0.0}


def make_learner(config: Config, stage: Stage, material: Material, policy: Policy, shapes: Shapes) -> Learner:
    """The functions of the optimizer steps, compiled once for all stages that can share them."""
    mesh, objective, once = material.placement.mesh, stage.objective, material.compiled.once
    temperature, rate = stage.sampling.temperature, learning_rate(stage.optimizer, stage.steps)
    held = rows_held_here(mesh)
    own = material.model, mesh, config.lora, static_of(objective), temperature

    def gradient():
        loss = make_loss(material.model, objective, temperature, mesh)
        return make_gradient(loss if config.lora is None else on_base(loss, config.lora), mesh)

    made = once(("gradient", *own), gradient)
    adamw = replace(stage.optimizer, **RATES)
    update = once(("update", adamw), lambda: make_update(optimizer(adamw), adamw.spikes))
    length = steps_in_rate(stage.optimizer, stage.steps)
    apply = once(("apply", stage.optimizer, length), lambda: at_rate(update, rate))
    rows = None if mesh is None else rows_sharding(mesh)
    whole_groups = objective.needs.whole_groups

    @jax.named_scope("fill")
    def filling(segments, trunk, completions, weights, group):
        return fill(segments, trunk, completions, weights, shapes.tokens, group=group if whole_groups else None)

    return Learner(
        needs=objective.needs, shapes=shapes, numbers=as_arrays(numbers_of(objective)),
        fill=once(("fill", mesh, shapes.tokens, whole_groups), lambda: jax.jit(filling, out_shardings=rows)),
        unfill=once(("unfill", mesh), lambda: jax.jit(unfill, static_argnums=3)),
        score=policy.scorer(stage.sampling.temperature), rate=rate, gradient=made,
        train_step=make_train_step(made, apply),
        still=once(("still", stage.optimizer, length), lambda: make_still(rate)),
        whole=partial(whole_params, policy), frozen=() if policy.base is None else (policy.base,),
        place_rows=lambda segments, rows: place_rows(mesh, segments, held and held(rows)), held=held,
        compact=stage.compact,
        updates=stage.updates_per_rollout, parts=config.mesh.row_parts, minibatches=stage.minibatches,
        behavior=stage.behavior_logp, place=partial(place_whole, mesh),
        weigh_part=once(
            ("weigh_part", static_of(objective), material.token_bytes.ends, mesh),
            lambda: jax.jit(make_weigh_part(objective, material.token_bytes.ends), out_shardings=whole_sharding(mesh)),
        ),
    )  # fmt: skip


def make_drawing(
    material: Material, sample: Sample, rooms: Rooms | None
) -> Callable[[DeviceReward | None], Callable[..., Any]]:
    """A reward -> what draws a sheet and scores with it; not compiled."""
    there = material.placement.sampler_mesh
    return lambda reward: jax.named_scope("sample")(make_draw(sample, reward, material.token_bytes, rooms, there))


def stage_sampler(config: Config, stage: Stage, policy: Policy) -> Sample:
    """What the stage's completions are drawn with."""
    return policy.sampler(stage.sampling, (stage.rows or config.rows).at_once)


def make_collector(
    config: Config, stage: Stage, material: Material, policy: Policy, shapes: Shapes, learner: Learner,
    source: Source, reference: Callable[[], Params],
) -> Collector:  # fmt: skip
    """The functions of a step's collection."""
    objective, tokens, once = stage.objective, material.token_bytes, material.compiled.once
    mesh, there = material.placement.mesh, material.placement.sampler_mesh
    sample = stage_sampler(config, stage, policy)
    reward = objective.device_reward
    spelling = tokens.given, crc32(tokens.spelled.tobytes()), crc32(tokens.start.tobytes())
    rooms = device_rooms(stage, source, material.tokenizer, tokens)
    settings = stage.collect
    wanted = settings.prompts
    on_host = not stage.device_steps  # what does not fit the device's rooms
    described = None if reward is None else partial(reward.rewards, unfit_on_host=on_host)
    scored = None
    if objective.needs.reference_to_weigh:
        scored = lambda layout, whole, completions: log_probs(learner, reference(), layout, whole, completions)
    return Collector(
        objective=objective, settings=settings, shapes=shapes, numbers=learner.numbers,
        layouts=make_layouts(config, stage, source, material.tokenizer, shapes, there),
        draw=once(
            ("draw", sample, reward, rooms, spelling),
            lambda: jax.jit(
                make_drawing(material, sample, rooms)(reward), out_shardings=whole_sharding(there)
            ),
        ),
        put=once(("put",), lambda: jax.jit(put, donate_argnums=0)),
        weigh=once(
            ("weigh", static_of(objective), tokens.ends, wanted, reward, on_host, mesh),
            lambda: jax.jit(
                jax.named_scope("weigh")(make_weigh(objective, tokens.ends, wanted, reward, unfit_on_host=on_host)),
                out_shardings=whole_sharding(mesh),
            ),
        ),
        reader=Reader(
            reward=objective.reward, described=described, token_bytes=tokens,
            own=np.repeat(own_rows(there, shapes.prompt_rows), shapes.slots),
        ),
        max_new_tokens=stage.sampling.max_new_tokens, reference=scored,
        place_sheet=partial(place_sheet, there, held=_held_prompts(there, shapes)), place=partial(place_whole, mesh),
    )  # fmt: skip


def _held_prompts(mesh: jax.sharding.Mesh | None, shapes: Shapes) -> np.ndarray | None:
    """Which rows of a sheet's prompts this process has; None where it has all."""
    held = rows_held_here(mesh)
    return None if held is None else np.array(held(shapes.prompt_rows), bool)


def make_layouts(
    config: Config, stage: Stage, source: Source, tokenizer: Tokenizer, shapes: Shapes,
    mesh: jax.sharding.Mesh | None,
) -> Callable[[int, int, int, float], tuple[Layout, int]]:  # fmt: skip
    """(position, optimizer step, refill round, level of the curriculum) -> layout.

    The next step's is made ahead, in a thread; where results change the level, it is made again.

    Args:
      mesh: the sampler's; of its prompts a process lays out those that it holds.
    """
    held = _held_prompts(mesh, shapes)
    objective, curriculum = stage.objective, stage.curriculum

    def make(position: int, step: int, refill: int, level: float) -> tuple[Layout, int]:
        drawn, places, after = source.take(position, stage.collect.demonstrations)
        points = [objective.branch_points(d, step) for d in drawn]
        if curriculum is not None:
            points = [curriculum.branch_points(level, d, p) for d, p in zip(drawn, points, strict=True)]
        return lay_out(
            drawn, points, shapes, template=config.template,
            tokenizer=tokenizer, trunk=stage.objective.trunk, refill=refill, positions=places,
            sheets=shapes.sheets if stage.device_steps else None, held=held,
        ), after  # fmt: skip

    following = lambda asked, made: (made[1], asked[1] + stage.steps_per_collection, 0, asked[3])
    return ahead(make, following, config.layout_workers)
