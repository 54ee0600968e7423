"""What a study says in lines: its verdicts, and what to be wary of."""

from statistics import mean

from jaxsrl.studies.charts import signed
from jaxsrl.studies.plan import against
from jaxsrl.studies.results import Results

UNEVEN = 0.1  # share of an arm's tokens by which what two arms average may begin apart


def summary(found: Results) -> str:
    """Noise floor, a line for each comparison, and the alarms."""
    metric, noise = found.plan["estimator"]["metric"], found.noise
    lines = [noise_told(found)]
    for c in found.comparisons:
        least = f", {len(c.seeds)} seeds show {signed(c.floor, metric)[1:]}" if noise and c.difference else ""
        value = (
            f"{signed(c.difference.value, metric)} ({signed(c.difference.low, metric)} to "
            f"{signed(c.difference.high, metric)}), " if c.difference else ""
        )  # fmt: skip
        lines.append(f"{c.arm} less {c.against}: {value}{c.verdict}: {c.reason}{least}")
    return "\n".join([*lines, *(f"warning: {text}" for text in alarms(found))])


def noise_told(found: Results) -> str:
    if found.noise is None:
        return "Noise floor: unknown, so that every verdict is refused."
    deviation = signed(found.noise.deviation, found.plan["estimator"]["metric"])[1:]
    return f"Noise floor: the anchor differs from itself by a standard deviation of {deviation} ({found.noise.source})."


def alarms(found: Results) -> list[str]:
    return [
        *(f"No value of {text}" for text in found.missing),
        *(f"Ended early by the study’s rule: {one.arm} seed {one.seed}, at step {one.stopped['step']}"
          for one in found.runs if one.stopped),
        *(f"{arm}, seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}: nothing was learned from, as every group of "
          "rollouts was dropped. The value is that of the start." for arm, seeds in _unlearned(found).items()),
        *_uneven(found),
        *_floored(found),
    ]  # fmt: skip


def _unlearned(found: Results) -> dict[str, list[str]]:
    """Arm -> seeds whose stage sampled and updated nothing."""
    arms: dict[str, list[str]] = {}
    for one in found.runs:
        if one.spent.tokens and one.spent.tokens["sample"] and not one.spent.tokens["learn"]:
            arms.setdefault(one.arm, []).append(str(one.seed))
    return arms


def _uneven(found: Results) -> list[str]:
    """Arms whose last evaluations are of another part of training than their anchor's, as steps differ in cost."""
    last, shares = found.plan["estimator"]["last"], {}
    for one in found.runs:
        tokens = one.spent.at.get(one.steps[-last:][0], {}).get("tokens")
        if tokens is not None and one.tokens and not one.stopped:
            shares.setdefault(one.arm, []).append(tokens / one.tokens)
    begin = {arm: mean(own) for arm, own in shares.items()}
    return [
        f"{arm}: the evaluations that are averaged begin after {begin[arm]:.0%} of its tokens, those of {anchor} after "
        f"{begin[anchor]:.0%}. Set validate.every so that both are of the same part of training"
        for arm, anchor in against(found.plan).items()
        if arm in begin and anchor in begin and abs(begin[arm] - begin[anchor]) > UNEVEN
    ]  # fmt: skip


def _floored(found: Results) -> list[str]:
    """Anchors that did not gain: arms are the same as one that has learned nothing, whatever they would do later.

    The start is the evaluation before a stage's first step. Where there is none, as on the test split, nothing is said.
    """
    metric, smallest = found.plan["estimator"]["metric"], found.plan["smallest_effect"]
    told = []
    for anchor in dict.fromkeys(c.against for c in found.comparisons):
        same = [c for c in found.comparisons if c.against == anchor and c.verdict == "same"]
        seeds = {seed for c in same for seed in c.seeds}
        own = [one for one in found.runs if one.arm == anchor and one.seed in seeds]
        moved = [one.value - one.curve[0] for one in own if one.steps[0] == 0]
        if same and len(moved) == len(own) and mean(moved) < smallest:
            told.append(
                f"{', '.join(c.arm for c in same)}: “same” is a floor effect, as {anchor} itself learned nothing: it "
                f"moved by {signed(mean(moved), metric)} from its start, and {signed(smallest, metric)} would matter. "
                "Train it otherwise, or begin from another base"
            )
    return told
