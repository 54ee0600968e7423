"""Whether a stage's demonstrations fit the rows of its programs: asked before the first step, not met later."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax

from jaxsrl.config.run import Config, ConfigError, Stage, TaskData
from jaxsrl.data.chat import Tokenizer, completion
from jaxsrl.data.tree import build, path_tokens
from jaxsrl.processes import from_each
from jaxsrl.types import BranchPoint, Demonstration

Measured = Callable[[Callable[[Demonstration], Any], Sequence[Demonstration]], list[Any]]


def measured(measure: Callable[[Demonstration], Any], demonstrations: Sequence[Demonstration]) -> list[Any]:
    """JSON values of all demonstrations, in some order; each of several processes measures a share."""
    own = share(demonstrations, jax.process_index(), jax.process_count())
    return [found for part in from_each(lambda: [measure(d) for d in own]) for found in part]


def share(demonstrations: Sequence[Demonstration], process: int, processes: int) -> Sequence[Demonstration]:
    """Those that a process measures."""
    return demonstrations[process::processes]


def check_fits(
    config: Config, stage: Stage, splits: TaskData, tokenizer: Tokenizer, measured: Measured = measured
) -> str | None:
    """Returns a warning about expert actions that no completion is long enough to write, or None.

    Args:
      measured: (what is measured, demonstrations) -> what is found of each.
    Raises: ConfigError naming the setting, how many demonstrations are too long for it, and what would do.
    """
    rows = stage.rows or config.rows
    train = measured(lambda d: longest_tokens(config, stage, d, tokenizer), splits.train)
    held_out = (*splits.validation[: stage.validate.problems], *splits.test[: stage.test_problems if stage.test else 0])
    prompts = [prompt for prompt, _ in train] + measured(lambda d: longest_prompt(config, d, tokenizer), held_out)
    _check(stage, "rows.tokens", rows.tokens, [whole for _, whole in train])
    _check(stage, "rows.prompt_tokens", rows.prompt_tokens, prompts)
    return _out_of_reach(config, stage, splits, tokenizer, measured)


def _out_of_reach(
    config: Config, stage: Stage, splits: TaskData, tokenizer: Tokenizer, measured: Measured
) -> str | None:
    if not any(p.form == "action" for d in splits.train[:1] for p in stage.objective.branch_points(d, 0)):
        return None
    size = lambda action: len(completion(config.template, tokenizer, None, action, opens=True))
    measure = lambda d: [size(action) for action in d.actions[:-1]]
    lengths = [length for actions in measured(measure, splits.train) for length in actions]
    cap, long = stage.sampling.max_new_tokens, sum(n > stage.sampling.max_new_tokens for n in lengths)
    if not long:
        return None
    return (
        f"{long} of {len(lengths)} expert actions alone are longer than sampling.max_new_tokens={cap}, the longest has "
        f"{max(lengths)} tokens: no completion can equal them"
    )


def _check(stage: Stage, setting: str, allowed: int | None, lengths: Iterable[int]) -> None:
    if allowed is None:  # chosen so that all fit
        return
    lengths = list(lengths)
    long = sum(length > allowed for length in lengths)
    if long:
        raise ConfigError(
            f"stage {stage.name}: {long} of {len(lengths)} demonstrations do not fit {setting}={allowed}; the longest "
            f"needs {max(lengths)} tokens. Raise it, or leave long ones out (max_characters)"
        )


def longest_tokens(config: Config, stage: Stage, demonstration: Demonstration, tokenizer: Tokenizer) -> tuple[int, int]:
    """Tokens of the longest prompt that training samples from, and of the longest path that it learns."""
    points = list(stage.objective.branch_points(demonstration, 0))
    if any(point.form == "action" for point in points):  # another step may draw the deepest, before the last action
        points.append(BranchPoint(after=max(len(demonstration.actions) - 2, 0), samples=1))
    tree = build(demonstration, points, stage.objective.trunk, config.template, tokenizer)
    prompts = [len(path_tokens(tree, node)) for node in tree.branch.values()]
    targets = [len(path_tokens(tree, i)) for i, node in enumerate(tree.nodes) if node.target]
    longest = max(prompts, default=0)
    return longest, max([*targets, longest + stage.sampling.max_new_tokens if prompts else 0])


def longest_prompt(config: Config, demonstration: Demonstration, tokenizer: Tokenizer) -> int:
    """Tokens of the longest prompt in evaluation after the expert's actions: all but the last one given."""
    point = BranchPoint(after=max(len(demonstration.actions) - 1, 0), samples=1)
    tree = build(demonstration, [point], (), config.template, tokenizer)
    return len(path_tokens(tree, tree.branch["action", point.after]))
