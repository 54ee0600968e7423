"""Log-prob of one target token per hidden state, and the entropy there, without ever holding all logits."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

Backend = Literal["reference", "xla"]

DEFAULT: dict[str, Backend] = {"cpu": "xla", "gpu": "xla", "tpu": "xla"}

# Tokens whose logits exist at once. CPU: 1024 x 272 float32 stay in a cache; an accelerator wants larger products,
# and reads and writes the head's gradient once a chunk. Not measured on an accelerator yet.
CHUNK = {"cpu": 1024, "gpu": 4096, "tpu": 4096}


def token_logprob(
    hidden: Float[Array, "M D"],
    head: Float[Array, "D V"],
    target: Int[Array, "M"],
    *,
    scored: Bool[Array, "M"] | None = None,
    temperature: Float[Array, "M"] | Float[Array, ""] | float = 1.0,
    chunk: int | None = None,
    vocab_axis: str | None = None,
    width_axis: str | None = None,
    backend: Backend | None = None,
    platform: str | None = None,
) -> Float[Array, "M"]:
    """log softmax(hidden head / temperature)[target], nats, in float32 at least.

    Args:
      head: its gradient has its dtype, and is summed in float32 at least.
      target: 0 <= target < V where scored.
      scored: where False the result and every gradient are 0, whatever `hidden`, `target` and `temperature` hold there,
        and `xla` does no head work for them beyond filling up its last chunk; None scores all.
      temperature: above 0 where scored; of each token, or one for all. It divides the logits, which are float32 at
        least, as the sampler does: in bfloat16, dividing `hidden` would give other log-probs. Not differentiated.
      chunk: tokens whose logits `xla` holds at once; None takes the one `CHUNK` names for the platform.
      vocab_axis: inside `shard_map`, the mesh axis over which the vocabulary is cut: `head` is then this device's part,
        in the order of the axis, and everything else is the same on all its devices. Logits of a chunk are those of the
        part; [M] numbers travel, and the gradient of `hidden`, which `shard_map` adds up.
      width_axis: the same for the rows of `head`, over an axis whose devices have tokens of their own. The head is
        gathered in the dtype of `hidden`; its gradient is summed over the axis, in float32 at least, and scattered.
      backend: one that runs or raises; None takes the one `DEFAULT` names for the platform.
      platform: that the program is for; None is JAX's default.
    Raises: ValueError if the backend is unknown, a shape does not fit, the chunk is not positive, or a temperature that
      is a Python number is not above 0.
    """
    return _run(
        "logp", hidden, head, target, scored, temperature, chunk, vocab_axis, width_axis, backend, platform
    )  # fmt: skip


def token_entropy(
    hidden: Float[Array, "M D"],
    head: Float[Array, "D V"],
    *,
    scored: Bool[Array, "M"] | None = None,
    temperature: Float[Array, "M"] | Float[Array, ""] | float = 1.0,
    chunk: int | None = None,
    vocab_axis: str | None = None,
    width_axis: str | None = None,
    backend: Backend | None = None,
    platform: str | None = None,
) -> Float[Array, "M"]:
    """-sum p log p of p = softmax(hidden head / temperature), nats: exact, not estimated from a sampled token.

    Arguments are those of `token_logprob`. Where both are wanted, `token_logprob_and_entropy` makes the logits once.
    """
    target = jnp.zeros(hidden.shape[:1], jnp.int32)
    return _run(
        "entropy", hidden, head, target, scored, temperature, chunk, vocab_axis, width_axis, backend, platform
    )  # fmt: skip


def token_logprob_and_entropy(
    hidden: Float[Array, "M D"],
    head: Float[Array, "D V"],
    target: Int[Array, "M"],
    *,
    scored: Bool[Array, "M"] | None = None,
    temperature: Float[Array, "M"] | Float[Array, ""] | float = 1.0,
    chunk: int | None = None,
    vocab_axis: str | None = None,
    width_axis: str | None = None,
    backend: Backend | None = None,
    platform: str | None = None,
) -> tuple[Float[Array, "M"], Float[Array, "M"]]:
    """(`token_logprob`, `token_entropy`) of the same logits, which are made once."""
    return _run("both", hidden, head, target, scored, temperature, chunk, vocab_axis, width_axis, backend, platform)


def _run(what, hidden, head, target, scored, temperature, chunk, vocab_axis, width_axis, backend, platform):
    per_token = [x.shape for x in (target, scored) if x is not None]
    rows = head.shape[0] * (1 if width_axis is None else jax.lax.axis_size(width_axis))
    if any(shape != hidden.shape[:1] for shape in per_token) or hidden.shape[1] != rows:
        raise ValueError(f"shapes do not fit: {hidden.shape=} {head.shape=}, target and scored {per_token}")
    if jnp.shape(temperature) not in ((), hidden.shape[:1]):
        raise ValueError(f"temperature must be a scalar or one per token, got {jnp.shape(temperature)=}")
    if isinstance(temperature, int | float) and not temperature > 0:
        raise ValueError(f"temperature must be > 0, got {temperature}")
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk must be >= 1, got {chunk}")
    platform = platform or jax.default_backend()
    wide = jnp.promote_types(hidden.dtype, jnp.float32)
    temperature = jax.lax.stop_gradient(jnp.broadcast_to(jnp.asarray(temperature, wide), target.shape))
    match backend or DEFAULT.get(platform, "xla"):
        case "reference":
            from jaxsrl.ops.token_logprob.reference import run

            return run(what, hidden, head, target, scored, temperature, vocab_axis, width_axis)
        case "xla":
            from jaxsrl.ops.token_logprob.xla import run

            chunk = chunk or CHUNK.get(platform, 4096)
            return run(what, hidden, head, target, scored, temperature, chunk, vocab_axis, width_axis)
        case unknown:
            raise ValueError(f"unknown backend {unknown!r}; there are: reference, xla")
