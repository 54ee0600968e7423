"""Log-prob of one target token per hidden state, without ever holding all logits."""

from typing import Literal

import jax
from jaxtyping import Array, Bool, Float, Int

Backend = Literal["reference", "xla"]

DEFAULT: dict[str, Backend] = {"cpu": "xla", "gpu": "xla", "tpu": "xla"}


def token_logprob(
    hidden: Float[Array, "M D"],
    head: Float[Array, "D V"],
    target: Int[Array, "M"],
    *,
    scored: Bool[Array, "M"] | None = None,
    backend: Backend | None = None,
) -> Float[Array, "M"]:
    """log softmax(hidden head)[target], nats, in float32 at least.

    Args:
      scored: where False the result and every gradient are 0, whatever `hidden` holds there; None scores all.
      backend: one that runs or raises; None takes the one `DEFAULT` names for the platform.
    Raises: ValueError if the backend is unknown.
    """
    match backend or DEFAULT.get(jax.default_backend(), "xla"):
        case "reference":
            from jaxsrl.ops.token_logprob.reference import token_logprob as impl
        case "xla":
            from jaxsrl.ops.token_logprob.xla import token_logprob as impl
        case unknown:
            raise ValueError(f"unknown backend {unknown!r}; there are: reference, xla")
    return impl(hidden, head, target, scored)
