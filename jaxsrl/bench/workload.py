"""What a measured step is made of."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a step is made of. Tokens are ids; a random model never ends, so that every completion reaches its cap.

    Args:
      demonstrations: a step; each has a problem of `prompt_tokens` and `actions` of `action_tokens`.
      group_size: rollouts a prompt; SRL has a prompt for every action but the last, RLVR one.
      completion_tokens: of a rollout.
      row_tokens, rows: of a learner batch; a row holds at least one whole tree.
      slots: rollouts that grow beside each other in a row of the sampler.
    """

    demonstrations: int = 8
    prompt_tokens: int = 256
    actions: int = 4
    action_tokens: int = 64
    group_size: int = 8
    completion_tokens: int = 128
    row_tokens: int = 4096
    rows: int = 1
    slots: int = 24

    def __post_init__(self):
        for name, value in vars(self).items():
            if value < 1:
                raise ValueError(f"{name} must be >= 1, got {value}")
        if self.actions < 2 or self.group_size < 2:
            found = f"actions={self.actions} group_size={self.group_size}"
            raise ValueError(f"actions and group_size must be >= 2, got {found}")
