"""Which run a folder holds, and which of its policies a user means."""

import sys
from collections.abc import Sequence
from pathlib import Path

from jaxsrl.checkpoint import Checkpoints, PolicyName, parse_old
from jaxsrl.runs import RunError, run_folder


def check_run(folder: Path) -> None:
    """Raises FileNotFoundError for a folder that holds no run, RunError for one that has saved nothing."""
    if not (run_folder(folder) / "checkpoints").is_dir():
        raise RunError(f"{folder} has no checkpoints: nothing of it was saved yet")


def choose_policy(checkpoints: Checkpoints, stages: Sequence[str], text: str | None) -> PolicyName:
    """The saved policy that a user names: `STAGE`, `STAGE:last` or `STAGE:best`; None takes the newest stage's last.

    `STAGE-last` and `STAGE-best-STEP`, the spelling of version 0.1, are read for one version more, and it is said.

    Args:
      stages: names of the run's stages, in their order.
    Raises: RunError if there is no such policy, or the old spelling is also the name of a stage.
    """
    if text is None:
        there = [p for stage in stages for p in checkpoints.policies() if p == PolicyName(stage, "last")]
        if not there:
            raise RunError(f"{checkpoints.folder.parent} has no policy of a stage that ended yet")
        return there[-1]
    old = parse_old(text, stages)
    if old is not None and text in stages:
        raise RunError(f"{text!r} may be {old} in the old spelling, or {text}:last: name one of these")
    if old is not None:
        print(f"note: {text!r} is an old spelling that goes with the next version; write {old}", file=sys.stderr)
    try:
        return checkpoints.find(old or PolicyName.parse(text))
    except (ValueError, FileNotFoundError) as error:
        known = ", ".join(map(str, checkpoints.policies())) or "none yet"
        raise RunError(f"{checkpoints.folder.parent} has no policy {text!r}; there are: {known}") from error
