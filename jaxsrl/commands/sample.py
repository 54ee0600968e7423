"""Completions of one problem, printed."""

from dataclasses import replace

import jax

from jaxsrl.collect.complete import complete
from jaxsrl.commands.policy import Saved
from jaxsrl.config.run import Config
from jaxsrl.data.tree import build, path_tokens
from jaxsrl.policy import sampling_params
from jaxsrl.rollout.sampling import Sampling
from jaxsrl.stages.evaluation import evaluation_sampler
from jaxsrl.types import BranchPoint, Demonstration, Form

MOST_SLOTS = 32  # completions at once


def choose(policy: Saved, index: int, problem: str | None, after: int) -> Demonstration:
    """A problem of the test split, or one's own, which no expert has solved.

    Raises: ValueError naming what there is.
    """
    if problem is not None:
        if after:
            raise ValueError(f"after={after}, but a problem of your own has no expert actions; leave it out")
        return Demonstration(problem_id="own", problem=problem, actions=())
    test = policy.splits.test
    if not 0 <= index < len(test):
        raise ValueError(f"index={index}, but the test split has problems 0..{len(test) - 1}")
    if not 0 <= after <= len(test[index].actions):
        raise ValueError(f"after={after}, but problem {index} has {len(test[index].actions)} actions")
    return test[index]


def sample_text(
    config: Config, policy: Saved, demonstration: Demonstration, *, form: Form, after: int, samples: int,
    temperature: float, seed: int,
) -> str:  # fmt: skip
    """The prompt after `after` expert actions, and what the policy writes there.

    Raises: ValueError where there is nothing to sample, or no temperature to do it at.
    """
    if samples < 1 or not 0 < temperature < float("inf"):
        raise ValueError(f"samples must be >= 1 and temperature > 0, got samples={samples} temperature={temperature}")
    cap = policy.stage.solve_tokens if form == "solve" else policy.stage.action_tokens
    point = BranchPoint(after=after, samples=samples, form=form)
    tree = build(demonstration, [point], (), config.template, policy.material.tokenizer)
    parts, tokens = config.layout_to_sample.row_parts, len(path_tokens(tree, tree.branch[form, after]))
    sampler = evaluation_sampler(
        policy.policy, config, Sampling(max_new_tokens=cap), policy.material.tokenizer, rows=parts,
        row_tokens=tokens, slots=min(samples, MOST_SLOTS),
    )  # fmt: skip
    params, _ = sampling_params(policy.policy)
    rollouts = complete(sampler, params, jax.random.key(seed), temperature, [tree], [[point]])
    shown = replace(demonstration, actions=demonstration.actions[:after], titles=None, thoughts=None)
    lines = [f"policy {policy.name} of {config.name}", "problem: " + shown.problem]
    lines += [f"given:   {action}" for action in shown.actions]
    if after < len(demonstration.actions):
        lines.append(f"expert:  {demonstration.actions[after]}")
    for text, cut in zip(rollouts.text, rollouts.truncated, strict=True):
        lines.append(f"── {text}" + (" … (cut at the cap)" if cut else ""))
    return "\n".join(lines)
