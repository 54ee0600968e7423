"""Whether a stage's demonstrations fit the rows of its programs: asked before the first step, not met later."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Int

from jaxsrl.collect.settings import BatchShapes
from jaxsrl.config.run import Config, ConfigError, Stage, TaskData
from jaxsrl.data.chat import Tokenizer, completion
from jaxsrl.data.large import MEASURED_WHOLE, sampled
from jaxsrl.data.shapes import Shapes
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
    config: Config, stage: Stage, splits: TaskData, tokenizer: Tokenizer, measured: Measured = measured,
    known: Int[np.ndarray, "N 2"] | None = None,
) -> str | None:  # fmt: skip
    """Returns a warning about rows left out, and expert actions that no completion is long enough to write, or None.

    Args:
      measured: (what is measured, demonstrations) -> what is found of each.
      known: tokens of the longest prompt and path of every training demonstration, where they were measured before.
    Raises: ConfigError naming the setting, how many demonstrations are too long for it, and what would do.
    """
    _check_history(config, stage)
    rows = stage.rows or config.rows
    if known is None:
        train = measured(lambda d: longest_tokens(config, stage, d, tokenizer), sampled(splits.train))
    else:
        train = [tuple(row) for row in known.tolist()]
    held_out = (*splits.validation[: stage.validate.problems], *splits.test[: stage.test_problems if stage.test else 0])
    asked = measured(lambda d: longest_prompt(config, d, tokenizer), held_out)
    whole = len(splits.train) <= MEASURED_WHOLE
    told = None if whole else _left_out(rows, train, len(splits.train))
    if not whole:  # what turns out too long is left out, if it is not most of the rows
        train = sorted(train)[: (len(train) + 1) // 2]
    _check(stage, "rows.tokens", rows.tokens, [path for _, path in train])
    _check(stage, "rows.prompt_tokens", rows.prompt_tokens, [prompt for prompt, _ in train] + asked)
    return "; ".join(filter(None, [told, _out_of_reach(config, stage, splits, tokenizer, measured)])) or None


def _check_history(config: Config, stage: Stage) -> None:
    asked = {*stage.validate.evaluation.modes, *(stage.test.modes if stage.test else ())}
    if config.template.history is not None and ("direct" in asked or "solve" in stage.objective.trunk):
        raise ConfigError(
            f"template.history={config.template.history} shows the last actions only, and stage {stage.name} asks for "
            "or trains on whole solutions: set objective.trunk=action and modes=actions, or template.history=None"
        )


def _left_out(rows: BatchShapes, train: Sequence[tuple[int, int]], count: int) -> str:
    """What to tell of rows that were not all measured, or of those that were and do not fit."""
    prompt, path = rows.prompt_tokens or np.inf, rows.tokens or np.inf
    long = sum(a > prompt or b > path for a, b in train)
    if len(train) == count:
        return f"all {count} demonstrations were measured before; {long} are too long for the rows and left out"
    return (
        f"{len(train)} of {count} demonstrations were measured, of which {long} are too long for the rows; such rows "
        "are left out and counted (collect/too_long); `jaxsrl data build` measures all of them once"
    )


def fitting(config: Config, stage: Stage, tokenizer: Tokenizer, shapes: Shapes) -> Callable[[Demonstration], bool]:
    """Whether a demonstration that was never measured fits the sizes of a stage's programs."""

    def fits(demonstration: Demonstration) -> bool:
        points = stage.objective.branch_points(demonstration, 0)
        tree = build(demonstration, points, stage.objective.trunk, config.template, tokenizer)
        targets = sum(len(node.token) for node in tree.nodes if node.target)
        prompt, path = longest_tokens(config, stage, demonstration, tokenizer)
        return path <= shapes.tokens and targets <= shapes.targets and (not prompt or prompt <= shapes.prompt_tokens)

    return fits


def _out_of_reach(
    config: Config, stage: Stage, splits: TaskData, tokenizer: Tokenizer, measured: Measured
) -> str | None:
    if not any(p.form == "action" for d in splits.train[:1] for p in stage.objective.branch_points(d, 0)):
        return None
    size = lambda action: len(completion(config.template, tokenizer, None, action, opens=True))
    measure = lambda d: [size(action) for action in d.actions[:-1]]
    lengths = [length for actions in measured(measure, sampled(splits.train)) for length in actions]
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
        points += _longest_points(config, max(len(demonstration.actions) - 2, 0))
    tree = build(demonstration, points, stage.objective.trunk, config.template, tokenizer)
    prompts = [len(path_tokens(tree, node)) for node in tree.branch.values()]
    targets = [len(path_tokens(tree, i)) for i, node in enumerate(tree.nodes) if node.target]
    longest = max(prompts, default=0)
    return longest, max([*targets, longest + stage.sampling.max_new_tokens if prompts else 0])


def longest_prompt(config: Config, demonstration: Demonstration, tokenizer: Tokenizer) -> int:
    """Tokens of the longest prompt in evaluation after the expert's actions: all but the last one given."""
    points = _longest_points(config, max(len(demonstration.actions) - 1, 0))
    tree = build(demonstration, points, (), config.template, tokenizer)
    return max(len(path_tokens(tree, tree.branch["action", point.after])) for point in points)


def _longest_points(config: Config, deepest: int) -> list[BranchPoint]:
    """Where the longest prompt may be: at the deepest point, or anywhere if only the last actions are shown."""
    first = deepest if config.template.history is None else 0
    return [BranchPoint(after=after, samples=1) for after in range(first, deepest + 1)]
