"""Sizes of a stage's arrays: every compiled program of a step is a function of these."""

from dataclasses import dataclass

MAY_BE_NONE = ("code_points", "sheets", "targets")
MOST_ROWS = 4  # sizes of a learner's batch, each a program


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """Tokens and counts. They bound memory and change no number.

    Args:
      prompt_rows, prompt_tokens, slots: rows of a sheet, their tokens, and jobs of a row (R, T, K).
      groups, group_size: of a sheet, and rollouts of the largest one (Q, G).
      code_points: of an expert's action, for a reward on the device (B); 0 where there is none.
      sheets: of a round, where every round must have as many.
      trunk_tokens: of a round's trees together (U); a round that needs more takes a multiple.
      demonstrations, targets: of a round, and target tokens of one (M, E).
      tokens, runs: of a learner's row (T, Z).
      rows: of a learner's batch, at most four sizes.
      round_rows: a learner's rows of a round whose completions all have the cap's room.
    """

    prompt_rows: int
    prompt_tokens: int
    slots: int
    groups: int
    group_size: int
    code_points: int
    sheets: int
    trunk_tokens: int
    demonstrations: int
    targets: int
    tokens: int
    runs: int
    rows: tuple[int, ...]
    round_rows: int

    def __post_init__(self):
        object.__setattr__(self, "rows", tuple(self.rows))  # JSON has lists
        for name, value in vars(self).items():
            least = 0 if name in MAY_BE_NONE else 1
            if min(value if name == "rows" else (value,), default=0) < least:
                raise ValueError(f"shapes.{name} must be >= {least}, got {value}")
        if len(self.rows) > MOST_ROWS:
            raise ValueError(f"shapes.rows must be at most {MOST_ROWS} sizes, each is a program; got {self.rows}")

    @property
    def jobs(self) -> int:
        """Of a sheet (P)."""
        return self.prompt_rows * self.slots
