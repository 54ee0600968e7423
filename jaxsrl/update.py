"""From batches to an optimizer step: pure functions that the loop compiles once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Key

from jaxsrl.models.config import ModelConfig
from jaxsrl.models.lora import LoRA, with_adapters
from jaxsrl.models.transformer import forward, head_matrix
from jaxsrl.ops.token_logprob import token_logprob
from jaxsrl.sharding import RULES, constrain_state, platform, spec
from jaxsrl.types import Batch, Metrics, Objective, Params, TrainState


@dataclass(frozen=True, kw_only=True)
class AdamW:
    """AdamW behind a global-norm clip.

    Args:
      lr: peak learning rate.
      schedule: after the warm-up: `constant`, or down to `final_share * lr` by a `cosine` or in a `linear` way.
      warmup_steps: optimizer steps of linear rise from 0.
      clip_norm: bound on the global gradient norm; 0 switches it off.
      moments: how both moments are kept between steps, see `in_bfloat16`; they are computed in float32 either way.
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
    moments: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self):
        if self.lr < 0 or self.warmup_steps < 0 or self.clip_norm < 0:
            raise ValueError(
                f"lr, warmup_steps and clip_norm must be >= 0, got lr={self.lr} warmup_steps={self.warmup_steps} "
                f"clip_norm={self.clip_norm}"
            )
        if self.schedule not in ("constant", "cosine", "linear"):
            raise ValueError(f"schedule must be constant, cosine or linear, got {self.schedule!r}")
        if self.moments not in ("float32", "bfloat16"):
            raise ValueError(f"moments must be float32 or bfloat16, got {self.moments!r}")


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
    adamw = in_bfloat16(adamw) if settings.moments == "bfloat16" else adamw
    return optax.chain(optax.clip_by_global_norm(settings.clip_norm), adamw) if settings.clip_norm else adamw


def in_bfloat16(adamw: optax.GradientTransformation) -> optax.GradientTransformation:
    """AdamW whose moments take half the room: 4 instead of 8 bytes a parameter.

    A step moves the second moment by about 1 - b2 of itself, 0.1 %, where neighbours in bfloat16 are 0.4 % apart:
    rounded to the nearest it would stand still for ever, and the first would stop short of its mean. So they are
    rounded up or down at random, right on average; the noise is addressed by step and parameter, the same on any mesh.
    """

    def kept(state, change):
        mu, nu = change((state[0].mu, state[0].nu))
        return (state[0]._replace(mu=mu, nu=nu), *state[1:])

    cast = lambda dtype: partial(jax.tree.map, lambda x: x.astype(dtype))

    def init(params):
        return kept(adamw.init(params), cast(jnp.bfloat16))

    def update(grads, state, params):
        updates, state = adamw.update(grads, kept(state, cast(jnp.float32)), params)
        key = jax.random.fold_in(jax.random.key(0), state[0].count)
        return updates, kept(state, partial(round_at_random, key))

    return optax.GradientTransformation(init, update)


def round_at_random(key: Key[Array, ""], tree: Params) -> Params:
    """float32 to bfloat16, up or down with the odds that make it right on average."""
    leaves, structure = jax.tree.flatten(tree)

    def one(number, x):
        bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
        noise = jax.random.bits(jax.random.fold_in(key, number), x.shape, jnp.uint32) >> 16
        cut = jax.lax.bitcast_convert_type((bits + noise) & jnp.uint32(0xFFFF0000), jnp.float32)
        return cut.astype(jnp.bfloat16)

    return jax.tree.unflatten(structure, [one(number, x) for number, x in enumerate(leaves)])


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
    return score(mesh, before, head_matrix(config, params), batch.token, scored)


def score(mesh: jax.sharding.Mesh | None, before, head, token, scored):
    """`token_logprob` of each device's own rows, under its own part of the vocabulary; `fsdp`'s parts are gathered.

    A vocabulary that `tensor` does not divide is whole on every device, and the tokens of a row are cut instead.
    """
    on = platform(mesh)
    if mesh is None:
        return _flat_score(before, head, token, scored, on)
    width, vocab = spec(mesh, head.shape, ("width", "vocab"))
    cut = vocab is not None and mesh.shape["tensor"] > 1
    own = PartitionSpec(RULES["rows"], None if cut else "tensor")
    specs = (PartitionSpec(*own, None), PartitionSpec(width, vocab if cut else None), own, own)
    part = partial(_flat_score, on=on, vocab_axis="tensor" if cut else None, width_axis=width and "fsdp")
    return jax.shard_map(part, mesh=mesh, in_specs=specs, out_specs=own, check_vma=False)(before, head, token, scored)


def _flat_score(before, head, token, scored, on: str, vocab_axis: str | None = None, width_axis: str | None = None):
    flat, flat_token = before.reshape(-1, before.shape[-1]), token.reshape(-1)
    logp = token_logprob(
        flat, head, flat_token, scored=scored.reshape(-1), vocab_axis=vocab_axis, width_axis=width_axis, platform=on
    )
    return logp.reshape(token.shape)


def make_loss(config: ModelConfig, objective: Objective, temperature: float, mesh: jax.sharding.Mesh | None = None):
    """Returns loss(params, batch) -> (loss, metrics). Both add up over the batches of an optimizer step."""

    def loss(params: Params, batch: Batch) -> tuple[Float[Array, ""], Metrics]:
        return objective.token_loss(batch_logp(config, params, batch, temperature, mesh), batch)

    return loss


def on_base(loss, lora: LoRA):
    """Returns loss(adapters, batch, base) from one of whole parameters."""
    return lambda adapters, batch, base: loss(with_adapters(lora, base, adapters), batch)


TrainStep = Callable[..., tuple[TrainState, Metrics]]


def make_gradient(loss, mesh: jax.sharding.Mesh | None = None):
    """Returns gradient(params, batch, *frozen) -> (grads, metrics), compiled: what a batch adds to an optimizer step.

    `frozen` are further arguments of the loss, which is not differentiated by them.
    """

    @jax.jit
    def gradient(params: Params, batch: Batch, *frozen: Params):
        (value, metrics), grads = jax.value_and_grad(loss, has_aux=True)(params, batch, *frozen)
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
    """Returns train_step(state, batches, *frozen) -> (state, metrics): one optimizer step over any number of batches.

    Gradients of the batches only add, because weights were divided before the split, so their number changes nothing
    but memory. The state given is used up (see `make_apply`).

    Args:
      gradient: see `make_gradient`.
    """
    add = jax.jit(lambda a, b: jax.tree.map(jnp.add, a, b), donate_argnums=0)
    apply = make_apply(tx)

    def train_step(state: TrainState, batches: Sequence[Batch], *frozen: Params) -> tuple[TrainState, Metrics]:
        total = None
        for batch in batches:
            one = gradient(state.params, batch, *frozen)
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
    """Whether it compares the policy with the parameters that a stage starts from."""
    return bool(objective.kl_coef or getattr(objective, "reward_kl_coef", 0.0))


def init_state(params: Params, tx: optax.GradientTransformation, key) -> TrainState:
    """The state before the first step, with parameters of its own: steps use them up."""
    # An array made from a Python number has a weak type, which the first update would lose: another program to compile.
    params = jax.tree.map(lambda p: jnp.array(p, p.dtype, copy=True), params)
    return TrainState(step=jnp.int32(0), skipped=jnp.int32(0), params=params, opt_state=tx.init(params), key=key)
