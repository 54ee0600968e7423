"""Completions of one problem, printed."""

from dataclasses import replace

import jax

from jaxsrl.collect.complete import complete
from jaxsrl.commands.policy import Asked, Saved
from jaxsrl.config.run import Config
from jaxsrl.console import Console
from jaxsrl.data.tree import build, path_tokens
from jaxsrl.policy import sampling_params
from jaxsrl.rollout.sampling import Sampling
from jaxsrl.stages.evaluation import evaluation_sampler
from jaxsrl.types import BranchPoint, Demonstration, Form

MOST_SLOTS = 32  # completions at once


def own_problem(problem: str) -> Demonstration:
    """A problem that no expert has solved."""
    return Demonstration(problem_id="own", problem=problem, actions=())


def choose(policy: Saved, index: int, problem: str | None, after: int) -> Demonstration:
    """A problem of the test split, or one's own, which no expert has solved.

    Raises: ValueError naming what there is.
    """
    if problem is not None:
        if after:
            raise ValueError(f"after={after}, but a problem of your own has no expert actions; leave it out")
        return own_problem(problem)
    test = policy.splits.test
    if not 0 <= index < len(test):
        raise ValueError(f"index={index}, but the test split has problems 0..{len(test) - 1}")
    if not 0 <= after <= len(test[index].actions):
        raise ValueError(f"after={after}, but problem {index} has {len(test[index].actions)} actions")
    return test[index]


def sample_text(
    config: Config, policy: Saved, demonstration: Demonstration, *, form: Form, after: int, samples: int,
    temperature: float, seed: int, max_tokens: int | None = None,
) -> str:  # fmt: skip
    """The prompt after `after` expert actions, and what the policy of a run writes there; see `written`."""
    cap = policy.stage.solve_tokens if form == "solve" else policy.stage.action_tokens
    return written(
        policy.asked(config), demonstration, form=form, after=after, samples=samples, temperature=temperature,
        seed=seed, max_tokens=cap if max_tokens is None else max_tokens,
    )  # fmt: skip


def written(
    asked: Asked, demonstration: Demonstration, *, form: Form, after: int, samples: int, temperature: float, seed: int,
    max_tokens: int,
) -> str:  # fmt: skip
    """The problem, the actions given, and what the policy writes behind them.

    Args:
      temperature: 0 takes the most likely token each time, which gives one completion.
    Raises: ValueError where there is nothing to sample, or no temperature to do it at.
    """
    if max_tokens < 1:
        raise ValueError(f"max_tokens must be >= 1, got {max_tokens}")
    if samples < 1 or not 0 <= temperature < float("inf") or samples > 1 and not temperature:
        raise ValueError(
            f"samples must be >= 1, and temperature > 0 or, for one sample, 0; got samples={samples} "
            f"temperature={temperature}"
        )
    point = BranchPoint(after=after, samples=samples, form=form)
    tree = build(demonstration, [point], (), asked.template, asked.tokenizer)
    sampler = evaluation_sampler(
        asked.policy, asked.template, Sampling(max_new_tokens=max_tokens), asked.tokenizer, rows=asked.rows,
        row_tokens=len(path_tokens(tree, tree.branch[form, after])), slots=min(samples, MOST_SLOTS),
    )  # fmt: skip
    params, _ = sampling_params(asked.policy)
    with Console().wait("sampling"):
        rollouts = complete(sampler, params, jax.random.key(seed), temperature, [tree], [[point]])
    shown = replace(demonstration, actions=demonstration.actions[:after], titles=None, thoughts=None)
    lines = [asked.name, "problem: " + shown.problem]
    lines += [f"given:   {action}" for action in shown.actions]
    if after < len(demonstration.actions):
        lines.append(f"expert:  {demonstration.actions[after]}")
    for text, cut in zip(rollouts.text, rollouts.truncated, strict=True):
        lines.append(f"── {text}" + (f" … (cut at {max_tokens} tokens)" if cut else ""))
    return "\n".join(lines)
