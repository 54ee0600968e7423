"""Updates that were left out: counted, said with what was in the batch, and an end where they do not stop."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from jaxsrl.progress import Progress
from jaxsrl.stages.parts import Parts
from jaxsrl.types import Demonstration

SHOWN = 8  # problems of a batch that are named


class Diverged(RuntimeError):
    """Updates were left out one after the other: starting again leads to the same bits."""


def count_skipped(
    parts: Parts, before: Progress, after: Progress, lines: Sequence[Mapping[str, Any]],
    demonstrations: Sequence[Demonstration],
) -> Progress:  # fmt: skip
    """Says which of a collection's updates were left out, and of which demonstrations; progress with their count.

    Raises: Diverged after `survive.skipped_updates` in a row.
    """
    total, row, most = (
        before.metrics.get("update/skipped") or 0,
        before.skipped_in_row,
        parts.config.survive.skipped_updates,
    )
    for line in lines:
        if line["update/skipped"] == total:
            row = row if "grad/norm" not in line else 0  # a step without a batch proves nothing
            continue
        total, row = line["update/skipped"], row + 1
        why = "its gradient was not finite" if line.get("grad/norm") is None else "a spike"
        where = f"[{parts.stage.name}] step {line['step']}"
        named = [d.problem_id for d in demonstrations]
        more = f" and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
        parts.run.console.say(
            f"warning: {where}: update left out, {why} (loss {_text(line['loss'])}, gradient norm "
            f"{_text(line.get('grad/norm'))}); {row} in a row, {total} in all; its problems: "
            f"{', '.join(named[:SHOWN])}{more}"
        )
        if most and row >= most:
            raise Diverged(
                f"{where}: {row} updates in a row were left out, {why}. Parameters are as before them. Lower "
                f"stages.{parts.stage.name}.optimizer.lr under another name, look at the problems named in "
                f"{parts.run.folder / 'logs'}, or set survive.skipped_updates (now {most})"
            )
    return replace(after, skipped_in_row=row)


def _text(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.3g}"
