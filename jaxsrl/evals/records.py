"""What is kept of every completion of an evaluation: enough to look at it and to count again."""

from typing import Any

from jaxsrl.data.problem_lines import demonstration_key
from jaxsrl.types import Demonstration, Rollouts

Record = dict[str, Any]


def record(
    rollouts: Rollouts,
    row: int,
    *,
    demonstration: Demonstration,
    branch: int,
    sample: int,
    action: str | None,
    expert_action: str | None,
    correct: bool | None,
    similarity: float | None = None,
) -> Record:
    """A line of `evals/STAGE.jsonl`.

    Args:
      demonstration: whose problem was shown; see `problem_lines`.
      branch: actions in the prompt.
      action: found in the completion; None if malformed. In `direct`, the final answer as the reward found it.
      expert_action: what it is compared with, None where the expert has no such action.
      correct: None where it is not this completion that decides.
      similarity: None where there is nothing to compare.
    """
    return {
        "problem": demonstration.problem_id, "demonstration": demonstration_key(demonstration), "branch": int(branch),
        "sample": int(sample), "completion": rollouts.text[row],
        "tokens": int(rollouts.mask[row].sum()), "truncated": bool(rollouts.truncated[row]), "action": action,
        "expert_action": expert_action, "similarity": similarity, "correct": correct,
    }  # fmt: skip
