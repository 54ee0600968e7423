"""The compiled functions of a run, and the parameters that its stages begin with."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from jaxsrl.collect import Actor, Rows
from jaxsrl.config.run import Config, Splits, Stage
from jaxsrl.data.token_bytes import token_bytes
from jaxsrl.data.tokenizer import Tokenizer
from jaxsrl.evals.evaluate import Evaluation, evaluate
from jaxsrl.models.config import ModelConfig
from jaxsrl.models.load import load_weights
from jaxsrl.models.lora import frozen, init_adapters, with_adapters
from jaxsrl.models.transformer import init_params
from jaxsrl.processes import Stopped
from jaxsrl.rollout.sampler import Sample, make_sampler
from jaxsrl.rollout.sampling import Sampling
from jaxsrl.runs import check_base
from jaxsrl.sharding import make_mesh, make_reshard, place_rows, place_state, relayout, reshard_bytes, state_sharding
from jaxsrl.types import Params
from jaxsrl.update import make_gradient, make_loss, make_scorer, make_train_step, on_base, optimizer

TRAIN, EVALUATE, INIT, ADAPT = 0, 1, 2, 3  # first word of a key's address, after the stage


class Programs:
    """Compiled functions of a run by what they depend on, so that stages share them.

    All take the parameters that are trained. Under LoRA these are adapters, and the base is handed on beside them.

    Args:
      sampler: makes what completions are drawn with; None draws from `model`.
      stop: asked before every call of a sampler, by every process; where it is true, Stopped is raised instead.
    """

    def __init__(
        self, config: Config, model: ModelConfig, tokenizer: Tokenizer,
        sampler: Callable[[Sampling], Sample] | None = None, stop: Callable[[], bool] = lambda: False,
    ):  # fmt: skip
        self.config, self.model, self.tokenizer = config, model, tokenizer
        self.mesh = make_mesh(config.mesh)
        self.sampler, self.stop = sampler, stop
        self.sampler_mesh = relayout(self.mesh, config.layout_to_sample)
        self.token_bytes = token_bytes(tokenizer, config.template)
        self._made: dict[Any, Any] = {}
        self._base: tuple[int, Params] | None = None  # and the number of the stage that it is the start of

    def load_base(self, name: str) -> None:
        """Under LoRA: holds what lies under the adapters of a stage, the parameters that its first ancestor began with.

        Raises: RunError if published weights are no longer those that the run began with.
        """
        config = self.config
        if config.lora is None:
            return
        index = first_ancestor({stage.name: stage.start_from for stage in config.stages}, name)
        if self._base is None or (self._base[0] != index and config.weights is None):
            self._base = None  # there is room for one
            base = first_params(self.model, config.seed, index, config.weights, self.mesh)
            if config.weights is not None:
                check_base(Path(config.runs) / config.name, base, config.weights)
            self._base = index, frozen(self.model, base)

    def _frozen(self) -> tuple[Params, ...]:
        """What programs take beside trained parameters."""
        return () if self._base is None else self._base[1:]

    def whole(self, params: Params) -> Params:
        """The model's parameters from those that are trained."""
        return params if self._base is None else with_adapters(self.config.lora, self._base[1], params)

    def shapes(self) -> Params:
        """Of the parameters that are trained."""
        key = jax.random.key(0)
        if self.config.lora is not None:
            return jax.eval_shape(lambda: init_adapters(self.model, self.config.lora, key))
        return jax.eval_shape(lambda: init_params(self.model, key))

    def _once(self, key: Any, make):
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def actor(self, sampling: Sampling, rows: Rows) -> Actor:
        """Samplers that differ in temperature alone are one program."""
        key = replace(sampling, temperature=1.0)
        make = self.sampler or (
            lambda sampling: make_sampler(self.model, sampling, self.tokenizer.end, self.sampler_mesh)
        )
        program = self._once(("sample", key, self.sampler), lambda: jax.jit(make(key)))

        def sample(params, prompts, *rest):
            if self.stop():
                raise Stopped
            return program(params, place_rows(self.sampler_mesh, prompts), *rest)

        return Actor(
            sample=sample, tokenizer=self.tokenizer, template=self.config.template, rows=rows,
            max_new_tokens=sampling.max_new_tokens, token_bytes=self.token_bytes,
        )  # fmt: skip

    def for_sampling(self, params: Params) -> tuple[Params, dict[str, float]]:
        """The model's parameters where the sampler wants them, and what bringing them there took."""
        params = self.whole(params)
        if self.config.layout_to_sample == self.config.mesh:
            return params, {}
        reshard = self._once("reshard", lambda: make_reshard(self.mesh, self.sampler_mesh, self.model.dtype))
        start = time.monotonic()
        there = jax.block_until_ready(reshard(params))
        seconds = round(time.monotonic() - start, 4)
        return there, {"seconds": seconds, "bytes": reshard_bytes(params, self.sampler_mesh, self.model.dtype)}

    def evaluate(self, stage: Stage, params: Params, key: jax.Array, problems, splits: Splits, settings: Evaluation):
        """All modes of an evaluation, each with a sampler of its own cap and shape.

        `steps` has many slots to a prompt, a whole solution one. Shapes do not follow the number of problems, so that
        validation and test share programs.
        """
        rows, (params, _) = stage.rows or self.config.rows, self.for_sampling(params)
        metrics, records = {}, []
        for mode in settings.modes:
            slots = rows.evaluate_slots if mode == "steps" else 1
            shape = replace(rows, slots=slots, prompt_rows=rows.evaluate_rows)
            cap = stage.solve_tokens if mode == "direct" else stage.step_tokens
            actor, one = self.actor(Sampling(max_new_tokens=cap), shape), replace(settings, modes=(mode,))
            found, lines = evaluate(
                actor, params, key, problems, one,
                grader=splits.grader, finished=splits.finished, first_action=splits.first_action,
            )  # fmt: skip
            metrics |= found
            records += lines
        return metrics, records

    def train_step(self, stage: Stage):
        objective, temperature, lora = stage.objective, stage.sampling.temperature, self.config.lora

        def make():
            loss = make_loss(self.model, objective, temperature, self.mesh)
            return make_gradient(loss if lora is None else on_base(loss, lora), self.mesh)

        key = objective, temperature, lora
        gradient = self._once(("gradient", *key), make)
        step = self._once(
            ("step", *key, stage.optimizer, stage.steps),
            lambda: make_train_step(gradient, optimizer(stage.optimizer, stage.steps)),
        )
        return lambda state, batches: step(state, batches, *self._frozen())

    def scorer(self, temperature: float):
        score = self._once(("score", temperature), lambda: make_scorer(self.model, temperature, self.mesh))
        return lambda params, batch: score(self.whole(params), batch)

    def place(self, state: Any) -> Any:
        """Committed to its devices, like all that is computed from it: else the first step would be another program."""
        return place_state(self.mesh, state)


def first_params(
    model: ModelConfig, seed: int, index: int, weights: str | None, mesh: jax.sharding.Mesh | None = None
) -> Params:
    """What stage `index` starts from where it starts from no other: published parameters, or random ones of its own."""
    key = address(seed, index, INIT)
    like = jax.eval_shape(lambda: init_params(model, key))
    where = None if mesh is None else state_sharding(mesh, like)
    if weights is not None:
        return load_weights(Path(weights), model, sharding=where)
    return jax.jit(init_params, static_argnums=0, out_shardings=where)(model, key)


def first_ancestor(starts: Mapping[str, str | None], name: str) -> int:
    """Number of the stage that starts from no other and that a stage goes back to; `starts` has each one's source."""
    while (source := starts[name]) is not None:
        name = source.partition(":")[0]
    return list(starts).index(name)


def address(seed: int, index: int, purpose: int) -> jax.Array:
    """The key of a purpose of stage `index`; what draws from it folds in its own numbers."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), index), purpose)
