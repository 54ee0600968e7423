"""What was trained, in a line: the model as it was, not as the config began with it."""

from typing import Any

from jaxsrl.models.config import ModelConfig, parameter_count
from jaxsrl.report.html import Html, tag
from jaxsrl.report.names import number
from jaxsrl.report.read import Line, Run, is_number

SIZES = ("vocab", "width", "layers", "heads", "kv_heads", "head_width", "mlp_width")
FLAGS = ("qkv_bias", "qk_norm", "tied", "post_norms")


def headline(run: Run) -> Html | None:
    """Model, what of it was trained, tokenizer and template, seed and devices; None where no file says any of it."""
    parts = [part for part in (_model(run), _trained(run), _text(run), _seed(run), _devices(run)) if part]
    return tag("p", " · ".join(parts), class_="lead") if parts else None


def _model(run: Run) -> str:
    """Where it comes from, and its size: that of `model.json`, which with weights is not the config's."""
    config, weights = run.config, run.config.get("weights")
    sizes = run.model or ({} if weights else config.get("model"))
    said = _sizes(sizes) if isinstance(sizes, dict) else ""
    if not weights:
        return f"random at the start: {said}" if said else ""
    kinds = run.weights.get("architectures")
    kind = f"{kinds[0]} " if isinstance(kinds, list) and kinds and isinstance(kinds[0], str) else ""
    return f"{kind}weights of {weights}" + (f", {said}" if said else "")


def _sizes(model: Line) -> str:
    whole = {name: model.get(name) for name in SIZES}
    if not all(isinstance(v, int) and not isinstance(v, bool) and 0 < v < 1e9 for v in whole.values()):
        return ", ".join(f"{name} {value}" for name, value in whole.items() if is_number(value))
    try:
        made = ModelConfig(**whole, **{name: model[name] for name in FLAGS if isinstance(model.get(name), bool)})
    except ValueError:  # a file that nobody trained from
        return ", ".join(f"{name} {value}" for name, value in whole.items())
    return (
        f"{_count(parameter_count(made))} parameters in {made.layers} layers of width {made.width}, {made.heads} heads "
        f"({made.kv_heads} for keys and values), vocabulary {number(made.vocab)}"
    )


def _count(parameters: int) -> str:
    for size, letter in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if parameters >= size:
            return f"{parameters / size:.3g}{letter}"
    return str(parameters)


def _trained(run: Run) -> str:
    if "lora" not in run.config and not run.model:
        return ""
    lora = run.config.get("lora")
    if not isinstance(lora, dict):
        return "all parameters are trained"
    matrices = lora.get("matrices")
    on = f" on {', '.join(map(str, matrices))}" if isinstance(matrices, list) and matrices else ""
    return f"LoRA of rank {lora.get('rank')}, alpha {lora.get('alpha')}{on}: adapters alone are trained"


def _text(run: Run) -> str:
    template: Any = run.config.get("template")
    template = template.get("kind") if isinstance(template, dict) else None
    name = run.text.get("name") or run.config.get("tokenizer")
    kind = run.text.get("template") or template
    return (f"tokenizer {name}" if name else "") + (f", template {kind}" if name and kind else "")


def _seed(run: Run) -> str:
    return f"seed {run.config['seed']}" if "seed" in run.config else ""


def _devices(run: Run) -> str:
    devices = run.environment.get("devices")
    if not isinstance(devices, list):
        return ""
    kinds = {str(d): devices.count(d) for d in devices}
    return ", ".join(f"{n} × {kind}" for kind, n in kinds.items())
