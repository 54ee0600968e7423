"""Logits of tiny random models of every family, computed by Transformers: the reference of test_families.py.

Run with torch and transformers installed, in the folder of this file:

    python make_reference.py golden

It writes one NPZ per case: `ids` [B, T] int32, `length` [B] of the rows before their padding, `logits` [B, T, V].
Weights are drawn from the name of each tensor, so that they need not be stored; the tests draw the same.
"""

import sys
import zlib
from pathlib import Path

import numpy as np

SIZES = {
    "vocab_size": 61, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip
GEMMA = {
    "model_type": "gemma3_text", "head_dim": 16, "query_pre_attn_scalar": 24, "sliding_window": 6,
    "tie_word_embeddings": True, "rope_theta": 1e6, "rope_local_base_freq": 1e4, "num_hidden_layers": 3,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
}  # fmt: skip
CASES = {
    "qwen2": {"model_type": "qwen2", "tie_word_embeddings": True, "rope_theta": 1e6},
    "qwen2_yarn": {
        "model_type": "qwen2", "tie_word_embeddings": False, "rope_theta": 1e4,
        "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
    },
    "qwen2_window": {
        "model_type": "qwen2", "tie_word_embeddings": True, "use_sliding_window": True, "sliding_window": 6,
        "max_window_layers": 2,
    },
    "qwen3": {"model_type": "qwen3", "tie_word_embeddings": False, "head_dim": 12, "rope_theta": 1e6},
    "llama": {"model_type": "llama", "tie_word_embeddings": False, "rope_theta": 5e5},
    "llama_stretched": {
        "model_type": "llama", "tie_word_embeddings": True, "head_dim": 16, "rope_theta": 1e4, "rope_scaling": LLAMA3,
    },
    "mistral": {"model_type": "mistral", "tie_word_embeddings": False, "sliding_window": None, "rope_theta": 1e6},
    "mistral_window": {"model_type": "mistral", "tie_word_embeddings": False, "sliding_window": 6},
    "gemma3": GEMMA,
    "gemma3_stretched": GEMMA | {"rope_scaling": {"rope_type": "linear", "factor": 8.0}},
}  # fmt: skip
LENGTHS = (26, 17)


def published(case: str) -> dict:
    """The `config.json` of a case."""
    return SIZES | CASES[case]


def draw(case: str, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A tensor, float32; vectors lie around what the family's norms multiply by."""
    rng = np.random.default_rng(zlib.crc32(f"{case}/{name}".encode()))
    if len(shape) == 2:
        return rng.normal(0, shape[1] ** -0.5, shape).astype(np.float32)
    middle = 0.0 if name.endswith("bias") or case.startswith("gemma") else 1.0
    return rng.normal(middle, 0.3, shape).astype(np.float32)


def tokens(case: str) -> np.ndarray:
    """Rows of different lengths, filled up with 0."""
    ids = np.random.default_rng(zlib.crc32(case.encode())).integers(3, SIZES["vocab_size"], (2, max(LENGTHS)))
    return np.where(np.arange(max(LENGTHS)) < np.array(LENGTHS)[:, None], ids, 0).astype(np.int32)


def transformers_model(config: dict, weights):
    """The model of a `config.json`, float32, with `weights(name, shape)`."""
    import torch
    import transformers

    made = transformers.AutoConfig.for_model(**config)
    model = transformers.AutoModelForCausalLM.from_config(made, attn_implementation="eager").float().eval()
    with torch.no_grad():
        for name, held in model.named_parameters():
            held.copy_(torch.from_numpy(weights(name, tuple(held.shape))))
    return model


def logits_of(model, ids: np.ndarray, lengths) -> np.ndarray:
    import torch

    mask = torch.from_numpy((np.arange(ids.shape[1]) < np.asarray(lengths)[:, None]).astype(np.int64))
    with torch.no_grad():
        return model(torch.from_numpy(ids.astype(np.int64)), attention_mask=mask).logits.float().numpy()


def main(folder: str) -> None:
    Path(folder).mkdir(exist_ok=True)
    for case in CASES:
        model = transformers_model(published(case), lambda name, shape, case=case: draw(case, name, shape))
        ids = tokens(case)
        logits = logits_of(model, ids, LENGTHS)
        for row, length in enumerate(LENGTHS):
            logits[row, length:] = 0
        np.savez_compressed(Path(folder) / f"{case}.npz", ids=ids, length=np.array(LENGTHS, np.int32), logits=logits)
        print(case, np.abs(logits).max())


if __name__ == "__main__":
    main(sys.argv[1])
