"""Demonstrations without a key: left out of whatever compares with one, and counted; without any, a run is refused."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from jaxsrl.config.run import ConfigError, Stage, TaskData, settings_within
from jaxsrl.evals.settings import Evaluation
from jaxsrl.rewards.answer import FinalAnswer
from jaxsrl.types import Demonstration


def needs_key(settings: Any) -> bool:
    """Whether an objective or a reward compares final answers with keys, itself or in what it is made of."""
    parts = (part for _, part in settings_within(settings, ""))
    return any(isinstance(part, FinalAnswer) and part.verify is None for part in parts)


def with_key(demonstrations: Sequence[Demonstration]) -> tuple[Demonstration, ...]:
    return tuple(d for d in demonstrations if d.answer is not None)


def check_keys(stage: Stage, splits: TaskData) -> TaskData:
    """The splits that the stage trains on: of an objective that needs keys, demonstrations without one are left out and
    counted as `without_key`.

    Raises: ConfigError where nothing is left, for the objective or for an evaluation in `direct` or `chained`.
    """
    if needs_key(splits.reward):
        asked = splits.validation[: stage.validate.problems]
        _check_asked(stage, "validate.evaluation", stage.validate.evaluation, asked)
        if stage.test is not None:
            _check_asked(stage, "test", stage.test, splits.test[: stage.test_problems])
    if not needs_key(stage.objective):
        return splits
    kept = with_key(splits.train)
    if splits.train and not kept:
        raise ConfigError(_missing(stage, "objective", f"none of its {len(splits.train)} demonstrations has"))
    left_out = len(splits.train) - len(kept)
    counts = dict(splits.counts) | ({"without_key": left_out} if left_out else {})
    return replace(splits, train=kept, counts=counts)


def _check_asked(stage: Stage, name: str, evaluation: Evaluation, asked: Sequence[Demonstration]) -> None:
    modes = [mode for mode in evaluation.modes if mode != "actions"]
    if modes and asked and not with_key(asked):
        what = f"none of the {len(asked)} demonstrations that {' and '.join(modes)} would solve has"
        raise ConfigError(_missing(stage, name, what) + f", or set stages.{stage.name}.{name}.modes=actions")


def _missing(stage: Stage, name: str, what: str) -> str:
    return (
        f"stages.{stage.name}.{name} compares final answers with keys, and {what} one. Name the field that holds it: "
        "data.fields.answer, or data.fields.answer_mark for what follows a mark in the solution"
    )
