"""Token segments to a tree: the demonstration as trunk, completions as leaves."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from jaxsrl.data import chat
from jaxsrl.data.chat import Template, Tokenizer
from jaxsrl.types import BranchPoint, Demonstration, Form, Node, Rollouts, Tree


def build(
    demonstration: Demonstration,
    points: Sequence[BranchPoint],
    trunk: Sequence[Form],
    template: Template,
    tokenizer: Tokenizer,
) -> Tree:
    """The tree of one demonstration: a root for each form in use, actions as far as they are needed.

    In `solve` form a trained demonstration is one chain of target nodes, thoughts in line where it shows them. In
    `action` form the chain is context, and each action hangs off it once more as the completion that was asked for.

    Raises: ValueError if a branch point lies beyond the demonstration's actions.
    """
    nodes: list[Node] = []
    branch: dict[tuple[Form, int], int] = {}
    for form in dict.fromkeys([*trunk, *(point.form for point in points)]):
        wanted = sorted({point.after for point in points if point.form == form})
        if wanted and wanted[-1] > len(demonstration.actions):
            raise ValueError(
                f"{demonstration.source or demonstration.problem_id}: branch point after {wanted[-1]} actions, "
                f"but there are {len(demonstration.actions)}"
            )
        _add_form(nodes, branch, demonstration, form, form in trunk, wanted, template, tokenizer)
    return Tree(nodes=tuple(nodes), branch=branch)


def _add_form(nodes, branch, demonstration, form, trained, wanted, template, tokenizer):
    def add(tokens: list[int], parent: int, target: bool = False) -> int:
        nodes.append(Node(token=np.asarray(tokens, np.int32), parent=parent, target=target))
        return len(nodes) - 1

    count = len(demonstration.actions)
    thoughts = demonstration.thoughts or (None,) * count
    titles = demonstration.titles or (None,) * count
    at = add(chat.head(template, tokenizer, form, demonstration.problem), -1)
    if form == "solve" and template.trunk_in == "user":
        at = add(chat.tail(template, tokenizer), at)
    trained_depth = count if form == "solve" else count - 1
    depth = max([*wanted, trained_depth if trained else 0])
    for k in range(depth + 1):
        completes, opens = trained and form == "action" and k < count, chat.opens_turn(template, form, k)
        if k in wanted or completes:
            tail = chat.tail(template, tokenizer, titles[k] if k < count else None) if form == "action" else []
            start = add(tail, at) if tail else at
            if k in wanted:
                given = chat.prefill(template, tokenizer)
                branch[form, k] = add(given, start) if given else start
            if completes:
                written = chat.completion(template, tokenizer, thoughts[k], demonstration.actions[k], opens=opens)
                add(written, start, target=True)
        if k == depth:
            break
        if form == "action":
            on_trunk = opens and template.trunk_in == "assistant"
            at = add(chat.action(template, tokenizer, demonstration.actions[k], opens=on_trunk), at)
        else:
            last = trained and k == count - 1
            tokens = chat.completion(
                template, tokenizer, thoughts[k], demonstration.actions[k], last=last, opens=opens
            )  # fmt: skip
            at = add(tokens, at, target=trained)


def path(tree: Tree, node: int) -> list[int]:
    """Node indices from the root to `node`."""
    out = []
    while node >= 0:
        out.append(node)
        node = tree.nodes[node].parent
    return out[::-1]


def path_tokens(tree: Tree, node: int) -> np.ndarray:
    """Tokens from the root to the end of `node`, int32."""
    return np.concatenate([tree.nodes[i].token for i in path(tree, node)])


def attach(tree: Tree, rollouts: Rollouts, which: Iterable[int]) -> Tree:
    """The tree with the given rollouts as leaves."""
    leaves = tuple(
        Node(
            token=rollouts.token[p][rollouts.mask[p]],
            parent=tree.branch[rollouts.form[p], int(rollouts.branch[p])],
            rollout=int(p),
        )
        for p in which
    )
    return replace(tree, nodes=tree.nodes + leaves)


def target_mask(trees: Sequence[Tree]) -> np.ndarray:
    """[M, E] bool: the target tokens of each demonstration, as objectives weigh them."""
    counts = [sum(len(node.token) for node in tree.nodes if node.target) for tree in trees]
    return np.arange(max(counts, default=0)) < np.asarray(counts, int)[:, None]
