"""What a stage leaves on disk, and what happens where the disk does not take it."""

import time
from collections.abc import Callable

from jaxsrl.checkpoint import PolicyName, SaveError
from jaxsrl.processes import any_process
from jaxsrl.progress import Best, Progress
from jaxsrl.runs import durable
from jaxsrl.stages.parts import Parts
from jaxsrl.types import TrainState

PAUSES = (1.0, 5.0, 25.0)  # seconds between tries of what the run cannot go on without


def save(parts: Parts, state: TrainState, progress: Progress) -> bool:
    """Starts saving a checkpoint. One that the disk refuses is said, and training goes on: the next save tries again.

    Returns: whether it was begun. An error while it is written is found by the next save.
    Raises: SaveError once `survive.failed_saves` failed in a row.
    """
    try:
        parts.run.checkpoints.wait()
    except SaveError as error:  # the save before
        _tolerate(parts, error)
    try:
        begin_save(parts, state, progress)
    except SaveError as error:
        _tolerate(parts, error)
        return False
    return True


def begin_save(parts: Parts, state: TrainState, progress: Progress) -> None:
    """Metrics and rollouts are durable before the checkpoint that knows their length is.

    Raises: SaveError, in all processes, where this save cannot begin or one before it failed.
    """
    parts.writer.drain()
    saved, failed = parts.run.checkpoints, None
    saved.wait()
    if progress.done:  # before the save: a kill in between leaves a stage that is not done, and finds its best again
        drop_worse(parts, progress)
    try:
        parts.run.flush()
    except OSError as error:
        failed = error
    if any_process(failed is not None):
        raise SaveError(str(failed or "another process cannot write its lines")) from failed
    saved.save((saved.latest() or 0) + 1, state, progress.to_record() | durable(parts.run))


def _tolerate(parts: Parts, error: SaveError) -> None:
    checkpoints, most = parts.run.checkpoints, parts.config.survive.failed_saves
    checkpoints.failures += 1
    told = f"warning: [{parts.stage.name}] checkpoint not saved ({checkpoints.failures} in a row): {error}"
    if checkpoints.failures >= most:
        raise SaveError(f"{error}; {checkpoints.failures} in a row failed. Make room, and the same command goes on")
    parts.run.console.say(f"{told}. Training goes on; the run ends after {most} (survive.failed_saves)")


def insist(parts: Parts, what: Callable[[], None]) -> None:
    """Does what the run cannot go on without; tried again for half a minute where the disk refuses.

    Raises: SaveError where it still does.
    """
    for pause in PAUSES:
        try:
            return what()
        except SaveError as error:
            parts.run.console.say(f"warning: [{parts.stage.name}] not saved: {error}. Next try in {pause:.0f} s")
            time.sleep(pause)
    return what()


def save_whole(parts: Parts, state: TrainState, progress: Progress) -> None:
    """A checkpoint that is complete on disk on return. Raises SaveError where it cannot be."""

    def whole() -> None:
        begin_save(parts, state, progress)
        parts.run.checkpoints.wait()

    insist(parts, whole)


def keep_last(parts: Parts, state: TrainState, progress: Progress) -> None:
    """What was trained is safe before the last evaluations: one that fails or is killed is repeated alone."""

    def whole() -> None:
        parts.run.checkpoints.save_policy(PolicyName(parts.stage.name, "last"), state.params)
        parts.run.checkpoints.wait()

    insist(parts, whole)
    save(parts, state, progress)


def keep_best(parts: Parts, state: TrainState, best: Best) -> bool:
    """Whether the parameters of the best validation so far are being saved; it is said where the disk refuses them."""
    for last in (False, True):  # what the first finds may have befallen the save before
        try:
            parts.run.checkpoints.save_policy(best_name(parts, best), state.params)
            return True
        except SaveError as error:
            if last:
                parts.run.console.say(
                    f"warning: [{parts.stage.name}] best policy of step {best.step} not kept: {error}"
                )
    return False


def best_name(parts: Parts, best: Best) -> PolicyName:
    return PolicyName(parts.stage.name, "best", best.step)


def drop_worse(parts: Parts, progress: Progress) -> None:
    """Removes best policies but the best, those of a killed attempt included; none where the best could not be kept."""
    best = None if progress.best is None else best_name(parts, progress.best)
    if best is None or best in parts.run.checkpoints.policies():
        parts.run.checkpoints.drop_best(parts.stage.name, best)
