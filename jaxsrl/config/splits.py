"""Train, validation and test of demonstrations that were read: for every data class, those of one's own included."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from jaxsrl.config.run import ConfigError, TaskData
from jaxsrl.data.actions import Splitter, first_action
from jaxsrl.data.demonstrations import Loaded, near_id, split_by_problem
from jaxsrl.rewards.answer import FinalAnswer
from jaxsrl.types import Demonstration

SHOWN = 3  # near-duplicates that are named


def splits(
    loaded: Loaded,
    *,
    reward: FinalAnswer,
    finish_mark: str,
    splitter: Splitter,
    held_out: int | float = 200,
    test: Loaded | None = None,
    max_characters: int | None = None,
    split_seed: int = 0,
) -> TaskData:
    """The splits of a data class: no problem is on two sides, and counts say what was left out.

    Args:
      reward: judges final answers in evaluation.
      finish_mark: in an action, ends a chained solution.
      splitter: how solutions were cut; finds the first action of a completion that runs on.
      held_out: problems, or a share of them, for validation; without `test` half of them are tested on.
      test: a test set of its own; its problems are left out of the training split (`also_in_test`).
      max_characters: leaves out longer problem-and-solution texts (`too_long`).
    Raises: ConfigError where fewer problems were read than are held out.
    """
    kept = _shorter(loaded.demonstrations, max_characters)
    try:
        train, away = split_by_problem(kept, held_out=held_out, seed=split_seed)
    except ValueError as error:
        where = f"{_file(kept)}: {len({d.problem_id for d in kept})} problems"
        raise ConfigError(f"{where} are too few for data.held_out={held_out}: {error}") from error
    counts = dict(loaded.counts) | {"too_long": len(loaded.demonstrations) - len(kept)}
    if test is None:
        half = len({d.problem_id for d in away}) // 2
        validation, tested = split_by_problem(away, held_out=half, seed=split_seed + 1)
    else:
        validation, tested = away, _shorter(test.demonstrations, max_characters)
        seen = {d.problem_id for d in tested}
        both = len(train)
        train = tuple(d for d in train if d.problem_id not in seen)
        counts |= {"also_in_test": both - len(train)} if both > len(train) else {}
    held = (*validation, *tested)
    return TaskData(
        train=train, validation=validation, test=tested, reward=reward, finished=finished_by(finish_mark),
        same=reward.same, first_action=partial(first_action, splitter=splitter), counts=counts, splitter=splitter,
        finish_mark=finish_mark, notes=near_duplicates(train, held),
        quarantine=tuple(str(bad) for part in (loaded, test) if part for bad in part.quarantine),
        files=dict(loaded.files) | (dict(test.files) if test else {}),
    )  # fmt: skip


def finished_by(mark: str) -> Callable[[str, Demonstration], bool]:
    """Whether an action holds the mark."""

    def finished(action: str, demonstration: Demonstration) -> bool:
        return mark in action

    return finished


def near_duplicates(train: Iterable[Demonstration], held_out: Iterable[Demonstration]) -> tuple[str, ...]:
    """A sentence on training problems that differ from held-out ones only in how they are written; none without any.

    They stay: whether two texts are one problem is for a person to say.
    """
    away = {near_id(d.problem): d for d in held_out}
    pairs = [(d, away[near]) for d in train if (near := near_id(d.problem)) in away] if away else []
    if not pairs:
        return ()
    name = lambda d: d.source or d.problem_id
    shown = ", ".join(f"{name(a)} and {name(b)}" for a, b in pairs[:SHOWN])
    return (
        f"{len(pairs)} training problems differ from held-out ones only in case, spacing or punctuation: {shown}"
        + (", ..." if len(pairs) > SHOWN else ""),
    )


def _shorter(demonstrations: Sequence[Demonstration], max_characters: int | None) -> tuple[Demonstration, ...]:
    if max_characters is None:
        return tuple(demonstrations)
    return tuple(d for d in demonstrations if len(d.problem) + sum(map(len, d.actions)) <= max_characters)


def _file(demonstrations: Sequence[Demonstration]) -> str:
    return demonstrations[0].source.rpartition(":")[0] if demonstrations else "the data"
