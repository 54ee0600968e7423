"""Every probe of an evaluation, one after another: the one call that evaluates a policy."""

import zlib
from collections.abc import Sequence

import jax

from jaxsrl.collect.complete import Sampler
from jaxsrl.evals.chains import Finished, FirstAction
from jaxsrl.evals.direct import SameAnswers, as_text
from jaxsrl.evals.modes import mode_probes
from jaxsrl.evals.probe import Probe, ProbedPolicy
from jaxsrl.evals.records import Record
from jaxsrl.evals.settings import MODES, Evaluation
from jaxsrl.types import Demonstration, Metrics, Params, Reward

__all__ = ["Evaluation", "evaluate", "probes_of", "run_probe"]


def probes_of(settings: Evaluation) -> list[Probe]:
    """What an evaluation asks, in its order: the modes, then what it names beside them."""
    return [*mode_probes(settings), *settings.probes]


def run_probe(
    probe: Probe, policy: ProbedPolicy, key: jax.Array, demonstrations: Sequence[Demonstration]
) -> tuple[Metrics, list[Record]]:
    """Metrics of a probe as `PROBE/NAME`, and its records as `{"mode": PROBE, ...}`; those of this process.

    A probe's noise follows from its name: what else is asked changes nothing.

    Raises: ValueError without demonstrations; DoesNotApply where they are not of the probe's kind.
    """
    if not demonstrations:
        raise ValueError(f"there is no problem to ask {probe.name} of")
    if probe.name.removeprefix("forced_") not in MODES:  # modes have addresses of their own, see `modes.all_passes`
        key = jax.random.fold_in(key, zlib.crc32(probe.name.encode()))
    metrics, records = probe(policy, demonstrations, key)
    told = [{"mode": probe.name} | record for record in records] if policy.share.tells else []
    return {f"{probe.name}/{name}": value for name, value in metrics.items()}, told


def evaluate(
    sampler: Sampler,
    params: Params,
    key: jax.Array,
    demonstrations: Sequence[Demonstration],
    settings: Evaluation,
    *,
    reward: Reward,
    finished: Finished,
    first_action: FirstAction,
    same: SameAnswers = as_text,
) -> tuple[Metrics, list[Record]]:
    """Evaluates a policy on demonstrations it was not trained on, with one sampler for all modes.

    Numbers do not depend on the order of the demonstrations, and a completion does not depend on what else is
    evaluated; only which problems the shuffled baseline draws from does.

    Args:
      key: an evaluation key of its own, never the one training draws with: nothing here gives it back or shares its
        noise. Greedy metrics do not use it.
      demonstrations: `actions` uses all, `direct` and `chained` the first of each problem.
      reward: whether the final answer is right, see `direct.CORRECT_FROM`; `finished`, `first_action`: see
        `chains.Rules`.
      same: whether two final answers are one vote in maj@k, see `direct.answers_at_k`.
    Returns: metrics as README.md lists them, `MODE/NAME` and `forced_MODE/NAME`; one record per completion. Where
      processes share the evaluation, all have the metrics, and each has the records of its own problems.
    Raises: ValueError without demonstrations, or if a prompt does not fit a row of the sampler.
    """
    policy = ProbedPolicy(
        name="the policy", params=params, sampler=lambda call: sampler, template=sampler.template,
        tokenizer=sampler.tokenizer, reward=reward, finished=finished, first_action=first_action, same=same,
    )  # fmt: skip
    demonstrations = list(demonstrations)[: settings.problems]
    check_asked(settings, policy, demonstrations)
    metrics: Metrics = {}
    records: list[Record] = []
    for probe in probes_of(settings):
        found, rows = run_probe(probe, policy, key, demonstrations)
        metrics |= found
        records += rows
    return metrics, records


def check_asked(settings: Evaluation, policy: ProbedPolicy, demonstrations: Sequence[Demonstration]) -> None:
    """Raises: ValueError where there is nothing to ask, or a variant would be the policy's own way."""
    if not demonstrations:
        raise ValueError("there are no demonstrations to evaluate on")
    if True in settings.forced_think and policy.template.prefill_think:
        raise ValueError("forced_think=True is the template's own way here (prefill_think=True): leave it out")
