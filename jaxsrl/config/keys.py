"""Demonstrations without a key: left out of whatever compares with one, and counted; without any, a run is refused."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from jaxsrl.config.run import ConfigError, Stage, TaskData, settings_within
from jaxsrl.data.built import Stored
from jaxsrl.evals.settings import Evaluation
from jaxsrl.rewards.answer import FinalAnswer
from jaxsrl.types import Demonstration


def needs_key(settings: Any) -> bool:
    """Whether an objective or a reward compares final answers with keys, itself or in what it is made of."""
    parts = (part for _, part in settings_within(settings, ""))
    return any(isinstance(part, FinalAnswer) and part.verify is None for part in parts)


def with_key(demonstrations: Sequence[Demonstration], keyless: Any = None) -> Sequence[Demonstration]:
    """Those with a key; of a stored set it is known which rows have none."""
    if isinstance(demonstrations, Stored) and keyless is not None:
        return demonstrations.without(keyless)
    return tuple(d for d in demonstrations if d.answer is not None)


def check_keys(stage: Stage, splits: TaskData) -> TaskData:
    """The splits that the stage trains on: of an objective that needs keys, demonstrations without one are left out and
    counted as `without_key`.

    Raises: ConfigError where nothing is left, for the objective or for an evaluation in `direct` or `chained`; where
      `chained` is asked for and an environment would have to answer.
    """
    _check_environment(stage, splits)
    if needs_key(splits.reward):
        asked = splits.validation[: stage.validate.problems]
        _check_asked(stage, "validate.evaluation", stage.validate.evaluation, asked)
        if stage.test is not None:
            _check_asked(stage, "test", stage.test, splits.test[: stage.test_problems])
    if not needs_key(stage.objective):
        return splits
    kept = with_key(splits.train, splits.keyless)
    if splits.train and not kept:
        raise ConfigError(_missing(stage, "objective", f"none of its {len(splits.train)} demonstrations has"))
    left_out = len(splits.train) - len(kept)
    ends = [sum(splits.parts[: i + 1]) for i in range(len(splits.parts))]
    parts = tuple(len(with_key(splits.train[end - n : end])) for n, end in zip(splits.parts, ends, strict=True))
    counts = dict(splits.counts) | ({"without_key": left_out} if left_out else {})
    return replace(splits, train=kept, counts=counts, parts=parts)


def _check_asked(stage: Stage, name: str, evaluation: Evaluation, asked: Sequence[Demonstration]) -> None:
    modes = [mode for mode in evaluation.modes if mode != "actions"]
    modes += [probe.name for probe in evaluation.probes if probe.needs_answer]
    if modes and asked and not with_key(asked):
        what = f"none of the {len(asked)} demonstrations that {' and '.join(modes)} would solve has"
        raise ConfigError(_missing(stage, name, what) + f", or set stages.{stage.name}.{name}.modes=actions")


def grader(stage: Stage, splits: TaskData) -> FinalAnswer | None:
    """What compares final answers with keys in a stage's objective, else in its evaluations; None if nothing does."""
    parts = [part for _, part in settings_within(stage.objective, "") if isinstance(part, FinalAnswer)]
    asked = stage.validate.evaluation.modes + (stage.test.modes if stage.test else ())
    if set(asked) - {"actions"} and isinstance(splits.reward, FinalAnswer):
        parts.append(splits.reward)
    return next((part for part in parts if part.verify is None), None)


def _check_environment(stage: Stage, splits: TaskData) -> None:
    """Demonstrations with observations have an environment that is not here: no action after the first can be asked."""
    answered = [d for d in splits.train[:1] if d.observations is not None]
    if any(point.form == "solve" for d in answered for point in stage.objective.branch_points(d, 0)):
        raise ConfigError(
            f"stages.{stage.name}.objective samples whole solutions, and there is no environment to answer to their "
            "actions; train on single actions (SRL, SFT), or on demonstrations without observations"
        )
    for name, evaluation, asked in (
        ("validate.evaluation", stage.validate.evaluation, splits.validation), ("test", stage.test, splits.test),
    ):  # fmt: skip
        if evaluation is None or "chained" not in evaluation.modes:
            continue
        if any(d.observations is not None for d in asked[:1]):
            raise ConfigError(
                f"stages.{stage.name}.{name}: chained has no environment to answer to the model's actions, and these "
                "demonstrations have observations; set modes=actions, which asks each action after the expert's"
            )


def _missing(stage: Stage, name: str, what: str) -> str:
    return (
        f"stages.{stage.name}.{name} compares final answers with keys, and {what} one. Name the field that holds it: "
        "data.fields.answer, or data.fields.answer_mark for what follows a mark in the solution"
    )
