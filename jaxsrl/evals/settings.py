"""What an evaluation does, and with what it compares."""

from dataclasses import dataclass
from typing import Literal, get_args

from jaxsrl.evals.probe import Probe
from jaxsrl.evals.summary import Decoding
from jaxsrl.old_names import takes_old_names

Mode = Literal["actions", "direct", "chained"]
MODES: tuple[Mode, ...] = get_args(Mode)


@takes_old_names
@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Greedy completions in every mode, and beside them sampled ones where a temperature is set.

    The cap on a completion's tokens and truncation rules such as top-p belong to the compiled sampler.

    Args:
      modes: three of the probes by name: `actions`, the next action after the expert's; `direct`, a whole solution in
        one completion; `chained`, a solution action by action. None of them needs further `probes`.
      probes: further ones, as audits; their metrics stand under their names. See `probe.py`.
      problems: the first so many of the demonstrations given; None takes all.
      samples: completions per prompt, or chains per problem, of the sampled pass: the k of avg@k and pass@k.
      temperature: of the sampled pass; 0 leaves it out.
      forced_think: variants to run. False: the run's template as it is. True: with `<think>` written for the model,
        which shows what thinking is worth to a policy that has stopped to think.
      think: whether an action needs a thought before it to count as well formed, in `actions` and `chained`.
      last_action: asks for the last action too in `actions`; SRL trains on all but the last.
      action_cap: actions after which a chain is given up; None: two more than the expert took.
      unit, autojunk: of the similarity, see `rewards.similarity`. They are fixed apart from the reward's, so that
        policies trained with different rewards stay comparable.
    """

    modes: tuple[Mode, ...] = MODES
    probes: tuple[Probe, ...] = ()
    problems: int | None = None
    samples: int = 1
    temperature: float = 0.0
    forced_think: tuple[bool, ...] = (False,)
    think: Literal["optional", "required"] = "optional"
    last_action: bool = False
    action_cap: int | None = None
    unit: Literal["char", "word"] = "char"
    autojunk: bool = False

    def __post_init__(self):
        if self.modes or not self.probes:
            _check_subset("modes", self.modes, MODES)
        _check_names([probe.name for probe in self.probes])
        _check_subset("forced_think", self.forced_think, (False, True))
        for name, allowed in (("think", ("optional", "required")), ("unit", ("char", "word"))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        for name in ("problems", "action_cap"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be >= 1 or None, got {value}")
        if self.samples < 1 or not 0 <= self.temperature < float("inf"):
            raise ValueError(
                f"samples must be >= 1 and temperature finite and >= 0, got samples={self.samples} "
                f"temperature={self.temperature}"
            )
        if self.samples > 1 and not self.temperature:
            raise ValueError(f"samples={self.samples} would be {self.samples} times the same: set temperature above 0")

    @property
    def decodings(self) -> tuple[Decoding, ...]:
        sampled = Decoding(temperature=self.temperature, samples=self.samples)
        return (Decoding(), sampled) if self.temperature else (Decoding(),)


def _check_names(names: list[str]) -> None:
    taken = [name for name in names if name.removeprefix("forced_") in MODES or names.count(name) > 1 or "/" in name]
    if taken:
        raise ValueError(f"probes need names of their own, without a slash: {', '.join(dict.fromkeys(taken))}")


def _check_subset(name: str, value: tuple, allowed: tuple) -> None:
    if not value or len(set(value)) < len(value) or not set(value) <= set(allowed):
        raise ValueError(f"{name} must name some of {allowed}, each once, got {value!r}")
