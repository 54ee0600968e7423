"""What an optimizer step is made of, and the shapes of its programs."""

from dataclasses import dataclass

from jaxsrl.old_names import moved


@dataclass(frozen=True, kw_only=True)
class Collect:
    """What an optimizer step is made of.

    Args:
      demonstrations: drawn per round.
      prompts: groups with weight that a step wants; rounds are added until it has them, surplus is left out. None
        takes one round as it comes.
      max_refills: bound on added rounds; a step that is still short goes ahead with what it has.
      refill_rounds: rounds that every step adds, wanted or not: with it fixed the number is part of the program, as
        the device loop needs it. None lets `prompts` decide.
    """

    demonstrations: int = 8
    prompts: int | None = None
    max_refills: int = 3
    refill_rounds: int | None = None

    def __post_init__(self):
        if self.demonstrations < 1 or self.max_refills < 0 or (self.prompts is not None and self.prompts < 1):
            raise ValueError(
                f"demonstrations and prompts must be >= 1 and max_refills >= 0, got demonstrations="
                f"{self.demonstrations} prompts={self.prompts} max_refills={self.max_refills}"
            )
        if self.refill_rounds is not None and self.refill_rounds < 0:
            raise ValueError(f"refill_rounds must be >= 0, or None, got {self.refill_rounds}")

    @property
    def most_rounds(self) -> int:
        """Of one optimizer step."""
        if self.refill_rounds is not None:
            return 1 + self.refill_rounds
        return 1 if self.prompts is None else 1 + self.max_refills


@dataclass(frozen=True, kw_only=True)
class BatchShapes:
    """Shapes of the compiled programs, in tokens and counts; they bound memory and change no number.

    What is None is chosen from the stage's data and the device's memory when the stage first starts. What a run has
    chosen is in its folder `shapes/`.

    Args:
      tokens, rows: row length and rows of a learner batch.
      prompt_tokens, prompt_rows, slots: row length and rows of a sampler call, and completions per row.
      at_once: of these, how many grow at the same time; a slot whose completion has ended takes the row's next. None
        chooses what reads the least (`rollout/slots.py`); as many as `slots` means that none waits.
      evaluate_rows, evaluate_slots: the same in evaluation; whole solutions take one slot a row.
    """

    tokens: int | None = None
    rows: int | None = None
    prompt_tokens: int | None = None
    prompt_rows: int | None = None
    slots: int | None = None
    at_once: int | None = None
    evaluate_rows: int | None = None
    evaluate_slots: int | None = None

    def __post_init__(self):
        for name, value in vars(self).items():
            if value is not None and value < 1:
                raise ValueError(f"rows.{name} must be >= 1, or None, got {value}")


def __getattr__(name: str):
    return moved(name, __name__, {"Rows": BatchShapes})
