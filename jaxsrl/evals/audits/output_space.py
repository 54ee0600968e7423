"""What is reached without reading a problem: guesses from the space of answers, beside the policy's accuracy."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from jaxsrl.evals.probe import Call, Measure, ProbedPolicy, measured
from jaxsrl.evals.records import Record
from jaxsrl.types import Demonstration


@dataclass(frozen=True, kw_only=True)
class OutputSpace:
    """Accuracy of three guessers that know the answers that there are, and no problem.

    `guess` draws evenly among the L different answers: 1/L. `guess_prior` draws as often as each occurs: its share.
    `guess_majority` always says the most frequent one. The space is read off the problems that are asked.
    Source: arXiv:2305.11383, where guessing came to 42.6 % beside 43 % of instruction tuning.
    """

    name: str = "output_space"
    calls: ClassVar[tuple[Call, ...]] = (Call(tokens="solve"),)
    needs_answer: ClassVar[bool] = True
    measures: ClassVar[tuple[Measure, ...]] = (
        Measure(name="right", meaning="share of right solutions", share=True, better="higher"),
        Measure(name="guess", meaning="chance of an even guess among all different answers", bounded=True),
        Measure(name="guess_prior", meaning="chance of a guess that follows how often answers occur", bounded=True),
        Measure(name="guess_majority", meaning="accuracy of always saying the most frequent answer", share=True),
        Measure(name="above_guess", meaning="right minus the best of the three guesses", better="higher"),
    )

    def __call__(self, policy: ProbedPolicy, demonstrations: Sequence[Demonstration], key):
        first = {one.problem_id: one.answer for one in reversed(demonstrations)}
        guesses = guessed(first)
        own = policy.own(demonstrations)
        solutions = policy.solve(own, key)
        records: list[Record] = []
        best = max(("guess", "guess_prior", "guess_majority"), key=lambda n: sum(g[n] for g in guesses.values()))
        for one, solution, right in zip(own, solutions, policy.right(own, solutions), strict=True):
            guess = guesses[one.problem_id]
            values = {"right": float(right), **guess, "above_guess": float(right) - guess[best]}
            records.append({
                "problem": one.problem_id, "answer": one.answer, "text": solution.text, "best_guess": best,
                "values": values,
            })  # fmt: skip
        return measured(policy, demonstrations, self.measures, records), records


def guessed(answers: dict[str, str | None]) -> dict[str, dict[str, float]]:
    """Of each problem, how likely each guesser is right. Answers a, a, b: 1/2, then 2/3 and 1/3, then 1 and 0."""
    counts = Counter(answers.values())
    most = max(counts, key=counts.__getitem__)
    return {
        problem: {
            "guess": 1 / len(counts), "guess_prior": counts[answer] / len(answers),
            "guess_majority": float(answer == most),
        }
        for problem, answer in answers.items()
    }  # fmt: skip


PROBE = OutputSpace()
