"""A solution action by action: think, act, drop the thought, append the action, and again."""

from collections.abc import Sequence

import jax
import numpy as np

from jaxsrl.collect.complete import Sampler
from jaxsrl.evals.chains import Chain, Link, Rules, link_chains
from jaxsrl.evals.direct import SameAnswers, answer_columns, answers_at_k, is_correct, timeouts
from jaxsrl.evals.records import Record, record
from jaxsrl.evals.summary import Column, Decoding, Shared, completion_columns, summarise
from jaxsrl.types import Demonstration, Metrics, Params, Reward, Rewards, Rollouts


def solve_in_chains(
    sampler: Sampler,
    params: Params,
    key: jax.Array,
    demonstrations: Sequence[Demonstration],
    decoding: Decoding,
    rules: Rules,
    reward: Reward,
    same: SameAnswers,
) -> tuple[Metrics, list[Record]]:
    """Lets each problem be solved in `decoding.samples` chains and rewards what they wrote, actions joined.

    Args:
      demonstrations: one per problem.
      reward: is shown a chain that did not finish as a completion that was cut off.
      same: see `answers_at_k`.
    """
    chains, links, rollouts = link_chains(sampler, params, key, demonstrations, decoding, rules)
    rewards = reward(_joined(chains, sampler.template.separator), demonstrations)
    problem = [demonstrations[chain.demonstration].problem_id for chain in chains]
    shared = Shared(share=sampler.share, ids=tuple(d.problem_id for d in demonstrations))
    count = len(demonstrations)
    metrics: Metrics = {} if decoding.temperature else {"count": count, "problems": count}
    of_chains = _chain_columns(chains, links, rollouts, demonstrations, rewards)
    metrics |= summarise(problem, decoding.label(of_chains, "answer"), shared) | timeouts(rewards, decoding, shared)
    of_links = _link_columns(links, rollouts)
    metrics |= summarise([problem[link.chain] for link in links], decoding.label(of_links, "answer"), shared)
    if decoding.temperature:
        metrics |= summarise(problem[:: decoding.samples], answers_at_k(rewards, decoding.samples, same), shared)
    return metrics, _records(chains, links, rollouts, demonstrations, rewards)


def _joined(chains: Sequence[Chain], separator: str) -> Rollouts:
    """Chains as whole solutions for the reward, which reads their text."""
    count = len(chains)
    index = np.array([chain.demonstration for chain in chains], int)
    return Rollouts(
        token=np.zeros((count, 1), np.int32),
        mask=np.zeros((count, 1), bool),
        demonstration=index,
        form=("solve",) * count,
        branch=np.zeros(count, int),
        sample=np.array([chain.sample for chain in chains], int),
        group=index,
        truncated=np.array([chain.end != "finished" for chain in chains], bool),
        text=tuple(separator.join(chain.actions) for chain in chains),
    )


def _chain_columns(
    chains: Sequence[Chain], links: Sequence[Link], rollouts: Rollouts, demonstrations, rewards: Rewards
) -> dict[str, Column]:
    """One row per chain."""
    expert = [[a.strip() for a in demonstrations[chain.demonstration].actions] for chain in chains]
    leading = np.array([_leading(chain.actions, e) for chain, e in zip(chains, expert, strict=True)], float)
    whole = [list(chain.actions) == e for chain, e in zip(chains, expert, strict=True)]
    written = completion_columns(rollouts)
    owner = np.array([link.chain for link in links], int)
    answer = answer_columns(rewards)
    return {
        "answer": answer["answer"],
        "no_answer": answer["malformed"],
        "whole": Column(value=np.array(whole, float), share=True),
        "leading_mean": Column(value=leading),
        "leading_share": Column(value=leading / np.array([max(len(e), 1) for e in expert], float), bounded=True),
        "actions_mean": Column(value=np.array([len(chain.actions) for chain in chains], float)),
        "unfinished": Column(value=np.array([chain.end != "finished" for chain in chains], float), share=True),
        "capped": Column(value=np.array([chain.end == "capped" for chain in chains], float), share=True),
        "outgrown": Column(value=np.array([chain.end == "outgrown" for chain in chains], float), share=True),
        "tokens_mean": Column(value=np.bincount(owner, written["tokens_mean"].value, len(chains))),
        "words_mean": Column(value=np.bincount(owner, written["words_mean"].value, len(chains))),
    }


def _leading(actions: Sequence[str], expert: Sequence[str]) -> int:
    """How many actions equal the expert's before the first that does not."""
    count = 0
    for action, wanted in zip(actions, expert, strict=False):
        if action != wanted:
            break
        count += 1
    return count


def _link_columns(links: Sequence[Link], rollouts: Rollouts) -> dict[str, Column]:
    """One row per completion."""
    columns = completion_columns(rollouts)
    return {
        "malformed": Column(value=np.array([link.action is None for link in links], float), share=True),
        "ran_on": Column(value=np.array([link.ran_on for link in links], float), share=True),
        "thinks": columns["thinks"],
        "truncated": columns["truncated"],
        "completion_tokens_mean": columns["tokens_mean"],
    }


def _records(chains, links, rollouts: Rollouts, demonstrations, rewards: Rewards) -> list[Record]:
    """One per completion, chain by chain; what is known of the whole chain stands in its last one."""
    correct = is_correct(rewards)
    last = {link.chain: row for row, link in enumerate(links)}
    records = []
    for row in sorted(range(len(links)), key=lambda r: (links[r].chain, links[r].after)):
        link = links[row]
        chain, ends = chains[link.chain], last[link.chain] == row
        demonstration = demonstrations[chain.demonstration]
        expert = demonstration.actions[link.after].strip() if link.after < len(demonstration.actions) else None
        found = record(
            rollouts, row, demonstration=demonstration, branch=link.after, sample=chain.sample,
            action=link.action, expert_action=expert, correct=bool(correct[link.chain]) if ends else None,
        )  # fmt: skip
        records.append(found | {"end": chain.end if ends else None})
    return records
