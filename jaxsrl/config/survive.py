"""What a run does when something goes wrong in the night."""

from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class Survive:
    """When a run in trouble says so, and when it ends.

    Args:
      failed_saves: checkpoints in a row that the disk may refuse; training goes on until then.
      skipped_updates: in a row that may be left out, because their gradient was not finite or a spike.
      warn_after: seconds without progress in a step after which all stacks are written to the log. At least five times
        as long as the median step.
      hang_after: seconds after which the run ends with exit code 76. At least ten times as long as the median step.
      slow_after: seconds instead of `hang_after` while the run begins, compiles, evaluates or saves.
      replay_every: of how many optimizer steps one is replayed: the learner's part is computed twice from the same
        state, and its bits and those of all replicas are compared. The steps on one collection are replayed together,
        so many times as seldom. 0 replays nothing.

    All but `failed_saves` may be 0, which switches it off.
    """

    failed_saves: int = 5
    skipped_updates: int = 5
    warn_after: float = 60.0
    hang_after: float = 300.0
    slow_after: float = 3600.0
    replay_every: int = 0

    def __post_init__(self):
        for field in fields(self):
            value, least = getattr(self, field.name), int(field.name == "failed_saves")
            if value < least:
                raise ValueError(f"survive.{field.name} must be >= {least}, got {value}")
        if self.hang_after and not self.warn_after <= self.hang_after <= self.slow_after:
            raise ValueError(
                "survive: warn_after <= hang_after <= slow_after, or hang_after=0 for no watching, got "
                f"{self.warn_after} {self.hang_after} {self.slow_after}"
            )
