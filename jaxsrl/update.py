"""From batches to an optimizer step: pure functions that the loop compiles once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float, Key

from jaxsrl.models.config import ModelConfig
from jaxsrl.models.lora import LoRA, with_adapters
from jaxsrl.models.transformer import forward, head_matrix
from jaxsrl.ops.token_logprob import token_logprob, token_logprob_and_entropy
from jaxsrl.sharding import RULES, constrain_state, platform, spec
from jaxsrl.types import Batch, Metrics, Numbers, Objective, Params, TrainState

Temperature = float | Float[Array, ""]


@dataclass(frozen=True, kw_only=True)
class Spikes:
    """Updates that are left out because loss or gradient norm stands out from those of the last steps.

    Args:
      window: optimizer steps that mean and standard deviation are taken over; nothing is left out before it is full.
      sigmas: standard deviations above the mean; a deviation counts as 1 % of the mean at least.
    Source: 6 over 128 are the values of MaxText and of OLMo 2 (arXiv:2501.00656, skip-step optimizer).
    """

    window: int = 128
    sigmas: float = 6.0

    def __post_init__(self):
        if self.window < 2 or self.sigmas <= 0:
            raise ValueError(f"window must be >= 2 and sigmas > 0, got window={self.window} sigmas={self.sigmas}")


@dataclass(frozen=True, kw_only=True)
class AdamW:
    """AdamW behind a global-norm clip.

    Args:
      lr: peak learning rate.
      schedule: after the warm-up: `constant`, or down to `final_share * lr` by a `cosine` or in a `linear` way.
      warmup_steps: optimizer steps of linear rise from 0.
      clip_norm: bound on the global gradient norm; 0 switches it off.
      moments: how both moments are kept between steps, see `in_bfloat16`; they are computed in float32 either way.
      spikes: leaves out updates that stand out, see `Spikes`; None leaves out only those that are not finite.
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
    spikes: Spikes | None = field(default=None, metadata={"begins_with": Spikes})

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


def steps_in_rate(settings: AdamW, steps: int) -> int | None:
    """The length of a run where its learning rate depends on it: runs of other lengths are then other programs."""
    return None if settings.schedule == "constant" else steps


def optimizer(settings: AdamW) -> optax.GradientTransformation:
    """Clip by global norm, then AdamW for a learning rate of 1, not negated; `make_update` scales by the rate.

    Decay acts on matrices only, not on norms and biases. There is no schedule in it: a count of its own would stand
    still in a step that is skipped or empty, and from then on lag behind `TrainState.step`. Adam's bias correction does
    keep a count of its own, of the updates that its moments have seen.
    """
    vector = lambda path: path[-1].key.endswith(("_norm", "_bias"))
    matrices = lambda params: jax.tree_util.tree_map_with_path(lambda path, _: not vector(path), params)
    adamw = optax.chain(
        optax.scale_by_adam(settings.b1, settings.b2, settings.epsilon),
        optax.add_decayed_weights(settings.weight_decay, matrices),
    )
    adamw = in_bfloat16(adamw) if settings.moments == "bfloat16" else adamw
    unclipped = isinstance(settings.clip_norm, int | float) and not settings.clip_norm  # an array is one that clips
    return adamw if unclipped else optax.chain(optax.clip_by_global_norm(settings.clip_norm), adamw)


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
    config: ModelConfig, params: Params, batch: Batch, temperature: Temperature, mesh: jax.sharding.Mesh | None = None
) -> Float[Array, "R T"]:
    """Log-prob of every token that carries weight, nats; 0 elsewhere.

    logp[t] is read from hidden[parent[t]], so all first tokens of a branch point are scored from the same logits.
    Rollouts are scored at the temperature they were sampled with, demonstrations at 1.
    """
    return score(mesh, *_to_score(config, params, batch, temperature, mesh))


def batch_logp_and_entropy(
    config: ModelConfig, params: Params, batch: Batch, temperature: Temperature, mesh: jax.sharding.Mesh | None = None
) -> tuple[Float[Array, "R T"], Float[Array, "R T"]]:
    """`batch_logp`, and the exact entropy of the distribution that each of these tokens is scored under, nats."""
    return score(mesh, *_to_score(config, params, batch, temperature, mesh), token_logprob_and_entropy)


def _to_score(config: ModelConfig, params: Params, batch: Batch, temperature: Temperature, mesh):
    """What `score` takes: hidden state before each token, head, tokens, which of them count, and their temperature."""
    hidden = forward(config, params, batch.token, batch.position, batch.enter, batch.leave, mesh=mesh)
    before = jnp.take_along_axis(hidden, batch.parent[:, :, None], axis=1)
    scored = (batch.nll_weight != 0) | (batch.pg_weight != 0)
    heat = jnp.where(batch.rollout >= 0, temperature, 1.0)
    return before, head_matrix(config, params), batch.token, scored, heat


def score(mesh: jax.sharding.Mesh | None, before, head, token, scored, temperature, run=token_logprob):
    """`run` on each device's own rows, under its own part of the vocabulary; `fsdp`'s parts are gathered.

    A vocabulary that `tensor` does not divide is whole on every device, and the tokens of a row are cut instead.

    Args:
      run: `token_logprob` or `token_logprob_and_entropy`; `temperature` is that of every token.
    """
    on = platform(mesh)
    if mesh is None:
        return _flat_score(before, head, token, scored, temperature, run, on)
    width, vocab = spec(mesh, head.shape, ("width", "vocab"))
    cut = vocab is not None and mesh.shape["tensor"] > 1
    own = PartitionSpec(RULES["rows"], None if cut else "tensor")
    specs = (PartitionSpec(*own, None), PartitionSpec(width, vocab if cut else None), own, own, own)
    part = partial(_flat_score, run=run, on=on, vocab_axis="tensor" if cut else None, width_axis=width and "fsdp")
    spread = jax.shard_map(part, mesh=mesh, in_specs=specs, out_specs=own, check_vma=False)  # of one result or two
    return spread(before, head, token, scored, temperature)


def _flat_score(
    before, head, token, scored, temperature, run, on: str, vocab_axis: str | None = None, width_axis: str | None = None
):
    out = run(
        before.reshape(-1, before.shape[-1]), head, token.reshape(-1), scored=scored.reshape(-1),
        temperature=temperature.reshape(-1), vocab_axis=vocab_axis, width_axis=width_axis, platform=on,
    )  # fmt: skip
    return jax.tree.map(lambda x: x.reshape(token.shape), out)


def make_loss(
    config: ModelConfig, objective: Objective, temperature: Temperature, mesh: jax.sharding.Mesh | None = None
):
    """Returns loss(params, batch, numbers) -> (loss, metrics). Both add up over the batches of an optimizer step.

    An objective that needs the entropy finds it as `batch.extra["entropy"]`, and its gradient flows.

    Args:
      temperature: the rollouts were sampled with; a number, or a traced scalar.
    """

    def loss(params: Params, batch: Batch, numbers: Numbers) -> tuple[Float[Array, ""], Metrics]:
        if objective.needs.entropy:
            logp, entropy = batch_logp_and_entropy(config, params, batch, temperature, mesh)
            batch = replace(batch, extra=batch.extra | {"entropy": entropy})
        else:
            logp = batch_logp(config, params, batch, temperature, mesh)
        return objective.token_loss(logp, batch, numbers)

    return loss


def on_base(loss, lora: LoRA):
    """Returns loss(adapters, batch, numbers, base) from one of whole parameters."""
    return lambda adapters, batch, numbers, base: loss(with_adapters(lora, base, adapters), batch, numbers)


TrainStep = Callable[..., tuple[TrainState, Metrics]]
Watch = Callable[[str, Callable], Callable]


def make_still(rate: optax.Schedule) -> Callable[[TrainState], tuple[TrainState, Metrics]]:
    """Returns still(state) -> (state, metrics): a step that is counted and moves nothing, as nothing carried weight."""
    at = jax.jit(lambda step: (rate(step), step + 1))

    def still(state: TrainState) -> tuple[TrainState, Metrics]:
        lr, after = at(state.step)
        return replace(state, step=after), {"lr": lr, "update/skipped": state.skipped}

    return still


def make_gradient(loss, mesh: jax.sharding.Mesh | None = None):
    """Returns gradient(params, batch, numbers, *frozen) -> (grads, metrics), compiled: what a batch adds to a step.

    Other `numbers` are no other program. `frozen` are further arguments of the loss. It is differentiated by neither.
    """

    @jax.jit
    def gradient(params: Params, batch: Batch, numbers: Numbers, *frozen: Params):
        with jax.named_scope("gradient"):
            (value, metrics), grads = jax.value_and_grad(loss, has_aux=True)(params, batch, numbers, *frozen)
        return constrain_state(mesh, grads), metrics | {"loss": value}

    return gradient


def make_update(tx: optax.GradientTransformation, spikes: Spikes | None = None):
    """Returns update(state, grads, loss, lr) -> (state, metrics), compiled: in place, the state is used up.

    Parameters move by -lr times what `tx` makes of the gradients. An update that is not finite is left out and counted:
    parameters and moments keep their bits. The step counts all the same, so a schedule ends when the run does.

    Args:
      tx: see `optimizer`.
      spikes: what else is left out and counted, by `state.window`; the loss is used for nothing else.
    """

    @partial(jax.jit, donate_argnums=0)
    @jax.named_scope("update")
    def update(state: TrainState, grads, loss: Float[Array, ""] | None, lr: Float[Array, ""] | float):
        norm = optax.tree.norm(grads)
        good, window = jnp.isfinite(norm), state.window
        if spikes is not None:
            spike, window = spikes_at(spikes, state.window, jnp.stack([loss, norm]).astype(jnp.float32))
            good &= ~spike
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, optax.tree.scale(-lr, updates))
        keep = lambda new, old: jax.tree.map(lambda n, o: jnp.where(good, n, o), new, old)
        moved = replace(
            state, step=state.step + 1, skipped=state.skipped + ~good, window=window,
            params=keep(params, state.params), opt_state=keep(opt_state, state.opt_state),
        )  # fmt: skip
        return moved, {"lr": lr, "grad/norm": norm, "update/skipped": moved.skipped}

    return update


def at_rate(update, rate: optax.Schedule):
    """Returns apply(state, grads, loss) -> (state, metrics): the update at the learning rate of the state's step.

    The rate is an argument of the update, so that stages whose schedules differ share its program.

    Args:
      update: see `make_update`.
      rate: see `learning_rate`; `lr` of the metrics is its value at this step.
    """
    # Of one type and place for all, as others would be other programs: a constant schedule returns a Python number, of
    # a weak type, and asks for no step, without which the rate is on no device in particular.
    at = jax.jit(lambda step: jnp.asarray(rate(step), jnp.result_type(float)), keep_unused=True)
    return lambda state, grads, loss=None: update(state, grads, loss, at(state.step))


def make_apply(tx: optax.GradientTransformation, rate: optax.Schedule, spikes: Spikes | None = None):
    """`at_rate` of an update of its own."""
    return at_rate(make_update(tx, spikes), rate)


def spikes_at(
    spikes: Spikes, window: Float[Array, "2 W"], values: Float[Array, "2"]
) -> tuple[Bool[Array, ""], Float[Array, "2 W"]]:
    """Whether one of the values stands out from its row, and the window with them.

    What stands out is entered too: a change that lasts is let through before long. What is not finite is not.
    """
    mean, deviation = window.mean(axis=1), jnp.maximum(window.std(axis=1), 0.01 * jnp.abs(window.mean(axis=1)))
    full = jnp.all(jnp.isfinite(window))
    spike = full & jnp.any(values > mean + spikes.sigmas * deviation)
    entered = jnp.concatenate([window[:, 1:], values[:, None]], axis=1)
    return spike, jnp.where(jnp.all(jnp.isfinite(values)), entered, window)


def make_train_step(gradient, apply) -> TrainStep:
    """Returns train_step(state, batches, *rest) -> (state, metrics): one optimizer step over any number of batches.

    Gradients of the batches only add, because weights were divided before the split, so their number changes nothing
    but memory. The state given is used up (see `make_update`).

    Args:
      gradient: see `make_gradient`; `rest` are its arguments behind the batch. `watch` (phase, function) -> function is
        put around both phases.
      apply: see `at_rate`.
    """

    def train_step(
        state: TrainState, batches: Sequence[Batch], *rest: Any, watch: Watch = lambda phase, run: run
    ) -> tuple[TrainState, Metrics]:
        total, of_batch = None, watch("gradient", gradient)
        for batch in batches:
            one = of_batch(state.params, batch, *rest)
            total = one if total is None else _add(total, one)
        if total is None:
            raise ValueError("a step without batches: nothing carries weight")
        grads, metrics = total
        state, more = watch("update", apply)(state, grads, metrics["loss"])
        return state, metrics | more

    return train_step


@partial(jax.jit, donate_argnums=0)
def _add(total: Any, part: Any) -> Any:
    return jax.tree.map(jnp.add, total, part)


def make_scorer(config: ModelConfig, temperature: Temperature, mesh: jax.sharding.Mesh | None = None):
    """Returns score(params, batch) -> log-probs [R T], for a frozen reference or to recompute `behavior_logp`."""
    return jax.jit(lambda params, batch: batch_logp(config, params, batch, temperature, mesh))


def init_state(params: Params, tx: optax.GradientTransformation, key, spikes: Spikes | None = None) -> TrainState:
    """The state before the first step, with parameters of its own: steps use them up."""
    # An array made from a Python number has a weak type, which the first update would lose: another program to compile.
    params = jax.tree.map(lambda p: jnp.array(p, p.dtype, copy=True), params)
    window = None if spikes is None else jnp.full((2, spikes.window), jnp.inf, jnp.float32)
    return TrainState(
        step=jnp.int32(0), skipped=jnp.int32(0), params=params, opt_state=tx.init(params), key=key, window=window
    )
