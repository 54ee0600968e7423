"""FLOPs of a stage's programs, by formula: products alone, two for each multiply-add, over all devices.

`tests/clusters/test_flops.py` holds them to 2 % of the programs as JAX traces them.
"""

from jaxsrl.models.cache import PARTS
from jaxsrl.models.config import ModelConfig
from jaxsrl.models.lora import LoRA


def matrices(c: ModelConfig) -> dict[str, tuple[int, int]]:
    """name -> rows and columns of a layer's matrices."""
    queries, keys = c.heads * c.head_width, c.kv_heads * c.head_width
    return {
        "query": (c.width, queries), "key": (c.width, keys), "value": (c.width, keys), "out": (queries, c.width),
        "gate": (c.width, c.mlp_width), "up": (c.width, c.mlp_width), "down": (c.mlp_width, c.width),
    }  # fmt: skip


def layer_parameters(c: ModelConfig) -> int:
    """Of the matrices of one layer."""
    return sum(rows * columns for rows, columns in matrices(c).values())


def adapter_parameters(c: ModelConfig, lora: LoRA) -> int:
    """Of all layers."""
    return c.layers * sum(lora.rank * sum(matrices(c)[name]) for name in lora.matrices)


def forward(c: ModelConfig, tokens: float, pairs: float, lora: LoRA | None = None) -> float:
    """Layers over tokens that see `pairs` of each other, without the head: a prefill."""
    adapters = 0 if lora is None else adapter_parameters(c, lora)
    return 2 * tokens * (c.layers * layer_parameters(c) + adapters) + 4 * c.layers * c.heads * c.head_width * pairs


def score(c: ModelConfig, tokens: float, scored: float, pairs: float, lora: LoRA | None = None) -> float:
    """Log-probs of a batch, `scored` of its tokens."""
    return forward(c, tokens, pairs, lora) + 2 * scored * c.width * c.vocab


def gradient(c: ModelConfig, tokens: float, scored: float, pairs: float, lora: LoRA | None = None) -> float:
    """Loss and gradient of a batch, what is computed anew for want of memory included.

    Scores of attention and logits are always made anew: 14 a pair and channel, 8 a scored token and head parameter.
    `remat=full` makes all products of a layer anew but the last, whose result nothing needs. A base under adapters gets
    no gradient of its own; adapters are made anew under `dots` too.
    """
    layer = layer_parameters(c)
    passes = 3 if lora is None else 2
    again = layer - c.mlp_width * c.width if c.remat == "full" else 0
    products = 2 * tokens * c.layers * (passes * layer + again)
    if lora is not None:
        products += 2 * tokens * adapter_parameters(c, lora) * (3 if c.remat == "none" else 4)
    head = (8 if lora is None else 6) * scored * c.width * c.vocab
    return products + head + 14 * c.layers * c.heads * c.head_width * pairs


def decode(c: ModelConfig, rows: int, prompt_tokens: int, slots: int, cap: int, lora: LoRA | None = None) -> float:
    """All tokens of a sampler call after its prefill, every completion as long as the cap.

    A slot's scores are made with all tokens of its prompt row, and with its own columns up to the end of the quarter
    that it has come to.
    """
    jobs, adapters = rows * slots, 0 if lora is None else adapter_parameters(c, lora)
    token = 2 * (c.layers * layer_parameters(c) + adapters)
    seen = sum(prompt_tokens + columns for columns in own_columns(cap))
    attention = 4 * c.layers * c.heads * c.head_width * seen
    return jobs * ((cap - 1) * token + cap * 2 * c.width * c.vocab + attention)


def own_columns(cap: int) -> list[int]:
    """Of each turn of the sampler's loop: how many of its own columns a slot reads."""
    part = -(-cap // PARTS)
    return [min(part * (index // part + 1), cap) for index in range(cap - 1)]


def useful_gradient(c: ModelConfig, tokens: float, scored: float, pairs: float, lora: LoRA | None = None) -> float:
    """Of a gradient in which nothing is computed twice: what MFU counts."""
    passes = 3 if lora is None else 2
    attention = 12 * c.layers * c.heads * c.head_width * pairs
    return passes * 2 * (tokens * c.layers * layer_parameters(c) + scored * c.width * c.vocab) + attention
