"""From logits to a token: temperature, truncation for evaluation, and noise that has an address."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How completions are drawn.

    Args:
      max_new_tokens: cap on a completion, in tokens, its end token included.
      temperature: divides the logits; 0 takes the most likely token.
      top_k: keeps the k most likely tokens; 0 keeps all. Evaluation only.
      top_p: keeps the smallest set of tokens with at least this mass; 1 keeps all. Evaluation only.
    """

    max_new_tokens: int = 64
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self):
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be >= 1, got {self.max_new_tokens}")
        if self.temperature < 0:
            raise ValueError(f"temperature must be >= 0, got {self.temperature}")
        if self.top_k < 0 or not 0 < self.top_p <= 1:
            raise ValueError(f"top_k must be >= 0 and top_p in (0, 1], got top_k={self.top_k} top_p={self.top_p}")

    def check_trainable(self):
        """Raises ValueError where the learner would score tokens under another distribution than the sampler's."""
        if self.top_k or self.top_p < 1:
            raise ValueError(
                f"top_k={self.top_k} and top_p={self.top_p} truncate the sampler only, so its log-probs are not the "
                "learner's: train with top_k=0 and top_p=1, and keep truncation for evaluation"
            )
        if self.temperature == 0:
            raise ValueError("temperature=0 draws the same rollout every time: train with a temperature above 0")


def slot_keys(key: Key[Array, ""], address: Int[Array, "R K W"]) -> Key[Array, "R K"]:
    """One key per slot: the run key folded with every word of the slot's address (`Prompts.slot_address`)."""

    def one(words):
        folded = key
        for i in range(address.shape[-1]):
            folded = jax.random.fold_in(folded, words[i])
        return folded

    return jax.vmap(jax.vmap(one))(address)


def truncate(logits: Float[Array, "... V"], top_k: int, top_p: float) -> Float[Array, "... V"]:
    """Logits with everything outside the top-k and top-p sets at -inf. The most likely token always stays."""
    if top_k:
        kth = jax.lax.top_k(logits, min(top_k, logits.shape[-1]))[0][..., -1:]
        logits = jnp.where(logits < kth, -jnp.inf, logits)
    if top_p < 1:
        ordered = jnp.flip(jnp.sort(logits, axis=-1), axis=-1)
        mass = jnp.cumsum(jax.nn.softmax(ordered, axis=-1), axis=-1)
        inside = jnp.concatenate([jnp.ones_like(mass[..., :1], bool), mass[..., :-1] < top_p], axis=-1)
        floor = jnp.min(jnp.where(inside, ordered, jnp.inf), axis=-1, keepdims=True)
        logits = jnp.where(logits < floor, -jnp.inf, logits)
    return logits


def draw(
    logits: Float[Array, "R K V"],
    keys: Key[Array, "R K"],
    index: Int[Array, ""],
    temperature: Float[Array, ""],
    *,
    top_k: int = 0,
    top_p: float = 1.0,
) -> tuple[Int[Array, "R K"], Float[Array, "R K"]]:
    """Token `index` of every slot and its log-prob, nats; Gumbel-max with noise from (slot key, index).

    The log-prob is that of softmax(logits / temperature) after truncation, at temperature 0 that of softmax(logits).
    """
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    greedy = temperature == 0
    scaled = truncate(logits / jnp.where(greedy, 1.0, temperature).astype(logits.dtype), top_k, top_p)
    # float32 noise whatever the logits: the same address is the same number in every precision.
    noise = lambda key: jax.random.gumbel(jax.random.fold_in(key, index), logits.shape[-1:], jnp.float32)
    noisy = scaled + jnp.where(greedy, 0.0, jax.vmap(jax.vmap(noise))(keys)).astype(scaled.dtype)
    token = jnp.argmax(noisy, axis=-1).astype(jnp.int32)
    chosen = jnp.take_along_axis(scaled, token[..., None], axis=-1)[..., 0]
    return token, chosen - jax.nn.logsumexp(scaled, axis=-1)
