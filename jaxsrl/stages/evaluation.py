"""Evaluation of a policy with a stage's settings."""

from collections.abc import Callable
from dataclasses import replace

import jax

from jaxsrl.collect.complete import Sampler
from jaxsrl.collect.settings import BatchShapes
from jaxsrl.collect.share import share_of
from jaxsrl.config.keys import needs_key, with_key
from jaxsrl.config.run import Config, Stage, TaskData
from jaxsrl.data.chat import Template
from jaxsrl.data.tokenizer import Tokenizer
from jaxsrl.evals.evaluate import Evaluation, evaluate
from jaxsrl.policy import Policy, sampling_params
from jaxsrl.processes import Stopped
from jaxsrl.rollout.sampling import Sampling
from jaxsrl.sharding import held_rows, place_held_rows, place_rows


def evaluation_sampler(
    policy: Policy, template: Template, sampling: Sampling, tokenizer: Tokenizer, *, rows: int, row_tokens: int,
    slots: int, stop: Callable[[], bool] = lambda: False,
) -> Sampler:  # fmt: skip
    """What evaluation draws completions with.

    Args:
      stop: asked before every call, by every process; where it is true, Stopped is raised instead.
    """
    mesh, program = policy.placement.sampler_mesh, policy.sampler(sampling)

    share = share_of(held_rows(mesh, rows), jax.process_index())

    def sample(params, prompts, *rest):
        if stop():
            raise Stopped
        placed = place_rows(mesh, prompts) if share.count == 1 else place_held_rows(mesh, prompts, rows)
        return program(params, placed, *rest)

    return Sampler(
        sample=sample, tokenizer=tokenizer, template=template, rows=rows // share.count, slots=slots,
        row_tokens=row_tokens, max_new_tokens=sampling.max_new_tokens, share=share,
    )  # fmt: skip


def evaluate_policy(
    policy: Policy, config: Config, stage: Stage, splits: TaskData, tokenizer: Tokenizer, key: jax.Array, problems,
    settings: Evaluation, shapes: BatchShapes, stop: Callable[[], bool] = lambda: False,
):  # fmt: skip
    """All modes of an evaluation, each with a sampler of its own cap and shape. Problems without a key are left out of
    those that compare with one; `problems` of the metrics counts the rest.

    `actions` has many slots to a prompt, a whole solution one.

    Args:
      shapes: see `sizes.evaluation_shapes`.
    """
    params, _ = sampling_params(policy)
    metrics, records = {}, []
    for mode in settings.modes:
        cap = stage.solve_tokens if mode == "direct" else stage.action_tokens
        sampler = evaluation_sampler(
            policy, config.template, Sampling(max_new_tokens=cap), tokenizer, rows=shapes.evaluate_rows,
            row_tokens=shapes.prompt_tokens, slots=shapes.evaluate_slots if mode == "actions" else 1, stop=stop,
        )  # fmt: skip
        asked = with_key(problems) if mode != "actions" and needs_key(splits.reward) else problems
        found, lines = evaluate(
            sampler, params, key, asked, replace(settings, modes=(mode,)),
            reward=splits.reward, finished=splits.finished, first_action=splits.first_action,
            same=splits.same,
        )  # fmt: skip
        metrics |= found
        records += lines
    return metrics, records
