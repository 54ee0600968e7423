"""Evaluation of a policy with a stage's settings."""

import sys
from collections.abc import Callable, Mapping
from functools import cache

import jax

from jaxsrl.collect.complete import Sampler
from jaxsrl.collect.score import RowScorer
from jaxsrl.collect.settings import BatchShapes
from jaxsrl.collect.share import share_of
from jaxsrl.config.keys import needs_key, with_key
from jaxsrl.config.run import Config, Stage, TaskData
from jaxsrl.data.chat import Template
from jaxsrl.data.tokenizer import Tokenizer
from jaxsrl.evals.evaluate import Evaluation, check_asked, probes_of, run_probe
from jaxsrl.evals.probe import Call, DoesNotApply, ProbedPolicy
from jaxsrl.policy import Policy, sampling_params
from jaxsrl.processes import Stopped, is_first
from jaxsrl.rollout.sampling import Sampling
from jaxsrl.sharding import held_rows, place_held_rows, place_rows
from jaxsrl.update import make_scorer

ROOM_BEHIND = 2  # solutions behind a problem: a chain that was changed early is written on, up to the cap once more


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


def probed_policy(
    policy: Policy, template: Template, tokenizer: Tokenizer, splits: TaskData, shapes: BatchShapes, *, name: str,
    caps: Mapping[str, int], stop: Callable[[], bool] = lambda: False,
) -> ProbedPolicy:  # fmt: skip
    """The policy as probes see it, with a sampler for each shape of call and a scorer, each compiled once.

    Args:
      splits: how problems are judged; of a stage, or of the problems that are asked.
      shapes: see `sizes.evaluation_shapes`.
      caps: tokens of a completion: of one `action`, and of a whole solution (`solve`).
    """
    mesh, params = policy.placement.sampler_mesh, sampling_params(policy)[0]

    @cache
    def sampler(call: Call) -> Sampler:
        tokens = caps[call.tokens] if isinstance(call.tokens, str) else call.tokens
        behind = ROOM_BEHIND * caps["solve"] if call.behind == "solution" else 0
        return evaluation_sampler(
            policy, template, Sampling(max_new_tokens=tokens), tokenizer, rows=shapes.evaluate_rows,
            row_tokens=shapes.prompt_tokens + behind, slots=call.slots or shapes.evaluate_slots, stop=stop,
        )  # fmt: skip

    return ProbedPolicy(
        name=name, params=params, sampler=sampler, template=template, tokenizer=tokenizer, reward=splits.reward,
        finished=splits.finished, first_action=splits.first_action, same=splits.same, splitter=splits.splitter,
        scorer=row_scorer(policy, mesh, stop), task=splits.task,
    )  # fmt: skip


def row_scorer(policy: Policy, mesh: jax.sharding.Mesh | None, stop: Callable[[], bool]) -> RowScorer:
    """What scores texts with the parameters that are sampled with: a row on each group of devices."""
    make = lambda: make_scorer(policy.model, 1.0, mesh)
    program = policy.compiled.once(("score where sampled", policy.model, mesh), make)
    rows = 1 if mesh is None else mesh.size // mesh.shape["tensor"]
    share = share_of(held_rows(mesh, rows), jax.process_index())

    def score(params, batch):
        if stop():
            raise Stopped
        placed = place_rows(mesh, batch) if share.count == 1 else place_held_rows(mesh, batch, rows)
        return program(params, placed)

    return RowScorer(score=score, rows=rows // share.count, share=share)


def evaluate_policy(
    policy: Policy, config: Config, stage: Stage, splits: TaskData, tokenizer: Tokenizer, key: jax.Array, problems,
    settings: Evaluation, shapes: BatchShapes, stop: Callable[[], bool] = lambda: False,
):  # fmt: skip
    """All probes of an evaluation, each with samplers of its own caps and shapes. Problems without a key are left out
    of those that compare with one; `problems` of the metrics counts the rest.

    `actions` has many slots to a prompt, a whole solution one.

    Args:
      shapes: see `sizes.evaluation_shapes`.
    """
    asked = probed_policy(
        policy, config.template, tokenizer, splits, shapes, name=stage.name, stop=stop,
        caps={"action": stage.action_tokens, "solve": stage.solve_tokens},
    )  # fmt: skip
    metrics, records = {}, []
    for probe in sorted(probes_of(settings), key=lambda one: _place(settings, one.name)):
        some = with_key(problems) if probe.needs_answer and needs_key(splits.reward) else problems
        some = list(some)[: settings.problems]
        check_asked(settings, asked, some)
        try:
            found, lines = run_probe(probe, asked, key, some)
        except DoesNotApply as error:  # a run does not end for it, and its line says that nothing was asked
            if is_first():
                print(f"note: probe {probe.name} is left out: {error}", file=sys.stderr)
            found, lines = {f"{probe.name}/problems": 0}, []
        metrics |= found
        records += lines
    return metrics, records


def _place(settings: Evaluation, name: str) -> int:
    """A mode's variants stand beside each other."""
    mode = name.removeprefix("forced_")
    return settings.modes.index(mode) if mode in settings.modes else len(settings.modes)
