"""The decoder, split into a pytree of arrays at the boundary.

Layers are stacked on their first axis and run by one `lax.scan`; a layer is compiled once however many there are.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float, Int, Key, Shaped

from jaxsrl.models.cache import Earlier, OwnCache, PromptCache, attend, init_prompt_cache, write, write_chunk
from jaxsrl.models.chunks import Places, attend_chunk, starts, tiles_read, used_columns
from jaxsrl.models.config import ModelConfig
from jaxsrl.models.layer import Layer, matrices, rms_norm
from jaxsrl.models.rope import RopeAngles, rope_angles
from jaxsrl.models.shared_index import largest_member, read_at
from jaxsrl.ops.tree_attention import KEPT, Backend, make_plan, tree_attention
from jaxsrl.sharding import constrain, platform, spec
from jaxsrl.types import Params


class Decoder(nnx.Module):
    """Embedding, stacked layers, final norm, head."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        c = config
        # Rows of length 1 on average, and of the head too: logits start with a variance of about 1.
        tables = matrices(rngs, (c.width, c.vocab), *([] if c.tied else [(c.width, c.vocab)]))
        self.embedding = nnx.Param(tables[0][...].T)
        stack = nnx.split_rngs(splits=c.layers)(nnx.vmap(lambda r: Layer(c, r), in_axes=0, out_axes=0))
        self.layers = stack(rngs)
        self.final_norm = nnx.Param(jnp.full(c.width, 0.0 if c.norm_offset else 1.0, jnp.float32))
        if not c.tied:
            self.head = tables[1]


def init_params(config: ModelConfig, key: Key[Array, ""]) -> Params:
    """Random float32 parameters as a nested dict; those of `layers` are stacked on the first axis."""
    decoder = Decoder(config, nnx.Rngs(params=key))
    return nnx.to_pure_dict(nnx.state(decoder, nnx.Param))


def head_matrix(config: ModelConfig, params: Params) -> Float[Array, "D V"]:
    """The matrix that turns hidden states into logits, in the dtype of the parameters."""
    return params["embedding"].T if config.tied else params["head"]


def rollout_copy(config: ModelConfig, params: Params) -> Params:
    """Parameters in the dtype that every product casts them to: the cast once a step instead of once a token.

    No number changes by it. Norms, which are computed with in float32, stay as they are; so do float64 parameters.
    """
    if config.dtype != "bfloat16":
        return params

    def narrow(path, x):
        return x.astype(jnp.bfloat16) if x.dtype == jnp.float32 and not path[-1].key.endswith("_norm") else x

    return jax.tree_util.tree_map_with_path(narrow, params)


def forward(
    config: ModelConfig, params: Params, token: Int[Array, "R T"], position: Int[Array, "R T"],
    enter: Int[Array, "R T"], leave: Int[Array, "R T"], *, attention_backend: Backend | None = None,
    mesh: jax.sharding.Mesh | None = None,
) -> Float[Array, "R T D"]:  # fmt: skip
    """Hidden states after the final norm, under tree attention (see `Batch`).

    Args:
      mesh: that parameters and rows lie on; None for one device.

    float64 parameters are computed with in float64, whatever `config.dtype`: they are there to check numbers.
    """
    tree = {"position": position, "enter": enter, "leave": leave, "backend": attention_backend}
    return _run(config, params, token, tree, mesh)


def prefill(
    config: ModelConfig, params: Params, token: Int[Array, "R T"], position: Int[Array, "R T"],
    enter: Int[Array, "R T"], leave: Int[Array, "R T"], at: Int[Array, "R J"], *, chunk: int | None = None,
    mesh: jax.sharding.Mesh | None = None,
) -> tuple[Float[Array, "R J D"], PromptCache]:  # fmt: skip
    """Hidden states after the final norm of the tokens `at`, and the keys and values of every layer.

    Chunks of columns run one after another, up to the last token of the longest row; behind it nothing is written.
    Rows must be in depth-first order, as `tree_attention` wants them.

    Args:
      chunk: columns of a chunk; None takes whole rows at once.
      mesh: that parameters and rows lie on; None for one device.
    """
    (rows, columns), places = token.shape, Places(position=position, enter=enter, leave=leave)
    chunk, used = min(chunk or columns, columns), used_columns(places)
    first, tiles = starts(columns, chunk), [tiles_read(places, chunk, window) for window in _kinds(config)]

    def run(number, carried):
        cache, found = carried
        start, read = first[number], tuple(largest_member(count[:, number]) for count in tiles)
        cut = lambda x: read_at(x, (start * 0, start), (rows, chunk))
        x, cache = _fill(config, params, cut(token), cut(position), cache, places, start, read, mesh)
        inside = (at >= start) & (at < start + chunk)
        own = jnp.take_along_axis(x, jnp.clip(at - start, 0, chunk - 1)[:, :, None], axis=1)
        return cache, jnp.where(inside[:, :, None], own, found)

    dtype = _dtype(config, params)
    empty = init_prompt_cache(config, rows, columns, dtype)
    empty = jax.tree.map(lambda x: constrain(mesh, x, None, "rows", "heads", None, None), empty)
    carried = empty, jnp.zeros((*at.shape, config.width), dtype)
    if len(first) == 1:
        cache, found = run(0, carried)
    else:
        # Of a static number of chunks, so that a compiled program says how often it may run.
        reached = lambda number, carried: jax.lax.cond(
            first[number] < used, lambda carried: run(number, carried), lambda carried: carried, carried
        )
        cache, found = jax.lax.fori_loop(0, len(first), reached, carried)
    return _final(config, params, found), cache


def _fill(
    config: ModelConfig, params: Params, token: Int[Array, "R c"], position: Int[Array, "R c"], cache: PromptCache,
    places: Places, start: Int[Array, ""], tiles: tuple[Int[Array, ""], ...], mesh: jax.sharding.Mesh | None,
) -> tuple[Float[Array, "R c D"], PromptCache]:  # fmt: skip
    """A chunk through all layers, and the cache with its keys and values."""
    x = _embed(config, params, token, mesh)
    turns = _rope_angles(config, position, x.dtype)

    def body(carry, part):
        x, cache = carry
        number, window = part
        layer = _layer(config, jax.tree.map(partial(_at_layer, number), params["layers"]))
        q, k, v = layer.qkv(x, _of_layer(turns, window))
        cache = write_chunk(cache, number, start, k, v)
        attended = attend_chunk(
            q, cache, places, layer=number, start=start, tiles=_of_layer(tiles, window), window=window
        )
        return (layer.finish(x, attended), cache), None

    layers = jnp.arange(config.layers, dtype=start.dtype)
    return jax.lax.scan(body, (x, cache), (layers, _windows(config)))[0]


def decode(
    config: ModelConfig, params: Params, token: Int[Array, "R S"], position: Int[Array, "R S"], prompt: PromptCache,
    prompt_mask: Bool[Array, "R S T"], prompt_position: Int[Array, "R T"], own: OwnCache, index: Int[Array, ""],
    earlier: Earlier | None = None,
) -> tuple[Float[Array, "R S D"], OwnCache]:  # fmt: skip
    """One token of every slot: it sees the prompt tokens its mask allows and its own columns up to `index`.

    Args:
      position: of the tokens; a slot's own columns hold the positions before.
      prompt_mask: a slot that sees no prompt token at all sees its own columns only.
      own: written at column `index` in place, when the caller's loop carries it.
      index: 0 <= index < capacity.
      earlier: where slots take one job after another. Then `index` is the turn, and `own` the block that it is in.
    Returns: hidden states after the final norm, and the cache.
    """
    x, index = _embed(config, params, token), jnp.asarray(index)
    turns = _rope_angles(config, position, x.dtype)
    column = index if earlier is None else index - earlier.start
    distance = position[:, :, None] - prompt_position[:, None, :]

    def body(carry, part):
        x, own = carry
        number, cache, window = part
        layer = _layer(config, jax.tree.map(partial(_at_layer, number), params["layers"]))
        q, k, v = layer.qkv(x, _of_layer(turns, window))
        own = write(own, number, column, k, v)
        seen = prompt_mask if window is None else prompt_mask & (distance < window)
        attended = attend(q, cache, own, prompt_mask=seen, layer=number, index=index, window=window, earlier=earlier)
        return (layer.finish(x, attended), own), None

    parts = (jnp.arange(config.layers), prompt, _windows(config))
    (x, own), _ = jax.lax.scan(body, (x, own), parts)
    return _final(config, params, x), own


def _at_layer(number: Int[Array, ""], stacked: Shaped[Array, "L ..."]) -> Shaped[Array, "..."]:
    """What a scan would hand over, but with its own layout under `vmap`: a scan moves the layers of all members first.

    That would copy all parameters for every token.
    """
    zero = number * 0
    return read_at(stacked, (number, *(zero,) * (stacked.ndim - 1)), (1, *stacked.shape[1:]))[0]


def _run(config: ModelConfig, params: Params, token, tree, mesh):
    x = _embed(config, params, token, mesh)
    turns, plans = _rope_angles(config, tree["position"], x.dtype), _plans(config, mesh, **tree)

    def body(x, part):
        layer, window = part
        layer = _layer(config, layer)
        q, k, v = layer.qkv(x, _of_layer(turns, window))
        attended = _attend(config, mesh, q, k, v, window=window, plan=_of_layer(plans, window), **tree)
        return layer.finish(x, attended), None

    x, _ = jax.lax.scan(_remat(config, body), x, (params["layers"], _windows(config)))
    return _final(config, params, x)


def _attend(config: ModelConfig, mesh: jax.sharding.Mesh | None, q, k, v, *, backend, window, plan, **tree):
    """Tree attention, of each device's own rows and heads; heads that do not divide are whole on every device.

    With the look-up of the embedding, this is what keeps activations cut by rows: the compiler goes on from here.
    """
    settings = {"backend": backend, "platform": platform(mesh)}
    if mesh is None:
        return tree_attention(q, k, v, window=window, plan=plan, **tree, **settings)
    heads = "heads" if config.kv_heads % mesh.shape["tensor"] == 0 else None
    of = lambda x, *axes: spec(mesh, x.shape, axes)
    inner = [of(x, "rows", None, heads, None) for x in (q, k, v)]
    outer = {name: of(x, "rows", None) for name, x in tree.items()}
    run = lambda q, k, v, tree, window, plan: tree_attention(q, k, v, window=window, plan=plan, **tree, **settings)
    own = PartitionSpec(inner[0][0])
    return jax.shard_map(
        run, mesh=mesh, in_specs=(*inner, outer, PartitionSpec(), own), out_specs=inner[0], check_vma=False
    )(q, k, v, tree, window, plan)  # fmt: skip


def _plans(config: ModelConfig, mesh: jax.sharding.Mesh | None, *, backend, **tree) -> tuple[Any, ...]:
    """What attention makes of the rows, of global layers and, where there are any, of windowed ones; see `make_plan`.

    Each device makes its own rows'.
    """
    make = partial(make_plan, backend=backend, platform=platform(mesh))
    plans = lambda tree: tuple(make(**tree, window=window) for window in _kinds(config))
    if mesh is None or backend == "reference":
        return plans(tree)
    rows = {name: spec(mesh, x.shape, ("rows", None)) for name, x in tree.items()}
    own = PartitionSpec(rows["enter"][0])
    return jax.shard_map(plans, mesh=mesh, in_specs=(rows,), out_specs=own, check_vma=False)(tree)


EVERYTHING = 2**30  # the window of a global layer, in tokens


def _windows(config: ModelConfig) -> Int[Array, "L"] | None:
    """What each layer sees; None where no layer is windowed, which leaves windows out of the program."""
    if config.window is None:
        return None
    return jnp.array([EVERYTHING if i in config.global_layers else config.window for i in range(config.layers)])


def _kinds(config: ModelConfig) -> tuple[int | None, ...]:
    """What layers see: all the same, or global and windowed ones, in the order in which `_of_layer` takes them."""
    return (None,) if config.window is None else (EVERYTHING, config.window)


def _rope_angles(config: ModelConfig, position: Int[Array, "R T"], dtype) -> tuple[RopeAngles, ...]:
    """RoPE's angles of global layers and, where they have a base of their own, of windowed ones."""
    of = lambda base, scaling: rope_angles(config.head_width, base, scaling, position, dtype)
    everywhere = of(config.rope_base, config.rope_scaling)
    return (everywhere,) if config.local_rope_base is None else (everywhere, of(config.local_rope_base, None))


def _of_layer(made: tuple[Any, ...], window: Int[Array, ""] | None) -> Any:
    """Of RoPE's angles, or plans, those of the layer: there are one for all, or global and windowed layers' own."""
    if len(made) == 1:
        return made[0]
    return jax.tree.map(lambda whole, local: jnp.where(window == EVERYTHING, whole, local), *made)


def _remat(config: ModelConfig, body):
    if config.remat == "none":
        return body
    policies = jax.checkpoint_policies
    # What attention returned is kept either way: it is as small as x, and costs more to make anew than all else.
    policy = policies.save_only_these_names(KEPT)
    if config.remat == "dots":
        policy = policies.save_from_both_policies(policy, policies.dots_with_no_batch_dims_saveable)
    return jax.checkpoint(body, policy=policy, prevent_cse=False)  # a scan keeps the two passes apart by itself


def _layer(config: ModelConfig, params: Params) -> Layer:
    """The module of one layer over given arrays, with the adapters that lie beside them."""
    graph, state = nnx.split(nnx.eval_shape(lambda: Layer(config, nnx.Rngs(0))))
    nnx.replace_by_pure_dict(state, {name: x for name, x in params.items() if name != "adapters"})
    layer = nnx.merge(graph, state)
    layer.adapters = nnx.data(params.get("adapters", {}))
    return layer


def _dtype(config: ModelConfig, params: Params):
    """Of activations."""
    return jnp.dtype(jnp.float64 if params["embedding"].dtype == jnp.float64 else config.dtype)


def _embed(
    config: ModelConfig, params: Params, token: Int[Array, "R T"], mesh: jax.sharding.Mesh | None = None
) -> Float[Array, "R T D"]:
    table, dtype = params["embedding"], _dtype(config, params)
    if mesh is None:
        x = table.at[token].get(mode="clip").astype(dtype)
    else:
        x = _look_up(mesh, table, token, dtype)
    return x * jnp.asarray(config.width**0.5, dtype) if config.scale_embedding else x


def _look_up(mesh: jax.sharding.Mesh, table: Float[Array, "V D"], token: Int[Array, "R T"], dtype):
    """Rows of a table that is cut both ways: each device looks up all tokens of its fsdp group in its own part.

    Left to itself, the compiler makes the rows of all devices on every device. A sum over parts of the vocabulary has
    one term that is not 0, so it is exact in `dtype`.
    """
    held = spec(mesh, table.shape, ("vocab", "width"))
    rows = spec(mesh, token.shape, ("rows", None))
    swapped = held[1] is not None and rows[0] is not None

    def look(part, token):
        token = jnp.clip(token, 0, table.shape[0] - 1)
        if swapped:
            token = jax.lax.all_gather(token, "fsdp", tiled=True)
        index = token - (jax.lax.axis_index("tensor") * part.shape[0] if held[0] else 0)
        inside = (index >= 0) & (index < part.shape[0])
        x = part.at[index].get(mode="clip").astype(dtype)
        if held[0]:
            x = jax.lax.psum(jnp.where(inside[:, :, None], x, 0), "tensor")
        return jax.lax.all_to_all(x, "fsdp", 0, 2, tiled=True) if swapped else x

    out = PartitionSpec(rows[0], None, None if swapped else held[1])
    return jax.shard_map(look, mesh=mesh, in_specs=(held, rows), out_specs=out)(table, token)


def _final(config: ModelConfig, params: Params, x: Float[Array, "R T D"]) -> Float[Array, "R T D"]:
    return rms_norm(config, x, params["final_norm"])
