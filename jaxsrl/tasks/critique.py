"""Critiques of arithmetic solutions, right and wrong ones, written by the verifier.

The problem of a critique is the problem, a question mark and a proposed solution; the expert's actions judge each of
its lines, and the last one says `right` or `wrong`.
"""

import random
from dataclasses import replace

from jaxsrl.tasks.arithmetic import corrupt, verify
from jaxsrl.types import Demonstration

MARK = "?"


def critique(demonstration: Demonstration, seed: int, *, wrong_share: float = 0.5) -> Demonstration:
    """A demonstration whose actions criticise a solution of this one's problem.

    Args:
      wrong_share: of solutions that hold one wrong digit, or all digits wrong from one on.
    Source: arXiv:2501.17703, in which a larger model writes the critiques and 56 % of the solutions are right.
    """
    rng = random.Random(f"critique/{seed}/{demonstration.problem}")
    proposed = demonstration.actions
    if rng.random() < wrong_share:
        proposed = corrupt(demonstration, seed, "digit" if rng.random() < 0.5 else "slip")
    verdict = verify(demonstration, proposed)
    lines = tuple(
        f"{line.partition('=')[0]} {'ok' if right else 'no ' + expert}"
        for line, right, expert in zip(proposed, verdict.actions, demonstration.actions, strict=True)
    )
    return replace(
        demonstration, problem="\n".join([demonstration.problem, MARK, *proposed]), thoughts=None, titles=None,
        actions=(*lines, "right" if verdict.chain else "wrong"), answer="right" if verdict.chain else "wrong",
    )  # fmt: skip
