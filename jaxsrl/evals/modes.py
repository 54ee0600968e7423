"""The three ways to ask a policy that writes one action at a time, as probes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

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
class Actions:
    """The next action after the expert's, at every target: `actions.py`."""

    settings: Evaluation
    forced: bool = False
    mode: ClassVar[Mode] = "actions"
    calls: ClassVar[tuple[Call, ...]] = (Call(tokens="action", slots=None),)
    needs_answer: ClassVar[bool] = False

    @property
    def name(self) -> str:
        return mode_name(self.mode, self.forced)

    @property
    def measures(self) -> tuple[Measure, ...]:
        return mode_measures(self.settings, self.mode)

    def __call__(self, policy: ProbedPolicy, demonstrations: Sequence[Demonstration], key: jax.Array):
        def once(sampler, key, decoding):
            return probe_actions(sampler, policy.params, key, demonstrations, decoding, self.settings)

        return all_passes(self, policy, key, once)


@dataclass(frozen=True, kw_only=True)
class Direct:
    """A whole solution in one completion: `direct.py`."""

    settings: Evaluation
    forced: bool = False
    mode: ClassVar[Mode] = "direct"
    calls: ClassVar[tuple[Call, ...]] = (Call(tokens="solve"),)
    needs_answer: ClassVar[bool] = True

    @property
    def name(self) -> str:
        return mode_name(self.mode, self.forced)

    @property
    def measures(self) -> tuple[Measure, ...]:
        return mode_measures(self.settings, self.mode)

    def __call__(self, policy: ProbedPolicy, demonstrations: Sequence[Demonstration], key: jax.Array):
        problems = first_of_each(demonstrations)

        def once(sampler, key, decoding):
            return solve_directly(sampler, policy.params, key, problems, decoding, policy.reward, policy.same)

        return all_passes(self, policy, key, once)


@dataclass(frozen=True, kw_only=True)
class Chained:
    """A solution action by action, each behind the policy's own: `chained.py`."""

    settings: Evaluation
    forced: bool = False
    mode: ClassVar[Mode] = "chained"
    calls: ClassVar[tuple[Call, ...]] = (Call(tokens="action"),)
    needs_answer: ClassVar[bool] = True

    @property
    def name(self) -> str:
        return mode_name(self.mode, self.forced)

    @property
    def measures(self) -> tuple[Measure, ...]:
        return mode_measures(self.settings, self.mode)

    def __call__(self, policy: ProbedPolicy, demonstrations: Sequence[Demonstration], key: jax.Array):
        problems, own = first_of_each(demonstrations), self.settings
        rules = Rules(
            finished=policy.finished, first_action=policy.first_action, think=own.think, action_cap=own.action_cap
        )

        def once(sampler, key, decoding):
            return solve_in_chains(sampler, policy.params, key, problems, decoding, rules, policy.reward, policy.same)

        return all_passes(self, policy, key, once)


KINDS = {kind.mode: kind for kind in (Actions, Direct, Chained)}


def mode_probes(settings: Evaluation) -> list[Probe]:
    """The modes of an evaluation, plain and, where it is asked for, with `<think>` written for the model."""
    return [
        KINDS[mode](settings=settings, forced=forced) for forced in settings.forced_think for mode in settings.modes
    ]


def mode_name(mode: Mode, forced: bool) -> str:
    return f"forced_{mode}" if forced else mode


def mode_measures(settings: Evaluation, mode: Mode) -> tuple[Measure, ...]:
    return tuple(Measure(name=name, meaning="see evals/README.md") for name in mode_names(settings, mode))


def first_of_each(demonstrations: Sequence[Demonstration]) -> list[Demonstration]:
    """Two solutions of a problem are one prompt, and one answer."""
    first: dict[str, Demonstration] = {}
    for demonstration in demonstrations:
        first.setdefault(demonstration.problem_id, demonstration)
    return list(first.values())


def all_passes(
    probe: Actions | Direct | Chained, policy: ProbedPolicy, key: jax.Array, once: Pass
) -> tuple[Metrics, list[Record]]:
    """Greedy, and sampled where the settings ask for it.

    Modes must not share noise, as the first prompts of `actions` and `chained` are the same; forced variants do not.
    """
    sampler = policy.sampler(probe.calls[0])
    if probe.forced:
        sampler = replace(sampler, template=replace(sampler.template, prefill_think=True))
    own = jax.random.fold_in(key, MODES.index(probe.mode))
    metrics: Metrics = {}
    records: list[Record] = []
    for decoding in probe.settings.decodings:
        found, rows = once(sampler, own, decoding)
        metrics |= found
        records += [{"mode": probe.name, "decoding": decoding.name} | row for row in rows]
    return metrics, records
