"""What an evaluation is made of: probes, and the policy as they see it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import jax
import numpy as np
from jaxtyping import Bool, Float

from jaxsrl.collect.complete import Sampler, complete
from jaxsrl.collect.score import RowScorer, score_trees
from jaxsrl.data.actions import Splitter
from jaxsrl.data.chat import Template, Tokenizer
from jaxsrl.data.tree import build
from jaxsrl.evals.chains import Finished, FirstAction
from jaxsrl.evals.direct import SameAnswers, as_text, is_correct
from jaxsrl.evals.paths import Path, completion_tree, scored_tree, text_tree
from jaxsrl.evals.records import Record
from jaxsrl.evals.summary import Column, Shared, summarise
from jaxsrl.types import BranchPoint, Demonstration, Metrics, Params, Reward, Rollouts


class DoesNotApply(ValueError):
    """A probe has nothing to say of these problems; the text says why, and what it would need."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """The shape of a sampler's call, so that all calls of a kind are one compiled program.

    Args:
      tokens: cap of a completion; `action` and `solve` are the stage's own caps.
      slots: completions that share a prompt row; None: as many as the evaluation of single actions has.
      behind: what a prompt holds: a `problem` with an expert's actions, or a whole `solution` of the policy's too.
    """

    tokens: int | Literal["action", "solve"]
    slots: int | None = 1
    behind: Literal["problem", "solution"] = "problem"


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A metric of a probe: the mean of the values that its records have under this name.

    Args:
      meaning: a line for the report: what the number is, with its unit.
      share: values are 0 or 1. bounded: they lie in 0..1.
      better: which end is the good one; None where the number is only to be read.
    """

    name: str
    meaning: str
    share: bool = False
    bounded: bool = False
    better: Literal["higher", "lower"] | None = None


@dataclass(frozen=True, kw_only=True)
class Written:
    """A completion: its text without the end token, sampled tokens with it, and whether it ran into the cap."""

    text: str
    tokens: int
    truncated: bool


@dataclass(frozen=True, kw_only=True)
class ProbedPolicy:
    """A policy as a probe sees it: it samples, it scores, and it says how its problems are judged.

    Args:
      name: for a person.
      sampler: call -> compiled sampler, the same one for the same call.
      scorer: what scores rows of tokens; None where nothing will.
      reward: whether a final answer is right, see `direct.CORRECT_FROM`. same: whether two are one answer.
      finished, first_action: see `chains.Rules`.
      splitter: how solutions of these problems are cut into actions; None where the data do not say.
      task: what made the problems, a value of `jaxsrl/tasks/`; None where they come from files.
      judge: the frozen policy that texts are scored under, one for all policies that are compared. None: this one.
      solved: greedy solutions so far, which probes share.
    """

    name: str
    params: Params
    sampler: Callable[[Call], Sampler]
    template: Template
    tokenizer: Tokenizer
    reward: Reward
    finished: Finished
    first_action: FirstAction
    same: SameAnswers = as_text
    scorer: RowScorer | None = None
    splitter: Splitter | None = None
    task: Any = None
    judge: "ProbedPolicy | None" = None
    solved: dict[tuple[Any, ...], Written] = field(default_factory=dict, repr=False, compare=False)

    @property
    def share(self):
        """Which problems this process asks; see `collect/share.py`."""
        return self.sampler(Call(tokens="solve")).share

    def own(self, demonstrations: Sequence[Demonstration]) -> list[Demonstration]:
        """One demonstration a problem, of the problems that this process asks. With one process: of all."""
        first: dict[str, Demonstration] = {}
        for demonstration in demonstrations:
            first.setdefault(demonstration.problem_id, demonstration)
        mine = self.share.own(list(first))
        return [one for one, own in zip(first.values(), mine, strict=True) if own]

    def write(
        self, call: Call, demonstrations: Sequence[Demonstration], paths: Sequence[Sequence[Path]], key: jax.Array,
        temperature: float = 0.0, samples: int = 1,
    ) -> list[list[tuple[Written, ...]]]:  # fmt: skip
        """Completions behind texts in the policy's own turn, `samples` of each path of each problem.

        Paths of a problem are one tree: what they begin with alike, token by token, is prefilled once, and paths that
        are equal are written on once. All processes call this as often, each with its own problems.

        Args:
          paths: of each problem; a path is what the policy is taken to have written so far, in pieces. () is nothing.
        """
        sampler = self.sampler(call)
        trees = [
            completion_tree(self.template, self.tokenizer, one.problem, some)
            for one, some in zip(demonstrations, paths, strict=True)
        ]
        first = [{node: i for (_, i), node in reversed(tree.branch.items())} for tree in trees]
        points = [[BranchPoint(after=i, samples=samples, form="solve") for i in sorted(of.values())] for of in first]
        rows = iter(written(complete(sampler, self.params, key, temperature, trees, points)))
        told = [{point.after: tuple(next(rows) for _ in range(samples)) for point in some} for some in points]
        return [
            [by_path[of[tree.branch["solve", i]]] for i in range(len(some))]
            for by_path, of, tree, some in zip(told, first, trees, paths, strict=True)
        ]

    def solve(self, demonstrations: Sequence[Demonstration], key: jax.Array) -> list[Written]:
        """The greedy solution of each problem in one completion; written once, whichever probes ask for it."""
        call = Call(tokens="solve")
        names = [(self.template, one.problem_id, one.problem) for one in demonstrations]
        asked = [name not in self.solved for name in names]
        point = (BranchPoint(after=0, samples=1, form="solve"),)
        points = [point if one else () for one in asked]
        trees = [
            build(one, some, (), self.template, self.tokenizer)
            for one, some in zip(demonstrations, points, strict=True)
        ]
        rollouts = complete(self.sampler(call), self.params, key, 0.0, trees, points)
        new = [name for name, one in zip(names, asked, strict=True) if one]
        self.solved.update(zip(new, written(rollouts), strict=True))
        return [self.solved[name] for name in names]

    def right(self, demonstrations: Sequence[Demonstration], solutions: Sequence[Written]) -> Bool[np.ndarray, "P"]:
        """Whether each solution's final answer is right, by the problems' own reward; one cut off at the cap is not."""
        return is_correct(self.reward(as_rollouts(solutions), demonstrations))

    def score(
        self, demonstrations: Sequence[Demonstration], paths: Sequence[Sequence[Path]],
        continuations: Sequence[Sequence[Sequence[str]]],
    ) -> list[list[list[Float[np.ndarray, "T"]]]]:  # fmt: skip
        """Log-probs of continuations behind paths, as `write` takes them; nats, one number a token, temperature 1.

        All paths of a problem share one trunk, all problems are asked in as few calls as hold them. A continuation has
        the tokens that it adds to its path when both are spelled in one, so where the boundary falls into a token of
        the joint spelling that whole token counts.

        Args:
          continuations: of each path of each problem, perhaps several: spellings of one answer.
        """
        if self.scorer is None:
            raise ValueError(f"{self.name} has nothing to score with: give ProbedPolicy.scorer")
        made = [
            scored_tree(self.template, self.tokenizer, one.problem, some, ends)
            for one, some, ends in zip(demonstrations, paths, continuations, strict=True)
        ]
        found = score_trees(self.scorer, self.params, [tree for tree, _ in made])
        return [
            [[told[node] for node in nodes] for nodes in of_paths]
            for told, (_, of_paths) in zip(found, made, strict=True)
        ]

    def score_texts(self, texts: Sequence[Sequence[str]]) -> list[list[Float[np.ndarray, "T"]]]:
        """Log-probs of every token of whole texts outside of any template; texts of a group share what they begin with.

        A text's first token is left out, as nothing is before it; so is one that the tokenizer begins texts with.
        """
        if self.scorer is None:
            raise ValueError(f"{self.name} has nothing to score with: give ProbedPolicy.scorer")
        made = [text_tree(self.tokenizer, group) for group in texts]
        found = score_trees(self.scorer, self.params, [tree for tree, _ in made])
        first = max(len(self.tokenizer.begin), 1)
        return [
            [np.concatenate([told[node] for node in nodes])[first:] for nodes in of_texts]
            for told, (_, of_texts) in zip(found, made, strict=True)
        ]


class Probe(Protocol):
    """One thing that an evaluation measures: a small frozen object.

    `name` is what its metrics stand under, `measures` says what they are, `calls` are the shapes of its samplers'
    calls, and `needs_answer` leaves problems without a key out.
    """

    name: str
    measures: tuple[Measure, ...]
    calls: tuple[Call, ...]
    needs_answer: bool

    def __call__(
        self, policy: ProbedPolicy, demonstrations: Sequence[Demonstration], key: jax.Array
    ) -> tuple[Metrics, list[Record]]:
        """Metrics by their bare names, and the records behind them.

        Args:
          demonstrations: held out; of a problem there may be several, see `ProbedPolicy.own`.
          key: this probe's own.
        Raises: DoesNotApply where these problems are not of its kind.
        """
        ...


def as_rollouts(solutions: Sequence[Written]) -> Rollouts:
    """Solutions of problems 0, 1, … for a reward, which reads their text."""
    index = np.arange(len(solutions))
    return Rollouts(
        token=np.zeros((len(index), 1), np.int32), mask=np.zeros((len(index), 1), bool), demonstration=index,
        form=("solve",) * len(index), branch=0 * index, sample=0 * index, group=index,
        truncated=np.array([one.truncated for one in solutions], bool), text=tuple(one.text for one in solutions),
    )  # fmt: skip


def written(rollouts: Rollouts) -> list[Written]:
    """Completions as a probe reads them, in their order."""
    lengths = rollouts.mask.sum(axis=1).tolist()
    return [
        Written(text=text, tokens=tokens, truncated=bool(cut))
        for text, tokens, cut in zip(rollouts.text, lengths, rollouts.truncated.tolist(), strict=True)
    ]


def measured(
    policy: ProbedPolicy, demonstrations: Sequence[Demonstration], measures: Sequence[Measure],
    records: Sequence[Record],
) -> Metrics:  # fmt: skip
    """The metrics of a probe from its records: of each measure the mean of `record["values"]`, with 95 % bounds.

    A record where the value is missing or None does not count for that measure. Records of one problem
    (`record["problem"]`) are kept together. So every number can be counted again, and policies be compared in pairs.

    Args:
      demonstrations: all that the probe was given, not only those of this process.
      records: of this process.
    """
    ids = tuple(dict.fromkeys(one.problem_id for one in demonstrations))
    columns = {measure.name: _column(measure, records) for measure in measures}
    problem = [record["problem"] for record in records]
    return {"problems": len(ids)} | summarise(problem, columns, Shared(share=policy.share, ids=ids))


def _column(measure: Measure, records: Sequence[Mapping[str, Any]]) -> Column:
    found = [record["values"].get(measure.name) for record in records]
    among = np.array([value is not None for value in found], bool)
    value = np.array([0.0 if value is None else value for value in found], np.float64)
    return Column(value=value, among=among, share=measure.share, bounded=measure.bounded)
