"""Evaluation of a saved policy on its stage's held-out problems, printed as a table and kept with the run."""

from pathlib import Path

import jax

from jaxsrl.commands.policy import Saved
from jaxsrl.commands.results import FOLDER, interval, keep, plain
from jaxsrl.config.run import Config, ConfigError
from jaxsrl.console import Console
from jaxsrl.metrics import merge
from jaxsrl.runs import environment, write_json
from jaxsrl.stages.evaluation import evaluate_policy
from jaxsrl.stages.sizes import evaluation_shapes


def evaluate_saved(config: Config, policy: Saved, split: str, count: int, json: Path | None = None) -> str:
    """Metrics of a policy on the first `count` problems of a split, with the settings of its stage's test.

    They go into the run's folder `evaluations/`, with the completions, and to the file `json` too.

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
    with Console().wait(f"evaluating {len(problems)} {split} problems"):
        metrics, records = evaluate_policy(
            policy.policy, config, policy.stage, policy.splits, policy.material.tokenizer, key, problems, settings,
            shapes,
        )  # fmt: skip
    values = merge([metrics])
    title = policy.asked(config).name
    result = {
        "policy": title, "split": split, "problems": len(problems), "metrics": values, "environment": environment()
    }  # fmt: skip
    path = keep(Path(config.runs) / config.name / FOLDER, f"{policy.name}.{split}", result, records)
    if json is not None:
        write_json(json, plain(result))
    lines = [f"{title}: {len(problems)} {split} problems" + (", all there are" if len(problems) < count else "")]
    for name, value in values.items():
        if not name.endswith(("_low", "_high")):
            lines.append(f"{name:<40} " + ("–" if value is None else interval(values, name).replace(" [", "  [")))
    Console().say(f"kept in {path}")
    return "\n".join(lines)
