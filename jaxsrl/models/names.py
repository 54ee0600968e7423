"""Where each parameter lies in a published checkpoint."""

from dataclasses import dataclass

from jaxsrl.models.config import ModelConfig


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """One parameter and the tensor, or one per layer, that holds it.

    Args:
      path: keys into `Params`.
      name: of the tensor; `{layer}` stands for a layer's number.
      shape: of the tensor as the file has it.
      transposed: files hold matrices as [out, in], parameters are [in, out].
    """

    path: tuple[str, ...]
    name: str
    shape: tuple[int, ...]
    transposed: bool = False

    @property
    def stacked(self) -> bool:
        return self.path[0] == "layers"


def tensors(config: ModelConfig) -> tuple[Tensor, ...]:
    """All parameters of a model, in a fixed order."""
    c = config
    queries, keys = c.heads * c.head_width, c.kv_heads * c.head_width
    vector = lambda name, theirs, size: Tensor(path=("layers", name), name=LAYER + theirs, shape=(size,))
    matrix = lambda name, theirs, out, into: Tensor(
        path=("layers", name), name=f"{LAYER}{theirs}.weight", shape=(out, into), transposed=True
    )
    found = [
        Tensor(path=("embedding",), name="model.embed_tokens.weight", shape=(c.vocab, c.width)),
        matrix("query", "self_attn.q_proj", queries, c.width),
        matrix("key", "self_attn.k_proj", keys, c.width),
        matrix("value", "self_attn.v_proj", keys, c.width),
        matrix("out", "self_attn.o_proj", c.width, queries),
        matrix("gate", "mlp.gate_proj", c.mlp_width, c.width),
        matrix("up", "mlp.up_proj", c.mlp_width, c.width),
        matrix("down", "mlp.down_proj", c.width, c.mlp_width),
        vector("attention_norm", "input_layernorm.weight", c.width),
    ]
    if c.post_norms:
        found += [
            vector("attention_post_norm", "post_attention_layernorm.weight", c.width),
            vector("mlp_norm", "pre_feedforward_layernorm.weight", c.width),
            vector("mlp_post_norm", "post_feedforward_layernorm.weight", c.width),
        ]
    else:
        found.append(vector("mlp_norm", "post_attention_layernorm.weight", c.width))
    if c.qkv_bias:
        sizes = (("query", "q", queries), ("key", "k", keys), ("value", "v", keys))
        found += [vector(f"{ours}_bias", f"self_attn.{theirs}_proj.bias", size) for ours, theirs, size in sizes]
    if c.qk_norm:
        found += [
            vector(f"{ours}_norm", f"self_attn.{theirs}_norm.weight", c.head_width)
            for ours, theirs in (("query", "q"), ("key", "k"))
        ]
    found.append(Tensor(path=("final_norm",), name="model.norm.weight", shape=(c.width,)))
    if not c.tied:
        found.append(Tensor(path=("head",), name=HEAD, shape=(c.vocab, c.width), transposed=True))
    return tuple(found)


def text_name(name: str) -> str | None:
    """The name that a tensor of a model of images and text has in one of text alone; None: it is of no use there.

    Files of different years nest them differently.
    """
    for theirs, ours in (("language_model.model.", "model."), ("model.language_model.", "model."),
                         ("language_model.lm_head.", "lm_head.")):  # fmt: skip
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    vision = ("vision_tower.", "multi_modal_projector.")
    return None if name.removeprefix("model.").startswith(vision) else name


LAYER = "model.layers.{layer}."
HEAD = "lm_head.weight"
