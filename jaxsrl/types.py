"""The values that pass between rooms: shapes and units, no behaviour beyond checking them.

Letters: `R` packed rows, `T` tokens of a row, `P` rollouts, `C` tokens of a completion, `M` demonstrations,
`E` target tokens of a demonstration, `G` rollouts of one group.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, Key, Shaped, UInt8

from jaxsrl.old_names import takes_old_names

Params = Any  # the model's parameters as a pytree
Metrics = dict[str, Any]  # name -> scalar; the name says the unit where there is one
Form = Literal["action", "solve"]  # what the prompt asks for: the next action only, or the whole solution


@dataclass(frozen=True, kw_only=True)
class Demonstration:
    """An expert's solution of one problem, cut into its N actions."""

    problem_id: str  # splits go by this: two solutions of one problem share it
    problem: str
    actions: tuple[str, ...]  # in order, without the separator
    answer: str | None = None  # the key of the final answer
    titles: tuple[str | None, ...] | None = None  # a heading per action, shown as a hint when asked for
    thoughts: tuple[str | None, ...] | None = None  # what the expert thought before each action; None where not shown
    observations: tuple[str, ...] | None = None  # what an environment answered to each action, "" for nothing
    source: str = ""  # file:line, for messages
    written: tuple[str, ...] | None = None  # actions as the file has them, where the tokenizer spells them otherwise
    quality: float | None = None  # a score that the data bring along; higher is better
    profile: tuple[tuple[int, tuple[float, ...]], ...] | None = None  # (actions given, a policy's rewards there)

    def __post_init__(self):
        for name in ("titles", "thoughts", "observations"):
            value = getattr(self, name)
            if value is not None and len(value) != len(self.actions):
                raise ValueError(
                    f"{self.source or self.problem_id}: {len(value)} {name} for {len(self.actions)} actions"
                )


@takes_old_names
@dataclass(frozen=True, kw_only=True)
class BranchPoint:
    """A place on the trunk where completions branch off."""

    after: int  # expert actions given before it; 0 is at the problem
    samples: int  # rollouts drawn there (G)
    form: Form = "action"


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
    extra: dict[str, Float[Array, "R T"]] = field(default_factory=dict)  # named numbers of an objective; 0 on the trunk


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Prompts:
    """Packed trunks and the slots in which completions grow; the sampler's input.

    `K` jobs a row, each in a slot of its own, or fewer slots that take one job after another. A job sees the prompt
    token k iff enter[k] <= slot_enter < leave[k], and its own tokens.
    """

    token: Int[Array, "R T"]
    position: Int[Array, "R T"]
    enter: Int[Array, "R T"]
    leave: Int[Array, "R T"]
    slot_parent: Int[Array, "R K"]  # row index of the last prompt token of the slot's path
    slot_enter: Int[Array, "R K"]
    slot_active: Bool[Array, "R K"]
    slot_address: Int[Array, "R K 6"]  # uint32: refill, position in the data order, prompt hash (2), branch, sample


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True, eq=False)
class TokenBytes:
    """What token ids spell, for rewards that read them on the device. Token t is spelled[start[t] : start[t + 1]]."""

    spelled: UInt8[Array, "S"]
    start: Int[Array, "V+1"]
    ends: tuple[int, ...] = field(metadata={"static": True})  # the ids that end a completion
    given: bytes = field(default=b"", metadata={"static": True})  # what the template wrote of a completion, UTF-8


@dataclass(frozen=True, kw_only=True)
class Rollouts:
    """Sampled completions as the host reads them, one row a rollout."""

    token: Int[np.ndarray, "P C"]
    mask: Bool[np.ndarray, "P C"]  # sampled tokens, the end token included
    demonstration: Int[np.ndarray, "P"]  # index into the step's demonstrations
    form: tuple[Form, ...]
    branch: Int[np.ndarray, "P"]  # expert actions given
    sample: Int[np.ndarray, "P"]  # 0..G-1 within the group
    group: Int[np.ndarray, "P"]  # equal iff same demonstration, branch point and draw; never by prompt text
    truncated: Bool[np.ndarray, "P"]  # ran to the cap without an end token
    text: tuple[str, ...] = field(repr=False)  # decoded completion, without the end token

    def __len__(self) -> int:
        return len(self.text)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Segments:
    """Rows described by runs of tokens, `Z` a row, in the order of the row; an unused run has length 0.

    Runs of a row lie without gaps from its first place on, trees one after another and each in depth-first order: a
    token sees k iff k is not behind it and enter[q] < leave[k].
    """

    start: Int[Array, "R Z"]  # row index of the run's first token; the row's length where the run is unused
    length: Int[Array, "R Z"]
    source: Int[Array, "R Z"]  # where its tokens begin in the trunk's pool; of a completion it is not read
    rollout: Int[Array, "R Z"]  # the completion that the run is, -1 on the trunk
    target: Int[Array, "R Z"]  # index of its first token in the flat [M E] of target tokens, -1 where it is none
    position: Int[Array, "R Z"]  # depth of its first token
    enter: Int[Array, "R Z"]
    leave: Int[Array, "R Z"]
    parent: Int[Array, "R Z"]  # row index of the token before its first one; -1 where a path begins


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Groups:
    """Which rollouts are compared with each other. `P` jobs, `Q` groups of at most `G`; some of either may be empty."""

    member: Int[Array, "Q G"]  # index of each rollout of a group
    present: Bool[Array, "Q G"]
    demonstration: Int[Array, "Q"]  # whose branch point it is
    hash: Int[Array, "Q"]  # uint32 of the group's address: says which ones are left out where there are too many
    group: Int[Array, "P"]  # of each rollout; 0 where the job is empty
    column: Int[Array, "P"]  # its place in the group
    active: Bool[Array, "P"]  # whether there is such a rollout


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Sheet:
    """What is known of a part of an optimizer step before a token is sampled. Sheets of a stage have one shape.

    Job p = r * K + k is slot k of prompt row r. `B` code points.
    """

    prompts: Prompts
    groups: Groups  # demonstrations are counted within the step, rollouts within the sheet
    expert: Int[Array, "Q B"]  # code points of the expert's next action, stripped; B is 0 where no reward reads them
    expert_length: Int[Array, "Q"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Trunk:
    """The demonstrations of an optimizer step as the learner needs them."""

    token: Int[Array, "U"]  # of all trees, node after node
    target: Bool[Array, "M E"]  # target tokens of each demonstration


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Completions:
    """What the sampler wrote, by job. Nothing is written behind `length`, which counts the end token; 0: no job."""

    token: Int[Array, "P C"]
    logp: Float[Array, "P C"]  # nats, at the temperature it was sampled with
    length: Int[Array, "P"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Collected:
    """What an objective weighs: the rollouts of a whole optimizer step, on the device."""

    mask: Bool[Array, "P C"]  # sampled tokens, the end token included; none of a job that is empty
    behavior_logp: Float[Array, "P C"]  # nats; 0 outside the mask
    truncated: Bool[Array, "P"]  # ran to the cap without an end token
    groups: Groups
    target: Bool[Array, "M E"]
    step: Int[Array, ""]  # optimizer steps before this one
    ref_logp: Float[Array, "P C"] | None = None  # nats, under the frozen reference, where `Needs.reference_to_weigh`


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Weights:
    """How much the tokens of an optimizer step count, and what else their loss reads.

    A group whose pg and nll weights are all zero counts as dropped: it is not packed, and a refill replaces it.
    """

    trunk: TokenWeights  # [M E], of the demonstrations' target tokens
    rollouts: TokenWeights  # [P C]
    extra: dict[str, Float[Array, "P"]] = field(default_factory=dict)  # named numbers of a rollout, for its every token


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Scores:
    """What a reward on the device says of P completions. What does not fit is scored on the host, or malformed."""

    reward: Float[Array, "P"]  # 2 matched / total; `malformed` where not formed
    matched: Int[Array, "P"]
    total: Int[Array, "P"]
    formed: Bool[Array, "P"]  # false where it does not fit
    fits: Bool[Array, "P"]


class Mean(NamedTuple):
    """A mean kept as (sum, weight), so that parts of a step can be combined."""

    total: float
    over: float  # how many, or how much weight, the total is divided by


def means(columns: Mapping[str, Shaped[np.ndarray, "N"]]) -> dict[str, Mean]:
    """The mean of each column, over as many numbers as it has: perhaps over none."""
    return {name: Mean(float(column.sum()), column.size) for name, column in columns.items()}


@dataclass(frozen=True, kw_only=True)
class Rewards:
    """What a reward says of P rollouts."""

    reward: Float[np.ndarray, "P"]
    action: tuple[str | None, ...]  # the action found in the completion; None if malformed
    expert: tuple[str | None, ...]  # what it was compared with
    settings: Mapping[str, Any]  # of the reward, for the log
    means: Mapping[str, Mean] = field(default_factory=dict)

    @property
    def metrics(self) -> Metrics:
        return {name: mean.total / mean.over for name, mean in sorted(self.means.items()) if mean.over}


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class TokenWeights:
    """How much each token counts; zero where it does not. Rows are rollouts (P, C) or demonstrations (M, E)."""

    nll: Float[Array, "B T"]
    pg: Float[Array, "B T"]
    advantage: Float[Array, "B T"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class TrainState:
    """What a step changes, and nothing else."""

    step: Int[Array, ""]  # optimizer steps taken, skipped ones included
    skipped: Int[Array, ""]  # updates left out because a gradient was not finite, or a spike
    params: Params  # f32 master weights
    opt_state: optax.OptState
    key: Key[Array, ""]  # run key; fold `step` in, never replace it
    window: Float[Array, "2 W"] | None = None  # losses and gradient norms before, inf where none; None without `Spikes`


Reward = Callable[[Rollouts, Sequence[Demonstration]], Rewards]  # on the host, from texts


@runtime_checkable
class DeviceReward(Protocol):
    """A reward that can also be computed where the tokens are."""

    def on_device(self) -> bool:
        """Whether these settings ask for it, on the default backend."""
        ...

    def rooms(self, chosen: Rooms) -> Rooms:
        """What the device makes room for: `chosen` from the data, or what these settings say."""
        ...

    def score(
        self, completions: Completions, expert: Int[Array, "Q B"], expert_length: Int[Array, "Q"],
        group: Int[Array, "P"], token_bytes: TokenBytes, rooms: Rooms,
    ) -> Scores:  # fmt: skip
        """Scores each completion against the expert's action of its group; jnp alone, so that it can be compiled."""
        ...

    def means(self, scores: Scores, expert_length: Int[Array, "P"], counted: Bool[Array, "P"]) -> dict[str, Mean]:
        """Metrics of the counted rollouts as (sum, over), jnp; the same names and numbers as the host's `Rewards`."""
        ...

    def rewards(
        self, scores: Scores, rollouts: Rollouts, demonstrations: Sequence[Demonstration], *, unfit_on_host: bool
    ) -> Rewards:
        """What the log shows of rollouts whose scores are these, on the host."""
        ...


@dataclass(frozen=True, kw_only=True)
class Rooms:
    """What a reward on the device makes room for: shapes of its program. What needs more does not fit."""

    bytes: int  # of a completion, UTF-8, with what the template wrote of it
    code_points: int  # of an action, the model's or the expert's


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What an objective needs beyond its four functions."""

    reference: bool = False  # `Batch.ref_logp` in its loss
    reference_to_weigh: bool = False  # `Collected.ref_logp` before weights are made
    profile: bool = False  # demonstrations that an earlier stage has profiled
    whole_groups: bool = False  # a group stays in one row, and `Batch.group` is there
    entropy: bool = False  # `Batch.extra["entropy"]`: exact entropy of the policy at every token with weight, nats


Numbers = Mapping[str, Any]  # name -> scalar, nested as the settings are; see `objectives/numbers.py`


class Objective:
    """Where completions branch off, what rewards them, how much each token weighs, and the loss of a token.

    A static, hashable value (a frozen dataclass). Its numbers are handed to `weigh` and `token_loss` apart, as arrays:
    runs that differ in them alone are one program. Which terms a loss has follows from the settings themselves.
    """

    needs: Needs = Needs()
    trunk: tuple[Form, ...] = ()  # forms in which the demonstration itself is laid out to be trained on
    device_reward: DeviceReward | None = None  # where the device rewards; None: `reward` does

    def branch_points(self, demonstration: Demonstration, step: int) -> tuple[BranchPoint, ...]:
        """Where, and how many, at the step with `step` optimizer steps before it."""
        raise NotImplementedError(f"{type(self).__name__} must say where completions branch off")

    def reward(self, rollouts: Rollouts, demonstrations: Sequence[Demonstration]) -> Rewards:
        """Host texts to rewards. Called with whole groups: all of a round, or those that a process rewards."""
        raise RuntimeError(f"{type(self).__name__} has no rollouts to reward")

    def weigh(self, collected: Collected, reward: Float[Array, "P"], numbers: Numbers) -> Weights:
        """Weights of a whole optimizer step, in jnp; what is not in a mask may hold any finite number."""
        raise NotImplementedError(f"{type(self).__name__} must say how much tokens weigh")

    def token_loss(self, logp: Float[Array, "R T"], batch: Batch, numbers: Numbers) -> tuple[Float[Array, ""], Metrics]:
        """Loss and metrics of a batch; both add up over the batches of a step."""
        raise NotImplementedError(f"{type(self).__name__} must have a loss")
