"""The line under the title says what was trained, whatever model the config began with."""

import json

from jaxsrl.report.headline import headline
from jaxsrl.report.read import read_run

SIZES = {"vocab": 49152, "width": 576, "layers": 30, "heads": 9, "kv_heads": 3, "head_width": 64, "mlp_width": 1536}


def said(folder, model=None, published=None, text=None, **config):
    base = {"name": "x", "model": {"type": "ModelConfig", "vocab": 272, "width": 96}, "tokenizer": "bytes", "seed": 3}
    parts = {"config": base | config, "model": model, "weights_config": published, "text": text}
    for name, value in parts.items():
        if value is not None:
            (folder / f"{name}.json").write_text(json.dumps(value))
    return str(headline(read_run(folder)))


def test_published_weights_are_named_with_their_own_size(tmp_path):
    line = said(
        tmp_path, model=SIZES | {"tied": True}, published={"architectures": ["LlamaForCausalLM"]},
        text={"name": "smollm2", "template": "smollm2"}, lora=None, weights="models/smollm2",
    )  # fmt: skip
    for part in ("LlamaForCausalLM weights of models/smollm2", "135M parameters in 30 layers of width 576",
                 "vocabulary 49\u202f152", "all parameters are trained", "tokenizer smollm2, template smollm2",
                 "seed 3"):  # fmt: skip
        assert part in line, line
    assert "272" not in line and "96" not in line and "bytes" not in line and "random" not in line


def test_before_the_weights_are_read_the_configs_model_is_not_claimed(tmp_path):
    line = said(tmp_path, weights="models/smollm2")
    assert "weights of models/smollm2" in line and "272" not in line


def test_adapters_are_named(tmp_path):
    line = said(tmp_path, model=SIZES, lora={"type": "LoRA", "rank": 8, "alpha": 16.0, "matrices": ["query", "up"]})
    assert "LoRA of rank 8, alpha 16.0 on query, up: adapters alone are trained" in line
    assert "random at the start" in line


def test_sizes_that_are_none_are_shown_as_they_are(tmp_path):
    assert "layers 30" in said(tmp_path, model=SIZES | {"heads": 7, "kv_heads": 2})
