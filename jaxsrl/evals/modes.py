"""The three ways to ask a policy that writes one action at a time, as probes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax

from jaxsrl.collect.complete import Sampler
from jaxsrl.evals.actions import probe_actions
from jaxsrl.evals.chained import solve_in_chains
from jaxsrl.evals.chains import Rules
from jaxsrl.evals.direct import solve_directly
from jaxsrl.evals.names import mode_names
from jaxsrl.evals.probe import Call, Measure, Probe, ProbedPolicy
from jaxsrl.evals.records import Record
from jaxsrl.evals.settings import MODES, Evaluation, Mode
from jaxsrl.evals.summary import Decoding
from jaxsrl.types import Demonstration, Metrics

Pass = Callable[[Sampler, jax.Array, Decoding], tuple[Metrics, list[Record]]]


@dataclass(frozen=True, kw_only=True)
class ModeProbe:
    """One of the three ways; `forced` writes `<think>` for the model."""

    settings: Evaluation
    mode: Mode
    forced: bool = False

    @property
    def name(self) -> str:
        return f"forced_{self.mode}" if self.forced else self.mode

    @property
    def calls(self) -> tuple[Call, ...]:
        return (_WAYS[self.mode].call,)

    @property
    def needs_answer(self) -> bool:
        return self.mode != "actions"

    @property
    def measures(self) -> tuple[Measure, ...]:
        return tuple(Measure(name=name, meaning="see evals/README.md") for name in mode_names(self.settings, self.mode))

    def __call__(
        self, policy: ProbedPolicy, demonstrations: Sequence[Demonstration], key: jax.Array
    ) -> tuple[Metrics, list[Record]]:
        """Greedy, and sampled where the settings ask for it.

        Modes must not share noise, as the first prompts of `actions` and `chained` are the same; forced variants do.
        """
        way = _WAYS[self.mode]
        sampler = policy.sampler(way.call)
        if self.forced:
            sampler = replace(sampler, template=replace(sampler.template, prefill_think=True))
        own = jax.random.fold_in(key, MODES.index(self.mode))
        once = way.passes(policy, demonstrations, self.settings)
        metrics: Metrics = {}
        records: list[Record] = []
        for decoding in self.settings.decodings:
            found, rows = once(sampler, own, decoding)
            metrics |= found
            records += [{"mode": self.name, "decoding": decoding.name} | row for row in rows]
        return metrics, records


def mode_probes(settings: Evaluation) -> list[Probe]:
    """The modes of an evaluation, plain and, where it is asked for, with `<think>` written for the model."""
    return [
        ModeProbe(settings=settings, mode=mode, forced=forced)
        for forced in settings.forced_think
        for mode in settings.modes
    ]


def _actions(policy: ProbedPolicy, demonstrations: Sequence[Demonstration], settings: Evaluation) -> Pass:
    """The next action after the expert's, at every target: `actions.py`."""
    return lambda sampler, key, decoding: probe_actions(sampler, policy.params, key, demonstrations, decoding, settings)


def _direct(policy: ProbedPolicy, demonstrations: Sequence[Demonstration], settings: Evaluation) -> Pass:
    """A whole solution in one completion: `direct.py`."""
    problems = _first_of_each(demonstrations)
    return lambda sampler, key, decoding: solve_directly(
        sampler, policy.params, key, problems, decoding, policy.reward, policy.same
    )


def _chained(policy: ProbedPolicy, demonstrations: Sequence[Demonstration], settings: Evaluation) -> Pass:
    """A solution action by action, each behind the policy's own: `chained.py`."""
    problems = _first_of_each(demonstrations)
    rules = Rules(
        finished=policy.finished, first_action=policy.first_action, think=settings.think, action_cap=settings.action_cap
    )
    return lambda sampler, key, decoding: solve_in_chains(
        sampler, policy.params, key, problems, decoding, rules, policy.reward, policy.same
    )


def _first_of_each(demonstrations: Sequence[Demonstration]) -> list[Demonstration]:
    """Two solutions of a problem are one prompt, and one answer."""
    first: dict[str, Demonstration] = {}
    for demonstration in demonstrations:
        first.setdefault(demonstration.problem_id, demonstration)
    return list(first.values())


class _Way(NamedTuple):
    call: Call
    passes: Callable[[ProbedPolicy, Sequence[Demonstration], Evaluation], Pass]


_WAYS: dict[Mode, _Way] = {
    "actions": _Way(Call(tokens="action", slots=None), _actions),
    "direct": _Way(Call(tokens="solve"), _direct),
    "chained": _Way(Call(tokens="action"), _chained),
}
