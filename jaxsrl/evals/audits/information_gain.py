"""Information gain: how much each step of a policy's solution lowers the perplexity of the right answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import jax
import numpy as np

from jaxsrl.data.actions import Splitter
from jaxsrl.evals.forced import key_of, lead_of, led
from jaxsrl.evals.paths import Path, cut_text
from jaxsrl.evals.probe import Call, Measure, ProbedPolicy, Written, measured
from jaxsrl.evals.records import Record
from jaxsrl.types import Demonstration


@dataclass(frozen=True, kw_only=True)
class InformationGain:
    """PPL_i of the answer after i steps of the policy's own greedy solution, under one frozen scorer.

    As the paper prints it, with the log-space form and the released code's beside it; see audits/README.md.

    Args:
      style: how solutions are cut into steps; None: as the data's own are, else at lines.
      lead: what stands before the answer; None: see `forced.lead_of`.
      released: also the released code's variant, which scores a second text.
    Source: arXiv:2506.02126; code UCSC-VLAA/ReasoningEval.
    """

    name: str = "information_gain"
    style: Literal["lines", "numbered", "headed", "paragraphs", "sentences", "displays"] | None = None
    lead: str | None = None
    released: bool = True
    calls: ClassVar[tuple[Call, ...]] = (Call(tokens="solve"),)
    needs_answer: ClassVar[bool] = True
    measures: ClassVar[tuple[Measure, ...]] = (
        Measure(name="gain", meaning="mean over steps of PPL before minus PPL after, as printed", better="higher"),
        Measure(name="gain_nats", meaning="the same of log PPL: nats per answer token and step", better="higher"),
        Measure(name="gain_released", meaning="the released code's: PPL of the whole text, over t + 1"),
        Measure(name="gaining", meaning="share of steps that lower the PPL", bounded=True, better="higher"),
        Measure(name="steps", meaning="t, steps of a solution"),
        Measure(name="ppl_question", meaning="PPL_0 of the answer, after the question alone"),
        Measure(name="ppl_chain", meaning="PPL_t, after all steps", better="lower"),
        Measure(name="nats_question", meaning="log PPL_0, nats per answer token"),
        Measure(name="nats_chain", meaning="log PPL_t, nats per answer token", better="lower"),
        Measure(name="answer_tokens", meaning="N, tokens of the answer under the scorer"),
        Measure(name="right", meaning="share of solutions with the right answer", share=True, better="higher"),
        Measure(name="truncated", meaning="share of solutions cut at the cap", share=True),
        Measure(name="without_steps", meaning="share of solutions without a step, which have no gain", share=True),
    )

    def __call__(self, policy: ProbedPolicy, demonstrations: Sequence[Demonstration], key: jax.Array):
        own, judge = policy.own(demonstrations), policy.judge or policy
        solutions = policy.solve(own, key)
        right = policy.right(own, solutions)
        splitter = Splitter(style=self.style) if self.style else policy.splitter or Splitter()
        chains = [cut_text(solution.text, splitter) for solution in solutions]
        paths = [self._paths(policy, one, chain) for one, chain in zip(own, chains, strict=True)]
        answers = [key_of(policy, one) for one in own]
        ends = [[[answer]] * len(some) for answer, some in zip(answers, paths, strict=True)]
        answer_nats = judge.score(own, paths, ends)
        texts = [whole_texts(one, chain, a) for one, chain, a in zip(own, chains, answers, strict=True)]
        text_nats = judge.score_texts(texts) if self.released else [None] * len(own)
        records: list[Record] = []
        rows = zip(own, solutions, chains, answers, answer_nats, text_nats, right, strict=True)
        for one, solution, chain, answer, of_answer, of_text, ok in rows:
            nats = np.array([-logp.mean() for (logp,) in of_answer])
            whole = None if of_text is None else np.array([-logp.mean() for logp in of_text])
            values = gains(nats, whole) | _about(solution, chain, ok) | {"answer_tokens": len(of_answer[0][0])}
            records.append({
                "problem": one.problem_id, "scorer": judge.name, "answer": answer, "steps": list(chain),
                "nats": [float(n) for n in nats], "values": values,
            })  # fmt: skip
        return measured(policy, demonstrations, self.measures, records), records

    def _paths(self, policy: ProbedPolicy, demonstration: Demonstration, chain: Path) -> list[Path]:
        """The first i steps and the lead, for i = 0 … t."""
        lead = lead_of(policy, demonstration) if self.lead is None else self.lead
        given = [chain[:i] for i in range(len(chain) + 1)]
        return [path + tuple(filter(None, (led("".join(path), lead),))) for path in given]


def whole_texts(demonstration: Demonstration, chain: Path, answer: str) -> list[str]:
    """What the released code scores: question, steps so far, " Answer: ", answer; in the sentences' own words."""
    steps = tuple(f" {piece.strip()}" for piece in chain)
    return ["".join((demonstration.problem.strip(), *steps[:i], f" Answer: {answer}")) for i in range(len(steps) + 1)]


def gains(nats: np.ndarray, whole: np.ndarray | None = None) -> dict[str, float | None]:
    """The values of one solution.

    Args:
      nats: log PPL_i, i = 0 … t: mean negative log-prob of the answer's tokens after i steps.
      whole: the same of the whole text, for the released code's variant.
    Returns: PPL [12, 9, 10, 4] gives gain 8 / 3 = (12 - 4) / 3, in log space (ln 12 - ln 4) / 3 = 0.3662. Without a
      step there is no gain: None.
    """
    ppl, steps = np.exp(nats), len(nats) - 1
    values: dict[str, float | None] = {
        "steps": steps, "ppl_question": float(ppl[0]), "ppl_chain": float(ppl[-1]), "nats_question": float(nats[0]),
        "nats_chain": float(nats[-1]),
    }  # fmt: skip
    released = None if whole is None or not steps else float(np.exp(whole[0]) - np.exp(whole[-1])) / (steps + 1)
    return values | {
        "gain": float(np.mean(ppl[:-1] - ppl[1:])) if steps else None,
        "gain_nats": float(np.mean(nats[:-1] - nats[1:])) if steps else None,
        "gaining": float(np.mean(ppl[1:] < ppl[:-1])) if steps else None,
        "gain_released": released,
    }


def _about(solution: Written, chain: Path, right: bool) -> dict[str, float]:
    return {"right": float(right), "truncated": float(solution.truncated), "without_steps": float(not chain)}


PROBE = InformationGain()
