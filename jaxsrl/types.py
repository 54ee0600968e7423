"""The values that pass between rooms: shapes and units, no behaviour beyond checking them.

Letters: `R` packed rows, `T` tokens of a row, `P` rollouts, `C` tokens of a completion, `M` demonstrations,
`E` target tokens of a demonstration, `G` rollouts of one group.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import jax
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, Key, Shaped, UInt8

Params = Any  # the model's parameters as a pytree
Metrics = dict[str, Any]  # name -> scalar; the name says the unit where there is one
Form = Literal["step", "solve"]  # what the prompt asks for: the next action only, or the whole solution


@dataclass(frozen=True, kw_only=True)
class Demonstration:
    """An expert's solution of one problem, cut into its N actions."""

    problem_id: str  # splits go by this: two solutions of one problem share it
    problem: str
    actions: tuple[str, ...]  # in order, without the separator
    answer: str | None = None  # the key of the final answer
    titles: tuple[str | None, ...] | None = None  # a heading per action, shown as a hint when asked for
    thoughts: tuple[str, ...] | None = None  # what the expert thought before each action; None where not shown
    source: str = ""  # file:line, for messages
    quality: float | None = None  # a score that the data bring along; higher is better
    profile: tuple[tuple[int, tuple[float, ...]], ...] | None = None  # (actions given, a policy's rewards there)

    def __post_init__(self):
        for name in ("titles", "thoughts"):
            value = getattr(self, name)
            if value is not None and len(value) != len(self.actions):
                raise ValueError(
                    f"{self.source or self.problem_id}: {len(value)} {name} for {len(self.actions)} actions"
                )


@dataclass(frozen=True, kw_only=True)
class BranchPoint:
    """A place on the trunk where completions branch off."""

    after: int  # expert actions given before it; 0 is at the problem
    samples: int  # rollouts drawn there (G)
    form: Form = "step"


@dataclass(frozen=True, kw_only=True)
class Node:
    """A run of tokens of a tree. Its first token follows the last token of `parent`."""

    token: Int[np.ndarray, "T"]
    parent: int = -1  # index of the parent in `Tree.nodes`, smaller than its own; -1 for a root
    target: bool = False  # written by the expert, so an objective may weigh its tokens
    rollout: int = -1  # index into `Rollouts`; -1 on the trunk


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A demonstration with everything that branches off it; a forest when it is told in more than one form.

    `nodes` hold parents before children. Target tokens of the demonstration are counted in node order.
    `branch` maps (form, actions given) to the node after which a completion of that branch point starts.
    """

    nodes: tuple[Node, ...]
    branch: Mapping[tuple[Form, int], int]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Batch:
    """Packed trees. A token sees itself and every k with enter[k] <= enter[q] < leave[k], position[k] <= position[q].

    Intervals are disjoint between the trees of a row; padding has an empty one. Weights of a whole optimizer step
    are divided before the split into batches, so the losses of its batches add up to the step's loss.
    """

    token: Int[Array, "R T"]
    position: Int[Array, "R T"]  # depth on the token's own path; what RoPE sees
    enter: Int[Array, "R T"]  # depth-first interval of the token's node
    leave: Int[Array, "R T"]
    parent: Int[Array, "R T"]  # row index of the previous token on the path; 0 where there is none (weight 0)
    rollout: Int[Array, "R T"]  # index of the rollout within the optimizer step; -1 elsewhere
    nll_weight: Float[Array, "R T"]
    pg_weight: Float[Array, "R T"]
    advantage: Float[Array, "R T"]
    behavior_logp: Float[Array, "R T"]  # nats, at the temperature the token was sampled with
    ref_logp: Float[Array, "R T"] | None = None  # nats, under the frozen reference
    group: Int[Array, "R T"] | None = None  # of the token's rollout, -1 on the trunk; where groups are kept whole


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Prompts:
    """Packed trunks and the slots in which completions grow; the sampler's input.

    `K` slots a row. A slot sees the prompt token k iff enter[k] <= slot_enter < leave[k], and its own tokens.
    """

    token: Int[Array, "R T"]
    position: Int[Array, "R T"]
    enter: Int[Array, "R T"]
    leave: Int[Array, "R T"]
    slot_parent: Int[Array, "R K"]  # row index of the last prompt token of the slot's path
    slot_enter: Int[Array, "R K"]
    slot_active: Bool[Array, "R K"]
    slot_address: Int[Array, "R K 5"]  # uint32: refill round, prompt hash (2 words), branch point, sample


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True, eq=False)
class TokenBytes:
    """What token ids spell, for graders that read them on the device. Token t is spelled[start[t] : start[t + 1]]."""

    spelled: UInt8[Array, "S"]
    start: Int[Array, "V+1"]
    end: int = field(metadata={"static": True})  # the id that ends a completion
    given: bytes = field(default=b"", metadata={"static": True})  # what the template wrote of a completion, UTF-8


@dataclass(frozen=True, kw_only=True)
class Rollouts:
    """Sampled completions of one optimizer step, host arrays, one row a rollout."""

    token: Int[np.ndarray, "P C"]
    mask: Bool[np.ndarray, "P C"]  # sampled tokens, the end token included
    behavior_logp: Float[np.ndarray, "P C"]  # nats
    demonstration: Int[np.ndarray, "P"]  # index into the step's demonstrations
    form: tuple[Form, ...]
    branch: Int[np.ndarray, "P"]  # expert actions given
    sample: Int[np.ndarray, "P"]  # 0..G-1 within the group
    group: Int[np.ndarray, "P"]  # equal iff same demonstration, branch point and draw; never by prompt text
    truncated: Bool[np.ndarray, "P"]  # ran to the cap without an end token
    text: tuple[str, ...] = field(repr=False)  # decoded completion, without the end token
    ref_logp: Float[np.ndarray, "P C"] | None = None  # nats, under the frozen reference, where an objective asks
    token_bytes: TokenBytes | None = field(default=None, repr=False)  # what the ids spell; `text`, for a device

    def __len__(self) -> int:
        return len(self.text)


class Mean(NamedTuple):
    """A mean that can be taken on: those of parts of a step add up to the whole step's."""

    total: float
    over: float  # how many, or how much weight, the total is divided by


def means(columns: Mapping[str, Shaped[np.ndarray, "N"]]) -> dict[str, Mean]:
    """The mean of each column, over as many numbers as it has; one of none is left out."""
    return {name: Mean(float(column.sum()), column.size) for name, column in columns.items() if column.size}


@dataclass(frozen=True, kw_only=True)
class Grades:
    """What a grader says of P rollouts."""

    reward: Float[np.ndarray, "P"]
    action: tuple[str | None, ...]  # the action found in the completion; None if malformed
    expert: tuple[str | None, ...]  # what it was compared with
    settings: Mapping[str, Any]  # of the grader, for the log
    means: Mapping[str, Mean] = field(default_factory=dict)

    @property
    def metrics(self) -> Metrics:
        return {name: mean.total / mean.over for name, mean in sorted(self.means.items())}


@dataclass(frozen=True, kw_only=True)
class TokenWeights:
    """How much each token counts; zero where it does not. Rows are rollouts (P, C) or demonstrations (M, E)."""

    nll: Float[np.ndarray, "B T"]
    pg: Float[np.ndarray, "B T"]
    advantage: Float[np.ndarray, "B T"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class TrainState:
    """What a step changes, and nothing else."""

    step: Int[Array, ""]  # optimizer steps taken, skipped ones included
    skipped: Int[Array, ""]  # updates left out because a gradient was not finite
    params: Params  # f32 master weights
    opt_state: optax.OptState
    key: Key[Array, ""]  # run key; fold `step` in, never replace it


Reward = Callable[[Rollouts, Sequence[Demonstration]], Grades]


class Objective(Protocol):
    """Where completions branch off, what rewards them, how much each token weighs, and the loss of a token.

    `trunk` names the forms in which the demonstration itself is laid out to be trained on. `kl_coef > 0` asks for
    `Batch.ref_logp`. Both may be class attributes. An objective may also have `reward_kl_coef`, which above 0 asks for
    `Rollouts.ref_logp`, and `needs_profile`: its demonstrations must have been profiled by an earlier stage;
    and `whole_groups`: the loss looks at a group as a whole, so it stays in one row, and `Batch.group` is there.
    """

    trunk: tuple[Form, ...]
    kl_coef: float

    def branch_points(
        self, demonstration: Demonstration, stats: Mapping[str, float], step: int
    ) -> tuple[BranchPoint, ...]:
        """Where, and how many; `stats` are the metrics of the step before."""
        ...

    def reward(self, rollouts: Rollouts, demonstrations: Sequence[Demonstration]) -> Grades:
        """Called with whole groups: all of a refill round, or those that one of several processes grades."""
        ...

    def weigh(
        self, rollouts: Rollouts, reward: Float[np.ndarray, "P"], target: Bool[np.ndarray, "M E"], step: int = 0
    ) -> tuple[TokenWeights, TokenWeights]:
        """Weights of the demonstrations' target tokens and of the rollouts', of a whole optimizer step.

        `step` counts the optimizer steps before it, for weights that follow a schedule.

        A group whose pg and nll weights are all zero counts as dropped: it is not packed, and it is what a refill
        replaces.
        """
        ...

    def token_loss(self, logp: Float[Array, "R T"], batch: Batch) -> tuple[Float[Array, ""], Metrics]: ...
