"""The metrics that an evaluation will have, before there is anything to evaluate."""

from jaxsrl.evals.settings import Evaluation, Mode

SEEN = ("thinks", "truncated", "tokens_mean", "words_mean")  # of completions, see `summary.completion_columns`
COLUMNS = {
    "actions": (
        "exact", "similarity", "similarity_previous", "similarity_other_problem", "above_previous",
        "above_other_problem", "malformed", *SEEN,
    ),
    "direct": ("answer", "malformed", "timeout_share", *SEEN),
    "chained": (
        "answer", "no_answer", "whole", "leading_mean", "leading_share", "actions_mean", "unfinished", "capped",
        "outgrown", "tokens_mean", "words_mean", "malformed", "ran_on", "thinks", "truncated",
        "completion_tokens_mean", "timeout_share",
    ),
}  # fmt: skip
HEADLINE = {"actions": "exact", "direct": "answer", "chained": "answer"}


def metric_names(settings: Evaluation) -> list[str]:
    """Names of an evaluation's metrics; each but the counts has its bounds `NAME_low` and `NAME_high` beside it.

    `timeout_share` is among them only where the reward may run out of time.
    """
    found = []
    for forced in settings.forced_think:
        for mode in settings.modes:
            found += [f"{'forced_' if forced else ''}{mode}/{name}" for name in mode_names(settings, mode)]
    for probe in settings.probes:
        found += [f"{probe.name}/{name}" for name in ("problems", *(measure.name for measure in probe.measures))]
    return found


def mode_names(settings: Evaluation, mode: Mode) -> list[str]:
    """Bare names of a mode's metrics."""
    names = ["count", "problems", *COLUMNS[mode]]
    if settings.temperature:
        k = settings.samples
        names += [f"sampled_{n}" for n in COLUMNS[mode] if n != HEADLINE[mode]] + [f"avg@{k}"]
        powers = {2**i for i in range(1, k.bit_length()) if 2**i <= k} | {k}
        names += [*(f"pass@{power}" for power in sorted(powers)), f"pass^{k}"]
        names += [f"maj@{k}"] if mode != "actions" else []
    return names
