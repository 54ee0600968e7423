"""The sampler: prompts are prefilled once per row, then slots decode in one compiled loop."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from jaxsrl.models.cache import OwnCache, init_own_cache
from jaxsrl.models.chunks import chunk_size
from jaxsrl.models.config import ModelConfig
from jaxsrl.models.shared_index import any_member, write_at
from jaxsrl.models.transformer import decode, head_matrix, prefill, rollout_copy
from jaxsrl.rollout.queued import Job, Model, grow
from jaxsrl.rollout.sampling import Sampling, draw, slot_keys
from jaxsrl.sharding import RULES, constrain
from jaxsrl.types import Completions, Params, Prompts

Sample = Callable[[Params, Prompts, Key[Array, ""], Float[Array, ""]], Completions]
Slots = int | Callable[[Prompts], int] | None


class Written(NamedTuple):
    """What the loop carries where every job has a slot."""

    index: Int[Array, ""]  # tokens drawn of every job; one number for all members of a population
    newest: Int[Array, "R K"]
    token: Int[Array, "R K C"]
    logp: Float[Array, "R K C"]
    length: Int[Array, "R K"]
    done: Bool[Array, "R K"]
    last: tuple[Float[Array, "R K D"], ...]  # hidden states of the newest token, of each model
    own: tuple[OwnCache, ...]


def prompt_mask(prompts: Prompts, enter: Int[Array, "R S"], parent: Int[Array, "R S"]) -> Bool[Array, "R S T"]:
    """Which prompt tokens a slot sees, the last token of its path included."""
    e = enter[:, :, None]
    seen = (prompts.enter[:, None, :] <= e) & (e < prompts.leave[:, None, :])
    own = jnp.arange(prompts.token.shape[1])[None, None, :] == parent[:, :, None]
    return seen | own  # an unused slot sees one token, so that its softmax is finite


def make_sampler(
    config: ModelConfig, sampling: Sampling, ends: Sequence[int], mesh: jax.sharding.Mesh | None = None, *,
    slots: Slots = None, known: int | None = None,
) -> Sample:  # fmt: skip
    """Returns sample(params, prompts, key, temperature) -> Completions [P C], P = R K. It is pure; the caller jits it.

    Job r K + k is number k of row r. A completion ends with the first of the ids `ends`, which is part of it. `token`
    and `logp` are 0 behind a completion's length, which is 0 where there is no job. `logp` is that of the logits in
    float32, divided by the temperature.
    The temperature is an argument: greedy and sampled evaluation share one program. Truncation and cap are fixed.
    A token's noise is a function of `key`, its job's address and its index in the completion. It does not depend on
    the row, the slot, or what else is in the batch.

    Under `vmap` (of params, prompts, key or temperature) all members share one loop, which ends when the last job of
    the last member has ended. Each member gets what it gets alone. A slot without a job costs its share until then.
    There is no reverse-mode derivative.

    Args:
      slots: jobs of a row that grow at the same time. The others wait, and a slot whose job has ended takes the next:
        its prompt is in the cache. No token depends on it. None lets all grow at once; a function is asked with the
        prompts, of which it may read the shapes, as `slots.choose_slots` does.
      known: ids from here on, which no tokenizer knows, are never drawn; None draws from all of the model's.
    """
    many = make_mixed_sampler((config,), lambda logits: logits[0], sampling, ends, mesh, slots=slots, known=known)
    return lambda params, *rest: many((params,), *rest)


def make_mixed_sampler(
    configs: Sequence[ModelConfig], mix: Callable, sampling: Sampling, ends: Sequence[int],
    mesh: jax.sharding.Mesh | None = None, *, slots: Slots = None, known: int | None = None,
) -> Sample:  # fmt: skip
    """`make_sampler` for several models that see the same tokens: its `params` are a tuple, one for each of them.

    Args:
      mix: logits of every model, a sequence of [R S V] -> those that are drawn from.
    Raises: ValueError if vocabularies differ, or there is no slot.
    """
    if len({config.vocab for config in configs}) != 1:
        raise ValueError(f"models that are mixed must share a vocabulary, got {[config.vocab for config in configs]}")
    if isinstance(slots, int) and slots < 1:
        raise ValueError(f"slots must be >= 1, or None for as many as there are jobs, got {slots}")
    cap = sampling.max_new_tokens

    def sample(params, prompts, key, temperature):
        # Weights are cast here, where they are not yet: never in the loop, for every token.
        params = [rollout_copy(config, some) for config, some in zip(configs, params, strict=True)]
        heads = [head_matrix(config, some) for config, some in zip(configs, params, strict=True)]
        chunk = chunk_size(_own_rows(prompts, mesh), prompts.token.shape[1])
        rows = prompts.token, prompts.position, prompts.enter, prompts.leave, prompts.slot_parent
        filled = [prefill(c, p, *rows, chunk=chunk, mesh=mesh) for c, p in zip(configs, params, strict=True)]
        last = [hidden for hidden, _ in filled]
        models = [
            Model(config=config, params=some, prompt=prompt)
            for config, some, (_, prompt) in zip(configs, params, filled, strict=True)
        ]
        keys = slot_keys(key, prompts.slot_address)
        depth = jnp.take_along_axis(prompts.position, prompts.slot_parent, axis=1) + 1

        def draw_hidden(hidden, keys, index):
            """The next token from the hidden states of the newest one, [R S D] of each model, and its log-prob."""
            logits = [
                jnp.matmul(x, head.astype(x.dtype), preferred_element_type=_logit_dtype(x))
                for x, head in zip(hidden, heads, strict=True)
            ]
            how = {"top_k": sampling.top_k, "top_p": sampling.top_p, "known": known}
            return draw(mix(logits), keys, index, temperature, **how)

        jobs = prompts.slot_parent.shape[1]
        growing = slots(prompts) if callable(slots) else slots or jobs
        if growing >= jobs:
            token, logp, length = _all_at_once(models, prompts, draw_hidden, last, keys, depth, cap, ends, mesh)
        else:
            first, its_logp = _draw_first(draw_hidden, last, keys, growing)
            waiting = prompts.slot_active & ~_ends(first, ends)
            job = Job(key=keys, parent=prompts.slot_parent, enter=prompts.slot_enter, depth=depth, first=first)
            token, logp = grow(
                models, prompts, job, waiting, draw_hidden, prompt_mask, slots=growing, cap=cap, ends=ends,
                dtype=its_logp.dtype, mesh=mesh,
            )  # fmt: skip
            token, logp, length = _completed(prompts, first, its_logp, token, logp, ends)
        flat = lambda x: x.reshape(-1, *x.shape[2:])
        token, logp = (constrain(mesh, flat(x), "rows", None) for x in (token, logp))
        return Completions(token=token, logp=logp, length=constrain(mesh, flat(length), "rows"))

    return sample


def _own_rows(prompts: Prompts, mesh: jax.sharding.Mesh | None) -> int:
    """Rows of a device."""
    parts = 1 if mesh is None else math.prod(mesh.shape[name] for name in RULES["rows"])
    return max(len(prompts.token) // parts, 1)


def _ends(token: Int[Array, "..."], ends: Sequence[int]) -> Bool[Array, "..."]:
    return sum(token == end for end in ends) > 0


def _draw_first(draw_hidden, last: Sequence[Float[Array, "R K D"]], keys: Key[Array, "R K"], slots: int):
    """Every job's first token, of so many jobs at a time as there are slots: logits take no more room than later."""
    jobs = keys.shape[1]
    parts = -(-jobs // slots)
    number = jnp.minimum(jnp.arange(parts * slots), jobs - 1).reshape(parts, slots)

    def draw_some(number):
        some = lambda x: jnp.take(x, number, axis=1)
        return draw_hidden([some(x) for x in last], some(keys), jnp.zeros((keys.shape[0], slots), jnp.int32))

    token, logp = jax.lax.map(draw_some, number)
    whole = lambda x: x.transpose(1, 0, 2).reshape(keys.shape[0], -1)[:, :jobs]
    return whole(token), whole(logp)


def _completed(prompts: Prompts, first, its_logp, token, logp, ends: Sequence[int]):
    """First tokens and those behind them, 0 behind the first end."""
    token, logp = (jnp.concatenate([a[:, :, None], b], axis=2) for a, b in ((first, token), (its_logp, logp)))
    ended, cap = _ends(token, ends), token.shape[2]
    length = jnp.where(jnp.any(ended, axis=2), jnp.argmax(ended, axis=2) + 1, cap)
    length = jnp.where(prompts.slot_active, length, 0).astype(jnp.int32)
    inside = jnp.arange(cap)[None, None] < length[:, :, None]
    return jnp.where(inside, token, 0), jnp.where(inside, logp, 0), length


def _all_at_once(models: Sequence[Model], prompts: Prompts, draw_hidden, last, keys, depth, cap: int, ends, mesh):
    """Every job has a slot of its own; all are at the same index. Returns (token, logp, length)."""
    mask = prompt_mask(prompts, prompts.slot_enter, prompts.slot_parent)

    def body(written):
        at = written.index
        drawn = draw_hidden(written.last, keys, jnp.broadcast_to(at, keys.shape))
        written, last, own = _store(written, *drawn, ends), [], []
        for m, cache in zip(models, written.own, strict=True):
            x, cache = decode(
                m.config, m.params, written.newest, depth + at, m.prompt, mask, prompts.position, cache, at
            )  # fmt: skip
            last.append(x)
            own.append(cache)
        return written._replace(last=tuple(last), own=tuple(own))

    # The first token is drawn in the loop, too, so that drawing is compiled once. The last decode is for nothing.
    start = _start(models, prompts, cap, last, mesh)
    running = lambda written: (written.index < cap) & any_member(~written.done)
    written = jax.lax.while_loop(running, body, start)
    return written.token, written.logp, written.length


def _start(models: Sequence[Model], prompts: Prompts, cap: int, last, mesh) -> Written:
    """Nothing written; an empty slot is done."""
    rows, slots = prompts.slot_parent.shape
    whole, none = (rows, slots, cap), jnp.zeros((rows, slots), jnp.int32)
    placed = lambda x: constrain(mesh, x, None, "rows", "heads", None, None, None)
    own = tuple(
        jax.tree.map(placed, init_own_cache(m.config, rows, slots, cap, m.prompt.k.dtype)) for m in models
    )  # fmt: skip
    return Written(
        index=jnp.int32(0), newest=none, token=jnp.zeros(whole, jnp.int32),
        logp=jnp.zeros(whole, _logit_dtype(last[0])), length=none, done=~prompts.slot_active,
        last=tuple(last), own=own,
    )  # fmt: skip


def _store(written: Written, token: Int[Array, "R K"], logp: Float[Array, "R K"], ends: Sequence[int]) -> Written:
    """One more token of every slot that still runs; 0 of the others."""
    done, index = written.done, written.index
    token, logp = jnp.where(done, 0, token), jnp.where(done, 0, logp)
    put = lambda all, new: write_at(all, new[:, :, None], (index * 0, index * 0, index))
    return written._replace(
        index=index + 1, newest=token, token=put(written.token, token), logp=put(written.logp, logp),
        length=jnp.where(done, written.length, index + 1), done=done | _ends(token, ends),
    )  # fmt: skip


def _logit_dtype(x: Array):
    return jnp.promote_types(x.dtype, jnp.float32)
