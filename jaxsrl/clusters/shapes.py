"""Shapes of a stage's programs as far as they are known without its data."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from jaxsrl.config.run import Config, Stage
from jaxsrl.data.shapes import Shapes
from jaxsrl.evals.evaluate import probes_of
from jaxsrl.runs import read_json
from jaxsrl.stages.evaluation import ROOM_BEHIND
from jaxsrl.types import Rooms

POINTS = 8  # branch points of a demonstration, where the objective sets no bound
RUNS = 64  # runs of tokens in a learner's row
ROOMS = Rooms(bytes=8192, code_points=2048)  # of an action that is compared on the device
NEEDED = ("tokens", "rows", "prompt_tokens", "prompt_rows", "slots", "evaluate_rows", "evaluate_slots")


@dataclass(frozen=True, kw_only=True)
class StageShapes:
    """Shapes of a stage's programs, and how often they run in an optimizer step.

    Args:
      of: as the run would have them.
      sheets: of a round. rounds: of a step, as many as it may take.
      batches: of the learner in a step, every completion as long as its cap.
      evaluate_rows, evaluate_slots: as in `BatchShapes`.
      rooms: of a reward on the device.
    """

    of: Shapes
    sheets: int
    rounds: int
    batches: int
    evaluate_rows: int
    evaluate_slots: int
    rooms: Rooms = ROOMS


class EvaluationCall(NamedTuple):
    """A call of an evaluation's sampler: completions of a row, their cap, and tokens of the row's prompts."""

    jobs: int
    cap: int
    tokens: int


def evaluation_call(stage: Stage, shapes: StageShapes) -> EvaluationCall | None:
    """The largest call of the stage's evaluations, of modes and of further probes; None where it has none."""
    if not (stage.validate.every or stage.test):
        return None
    caps = {"action": stage.action_tokens, "solve": stage.solve_tokens}
    asked = [
        EvaluationCall(
            jobs=call.slots or shapes.evaluate_slots, cap=caps.get(call.tokens, call.tokens),
            tokens=shapes.of.prompt_tokens + (ROOM_BEHIND * stage.solve_tokens if call.behind == "solution" else 0),
        )
        for evaluation in (stage.validate.evaluation, stage.test) if evaluation is not None
        for probe in probes_of(evaluation)
        for call in probe.calls
    ]  # fmt: skip
    return max(asked, key=lambda call: call.tokens + call.jobs * call.cap, default=None)


def stage_shapes(config: Config, stage: Stage) -> StageShapes:
    """From the config's rows; from the run's folder where it has saved what it chose.

    Raises: ValueError naming the rows that neither says.
    """
    rows = stage.rows or config.rows
    saved = Path(config.runs) / config.name / "shapes" / f"{stage.name}.json"
    missing = [name for name in NEEDED if getattr(rows, name) is None]
    if saved.exists():
        missing = [name for name in missing if name.startswith("evaluate")]
    if missing:
        raise ValueError(
            f"stage {stage.name}: a plan reads no data, so the config must say "
            f"{', '.join(f'rows.{name}' for name in missing)}, as --set rows.{missing[0]}=N; a run that has begun has "
            f"its sizes in {saved}"
        )
    group = vars(stage.objective).get("group_size", 1)
    points = vars(stage.objective).get("max_branch_points") or POINTS
    samples = "reward" in vars(stage.objective)
    demonstrations = stage.collect.demonstrations
    of = Shapes(**read_json(saved)) if saved.exists() else _shapes(stage, rows, group)
    jobs = demonstrations * group * points if samples else 0
    sheets = math.ceil(jobs / of.jobs) if jobs else 0
    rounds = stage.collect.most_rounds if samples else 1
    cap = stage.sampling.max_new_tokens
    wanted = min(stage.collect.prompts or demonstrations * points, demonstrations * points * rounds) * group
    tokens = (wanted * cap if samples else 0) + demonstrations * of.prompt_tokens
    batches = max(1, math.ceil(tokens / (max(of.rows) * of.tokens)))
    return StageShapes(
        of=of, sheets=sheets, rounds=rounds, batches=batches, evaluate_rows=rows.evaluate_rows,
        evaluate_slots=rows.evaluate_slots,
    )  # fmt: skip


def _shapes(stage: Stage, rows, group: int) -> Shapes:
    demonstrations, jobs = stage.collect.demonstrations, rows.prompt_rows * rows.slots
    return Shapes(
        prompt_rows=rows.prompt_rows, prompt_tokens=rows.prompt_tokens, slots=rows.slots,
        groups=max(1, math.ceil(jobs / group)), group_size=group, code_points=ROOMS.code_points, sheets=0,
        trunk_tokens=demonstrations * rows.prompt_tokens, demonstrations=demonstrations, targets=rows.prompt_tokens,
        tokens=rows.tokens, runs=RUNS, rows=(rows.rows,), round_rows=rows.rows,
    )  # fmt: skip
