"""`config.json` of published checkpoints to `ModelConfig`, and back: Qwen2.5, Qwen3, Llama 3, Mistral, Gemma 3 (text).

Files of different years say the same in different keys; both ways of saying RoPE and layer types are read, and the
older one, which every version understands, is written.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxsrl.models.config import ModelConfig
from jaxsrl.models.rope import LinearScaling, Llama3Scaling, Scaling, YarnScaling

CLASSES = {
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
}
# What a family's configuration class takes for a key that the file leaves out.
DEFAULTS: dict[str, dict[str, Any]] = {
    "qwen2": {"sliding_window": 4096, "max_window_layers": 28},
    "qwen3": {"sliding_window": 4096, "max_window_layers": 28, "head_dim": 128},
    "llama": {},
    "mistral": {"sliding_window": 4096},
    "gemma3_text": {
        "rope_theta": 1_000_000.0, "rope_local_base_freq": 10_000.0, "tie_word_embeddings": True, "head_dim": 256,
        "query_pre_attn_scalar": 256, "sliding_window": 4096, "sliding_window_pattern": 6, "vocab_size": 262_208,
        "num_attention_heads": 8, "num_key_value_heads": 4, "hidden_activation": "gelu_pytorch_tanh",
    },
}  # fmt: skip
EVERYWHERE = {"rope_theta": 10_000.0, "tie_word_embeddings": False, "hidden_act": "silu", "rms_norm_eps": 1e-6}
# Settings that would change the numbers and that this decoder does not have.
MUST_BE_OFF = (
    "attention_bias", "mlp_bias", "final_logit_softcapping", "attn_logit_softcapping", "use_bidirectional_attention",
    "quantization_config", "num_experts", "num_local_experts",
)  # fmt: skip
MOST_LAYERS = 1024
MOST_BYTES = 20_000_000  # of JSON: parsed, it takes ten times the room; files of these families have a fiftieth of it


class WeightsError(ValueError):
    """A checkpoint folder that cannot be read; the message names the file, what is wrong, and the fix if there is."""


def read_config(folder: Path) -> ModelConfig:
    """The sizes in a checkpoint folder's `config.json`, computing in bfloat16 unless told otherwise.

    Raises: WeightsError naming the file and what in it is missing, wrong or unsupported.
    """
    path = Path(folder) / "config.json"
    found = read_json(path)
    try:
        return model_config(found)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise WeightsError(f"{path}: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """Raises: WeightsError if there is no such file in its folder or it holds no JSON object."""
    if not path.exists():
        raise WeightsError(f"{path} does not exist; a checkpoint folder has config.json and *.safetensors")
    check_own(path)
    if not path.is_file() or path.stat().st_size > MOST_BYTES:
        raise WeightsError(f"{path} is no file, or larger than {MOST_BYTES:,} bytes")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path} cannot be read: {type(error).__name__}: {str(error)[:200]}") from None
    if not isinstance(found, dict):
        raise WeightsError(f"{path} holds a {type(found).__name__}, not an object")
    return found


def check_own(path: Path) -> None:
    """Raises: WeightsError if a file of a checkpoint is a link that leaves the checkpoint's folder.

    In a cache of downloads, `snapshots/REVISION/NAME` are links to `blobs/HASH` beside `snapshots`: these are followed.
    """
    home, real = path.parent.resolve(), path.resolve()
    places = [home, home.parent.parent / "blobs"] if home.parent.name == "snapshots" else [home]
    if real.parent not in places:
        raise WeightsError(
            f"{path} is a link to {real}, outside of its folder, and is not followed; "
            "`cp -rL` copies a folder with the files that its links name"
        )


def is_multimodal(found: Mapping[str, Any]) -> bool:
    """Gemma 3 from 4B on is published with a vision tower around the text model."""
    return found.get("model_type") == "gemma3"


def text_part(found: Mapping[str, Any]) -> Mapping[str, Any]:
    """The `config.json` of the text model, where one of images and text was published; else what was given.

    Raises: ValueError if there is none in it.
    """
    if not is_multimodal(found):
        return found
    inner = found.get("text_config")
    if not isinstance(inner, dict) or inner.get("model_type", "gemma3_text") != "gemma3_text":
        raise ValueError("text_config must be an object of model_type gemma3_text")
    tokens = {key: found[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id") if key in found}
    outer = {key: found[key] for key in MUST_BE_OFF if found.get(key)}
    return {"model_type": "gemma3_text"} | inner | tokens | outer


def model_config(found: Mapping[str, Any]) -> ModelConfig:
    """Raises: ValueError naming the key."""
    found = text_part(found)
    family = found.get("model_type")
    if family not in CLASSES:
        raise ValueError(f"model_type={family!r} is none of {', '.join(CLASSES)}, gemma3")
    for key in MUST_BE_OFF:
        if found.get(key):
            raise ValueError(f"{key}={str(found[key])[:50]} is not supported")
    _check_rotated(found)
    given = EVERYWHERE | DEFAULTS[family]
    given |= {key: value for key, value in found.items() if value is not None or key == "sliding_window"}
    gemma = family == "gemma3_text"
    activation, only = given["hidden_activation" if gemma else "hidden_act"], "gelu_pytorch_tanh" if gemma else "silu"
    if activation != only:
        raise ValueError(f"activation {str(activation)[:50]!r} is not {only}, the one {family} has here")
    heads, layers = _whole(given, "num_attention_heads"), _whole(given, "num_hidden_layers", MOST_LAYERS)
    width = _whole(given, "hidden_size")
    base, scaling, local = _rope(family, given)
    window, everywhere = _windows(family, given, layers)
    return ModelConfig(
        vocab=_whole(given, "vocab_size"), width=width, layers=layers, heads=heads,
        kv_heads=_whole(given, "num_key_value_heads") if "num_key_value_heads" in given else heads,
        head_width=_whole(given, "head_dim") if "head_dim" in given else width // heads,
        mlp_width=_whole(given, "intermediate_size"), rope_base=base, rope_scaling=scaling,
        rms_epsilon=_number(given, "rms_norm_eps"), qkv_bias=family == "qwen2", qk_norm=gemma or family == "qwen3",
        tied=_flag(given, "tie_word_embeddings"),
        window=window, global_layers=everywhere, local_rope_base=local if window else None,
        query_scalar=_number(given, "query_pre_attn_scalar") if gemma else None,
        activation="gelu_tanh" if gemma else "silu", norm_offset=gemma, post_norms=gemma, scale_embedding=gemma,
        dtype="bfloat16",
    )  # fmt: skip


def _whole(given: Mapping[str, Any], key: str, most: int = 2**31, least: int = 1) -> int:
    value = given.get(key)
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{key} must be a whole number from {least} to {most}, got {str(value)[:50]!r}")
    return value


def _number(given: Mapping[str, Any], key: str) -> float:
    value = given.get(key)
    if type(value) not in (int, float) or not 0 < value < 1e12:
        raise ValueError(f"{key} must be a number above 0, got {str(value)[:50]!r}")
    return float(value)


def _flag(given: Mapping[str, Any], key: str) -> bool:
    if not isinstance(given[key], bool):
        raise ValueError(f"{key} must be true or false, got {str(given[key])[:50]!r}")
    return given[key]


def _check_rotated(found: Mapping[str, Any]) -> None:
    """Raises: ValueError if only a part of each head is rotated."""
    places = [found, found.get("rope_scaling"), found.get("rope_parameters")]
    places += places[-1].values() if isinstance(places[-1], dict) else []
    for said in places:
        if isinstance(said, dict) and said.get("partial_rotary_factor") not in (None, 1):
            raise ValueError(f"partial_rotary_factor={str(said['partial_rotary_factor'])[:50]} is not supported")


def _rope(family: str, given: Mapping[str, Any]) -> tuple[float, Scaling | None, float | None]:
    """(base, stretch, base of windowed layers), from either of the two ways in which files say it.

    A base inside `rope_scaling` counts before the one beside it, as in Transformers.
    """
    both, older = given.get("rope_parameters"), _scaling(given.get("rope_scaling"), given)
    older_base = _number(given | _theta(given.get("rope_scaling")), "rope_theta")
    if not isinstance(both, dict):
        local = _number(given, "rope_local_base_freq") if family == "gemma3_text" else None
        return older_base, older, local
    if family == "gemma3_text":
        whole, local = both.get("full_attention"), both.get("sliding_attention")
        if not isinstance(whole, dict) or not isinstance(local, dict):
            raise ValueError("rope_parameters must have full_attention and sliding_attention")
        if _scaling(local, given) is not None:
            raise ValueError("rope_parameters.sliding_attention must not be stretched")
        base = _number(local, "rope_theta")
    else:
        whole, base = both, None
    scaling, whole_base = _scaling(whole, given), _number(given | _theta(whole), "rope_theta")
    if given.get("rope_scaling") and (older, older_base) != (scaling, whole_base):
        # Readers do not agree on which of the two counts.
        raise ValueError("rope_scaling and rope_parameters say different things; remove one of them")
    return whole_base, scaling, base


def _theta(said: Any) -> dict[str, Any]:
    """The base of an object that may have one."""
    return {"rope_theta": said["rope_theta"]} if isinstance(said, dict) and "rope_theta" in said else {}


def _scaling(said: Any, given: Mapping[str, Any]) -> Scaling | None:
    if said is None:
        return None
    if not isinstance(said, dict):
        raise ValueError(f"rope_scaling must be an object, got {str(said)[:50]!r}")
    kind = said.get("rope_type", said.get("type")) or ("default" if said.keys() <= {"rope_theta"} else None)

    def length() -> int:
        own = "original_max_position_embeddings"
        places = [where for where in (said, given) if where.get(own) is not None]
        if len(places) == 2 and said[own] != given[own]:
            raise ValueError(f"{own} is said twice: {str(said[own])[:50]} and {str(given[own])[:50]}")
        return _whole(places[0], own) if places else _whole(given, "max_position_embeddings")

    match kind:
        case "default":
            return None
        case "linear":
            return LinearScaling(factor=_number(said, "factor"))
        case "llama3":
            return Llama3Scaling(
                factor=_number(said, "factor"), low_frequency_factor=_number(said, "low_freq_factor"),
                high_frequency_factor=_number(said, "high_freq_factor"), original_length=length(),
            )  # fmt: skip
        case "yarn":
            for key in ("mscale", "mscale_all_dim"):
                if said.get(key):
                    raise ValueError(f"rope_scaling.{key} is not supported")
            if said.get("truncate") is False:
                raise ValueError("rope_scaling.truncate=false is not supported")
            known = {"beta_fast": "fast", "beta_slow": "slow", "attention_factor": "attention_factor"}
            more = {ours: _number(said, theirs) for theirs, ours in known.items() if said.get(theirs) is not None}
            return YarnScaling(factor=_number(said, "factor"), original_length=length(), **more)
    raise ValueError(f"rope_scaling of type {str(kind)[:50]!r} is none of default, linear, llama3, yarn")


def _windows(family: str, given: Mapping[str, Any], layers: int) -> tuple[int | None, tuple[int, ...]]:
    """(window, layers that see everything)."""
    off = family == "llama" or (family in ("qwen2", "qwen3") and not given.get("use_sliding_window"))
    if off or given.get("sliding_window") is None:
        return None, ()
    window, kinds = _whole(given, "sliding_window"), given.get("layer_types")
    if kinds is None and family == "gemma3_text":
        every = _whole(given, "sliding_window_pattern")
        everywhere = [i for i in range(layers) if (i + 1) % every == 0]
    elif kinds is None and family in ("qwen2", "qwen3"):
        everywhere = list(range(min(_whole(given, "max_window_layers", least=0), layers)))
    elif kinds is None:
        everywhere = []
    elif isinstance(kinds, list) and len(kinds) == layers and set(kinds) <= {"full_attention", "sliding_attention"}:
        everywhere = [i for i, kind in enumerate(kinds) if kind == "full_attention"]
    else:
        raise ValueError(f"layer_types must name full_attention or sliding_attention for each of the {layers} layers")
    return (None, ()) if len(everywhere) == layers else (window, tuple(everywhere))


def published_config(config: ModelConfig, length: int) -> dict[str, Any]:
    """The `config.json` of the family that has these settings.

    Args:
      length: `max_position_embeddings`, the tokens that whoever serves the model may allow.
    Raises: ValueError if no family has them; the message names the settings.
    """
    c, family = config, _family(config)
    out: dict[str, Any] = {
        "model_type": family, "architectures": [CLASSES[family]], "vocab_size": c.vocab, "hidden_size": c.width,
        "num_hidden_layers": c.layers, "num_attention_heads": c.heads, "num_key_value_heads": c.kv_heads,
        "head_dim": c.head_width, "intermediate_size": c.mlp_width, "max_position_embeddings": length,
        "rms_norm_eps": c.rms_epsilon, "rope_theta": c.rope_base, "rope_scaling": _said(c.rope_scaling),
        "tie_word_embeddings": c.tied, "attention_dropout": 0.0,
    }  # fmt: skip
    whole = range(c.layers) if c.window is None else c.global_layers
    kinds = {"layer_types": ["full_attention" if i in whole else "sliding_attention" for i in range(c.layers)]}
    if family == "gemma3_text":
        # Without a window the family's own sizes of it stay unused.
        return out | kinds | {
            "hidden_activation": "gelu_pytorch_tanh", "rope_local_base_freq": c.local_rope_base or 10_000.0,
            "query_pre_attn_scalar": _plain(c.query_scalar or c.head_width), "sliding_window": c.window or 4096,
        }  # fmt: skip
    out |= {"hidden_act": "silu", "sliding_window": c.window}
    if family in ("qwen2", "qwen3"):
        # These families window the layers from a number on, unless each is named.
        out |= {"use_sliding_window": c.window is not None, "max_window_layers": len(c.global_layers)}
    from_a_number_on = tuple(whole) == tuple(range(len(whole))) and (family != "mistral" or not whole)
    if family == "llama":
        del out["sliding_window"]
    return out if c.window is None or from_a_number_on else out | kinds


def _plain(number: float) -> float | int:
    """Readers of this key want a whole number where it is one."""
    return int(number) if number == int(number) else number


def _family(config: ModelConfig) -> str:
    c = config
    gemma = (c.norm_offset, c.post_norms, c.scale_embedding, c.activation == "gelu_tanh")
    if all(gemma) and c.qk_norm and not c.qkv_bias and (c.window is None or c.local_rope_base is not None):
        return "gemma3_text"
    if not any(gemma) and c.local_rope_base is None and c.query_scalar in (None, c.head_width):
        match c.qkv_bias, c.qk_norm:
            case True, False:
                return "qwen2"
            case False, True:
                return "qwen3"
            case False, False:
                return "mistral" if c.window else "llama"
    names = ("qkv_bias", "qk_norm", "window", "local_rope_base", "query_scalar", "activation", "norm_offset",
             "post_norms", "scale_embedding")  # fmt: skip
    raise ValueError("no published family has " + ", ".join(f"{name}={getattr(c, name)!r}" for name in names))


def _said(scaling: Scaling | None) -> dict[str, Any] | None:
    match scaling:
        case None:
            return None
        case LinearScaling():
            return {"rope_type": "linear", "factor": scaling.factor}
        case Llama3Scaling():
            return {
                "rope_type": "llama3", "factor": scaling.factor, "low_freq_factor": scaling.low_frequency_factor,
                "high_freq_factor": scaling.high_frequency_factor,
                "original_max_position_embeddings": scaling.original_length,
            }  # fmt: skip
        case YarnScaling():
            said = {
                "rope_type": "yarn", "factor": scaling.factor, "beta_fast": scaling.fast, "beta_slow": scaling.slow,
                "original_max_position_embeddings": scaling.original_length,
            }  # fmt: skip
            own = scaling.attention_factor
            return said if own is None else said | {"attention_factor": own}
