"""The sampler: prompts are prefilled once per row, then all slots decode in one compiled loop."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from jaxsrl.models.cache import OwnCache, init_own_cache
from jaxsrl.models.config import ModelConfig
from jaxsrl.models.shared_index import any_member, write_at
from jaxsrl.models.transformer import decode, head_matrix, prefill
from jaxsrl.rollout.sampling import Sampling, draw, slot_keys
from jaxsrl.sharding import constrain
from jaxsrl.types import Completions, Params, Prompts

Sample = Callable[[Params, Prompts, Key[Array, ""], Float[Array, ""]], Completions]


class Written(NamedTuple):
    """What the loop carries."""

    index: Int[Array, ""]  # tokens drawn of every slot; one number for all members of a population
    newest: Int[Array, "R K"]
    token: Int[Array, "R K C"]
    logp: Float[Array, "R K C"]
    length: Int[Array, "R K"]
    done: Bool[Array, "R K"]
    own: tuple[OwnCache, ...]  # of each model, without the newest token


def prompt_mask(prompts: Prompts) -> Bool[Array, "R K T"]:
    """Which prompt tokens a slot sees, the last token of its path included."""
    e = prompts.slot_enter[:, :, None]
    seen = (prompts.enter[:, None, :] <= e) & (e < prompts.leave[:, None, :])
    own = jnp.arange(prompts.token.shape[1])[None, None, :] == prompts.slot_parent[:, :, None]
    return seen | own  # an unused slot sees one token, so that its softmax is finite


def make_sampler(
    config: ModelConfig, sampling: Sampling, ends: Sequence[int], mesh: jax.sharding.Mesh | None = None
) -> Sample:
    """Returns sample(params, prompts, key, temperature) -> Completions [P C], P = R K. It is pure; the caller jits it.

    Job r K + k is slot k of row r. A completion ends with the first of the ids `ends`, which is part of it. `token` and
    `logp` are 0 behind a completion's length, which is 0 where the slot is empty. `logp` is that of the logits in
    float32, divided by the temperature.
    The temperature is an argument: greedy and sampled evaluation share one program. Truncation and cap are fixed.
    A token's noise is a function of `key`, its slot's address and its index in the completion. It does not depend on
    the row, the slot, or what else is in the batch.

    Under `vmap` (of params, prompts, key or temperature) all members share one loop, which ends when the last slot of
    the last member has ended. Each member gets what it gets alone. A slot that has ended costs its share until then.
    There is no reverse-mode derivative.
    """
    many = make_mixed_sampler((config,), lambda logits: logits[0], sampling, ends, mesh)
    return lambda params, *rest: many((params,), *rest)


def make_mixed_sampler(
    configs: Sequence[ModelConfig], mix: Callable, sampling: Sampling, ends: Sequence[int],
    mesh: jax.sharding.Mesh | None = None,
) -> Sample:  # fmt: skip
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
        filled = [
            prefill(c, p, prompts.token, prompts.position, prompts.enter, prompts.leave, mesh=mesh) for c, p in models
        ]
        heads = [head_matrix(c, p) for c, p in models]
        mask, keys = prompt_mask(prompts), slot_keys(key, prompts.slot_address)
        depth = jnp.take_along_axis(prompts.position, prompts.slot_parent, axis=1) + 1

        def add(written, last):
            """Draws the next token from the hidden states of the newest one, [R K D] of each model."""
            logits = [
                jnp.matmul(x, head.astype(x.dtype), preferred_element_type=_logit_dtype(x))
                for x, head in zip(last, heads, strict=True)
            ]
            drawn = draw(mix(logits), keys, written.index, temperature, top_k=sampling.top_k, top_p=sampling.top_p)
            return _store(written, *drawn, ends)

        def body(written):
            at = written.index - 1
            last, own = [], []
            for (c, p), (_, prompt), cache in zip(models, filled, written.own, strict=True):
                x, cache = decode(c, p, written.newest, depth + at, prompt, mask, prompts.position, cache, at)
                last.append(x)
                own.append(cache)
            return add(written._replace(own=tuple(own)), last)

        at = prompts.slot_parent[:, :, None]
        last = [jnp.take_along_axis(hidden, at, axis=1) for hidden, _ in filled]
        start = _start(configs, prompts, cap, [x.dtype for x in last], mesh)
        running = lambda written: (written.index < cap) & any_member(~written.done)
        return _by_job(jax.lax.while_loop(running, body, add(start, last)), mesh)

    return sample


def _start(configs: Sequence[ModelConfig], prompts: Prompts, cap: int, dtypes: Sequence, mesh) -> Written:
    """Nothing written; an empty slot is done."""
    rows, slots = prompts.slot_parent.shape
    whole, none = (rows, slots, cap), jnp.zeros((rows, slots), jnp.int32)
    placed = lambda x: constrain(mesh, x, None, "rows", "heads", None, None, None)
    own = tuple(
        jax.tree.map(placed, init_own_cache(config, rows, slots, cap, dtype))
        for config, dtype in zip(configs, dtypes, strict=True)
    )
    return Written(
        index=jnp.int32(0), newest=none, token=jnp.zeros(whole, jnp.int32),
        logp=jnp.zeros(whole, jnp.promote_types(dtypes[0], jnp.float32)), length=none, done=~prompts.slot_active,
        own=own,
    )  # fmt: skip


def _store(written: Written, token: Int[Array, "R K"], logp: Float[Array, "R K"], ends: Sequence[int]) -> Written:
    """One more token of every slot that still runs; 0 of the others."""
    done, index = written.done, written.index
    token, logp = jnp.where(done, 0, token), jnp.where(done, 0, logp)
    put = lambda all, new: write_at(all, new[:, :, None], (index * 0, index * 0, index))
    return written._replace(
        index=index + 1, newest=token, token=put(written.token, token), logp=put(written.logp, logp),
        length=jnp.where(done, written.length, index + 1), done=done | (sum(token == end for end in ends) > 0),
    )  # fmt: skip


def _by_job(written: Written, mesh: jax.sharding.Mesh | None) -> Completions:
    flat = lambda x: x.reshape(-1, *x.shape[2:])
    token, logp = (constrain(mesh, flat(x), "rows", None) for x in (written.token, written.logp))
    return Completions(token=token, logp=logp, length=constrain(mesh, flat(written.length), "rows"))


def _logit_dtype(x: Array):
    return jnp.promote_types(x.dtype, jnp.float32)
