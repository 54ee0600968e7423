"""The sampler: prompts are prefilled once per row, then all slots decode in one compiled loop."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from jaxsrl.models.cache import init_own_cache
from jaxsrl.models.config import ModelConfig
from jaxsrl.models.transformer import decode, head_matrix, prefill
from jaxsrl.rollout.sampling import Sampling, draw, slot_keys
from jaxsrl.sharding import constrain
from jaxsrl.types import Params, Prompts

Sample = Callable[
    [Params, Prompts, Key[Array, ""], Float[Array, ""]],
    tuple[Int[Array, "R K C"], Float[Array, "R K C"], Int[Array, "R K"]],
]


def prompt_mask(prompts: Prompts) -> Array:
    """[R K T] bool: which prompt tokens a slot sees, the last token of its path included."""
    e = prompts.slot_enter[:, :, None]
    seen = (prompts.enter[:, None, :] <= e) & (e < prompts.leave[:, None, :])
    own = jnp.arange(prompts.token.shape[1])[None, None, :] == prompts.slot_parent[:, :, None]
    return seen | own  # an unused slot sees one token, so that its softmax is finite


def make_sampler(config: ModelConfig, sampling: Sampling, end: int, mesh: jax.sharding.Mesh | None = None) -> Sample:
    """Returns sample(params, prompts, key, temperature) -> (token, logp, length); pure, to be jitted by the caller.

    `token` is 0 and `logp` 0 past a completion's length; the length counts the end token. The temperature is an
    argument, so greedy and sampled evaluation share one program; truncation and cap are those of `sampling`.
    A token's noise is a function of `key`, its slot's address and its index in the completion: not of row, slot,
    or what else is in the batch. A slot that ends early costs its share of the loop until the longest has ended.
    """
    many = make_mixed_sampler((config,), lambda logits: logits[0], sampling, end, mesh)
    return lambda params, *rest: many((params,), *rest)


def make_mixed_sampler(
    configs: Sequence[ModelConfig], mix: Callable, sampling: Sampling, end: int, mesh: jax.sharding.Mesh | None = None
) -> Sample:
    """`make_sampler` for several models that see the same tokens: its `params` are a tuple, one for each of them.

    Args:
      mix: logits of every model, a sequence of [R K V] -> those that are drawn from.
    Raises: ValueError if vocabularies differ.
    """
    if len({config.vocab for config in configs}) != 1:
        raise ValueError(f"models that are mixed must share a vocabulary, got {[config.vocab for config in configs]}")
    cap = sampling.max_new_tokens

    def sample(params, prompts, key, temperature):
        models = list(zip(configs, params, strict=True))
        rows, slots = prompts.slot_parent.shape
        filled = [
            prefill(c, p, prompts.token, prompts.position, prompts.enter, prompts.leave, mesh=mesh) for c, p in models
        ]
        mask = prompt_mask(prompts)
        heads = [head_matrix(c, p) for c, p in models]
        keys = slot_keys(key, prompts.slot_address)
        depth = jnp.take_along_axis(prompts.position, prompts.slot_parent, axis=1) + 1
        at = prompts.slot_parent[:, :, None]
        last = tuple(jnp.take_along_axis(hidden, at, axis=1) for hidden, _ in filled)

        def pick(last, index):
            logits = [
                jnp.matmul(x, head.astype(x.dtype), preferred_element_type=_logit_dtype(x))
                for x, head in zip(last, heads, strict=True)
            ]
            return draw(mix(logits), keys, index, temperature, top_k=sampling.top_k, top_p=sampling.top_p)

        def store(carry, last):
            index, token, logp, length, done, own = carry
            new, new_logp = pick(last, index)
            new, new_logp = jnp.where(done, 0, new), jnp.where(done, 0, new_logp)
            token = jax.lax.dynamic_update_index_in_dim(token, new, index, 2)
            logp = jax.lax.dynamic_update_index_in_dim(logp, new_logp, index, 2)
            return index + 1, token, logp, jnp.where(done, length, index + 1), done | (new == end), own

        def body(carry):
            index, token, *_, own = carry
            newest = jax.lax.dynamic_index_in_dim(token, index - 1, 2, keepdims=False)
            last, own = zip(
                *(
                    decode(c, p, newest, depth + index - 1, prompt, mask, prompts.position, cache, index - 1)
                    for (c, p), (_, prompt), cache in zip(models, filled, own, strict=True)
                ),
                strict=True,
            )
            return store((*carry[:-1], own), last)

        shape = (rows, slots, cap)
        start = (
            jnp.int32(0), jnp.zeros(shape, jnp.int32), jnp.zeros(shape, _logit_dtype(last[0])),
            jnp.zeros((rows, slots), jnp.int32), ~prompts.slot_active,
            tuple(
                jax.tree.map(
                    lambda x: constrain(mesh, x, None, "rows", "heads", None, None, None),
                    init_own_cache(config, rows, slots, cap, hidden.dtype),
                )
                for config, (hidden, _) in zip(configs, filled, strict=True)
            ),
        )  # fmt: skip
        running = lambda carry: (carry[0] < cap) & ~jnp.all(carry[4])
        _, token, logp, length, _, _ = jax.lax.while_loop(running, body, store(start, last))
        return token, logp, length

    return sample


def _logit_dtype(x: Array):
    return jnp.promote_types(x.dtype, jnp.float32)
