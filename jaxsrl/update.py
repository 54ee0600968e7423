"""From batches to an optimizer step: pure functions that the loop compiles once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float

from jaxsrl.models.config import ModelConfig
from jaxsrl.models.transformer import forward, head_matrix
from jaxsrl.ops.token_logprob import token_logprob
from jaxsrl.sharding import RULES, constrain_state, platform
from jaxsrl.types import Batch, Metrics, Objective, Params, TrainState


@dataclass(frozen=True, kw_only=True)
class AdamW:
    """AdamW behind a global-norm clip.

    Args:
      lr: peak learning rate.
      schedule: after the warm-up: `constant`, or down to `final_share * lr` by a `cosine` or in a `linear` way.
      warmup_steps: optimizer steps of linear rise from 0.
      clip_norm: bound on the global gradient norm; 0 switches it off.
    """

    lr: float = 1e-3
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    warmup_steps: int = 0
    final_share: float = 0.0
    b1: float = 0.9
    b2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.01
    clip_norm: float = 1.0

    def __post_init__(self):
        if self.lr < 0 or self.warmup_steps < 0 or self.clip_norm < 0:
            raise ValueError(
                f"lr, warmup_steps and clip_norm must be >= 0, got lr={self.lr} warmup_steps={self.warmup_steps} "
                f"clip_norm={self.clip_norm}"
            )
        if self.schedule not in ("constant", "cosine", "linear"):
            raise ValueError(f"schedule must be constant, cosine or linear, got {self.schedule!r}")


def learning_rate(settings: AdamW, steps: int) -> optax.Schedule:
    """Optimizer step -> learning rate, for a run of `steps` optimizer steps."""
    decay = max(steps - settings.warmup_steps, 1)
    floor = settings.final_share * settings.lr
    after = {
        "constant": lambda: optax.constant_schedule(settings.lr),
        "cosine": lambda: optax.cosine_decay_schedule(settings.lr, decay, alpha=settings.final_share),
        "linear": lambda: optax.linear_schedule(settings.lr, floor, decay),
    }[settings.schedule]()
    if not settings.warmup_steps:
        return after
    # The first step moves already: a rise that starts at 0 would spend a step on nothing.
    rise = lambda count: settings.lr * (count + 1) / settings.warmup_steps
    return optax.join_schedules([rise, after], [settings.warmup_steps])


def optimizer(settings: AdamW, steps: int) -> optax.GradientTransformation:
    """Clip by global norm, then AdamW; decay acts on matrices only, not on norms and biases."""
    vector = lambda path: path[-1].key.endswith(("_norm", "_bias"))
    matrices = lambda params: jax.tree_util.tree_map_with_path(lambda path, _: not vector(path), params)
    adamw = optax.adamw(
        learning_rate(settings, steps), settings.b1, settings.b2, settings.epsilon,
        weight_decay=settings.weight_decay, mask=matrices,
    )  # fmt: skip
    return optax.chain(optax.clip_by_global_norm(settings.clip_norm), adamw) if settings.clip_norm else adamw


def batch_logp(
    config: ModelConfig, params: Params, batch: Batch, temperature: float, mesh: jax.sharding.Mesh | None = None
) -> Float[Array, "R T"]:
    """Log-prob of every token that carries weight, nats; 0 elsewhere.

    logp[t] is read from hidden[parent[t]], so all first tokens of a branch point are scored from the same logits.
    Rollouts are scored at the temperature they were sampled with, demonstrations at 1.
    """
    hidden = forward(config, params, batch.token, batch.position, batch.enter, batch.leave, mesh=mesh)
    before = jnp.take_along_axis(hidden, batch.parent[:, :, None], axis=1)
    cooled = jnp.where(batch.rollout >= 0, 1.0 / temperature, 1.0)[:, :, None]
    before = before * cooled.astype(before.dtype)
    scored = (batch.nll_weight != 0) | (batch.pg_weight != 0)
    return _score(mesh, before, head_matrix(config, params), batch.token, scored)


def _score(mesh: jax.sharding.Mesh | None, before, head, token, scored):
    """`token_logprob` of each device's own part of the tokens, under a head that every device gathers."""

    def score(before, head, token, scored):
        flat = before.reshape(-1, before.shape[-1])
        logp = token_logprob(flat, head, token.reshape(-1), scored=scored.reshape(-1), platform=platform(mesh))
        return logp.reshape(token.shape)

    if mesh is None:
        return score(before, head, token, scored)
    own = PartitionSpec(RULES["rows"], "tensor")
    specs = (PartitionSpec(RULES["rows"], "tensor", None), PartitionSpec(), own, own)
    return jax.shard_map(score, mesh=mesh, in_specs=specs, out_specs=own, check_vma=False)(before, head, token, scored)


def make_loss(config: ModelConfig, objective: Objective, temperature: float, mesh: jax.sharding.Mesh | None = None):
    """Returns loss(params, batch) -> (loss, metrics). Both add up over the batches of an optimizer step."""

    def loss(params: Params, batch: Batch) -> tuple[Float[Array, ""], Metrics]:
        return objective.token_loss(batch_logp(config, params, batch, temperature, mesh), batch)

    return loss


TrainStep = Callable[[TrainState, Sequence[Batch]], tuple[TrainState, Metrics]]


def make_gradient(loss, mesh: jax.sharding.Mesh | None = None):
    """Returns gradient(params, batch) -> (grads, metrics), compiled: what a batch adds to an optimizer step."""

    @jax.jit
    def gradient(params: Params, batch: Batch):
        (value, metrics), grads = jax.value_and_grad(loss, has_aux=True)(params, batch)
        return constrain_state(mesh, grads), metrics | {"loss": value}

    return gradient


def make_apply(tx: optax.GradientTransformation):
    """Returns apply(state, grads) -> (state, metrics), compiled: the update, in place: the state given is used up.

    An update that is not finite is left out and counted; the step counts all the same.
    """

    @partial(jax.jit, donate_argnums=0)
    def apply(state: TrainState, grads):
        norm = optax.tree.norm(grads)
        finite = jnp.isfinite(norm)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        keep = lambda new, old: jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, old)
        moved = replace(
            state, step=state.step + 1, skipped=state.skipped + ~finite,
            params=keep(params, state.params), opt_state=keep(opt_state, state.opt_state),
        )  # fmt: skip
        return moved, {"grad/norm": norm, "update/skipped": moved.skipped}

    return apply


def make_train_step(gradient, tx: optax.GradientTransformation) -> TrainStep:
    """Returns train_step(state, batches) -> (state, metrics): one optimizer step over any number of batches.

    Gradients of the batches only add, because weights were divided before the split, so their number changes nothing
    but memory. The state given is used up (see `make_apply`).

    Args:
      gradient: see `make_gradient`.
    """
    add = jax.jit(lambda a, b: jax.tree.map(jnp.add, a, b), donate_argnums=0)
    apply = make_apply(tx)

    def train_step(state: TrainState, batches: Sequence[Batch]) -> tuple[TrainState, Metrics]:
        total = None
        for batch in batches:
            one = gradient(state.params, batch)
            total = one if total is None else add(total, one)
        if total is None:
            raise ValueError("a step without batches: nothing carries weight")
        grads, metrics = total
        state, more = apply(state, grads)
        return state, metrics | more

    return train_step


def make_scorer(config: ModelConfig, temperature: float, mesh: jax.sharding.Mesh | None = None):
    """Returns score(params, batch) -> log-probs [R T], for a frozen reference or to recompute `behavior_logp`."""
    return jax.jit(lambda params, batch: batch_logp(config, params, batch, temperature, mesh))


def has_reference(objective: Objective) -> bool:
    """Whether it compares the policy with the parameters a stage starts from."""
    return bool(objective.kl_coef or getattr(objective, "reward_kl_coef", 0.0))


def init_state(params: Params, tx: optax.GradientTransformation, key) -> TrainState:
    """The state before the first step, with parameters of its own: steps use them up."""
    # An array made from a Python number has a weak type, which the first update would lose: another program to compile.
    params = jax.tree.map(lambda p: jnp.array(p, p.dtype, copy=True), params)
    return TrainState(step=jnp.int32(0), skipped=jnp.int32(0), params=params, opt_state=tx.init(params), key=key)
