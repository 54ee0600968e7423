"""Sizes of a stage's programs: what the config fixes, and the rest chosen from its data and the devices' memory."""

from dataclasses import asdict, replace

import jax

from jaxsrl.checksums import checked_json, unchecked_json
from jaxsrl.collect.settings import BatchShapes
from jaxsrl.config.check_lengths import longest_prompt, longest_tokens, measured
from jaxsrl.config.run import Config, ConfigError, Stage, TaskData
from jaxsrl.data.choose import Room, choose_shapes
from jaxsrl.data.large import sampled
from jaxsrl.data.shapes import Shapes
from jaxsrl.data.tokenizer import Tokenizer
from jaxsrl.data.tree import build
from jaxsrl.models.config import ModelConfig, parameter_count
from jaxsrl.processes import broadcast_from_first, is_first
from jaxsrl.rewards.rooms import rooms_for
from jaxsrl.runs import Run, RunError, read_json, write_json
from jaxsrl.stages.material import Material, Source
from jaxsrl.types import Rooms, TokenBytes

MOST_TOKENS = 2**17  # of a learner's batch, where memory has room for more or is not known
STATE_BYTES = 24  # a parameter of master weights, moments, gradient and a rollout's copy takes at most
FOR_ACTIVATIONS = 0.5  # of the memory beside the state; the rest is caches, logits and what the compiler adds
EVALUATED = 16  # prompt rows of an evaluation's call, unless the config says
LONGER = 1.5  # a chain's own actions may be longer than the expert's


def stage_shapes(run: Run, config: Config, stage: Stage, source: Source, material: Material) -> Shapes:
    """Sizes of the stage's programs: chosen once from its demonstrations, saved with the run and used again.

    Devices among which its rows do not divide, in a run that goes on elsewhere, have them chosen anew.
    """
    path = run.folder / "shapes" / f"{stage.name}.json"
    if broadcast_from_first(path.exists):
        try:
            saved = Shapes(**unchecked_json(read_json(path)))
        except (ValueError, TypeError, AttributeError) as error:
            raise RunError(f"{path}: {error}. Remove it to have it chosen anew from the same data") from error
        left = [size % config.mesh.row_parts for size in saved.rows]
        if not any([*left, saved.prompt_rows % config.layout_to_sample.row_parts]):
            return saved
    shapes = chosen_shapes(config, stage, source, material)
    if is_first():
        path.parent.mkdir(exist_ok=True)
        write_json(path, checked_json(asdict(shapes)))
    return shapes


def chosen_shapes(config: Config, stage: Stage, source: Source, material: Material) -> Shapes:
    """Sizes of the stage's programs, from its demonstrations and the rows that are set.

    Raises: ConfigError where demonstrations do not fit what is set.
    """
    rows, objective = stage.rows or config.rows, stage.objective
    tokenizer, tokens = material.tokenizer, material.token_bytes
    items = sampled(source.items)
    points = [objective.branch_points(d, 0) for d in items]
    trees = [build(d, p, objective.trunk, config.template, tokenizer) for d, p in zip(items, points, strict=True)]
    rooms = device_rooms(stage, source, tokenizer, tokens)
    room = Room(
        demonstrations=stage.collect.demonstrations, completion_tokens=stage.sampling.max_new_tokens,
        code_points=0 if rooms is None else rooms.code_points, prompt_parts=config.layout_to_sample.row_parts,
        parts=config.mesh.row_parts, whole_groups=objective.needs.whole_groups,
        batch_tokens=batch_tokens(material.model, config),
    )  # fmt: skip
    if None in (rows.tokens, rows.prompt_tokens):
        longest = measured(lambda d: longest_tokens(config, stage, d, tokenizer), items)
        prompt, path = (max(column) for column in zip(*longest, strict=True))
        room = replace(room, longest_prompt=prompt, longest_path=path)
    given = ("prompt_rows", "prompt_tokens", "slots", "tokens")
    fixed = {name: value for name in given if (value := getattr(rows, name)) is not None}
    if rows.rows is not None:
        fixed["rows"] = (rows.rows,)
    try:
        return choose_shapes(trees, points, room, fixed)
    except ValueError as error:
        raise ConfigError(f"stages.{stage.name}: {error}") from error


def device_rooms(stage: Stage, source: Source, tokenizer: Tokenizer, tokens: TokenBytes) -> Rooms | None:
    """What a reward on the device makes room for: from its settings or the data; None where the host rewards."""
    reward = stage.objective.device_reward
    if reward is None:
        return None
    cap = stage.sampling.max_new_tokens
    items = sampled(source.items)
    return reward.rooms(rooms_for(items, encode=tokenizer.encode, max_new_tokens=cap, given=tokens.given))


def batch_tokens(model: ModelConfig, config: Config) -> int:
    """Tokens of a learner's batch over all devices, at most: what is free beside the state holds their activations.

    A device that tells nothing of its memory, as a CPU, takes MOST_TOKENS.
    """
    told = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" not in told:
        return MOST_TOKENS
    width, cut = 4 if model.dtype == "float32" else 2, config.mesh.fsdp * config.mesh.tensor
    free = told["bytes_limit"] - parameter_count(model) * STATE_BYTES / cut
    queries, keys = model.heads * model.head_width, model.kv_heads * model.head_width
    kept = {"full": model.width, "dots": 3 * model.width + 2 * queries + 2 * keys + 3 * model.mlp_width}
    kept["none"] = 2 * kept["dots"] + 4 * model.width
    a_token = (kept[model.remat] * model.layers + kept["none"]) * width / config.mesh.tensor
    fits = int(max(free, 0) * FOR_ACTIVATIONS / a_token) * config.mesh.row_parts
    return max(min(fits, MOST_TOKENS), 1)


def evaluation_shapes(config: Config, stage: Stage, splits: TaskData, tokenizer: Tokenizer) -> BatchShapes:
    """What the config says of evaluation's calls, and the rest from the held-out problems.

    They hold whichever problems are asked, so that validation, test and `eval` share programs.
    """
    rows = stage.rows or config.rows
    if None not in (rows.prompt_tokens, rows.evaluate_rows, rows.evaluate_slots):
        return rows
    held_out = (*sampled(splits.validation), *sampled(splits.test)) or sampled(splits.train)
    prompts = [longest_prompt(config, d, tokenizer) for d in held_out]
    longest = max(prompts, default=1) if rows.prompt_tokens is None else rows.prompt_tokens
    tokens = rows.prompt_tokens or -(-int(longest * LONGER + 32) // 64) * 64
    slots = rows.evaluate_slots or max(round(tokens * sum(len(d.actions) for d in held_out) / max(sum(prompts), 1)), 1)
    parts = config.layout_to_sample.row_parts
    count = rows.evaluate_rows or -(-EVALUATED // parts) * parts
    return replace(rows, prompt_tokens=tokens, evaluate_rows=count, evaluate_slots=slots)
