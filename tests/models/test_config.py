"""Presets have their publishers' sizes, counted from the formula and from the arrays."""

import jax
import pytest

from jaxsrl.models.config import PRESETS, ModelConfig, parameter_count, preset
from jaxsrl.models.rope import Llama3Scaling
from jaxsrl.models.transformer import init_params

PUBLISHED = {
    "Qwen2.5-0.5B": 494_032_768,
    "Qwen2.5-1.5B": 1_543_714_304,
    "Qwen2.5-3B": 3_085_938_688,
    "Qwen2.5-7B": 7_615_616_512,
    "Qwen3-0.6B": 596_049_920,
    "Qwen3-1.7B": 1_720_574_976,
    "Qwen3-4B": 4_022_468_096,
    "Qwen3-8B": 8_190_735_360,
    "Llama-3.2-1B": 1_235_814_400,
    "Llama-3.2-3B": 3_212_749_824,
    "Llama-3.1-8B": 8_030_261_248,
    "Mistral-7B-v0.3": 7_248_023_552,
    "Gemma-3-1B": 999_885_952,
    "SmolLM2-135M": 134_515_008,
}
OURS = {"0.1M": 0.1e6, "0.2M": 0.2e6, "1M": 1e6, "10M": 10e6}
SMALL = {"vocab": 16, "width": 8, "layers": 2, "heads": 4, "kv_heads": 2, "head_width": 4, "mlp_width": 12}


def test_every_preset_is_checked():
    assert {name.lower() for name in PRESETS} == {name.lower() for name in PUBLISHED | OURS}


@pytest.mark.parametrize("name", [*PUBLISHED, *OURS])
def test_parameter_count(name):
    config = preset(name)
    shapes = jax.eval_shape(lambda: init_params(config, jax.random.key(0)))
    assert sum(x.size for x in jax.tree.leaves(shapes)) == parameter_count(config)
    if name in PUBLISHED:
        assert parameter_count(config) == PUBLISHED[name]
    else:
        assert abs(parameter_count(config) / OURS[name] - 1) < 0.2


def test_rope_settings_of_published_models():
    assert preset("Llama-3.2-1B").rope_scaling == Llama3Scaling(factor=32.0)
    assert preset("Llama-3.1-8B").rope_scaling == Llama3Scaling(factor=8.0)
    bases = {"Qwen2.5-0.5B": 1e6, "Qwen3-8B": 1e6, "Llama-3.2-3B": 5e5, "Mistral-7B-v0.3": 1e6}
    assert {name: preset(name).rope_base for name in bases} == bases


def test_preset_changes_fields_and_names_the_nearest():
    assert preset("0.1M", vocab=300, remat="full").vocab == 300
    with pytest.raises(ValueError, match="'Qwen3-0.5B'.*nearest is qwen3-0.6b.*mistral"):
        preset("Qwen3-0.5B")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": 0}, "model.layers must be >= 1, got 0"),
        ({"kv_heads": 3}, "model.heads=4 must be a multiple of model.kv_heads=3"),
        ({"head_width": 5}, "model.head_width must be even for RoPE, got 5"),
        ({"dtype": "float16"}, "model.dtype must be .*'float16'"),
        ({"remat": "some"}, "model.remat must be .*'some'"),
        ({"rope_base": 0.0}, "model.rope_base must be > 0, got 0.0"),
        ({"rms_epsilon": -1.0}, "model.rms_epsilon must be > 0, got -1.0"),
    ],
)
def test_settings_are_checked(change, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**SMALL | change)


def test_scaling_is_checked():
    with pytest.raises(ValueError, match="rope_scaling.factor must be >= 1, got 0.5"):
        Llama3Scaling(factor=0.5)
    with pytest.raises(ValueError, match="low_frequency_factor=4.0 must be below high_frequency_factor=4.0"):
        Llama3Scaling(factor=8.0, low_frequency_factor=4.0)
