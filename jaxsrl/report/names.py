"""How metrics are called, counted and shown."""

from jaxsrl.metrics import UNITS

MODES = {"actions": "next action", "chained": "solution, action by action", "direct": "solution at once"}
FORCED = "forced_"
# Name of a metric, or its last part -> what it says.
MEANINGS = {
    "exact": "share of actions equal to the expert's",
    "answer": "share of problems whose final answer is right",
    "similarity": "2 M / (|action| + |expert|) of well-formed actions, M matched units, 0 to 1",
    "similarity_previous": "similarity of the action before, repeated",
    "similarity_other_problem": "similarity of the expert's action in another problem",
    "above_previous": "similarity above that of the action before, repeated",
    "above_other_problem": "similarity above that of the expert's action in another problem",
    "malformed": "share of completions in which no action was found",
    "no_answer": "share of problems for which no answer was found",
    "whole": "share of problems in which every action equals the expert's",
    "leading_mean": "actions equal to the expert's before the first that is not",
    "leading": "share of the expert's actions written before the first that differs",
    "unfinished": "share of chains that ended without an answer",
    "ran_on": "share of completions that went on after their action",
    "thinks": "share of completions with a thought that is not empty",
    "truncated": "share of completions that ran to the cap",
    "accuracy": "share of problems solved",
    "reward/similarity": "mean over well-formed rollouts: 2 M / (|action| + |expert|), M matched units",
    "reward/mean_expert_under_200": "mean reward where the expert's action has under 200 units",
    "reward/mean_expert_from_200": "mean reward where it has 200 units or more: difflib's autojunk applies there",
    "reward/unfit_share": "share of rollouts too long for the device: scored on the host, in the device loop malformed",
    "reward/on_host_share": "earlier name of reward/unfit_share",
    "timeout_share": "share of completions whose comparison with the key ran out of time or memory: counted as wrong",
    "correct": "share of completions with the right final answer",
    "reward/mean": "mean over the step's rollouts, dropped ones included",
}
AT_K = ("avg@", "pass@", "pass^", "maj@")
SHARES = (
    "exact", "answer", "malformed", "thinks", "truncated", "accuracy", "correct", "no_answer", "whole", "unfinished",
    "capped", "outgrown", "ran_on",
)  # fmt: skip
# Numbers of different objectives that share a name and no scale: a panel per stage.
APART = ("loss",)
FIRST = (
    "reward/mean", "reward/similarity", "loss", "collect/kept_share", "reward/malformed_share",
    "completion/tokens_mean", "completion/truncated_share", "completion/entropy", "grad/norm", "lr",
)  # fmt: skip


def last_part(name: str) -> str:
    return name.rpartition("/")[2]


def is_share(name: str) -> bool:
    """Whether a value is a share, shown in percent."""
    part = last_part(name).removeprefix("sampled_")
    return part.endswith(("_share", "_rate")) or part.startswith(AT_K) or part.removesuffix("_share") in SHARES


def unit(name: str) -> str:
    """What stands at the value axis."""
    part = last_part(name)
    if is_share(name):
        return "%"
    if "tokens" in part or part == "slots":
        return "tokens"
    if "entropy" in part:
        return "nats per token"
    if "kl" in part.split("_"):
        return "nats"
    if "similarity" in part or part.startswith("above_"):
        return "similarity, 0 to 1"
    if name.startswith("reward/"):
        return "reward"
    return {"loss": "loss", "lr": "learning rate", "grad/norm": "norm", "update/skipped": "updates"}.get(name, part)


def meaning(name: str) -> str:
    """One phrase on what a metric is; empty where its name must do."""
    if name in UNITS:
        return UNITS[name]
    part = last_part(name).removeprefix("sampled_")
    return MEANINGS.get(name) or MEANINGS.get(part, MEANINGS.get(part.removesuffix("_share"), ""))


def order(name: str) -> tuple[int, str]:
    """Sorts what is looked at first to the front."""
    return (FIRST.index(name) if name in FIRST else len(FIRST), name)


def number(value: float, name: str = "") -> str:
    """A value as a reader wants it: percent for shares, three decimals for similarities, no needless digits."""
    if is_share(name):
        return f"{100 * value:.1f}".replace("-", "\u2212") + " %"
    if isinstance(value, int) or value == 0:
        return f"{value:,.0f}".replace(",", "\u202f").replace("-", "\u2212")
    size = abs(value)
    if size >= 1e6 or size < 1e-3:
        shown = f"{value:.2e}".replace("e-0", "e-").replace("e+0", "e")
    elif size >= 100:
        shown = f"{value:,.0f}".replace(",", "\u202f")
    elif size >= 10:
        shown = f"{value:.1f}"
    else:
        shown = f"{value:.3f}"
    return shown.replace("-", "\u2212") if not shown.count("e") else shown
