"""How a stage's demonstrations are cut, and the tree that one of them becomes."""

import random

from jaxsrl.config.demonstrations import config_tokenizer
from jaxsrl.config.run import Config, ConfigError, Stage
from jaxsrl.data.chat import Tokenizer
from jaxsrl.data.tree import build, path_tokens
from jaxsrl.stages.begin import notes, spelled_splits
from jaxsrl.types import Demonstration, Tree


def show(config: Config, stage_name: str | None, rows: int, seed: int) -> str:
    """Some demonstrations of a stage, drawn from its training split, after what loading them counted.

    Raises: ConfigError where there is no such stage.
    """
    if rows < 0:
        raise ConfigError(f"--rows must be >= 0, got {rows}")
    names = [stage.name for stage in config.stages]
    if stage_name is not None and stage_name not in names:
        raise ConfigError(f"no stage {stage_name!r}; there are: {', '.join(names)}")
    stage = config.stages[names.index(stage_name) if stage_name else -1]
    tokenizer = config_tokenizer(config)
    splits = spelled_splits(tokenizer, stage.data.load(config.data_dir))
    sizes = f"{len(splits.train)} train, {len(splits.validation)} validation, {len(splits.test)} test"
    counts = ", ".join(f"{value} {name}" for name, value in splits.counts.items())
    head = [f"stage {stage.name}: {sizes}" + (f" (of {counts})" if counts else "")]
    head += notes(config, {stage.name: splits}, tokenizer)
    head += [f"set aside: {reason}" for reason in splits.quarantine[:5]]
    drawn = random.Random(seed).sample(range(len(splits.train)), min(rows, len(splits.train)))
    return "\n\n".join(["\n".join(head), *(describe(config, stage, splits.train[i], tokenizer) for i in drawn)])


def describe(config: Config, stage: Stage, demonstration: Demonstration, tokenizer: Tokenizer) -> str:
    """One demonstration: its problem, its actions with their token counts, and the stage's tree of it."""
    lines = [f"{demonstration.source or 'generated'}  problem {demonstration.problem_id}", demonstration.problem, ""]
    titles = demonstration.titles or (None,) * len(demonstration.actions)
    thoughts = demonstration.thoughts or (None,) * len(demonstration.actions)
    for k, (action, title, thought) in enumerate(zip(demonstration.actions, titles, thoughts, strict=True)):
        about = f"{len(tokenizer.encode(action))} tokens" + (f", title {title!r}" if title else "")
        lines += [f"── action {k + 1} of {len(titles)} ({about})"]
        lines += [f"   thought: {thought}"] if thought is not None else []
        lines += ["   " + line for line in action.splitlines()]
        lines += [f"   > {line}" for line in (demonstration.observations or {k: ""})[k].splitlines()]
    lines += ["", f"answer: {demonstration.answer}", "", *draw(config, stage, demonstration, tokenizer)]
    return "\n".join(lines)


def draw(config: Config, stage: Stage, demonstration: Demonstration, tokenizer: Tokenizer) -> list[str]:
    """The tree of a stage's objective as lines of text, and what it saves against one row per completion."""
    points = stage.objective.branch_points(demonstration, 0)
    tree = build(demonstration, points, stage.objective.trunk, config.template, tokenizer)
    samples = {tree.branch[point.form, point.after]: point for point in points}
    lines = [f"tree of stage {stage.name}: {type(stage.objective).__name__}"]
    children: dict[int, list[int]] = {}
    for i, node in enumerate(tree.nodes):
        children.setdefault(node.parent, []).append(i)
    todo = [(i, "") for i in reversed(children.get(-1, []))]
    while todo:
        i, indent = todo.pop()
        node = tree.nodes[i]
        text = " ".join(tokenizer.decode(node.token.tolist()).split())
        mark = "*" if node.target else " "
        lines.append(f"{indent}{mark}[{len(node.token):>4} tokens] {text[:70]}{'…' if len(text) > 70 else ''}")
        if i in samples:
            point = samples[i]
            lines.append(f"{indent}  └─o {point.samples} rollouts of up to {stage.sampling.max_new_tokens} tokens")
        below = children.get(i, [])
        todo += [(child, indent + ("  " if len(below) > 1 or i in samples else "")) for child in reversed(below)]
    legend = ["* trained on"] if any(node.target for node in tree.nodes) else []
    return [*lines, *legend, _saving(tree, points, stage.sampling.max_new_tokens)]


def _saving(tree: Tree, points, longest: int) -> str:
    shared = sum(len(node.token) for node in tree.nodes) + sum(point.samples * longest for point in points)
    dense = sum(
        point.samples * (len(path_tokens(tree, tree.branch[point.form, point.after])) + longest) for point in points
    )
    dense += sum(len(path_tokens(tree, i)) for i, node in enumerate(tree.nodes) if node.target and _is_leaf(tree, i))
    return f"{shared} tokens as a tree, {dense} as one row per completion: {dense / max(shared, 1):.1f} times fewer"


def _is_leaf(tree: Tree, i: int) -> bool:
    return all(node.parent != i for node in tree.nodes)
