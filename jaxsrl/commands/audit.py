"""Probes asked of several policies on the same questions, set side by side, kept and shown."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxsrl.collect.settings import BatchShapes
from jaxsrl.commands.audited import Questions, Target, base_of, load_target
from jaxsrl.commands.benchmark import at_once
from jaxsrl.commands.policy import Asked
from jaxsrl.commands.published import Published
from jaxsrl.commands.results import interval, keep, plain
from jaxsrl.config.overrides import override, to_dict
from jaxsrl.config.run import ConfigError
from jaxsrl.console import Console
from jaxsrl.data.tree import build, path_tokens
from jaxsrl.evals.evaluate import run_probe
from jaxsrl.evals.find import audit_names, find_probe
from jaxsrl.evals.probe import DoesNotApply, Probe, ProbedPolicy
from jaxsrl.evals.statistics import paired_difference, resample
from jaxsrl.metrics import merge
from jaxsrl.policy import Compiled
from jaxsrl.report.audit_page import write_audit
from jaxsrl.runs import environment, write_json
from jaxsrl.stages.evaluation import probed_policy
from jaxsrl.types import BranchPoint

SLOTS = 8  # short completions that share a prompt
Result = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Auditing:
    """What is asked of which policies.

    Args:
      policies: the first is the one that others are compared with.
      probes: what is asked, each once.
      by_default: a probe that does not apply is left out and named, instead of ending the command.
      scorer: the frozen policy that texts are scored under; None: the base of the first.
      batch: prompt rows of a call; None: what the memory holds.
    """

    policies: tuple[Target, ...]
    probes: tuple[Probe, ...]
    questions: Questions
    published: Published
    by_default: bool = False
    scorer: Target | None = None
    batch: int | None = None
    seed: int = 0


def chosen_probes(names: Sequence[str], assignments: Sequence[str]) -> tuple[Probe, ...]:
    """The probes of these names or files, all of the folder where there are none; with `PROBE.key=value` applied.

    Raises: ValueError, ConfigError naming what there is.
    """
    found = tuple(find_probe(name) for name in names or audit_names())
    labels = [probe.name for probe in found]
    twice = {name for name in labels if labels.count(name) > 1}
    if twice:
        raise ConfigError(f"each probe once: {', '.join(sorted(twice))}")
    return override(found, assignments)


def audit(auditing: Auditing, to: Path, json: Path | None, console: Console) -> str:
    """Asks every policy every probe, keeps numbers and records in the folder `to`, and returns the tables.

    Raises: DoesNotApply of a probe that was asked for by name; ConfigError where none applies.
    """
    policies, judge, started = _load(auditing, console)
    key = jax.random.key(auditing.seed)
    probes, records, skipped = [], [], []
    for probe in auditing.probes:
        begun, found = time.monotonic(), []
        try:
            for name, policy in policies.items():
                with console.wait(f"{probe.name}: {name}"):
                    found.append(run_probe(probe, policy, key, auditing.questions.demonstrations))
        except DoesNotApply as error:
            if not auditing.by_default:
                raise
            skipped.append({"name": probe.name, "why": str(error)})
            continue
        records += [{"policy": name} | row for name, (_, rows) in zip(policies, found, strict=True) for row in rows]
        probes.append(_set_side_by_side(probe, found) | {"seconds": round(time.monotonic() - begun, 1)})
    if not probes:
        raise ConfigError("none of the probes applies: " + "; ".join(f"{one['name']}: {one['why']}" for one in skipped))
    result = {
        "policies": list(policies), "scorer": judge.name, "questions": auditing.questions.about,
        "problems": len(auditing.questions.demonstrations), "seed": auditing.seed, "probes": probes,
        "left_out": skipped, "seconds": round(time.monotonic() - started, 1), "environment": environment(),
    }  # fmt: skip
    path = keep(to, "audit", result, records)
    if json is not None:
        write_json(json, plain(result))
    page = write_audit(path)
    console.say(f"kept in {path}, shown on {page}")
    return "\n".join([*_tables(result), *(f"{one['name']}: left out: {one['why']}" for one in skipped)])


def _load(auditing: Auditing, console: Console) -> tuple[dict[str, ProbedPolicy], ProbedPolicy, float]:
    """The policies by their names, the scorer, and when that began."""
    started, compiled = time.monotonic(), Compiled()
    wanted = auditing.scorer or base_of(auditing.policies[0])
    with console.wait("loading the policies"):
        made: dict[tuple[Path, str | None], ProbedPolicy] = {}
        for target in (*auditing.policies, wanted):
            if (target.folder, target.policy) not in made:
                names = [one.name for one in made.values()]
                name = target.name if target.name not in names else f"{target.folder}:{target.policy}"
                asked = load_target(target, compiled, auditing.published)
                made[target.folder, target.policy] = _probed(asked, name, auditing)
    judge = made[wanted.folder, wanted.policy]
    policies = [made[target.folder, target.policy] for target in auditing.policies]
    return {one.name: replace(one, judge=judge) for one in policies}, judge, started


def _probed(asked: Asked, name: str, auditing: Auditing) -> ProbedPolicy:
    questions = auditing.questions
    tokens = -(-max(_prompt_tokens(asked, one) for one in questions.demonstrations) // 64) * 64
    batch = auditing.batch or min(at_once(asked.policy.model, tokens + questions.caps["solve"]), 64)
    rows = max(batch // asked.rows, 1) * asked.rows
    shapes = BatchShapes(prompt_tokens=tokens, evaluate_rows=rows, evaluate_slots=SLOTS)
    return probed_policy(
        asked.policy, asked.template, asked.tokenizer, questions.splits, shapes, name=name, caps=questions.caps
    )


def _prompt_tokens(asked: Asked, demonstration) -> int:
    """Of the longest prompt: the problem with all of the expert's actions, asked for either form."""
    count = len(demonstration.actions)
    point = BranchPoint(after=count, samples=1, form="action")
    tree = build(demonstration, (point,), (), asked.template, asked.tokenizer)
    solve = BranchPoint(after=0, samples=1, form="solve")
    whole = build(demonstration, (solve,), (), asked.template, asked.tokenizer)
    longest = len(path_tokens(tree, tree.branch["action", count]))
    return max(longest, len(path_tokens(whole, whole.branch["solve", 0])))


def _set_side_by_side(probe: Probe, found: Sequence[tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]]) -> Result:
    """A probe's numbers of every policy, and how each differs from the first on the same problems."""
    numbers = [
        {name.removeprefix(f"{probe.name}/"): value for name, value in merge([metrics]).items()} for metrics, _ in found
    ]
    rows = [records for _, records in found]
    differences = [{}] + [
        {measure.name: _difference(measure.name, other, rows[0]) for measure in probe.measures} for other in rows[1:]
    ]
    return {
        "name": probe.name, "about": (type(probe).__doc__ or "").split("\n")[0], "settings": to_dict(probe),
        "measures": [to_dict(measure) for measure in probe.measures], "results": numbers, "differences": differences,
    }  # fmt: skip


def _difference(name: str, of: Sequence[Mapping[str, Any]], minus: Sequence[Mapping[str, Any]]):
    """Of two policies' means: [value, low, high], over problems that both have; None where no record has the value."""
    sums = [_by_problem(name, records) for records in (of, minus)]
    both = sorted(set(sums[0]) & set(sums[1]))
    if not both:
        return None
    ratios = [tuple(np.array([one[problem][i] for problem in both]) for i in range(2)) for one in sums]
    return list(paired_difference(*ratios, resample(len(both))))


def _by_problem(name: str, records: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, float]]:
    """Sum and count of a measure's values, by problem."""
    out: dict[str, tuple[float, float]] = {}
    for record in records:
        value = record.get("values", {}).get(name)
        if value is not None:
            total, count = out.get(record["problem"], (0.0, 0.0))
            out[record["problem"]] = (total + float(value), count + 1)
    return out


def _tables(result: Mapping[str, Any]) -> list[str]:
    """For a terminal: a row a measure, a column a policy; below a number what it is above the first policy's."""
    lines = [f"{result['questions']}; scored under {result['scorer']}"]
    for probe in result["probes"]:
        head = ["", *result["policies"]]
        rows = [row for measure in probe["measures"] for row in _measure_rows(probe, measure["name"])]
        widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
        lines.append(f"\n{probe['name']}: {probe['about']}")
        padded = lambda row, widths: "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True))
        lines += [padded(row, widths).rstrip() for row in [head, *rows]]
    return lines


def _measure_rows(probe: Mapping[str, Any], name: str) -> list[list[str]]:
    if all(numbers.get(name) is None for numbers in probe["results"]):
        return []
    own = [name, *(interval(numbers, name) for numbers in probe["results"])]
    apart = [differences.get(name) or [None] for differences in probe["differences"]]
    return [own, ["", *map(_shown, apart)]] if any(one[0] for one in apart) else [own]


def _shown(difference) -> str:
    if difference[0] is None:
        return ""
    value, low, high = difference
    return f"{value:+.3f}" + ("" if low is None or high is None else f" [{low:+.3f}, {high:+.3f}]")
