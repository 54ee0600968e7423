"""Log-prob of one target token per hidden state, without ever holding all logits."""

from typing import Literal

import jax
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
    chunk: int | None = None,
    vocab_axis: str | None = None,
    width_axis: str | None = None,
    backend: Backend | None = None,
    platform: str | None = None,
) -> Float[Array, "M"]:
    """log softmax(hidden head)[target], nats, in float32 at least.

    Args:
      head: its gradient has its dtype, and is summed in float32 at least.
      target: 0 <= target < V where scored.
      scored: where False the result and every gradient are 0, whatever `hidden` and `target` hold there, and `xla`
        does no head work for them beyond filling up its last chunk; None scores all.
      chunk: tokens whose logits `xla` holds at once; None takes the one `CHUNK` names for the platform.
      vocab_axis: inside `shard_map`, the mesh axis over which the vocabulary is cut: `head` is then this device's part,
        in the order of the axis, and everything else is the same on all its devices. Logits of a chunk are those of the
        part; [M] numbers travel, and the gradient of `hidden`, which `shard_map` adds up.
      width_axis: the same for the rows of `head`, over an axis whose devices have tokens of their own. The head is
        gathered in the dtype of `hidden`; its gradient is summed over the axis, in float32 at least, and scattered.
      backend: one that runs or raises; None takes the one `DEFAULT` names for the platform.
      platform: that the program is for; None is JAX's default.
    Raises: ValueError if the backend is unknown, a shape does not fit or the chunk is not positive.
    """
    per_token = [x.shape for x in (target, scored) if x is not None]
    rows = head.shape[0] * (1 if width_axis is None else jax.lax.axis_size(width_axis))
    if any(shape != hidden.shape[:1] for shape in per_token) or hidden.shape[1] != rows:
        raise ValueError(f"shapes do not fit: {hidden.shape=} {head.shape=}, target and scored {per_token}")
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk must be >= 1, got {chunk}")
    platform = platform or jax.default_backend()
    match backend or DEFAULT.get(platform, "xla"):
        case "reference":
            from jaxsrl.ops.token_logprob.reference import token_logprob as impl

            return impl(hidden, head, target, scored, vocab_axis, width_axis)
        case "xla":
            from jaxsrl.ops.token_logprob.xla import token_logprob as impl

            return impl(hidden, head, target, scored, chunk or CHUNK.get(platform, 4096), vocab_axis, width_axis)
        case unknown:
            raise ValueError(f"unknown backend {unknown!r}; there are: reference, xla")
