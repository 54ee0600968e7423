"""From logits to a token: temperature, truncation for evaluation, and noise that has an address."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

PARTS = 16  # that a vocabulary is cut into when a token is looked for; vocabularies of models are multiples of it


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

    # A loop: a fold for each word beside the other took a second more to compile.
    one = lambda words: jax.lax.scan(lambda key, word: (jax.random.fold_in(key, word), None), key, words)[0]
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
    index: Int[Array, "R K"],
    temperature: Float[Array, ""],
    *,
    top_k: int = 0,
    top_p: float = 1.0,
    known: int | None = None,
) -> tuple[Int[Array, "R K"], Float[Array, "R K"]]:
    """Token `index` of every slot and its log-prob, nats; by the inverse CDF, at a number from (slot key, index).

    The log-prob is that of softmax(logits / temperature) after truncation, at temperature 0 that of softmax(logits).

    Args:
      known: ids from here on are never drawn; None draws from all. The log-prob is that of all ids all the same, as the
        learner's is.
    """
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    greedy = temperature == 0
    scaled = truncate(logits / jnp.where(greedy, 1.0, temperature).astype(logits.dtype), top_k, top_p)
    top = jnp.max(scaled, axis=-1, keepdims=True)
    weight = jnp.exp(scaled - top)
    drawable = weight
    if known is not None and known < logits.shape[-1]:
        drawable = jnp.where(jnp.arange(logits.shape[-1])[None, None] < known, weight, 0.0)
    # float32 numbers whatever the logits: the same address is the same number in every precision.
    levels = (_levels(logits.shape[-1]),)
    number = lambda key, index: jax.random.uniform(jax.random.fold_in(key, index), levels, jnp.float32)
    drawn = inverse_cdf(drawable, jax.vmap(jax.vmap(number))(keys, index).astype(weight.dtype))
    token = jnp.where(greedy, jnp.argmax(drawable, axis=-1), drawn).astype(jnp.int32)
    chosen = jnp.take_along_axis(scaled - top, token[..., None], axis=-1)[..., 0]
    return token, chosen - jnp.log(jnp.sum(weight, axis=-1))


def inverse_cdf(weight: Float[Array, "... V"], uniform: Float[Array, "... W"]) -> Int[Array, "..."]:
    """An index with probability weight / sum(weight); one of weight 0 never, whatever sums are rounded to.

    V is cut into PARTS equal parts: the first number picks a part by its sum, the next one a part of that, and so on.
    So a number's 23 bits are enough for a large vocabulary, nothing long is added up in order, and a vocabulary that is
    cut among devices, up to PARTS of them, is added up as a whole one is.

    Args:
      weight: >= 0, not all 0.
      uniform: in [0, 1), one number for each cut and one for the last part.
    """
    size = weight.shape[-1]
    if size <= PARTS:
        return _first_above(weight, uniform[..., 0])
    width = -(-size // PARTS)
    padding = [(0, 0)] * (weight.ndim - 1) + [(0, PARTS * width - size)]
    parts = jnp.pad(weight, padding).reshape(*weight.shape[:-1], PARTS, width)
    part = _first_above(jnp.sum(parts, axis=-1), uniform[..., 0])
    inside = jnp.take_along_axis(parts, part[..., None, None], axis=-2)[..., 0, :]
    return part * width + inverse_cdf(inside, uniform[..., 1:])


def _levels(size: int) -> int:
    """Numbers that `inverse_cdf` takes."""
    return 1 if size <= PARTS else 1 + _levels(-(-size // PARTS))


def _first_above(weight: Float[Array, "... V"], uniform: Float[Array, "..."]) -> Int[Array, "..."]:
    """The first index up to which the sum is above `uniform` of the whole; of weight above 0."""
    upto = jnp.cumsum(weight, axis=-1)
    above = (upto > uniform[..., None] * upto[..., -1:]) & (weight > 0)
    # A sum that is added up in pairs need not grow: where rounding leaves none above, the largest is as good.
    return jnp.where(jnp.any(above, axis=-1), jnp.argmax(above, axis=-1), jnp.argmax(weight, axis=-1))
