"""Evaluation of a saved policy, printed as a table."""

import jax

from jaxsrl.commands.policy import Saved
from jaxsrl.config.run import Config, ConfigError
from jaxsrl.metrics import merge
from jaxsrl.stages.evaluation import evaluate_policy
from jaxsrl.stages.sizes import evaluation_shapes


def evaluate_saved(config: Config, policy: Saved, split: str, count: int) -> str:
    """Metrics of a policy on the first `count` problems of a split, with the settings of its stage's test.

    Raises: ConfigError where the split is empty or no problem is asked for.
    """
    if count < 1:
        raise ConfigError(f"problems must be >= 1, got {count}")
    problems = getattr(policy.splits, split)[:count]
    if not problems:
        raise ConfigError(f"the {split} split of stage {policy.stage.name} is empty")
    settings = policy.stage.test or policy.stage.validate.evaluation
    key = jax.random.key(config.seed)
    shapes = evaluation_shapes(config, policy.stage, policy.splits, policy.material.tokenizer)
    metrics, _ = evaluate_policy(
        policy.policy, config, policy.stage, policy.splits, policy.material.tokenizer, key, problems, settings, shapes
    )
    values = merge([metrics])
    lines = [f"policy {policy.name} of {config.name}: {len(problems)} {split} problems"]
    for name, value in values.items():
        if name.endswith(("_low", "_high")):
            continue
        bounds = [values.get(f"{name}_{side}") for side in ("low", "high")]
        interval = f"  [{bounds[0]:.3f}, {bounds[1]:.3f}]" if None not in bounds else ""
        lines.append(f"{name:<40} " + ("–" if value is None else f"{value:.4g}{interval}"))
    return "\n".join(lines)
