"""Five published families against Transformers: logits, caches, and folders that go in and out."""

import json
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxsrl.models.cache import init_own_cache
from jaxsrl.models.config import PRESETS, parameter_count, preset
from jaxsrl.models.families import MOST_BYTES, WeightsError, model_config, published_config, read_config
from jaxsrl.models.load import INDEX, SINGLE, load_weights
from jaxsrl.models.names import HEAD, tensors
from jaxsrl.models.save import save_weights
from jaxsrl.models.transformer import decode, forward, head_matrix, init_params, prefill
from tests.models.checkpoints import CASES, checkpoint, drawn, golden, reference


def loaded(folder):
    config = replace(read_config(folder), dtype="float32")
    return config, load_weights(folder, config)


def rows_of(ids, length):
    """position, enter, leave of rows with padding at their ends."""
    index = np.broadcast_to(np.arange(ids.shape[1], dtype=np.int32), ids.shape)
    real = index < length[:, None]
    return tuple(jnp.asarray(x, jnp.int32) for x in (index * real, np.where(real, 0, -1), np.where(real, 1, -1)))


@pytest.mark.parametrize("case", CASES)
def test_logits_are_transformers(case, tmp_path):
    """With padding, beyond the window, past the original length; then token by token through the cache."""
    want = golden(case)
    config, params = loaded(checkpoint(tmp_path / "in", case))
    ids, length = jnp.asarray(want["ids"]), want["length"]
    tree = rows_of(want["ids"], length)
    head = head_matrix(config, params)
    logits = np.asarray(jax.jit(partial(forward, config))(params, ids, *tree) @ head)
    real = np.arange(ids.shape[1]) < length[:, None]
    scale = np.abs(want["logits"]).max()
    assert scale > 1
    np.testing.assert_allclose(logits[real], want["logits"][real], atol=2e-5 * scale, rtol=0)
    made = jax.jit(partial(stepwise, config), static_argnums=2)(params, ids[:1], 15) @ head
    np.testing.assert_allclose(made, want["logits"][0, 15:], atol=2e-5 * scale, rtol=0)


def stepwise(config, params, ids, given):
    """Hidden states from token `given` on: a prompt prefilled, then one token at a time."""
    tree = rows_of(np.zeros((1, given)), np.array([given]))
    _, prompt = prefill(config, params, ids[:, :given], *tree, tree[0])
    count = ids.shape[1] - given

    def step(own, index):
        at, seen = jnp.full((1, 1), given + index, jnp.int32), jnp.ones((1, 1, given), bool)
        token = jax.lax.dynamic_slice_in_dim(ids, given + index, 1, 1)
        last, own = decode(config, params, token, at, prompt, seen, tree[0], own, index)
        return own, last[0, 0]

    return jax.lax.scan(step, init_own_cache(config, 1, 1, count, jnp.float32), jnp.arange(count))[1]


@pytest.mark.parametrize(
    ("case", "change"),
    [
        ("gemma3", {"global_layers": ()}), ("gemma3", {"local_rope_base": None}), ("gemma3", {"query_scalar": None}),
        ("gemma3", {"activation": "silu"}), ("gemma3", {"norm_offset": False}), ("gemma3", {"scale_embedding": False}),
        ("mistral_window", {"window": None}), ("qwen2_yarn", {"rope_scaling": None}),
        ("llama_stretched", {"rope_scaling": None}),
    ],
)  # fmt: skip
def test_every_setting_matters(case, change, tmp_path):
    """The control: without it the logits are others."""
    want = golden(case)
    config, params = loaded(checkpoint(tmp_path / "in", case))
    run = jax.jit(partial(forward, replace(config, **change)))
    hidden = run(params, jnp.asarray(want["ids"][:1]), *rows_of(want["ids"][:1], want["length"][:1]))
    difference = np.abs(hidden @ head_matrix(config, params) - want["logits"][:1])
    assert difference.max() > 1e-2 * np.abs(want["logits"]).max()


@pytest.mark.needs("torch", "transformers")
@pytest.mark.parametrize("case", CASES)
def test_live_transformers_agrees_and_loads_what_is_written(case, tmp_path):
    """Where torch is installed: the folder written here gives Transformers' own classes the same logits."""
    import transformers

    want = golden(case)
    config, params = loaded(checkpoint(tmp_path / "in", case))
    save_weights(tmp_path / "out", config, params, dtype="float32", shard_bytes=20_000)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", attn_implementation="eager").float()
    for row, length in enumerate(want["length"]):
        logits = reference.logits_of(model.eval(), want["ids"][row : row + 1, :length], [length])[0]
        np.testing.assert_allclose(logits, want["logits"][row, :length], atol=1e-5 * np.abs(logits).max())


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_round_trip_is_bitwise(case, dtype, tmp_path):
    """Files to parameters to files: every tensor comes back, bit for bit, and the config says the same model."""
    config, params = loaded(checkpoint(tmp_path / "in", case, files=3))
    save_weights(
        tmp_path / "a", config, params, dtype=dtype, source=json.loads((tmp_path / "in/config.json").read_text())
    )
    again, read = loaded(tmp_path / "a")
    assert again == config
    save_weights(tmp_path / "b", again, read, dtype=dtype, shard_bytes=30_000)
    files = sorted((tmp_path / "b").glob("*.safetensors"))
    assert len(files) > 1 and (tmp_path / "b" / INDEX).exists()
    held = {name: x for file in files for name, x in load_file(file).items()}
    kind = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16}[dtype]
    want = {name: x.astype(kind) for name, x in drawn(case).items()}
    assert held.keys() == want.keys()
    assert all(held[name].dtype == kind and held[name].tobytes() == want[name].tobytes() for name in want)
    assert json.loads((tmp_path / "a/config.json").read_text())["max_position_embeddings"] == 256
    assert json.loads((tmp_path / "a/config.json").read_text())["eos_token_id"] == 2


def test_every_preset_has_a_published_form():
    for name in PRESETS:
        config = preset(name)
        back = model_config(published_config(config, 4096))
        assert replace(back, dtype=config.dtype, remat=config.remat) == replace(
            config, query_scalar=back.query_scalar
        ), name
    with pytest.raises(ValueError, match="no published family has qkv_bias=True, qk_norm=True"):
        published_config(replace(preset("0.2M"), qkv_bias=True), 4096)


@pytest.mark.parametrize("name", ["0.2M", "qwen2.5-0.5b", "llama-3.1-8b", "gemma-3-1b"])
def test_names_cover_all_parameters(name):
    config = preset(name)
    shapes = jax.eval_shape(lambda: init_params(config, jax.random.key(0)))
    paths = {tuple(key.key for key in path): x.shape for path, x in jax.tree_util.tree_leaves_with_path(shapes)}
    listed = {}
    for tensor in tensors(config):
        shape = tensor.shape[::-1] if tensor.transposed else tensor.shape
        listed[tensor.path] = (config.layers, *shape) if tensor.stacked else shape
    assert listed == paths


def test_a_share_of_each_device(tmp_path):
    """Sharded over 4 devices, every device holds its part of the same numbers."""
    config, whole = loaded(checkpoint(tmp_path / "in", "qwen3"))
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("fsdp",))
    last = lambda x: "fsdp" if x.shape[-1] % 2 == 0 else None
    spec = lambda x: jax.sharding.NamedSharding(mesh, jax.P(*[None] * (x.ndim - 1), last(x)))
    parts = load_weights(tmp_path / "in", config, sharding=jax.tree.map(spec, whole))
    jax.tree.map(np.testing.assert_array_equal, parts, whole)
    shares = [x.addressable_shards[0].data.size / x.size for x in jax.tree.leaves(parts)]
    assert len(mesh.devices) == 2 and 0.5 in shares


def test_everything_wrong_is_named_at_once(tmp_path):
    folder = checkpoint(tmp_path / "in", "qwen2")
    held = load_file(folder / SINGLE)
    held["model.norm.weight"] = held["model.norm.weight"][:-1]
    held["model.layers.7.extra"] = held.pop("model.layers.1.mlp.up_proj.weight")
    held["model.layers.0.input_layernorm.weight"] = np.zeros(32, np.int8)
    save_file(held, folder / SINGLE)
    with pytest.raises(WeightsError) as error:
        load_weights(folder, read_config(folder))
    for text in (
        "1 missing: model.layers.1.mlp.up_proj.weight", "1 unexpected: model.layers.7.extra",
        "1 mis-shaped: model.norm.weight is [31], not [32]", "1 quantised: model.layers.0.input_layernorm.weight is I8",
    ):  # fmt: skip
        assert text in str(error.value)


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gpt2"}, "model_type='gpt2' is none of qwen2"),
        ({"hidden_act": "relu"}, "activation 'relu' is not silu"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers must be a whole number from 1 to 1024"),
        ({"hidden_size": "32"}, "hidden_size must be a whole number"),
        ({"quantization_config": {"bits": 4}}, "quantization_config.*not supported"),
        ({"rope_scaling": {"rope_type": "longrope"}}, "'longrope' is none of"),
        ({"num_key_value_heads": 3}, "multiple of model.kv_heads=3"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps must be a number above 0"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5 is not supported"),
        ({"rope_parameters": YARN | {"partial_rotary_factor": 0.5}}, "partial_rotary_factor=0.5 is not supported"),
        ({"rope_parameters": {"rope_type": "default"}, "rope_scaling": YARN}, "say different things; remove one"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1e4}}}, "of type 'None' is none of"),
        (
            {"rope_parameters": YARN | {"rope_theta": 5e5}, "rope_scaling": YARN | {"rope_theta": 1e6}},
            "say different things; remove one",
        ),
        ({"rope_scaling": YARN | {"rope_theta": "5e5"}}, "rope_theta must be a number above 0, got '5e5'"),
        ({"rope_scaling": YARN, "original_max_position_embeddings": 32}, "is said twice: 16 and 32"),
        ({"model_type": "gemma3"}, "text_config must be an object"),
        ({"model_type": "gemma3", "text_config": {"model_type": "mistral"}}, "of model_type gemma3_text"),
    ],
)
def test_a_config_that_cannot_be_is_refused(change, message, tmp_path):
    folder = checkpoint(tmp_path / "in", "qwen2")
    (folder / "config.json").write_text(json.dumps(reference.published("qwen2") | change))
    with pytest.raises(WeightsError, match=f"config.json: .*{message}"):
        read_config(folder)


@pytest.mark.parametrize("file", ["../in2/model.safetensors", "/etc/passwd", "a/b.safetensors", "model.bin", "..", ""])
def test_an_index_stays_in_its_folder(file, tmp_path):
    folder = checkpoint(tmp_path / "in", "qwen2", files=2)
    checkpoint(tmp_path / "in2", "qwen2")
    (folder / INDEX).write_text(json.dumps({"weight_map": {"model.norm.weight": file}}))
    with pytest.raises(WeightsError, match="is no safetensors file of this folder"):
        load_weights(folder, read_config(folder))


def test_links_stay_in_their_folder_or_its_cache(tmp_path):
    """A cache of downloads keeps names in one folder and contents in another; any other link out is not followed."""
    blobs, folder = tmp_path / "hub/blobs", checkpoint(tmp_path / "hub/snapshots/1a2b", "qwen2", files=2)
    blobs.mkdir()
    for number, path in enumerate(sorted(folder.iterdir())):
        path.rename(blobs / str(number))
        path.symlink_to(f"../../blobs/{number}")
    (tmp_path / "latest").symlink_to(folder)
    config, params = loaded(tmp_path / "latest")
    jax.tree.map(np.testing.assert_array_equal, params, loaded(checkpoint(tmp_path / "in", "qwen2"))[1])
    (tmp_path / "in" / SINGLE).rename(tmp_path / "elsewhere")
    (tmp_path / "in" / SINGLE).symlink_to(tmp_path / "elsewhere")
    (tmp_path / "hub/snapshots").rename(tmp_path / "hub/others")
    for wrong in (tmp_path / "in", tmp_path / "hub/others/1a2b"):
        with pytest.raises(WeightsError, match="outside of its folder, and is not followed; `cp -rL`"):
            load_weights(wrong, config)


def test_sizes_of_headers_are_bounded(tmp_path):
    folder = checkpoint(tmp_path / "in", "qwen2")
    (folder / SINGLE).write_bytes((MOST_BYTES + 1).to_bytes(8, "little"))
    with pytest.raises(WeightsError, match="a header of 20000001 bytes"):
        load_weights(folder, read_config(folder))
    (folder / "config.json").write_text(" " * MOST_BYTES + "{}")
    with pytest.raises(WeightsError, match="larger than"):
        read_config(folder)


def test_a_tied_head_is_the_embedding(tmp_path):
    """Some folders repeat it; another matrix is not passed over."""
    folder, held = checkpoint(tmp_path / "in", "qwen2"), drawn("qwen2")
    for head, right in ((held["model.embed_tokens.weight"], True), (held["model.embed_tokens.weight"] + 1, False)):
        save_file(held | {HEAD: head}, folder / SINGLE)
        if right:
            load_weights(folder, read_config(folder))
        else:
            with pytest.raises(WeightsError, match="ties the head to the embedding, but lm_head.weight is another"):
                load_weights(folder, read_config(folder))


NESTED = (
    {"model.": "language_model.model.", "vision": "vision_tower."},
    {"model.": "model.language_model.", "vision": "model.vision_tower."},
)


@pytest.mark.parametrize("prefix", NESTED)
def test_the_text_part_of_gemma(prefix, tmp_path):
    """From 4B on the family is published with a vision tower: the text model is read, and written alone."""
    folder, held, case = tmp_path / "in", drawn("gemma3_stretched"), reference.published("gemma3_stretched")
    folder.mkdir()
    named = {name.replace("model.", prefix["model."], 1): x for name, x in held.items()}
    save_file(named | {prefix["vision"] + "x.weight": np.zeros(3, np.float32)}, folder / SINGLE)
    inner = {key: value for key, value in case.items() if not key.endswith("token_id")}
    outer = {"model_type": "gemma3", "text_config": inner, "vision_config": {}, "eos_token_id": [1, 106]}
    (folder / "config.json").write_text(json.dumps(outer))
    config, params = loaded(folder)
    assert config == replace(model_config(case), dtype="float32")
    save_weights(tmp_path / "out", config, params, dtype="float32", source=outer)
    again = load_file(tmp_path / "out" / SINGLE)
    assert again.keys() == held.keys() and all(again[name].tobytes() == held[name].tobytes() for name in held)
    said = json.loads((tmp_path / "out/config.json").read_text())
    assert said["model_type"] == "gemma3_text" and said["eos_token_id"] == [1, 106] and "vision_config" not in said


def test_published_gemma_leaves_out_what_its_class_says():
    """The 4B folder's text_config: the other sizes are the class's."""
    inner = {
        "hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024,
    }  # fmt: skip
    config = model_config({"model_type": "gemma3", "text_config": inner})
    assert (config.vocab, config.heads, config.kv_heads, config.head_width) == (262208, 8, 4, 256)
    assert parameter_count(config) == 3_880_263_168


KINDS = {"s": "sliding_attention", "f": "full_attention"}


@pytest.mark.parametrize("case", ["qwen2_window", "mistral_window", "gemma3"])
@pytest.mark.parametrize("kinds", ["sfsf", "ffss", "ssss", "ffff"])
def test_layer_types_come_in_and_go_out(case, kinds):
    """Mistral's too: readers take each layer's kind from the list where there is one."""
    said = reference.published(case) | {"num_hidden_layers": 4, "layer_types": [KINDS[kind] for kind in kinds]}
    config = model_config(said)
    window = lambda i: config.window is not None and i not in config.global_layers
    assert ["s" if window(i) else "f" for i in range(4)] == list(kinds)
    assert model_config(published_config(config, 256)) == config


def test_two_ways_to_say_rope():
    old, new = ({"rope_theta": 5e5, "rope_scaling": YARN}, {"rope_parameters": YARN | {"rope_theta": 5e5}})
    case = {key: value for key, value in reference.published("llama").items() if key != "rope_theta"}
    assert model_config(case | old) == model_config(case | new) == model_config(case | old | new)
    plain = model_config(case | {"rope_theta": 5e5})
    assert plain == model_config(case | {"rope_parameters": {"rope_theta": 5e5}})
    outside = {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}, "original_max_position_embeddings": 16}
    assert model_config(case | {"rope_theta": 5e5} | outside) == model_config(case | old)


def test_pickles_are_not_opened(tmp_path):
    folder = checkpoint(tmp_path / "in", "qwen2")
    (folder / SINGLE).rename(folder / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="pytorch_model.bin may run code"):
        load_weights(folder, read_config(folder))


def test_a_base_inside_rope_scaling_counts_as_in_transformers():
    """What Transformers 5.23.0 makes of each: `LlamaConfig(**said).rope_parameters["rope_theta"]`."""
    case = {key: value for key, value in reference.published("llama").items() if key != "rope_theta"}
    base = lambda **said: model_config(case | said).rope_base
    assert base(rope_scaling=YARN | {"rope_theta": 5e5}) == 5e5
    assert base(rope_scaling=YARN | {"rope_theta": 5e5}, rope_theta=1e4) == 5e5
    assert base(rope_scaling=YARN, rope_theta=5e5) == 5e5
    assert base(rope_scaling=YARN) == base() == 1e4
    config = model_config(reference.published("gemma3") | {"rope_scaling": {"rope_type": "default", "rope_theta": 7e5}})
    assert (config.rope_base, config.local_rope_base) == (7e5, 1e4)
    assert model_config(published_config(config, 256)).rope_base == 7e5


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_tensor_that_is_not_finite_is_named(tmp_path, wrong):
    folder = checkpoint(tmp_path / "in", "qwen2")
    held = load_file(folder / SINGLE)
    name = "model.layers.1.mlp.up_proj.weight"
    held[name] = held[name].copy()
    held[name][3, 5] = wrong
    save_file(held, folder / SINGLE, metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=rf"{name} has 1 of \d+ numbers that are not finite in float32"):
        load_weights(folder, read_config(folder))


def test_a_number_too_large_for_the_parameters_is_named(tmp_path):
    folder = checkpoint(tmp_path / "in", "qwen2")
    held = load_file(folder / SINGLE)
    held["model.norm.weight"] = np.full(held["model.norm.weight"].shape, 1e300)
    save_file(held, folder / SINGLE, metadata={"format": "pt"})
    with pytest.raises(WeightsError, match="model.norm.weight has .* not finite in float32"):
        load_weights(folder, read_config(folder))
