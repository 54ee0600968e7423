"""Every mode, every variant, greedy and sampled: the one call that evaluates a policy."""

from collections.abc import Sequence
from dataclasses import replace

import jax

from jaxsrl.collect.complete import Sampler
from jaxsrl.evals.actions import probe_actions
from jaxsrl.evals.chained import solve_in_chains
from jaxsrl.evals.chains import Finished, FirstAction, Rules
from jaxsrl.evals.direct import SameAnswers, as_text, solve_directly
from jaxsrl.evals.records import Record
from jaxsrl.evals.settings import MODES, Evaluation, Mode
from jaxsrl.evals.summary import Decoding
from jaxsrl.types import Demonstration, Metrics, Params, Reward

__all__ = ["Evaluation", "evaluate"]


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
    """Evaluates a policy on demonstrations it was not trained on.

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
    demonstrations = list(demonstrations)[: settings.problems]
    if not demonstrations:
        raise ValueError("there are no demonstrations to evaluate on")
    if True in settings.forced_think and sampler.template.prefill_think:
        raise ValueError("forced_think=True is the template's own way here (prefill_think=True): leave it out")
    rules = Rules(finished=finished, first_action=first_action, think=settings.think, action_cap=settings.action_cap)
    metrics: Metrics = {}
    records: list[Record] = []
    for forced in settings.forced_think:
        variant = replace(sampler, template=replace(sampler.template, prefill_think=True)) if forced else sampler
        for mode in settings.modes:
            name = f"forced_{mode}" if forced else mode
            for decoding in settings.decodings:
                # Modes must not share noise: the first prompts of `actions` and `chained` are the same.
                own = jax.random.fold_in(key, MODES.index(mode))
                found, rows = _run(mode, variant, params, own, demonstrations, decoding, settings, rules, reward, same)
                metrics |= {f"{name}/{part}": value for part, value in found.items()}
                records += [{"mode": name, "decoding": decoding.name} | row for row in rows]
    return metrics, records if sampler.share.tells else []


def _run(
    mode: Mode,
    sampler: Sampler,
    params: Params,
    key: jax.Array,
    demonstrations: Sequence[Demonstration],
    decoding: Decoding,
    settings: Evaluation,
    rules: Rules,
    reward: Reward,
    same: SameAnswers,
) -> tuple[Metrics, list[Record]]:
    if mode == "actions":
        return probe_actions(sampler, params, key, demonstrations, decoding, settings)
    first: dict[str, Demonstration] = {}
    for demonstration in demonstrations:  # two solutions of a problem are one prompt, and one answer
        first.setdefault(demonstration.problem_id, demonstration)
    problems = list(first.values())
    if mode == "direct":
        return solve_directly(sampler, params, key, problems, decoding, reward, same)
    return solve_in_chains(sampler, params, key, problems, decoding, rules, reward, same)
