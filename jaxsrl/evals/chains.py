"""Chains: the policy continues its own actions until it has finished or cannot go on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import jax
import numpy as np

from jaxsrl.collect.complete import Sampler, complete, join_rollouts, no_rollouts
from jaxsrl.data.templates import THINK_CLOSE, THINK_OPEN
from jaxsrl.data.tree import build, path_tokens
from jaxsrl.evals.summary import Decoding
from jaxsrl.processes import any_process
from jaxsrl.rewards.format import Think, parse
from jaxsrl.types import BranchPoint, Demonstration, Params, Rollouts, Tree

Finished = Callable[[str, Demonstration], bool]
FirstAction = Callable[[str], str]
End = Literal["finished", "malformed", "capped", "outgrown"]


@dataclass(frozen=True, kw_only=True)
class Chain:
    """One attempt at a problem. `end` says why it ended; None while it goes on."""

    demonstration: int
    sample: int
    actions: tuple[str, ...] = ()
    end: End | None = None


@dataclass(frozen=True, kw_only=True)
class Link:
    """One completion of a chain and the action taken from it, None if malformed."""

    chain: int
    after: int  # own actions before it
    action: str | None
    ran_on: bool  # it went on after that action, which was cut


@dataclass(frozen=True, kw_only=True)
class Rules:
    """When a chain ends and what counts as an action.

    Args:
      finished: whether an action ends the solution.
      first_action: the first action of a text that may run on into several.
      action_cap: actions after which a chain is given up; None: two more than the expert took.
    """

    finished: Finished
    first_action: FirstAction
    think: Think = "optional"
    action_cap: int | None = None


def link_chains(
    sampler: Sampler,
    params: Params,
    key: jax.Array,
    demonstrations: Sequence[Demonstration],
    decoding: Decoding,
    rules: Rules,
) -> tuple[list[Chain], list[Link], Rollouts]:
    """Samples until every chain has ended, all open ones in one call a round.

    Chains of a problem that have taken the same actions share one prompt. Their sample numbers under it count the
    earlier ones that share it, so a chain follows from its problem, its number and the chains before it: not from
    what else is evaluated, nor from how many come after.

    Where processes share an evaluation, these are the chains of this one's problems; all go on until all have ended.

    Returns: chains ordered by demonstration and sample, links in the order of the rollouts, rollouts.
    """
    own = np.flatnonzero(sampler.share.own([d.problem_id for d in demonstrations])).tolist()
    chains = [Chain(demonstration=m, sample=s) for m in own for s in range(decoding.samples)]
    links: list[Link] = []
    rounds = [no_rollouts(sampler.max_new_tokens)]
    while any_process(any(chain.end is None for chain in chains)):
        trees, points, asked, outgrown = _prompts(sampler, demonstrations, chains)
        for c in outgrown:
            chains[c] = replace(chains[c], end="outgrown")
        if not any_process(bool(asked)):
            break
        rollouts = complete(sampler, params, key, decoding.temperature, trees, points)
        for row, c in enumerate(asked):
            action, ran_on = take_action(rollouts.text[row], bool(rollouts.truncated[row]), rules)
            links.append(Link(chain=c, after=len(chains[c].actions), action=action, ran_on=ran_on))
            chains[c] = _extended(chains[c], action, demonstrations[chains[c].demonstration], rules)
        rounds.append(rollouts)
    return chains, links, join_rollouts(rounds)


def _prompts(sampler: Sampler, demonstrations, chains: Sequence[Chain]):
    """Trees and branch points of the open chains, the chains in the order of their completions, and the outgrown."""
    sharing: dict[tuple[int, tuple[str, ...]], list[int]] = {}
    for c, chain in enumerate(chains):
        if chain.end is None:
            sharing.setdefault((chain.demonstration, chain.actions), []).append(c)
    trees: list[Tree] = []
    points: list[tuple[BranchPoint, ...]] = []
    asked: list[int] = []
    outgrown: list[int] = []
    for (m, actions), members in sharing.items():
        # Titles are the expert's: the heading of an action still to be written would give it away.
        own = replace(demonstrations[m], actions=actions, titles=None, thoughts=None)
        point = BranchPoint(after=len(actions), samples=len(members))
        tree = build(own, (point,), (), sampler.template, sampler.tokenizer)
        # A problem too long for a row is an error of the settings; a chain that grew too long is the policy's.
        if actions and len(path_tokens(tree, tree.branch["action", point.after])) > sampler.row_tokens:
            outgrown += members
            continue
        trees.append(tree)
        points.append((point,))
        asked += members
    return trees, points, asked, outgrown


def _extended(chain: Chain, action: str | None, demonstration: Demonstration, rules: Rules) -> Chain:
    if action is None:
        return replace(chain, end="malformed")
    actions = (*chain.actions, action)
    if rules.finished(action, demonstration):
        return replace(chain, actions=actions, end="finished")
    cap = rules.action_cap or len(demonstration.actions) + 2
    return replace(chain, actions=actions, end="capped" if len(actions) >= cap else None)


def take_action(text: str, truncated: bool, rules: Rules) -> tuple[str | None, bool]:
    """(action, whether the completion went on after it); None where there is no action.

    A policy trained on whole solutions goes on to the next action, thoughts included; what follows the first one is
    cut. A completion that ran into the token cap has an action only if it went on: else it may lack its end.
    """
    opened = text.lstrip().startswith(THINK_OPEN)
    behind = text.find(THINK_CLOSE) if opened else 0
    again = text.find(THINK_OPEN, behind) if behind >= 0 else -1
    parsed = parse(text[:again] if again >= 0 else text, think=rules.think)
    if parsed is None:
        return None, False
    action = rules.first_action(parsed.action).strip()
    ran_on = again >= 0 or action != parsed.action
    return (None, ran_on) if not action or truncated and not ran_on else (action, ran_on)
