"""Token segments to a tree: the demonstration as trunk, completions as leaves."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache

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
    What an environment answered stands behind its action and is never a target. Where `template.history` shows only the
    last actions, each such window is a chain of its own below the problem.

    Raises: ValueError if a branch point lies beyond the demonstration's actions, or in `solve` form with a history.
    """
    forms = dict.fromkeys([*trunk, *(point.form for point in points)])
    if template.history is not None and "solve" in forms:
        raise ValueError(
            f"template.history={template.history} shows the last actions only, but a whole solution shows all: train "
            "and evaluate in `action` form (SFT(trunk=('action',)), modes=actions), or set template.history=None"
        )
    nodes: list[Node] = []
    branch: dict[tuple[Form, int], int] = {}
    for form in forms:
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
    observed = demonstration.observations is not None
    head = add(chat.head(template, tokenizer, form, demonstration.problem), -1)
    if form == "solve":
        if template.trunk_in == "user":
            head = add(chat.tail(template, tokenizer), head)
        _add_solution(add, branch, demonstration, trained, wanted, head, template, tokenizer)
        return
    in_turn, shown = template.trunk_in == "user", _shown(add, demonstration, head, template, tokenizer)
    for k in range(max([*wanted, count - 1 if trained else 0]) + 1):
        completes = trained and k < count
        first = 0 if template.history is None else max(k - template.history, 0)
        if template.history is not None and not (k in wanted or completes):
            continue  # else the chain of all actions is laid out as far as the deepest branch point
        at = shown(first, k)
        if not (k in wanted or completes):
            continue
        tail = chat.tail(template, tokenizer, titles[k] if k < count else None)
        start = add(tail, at) if tail else at
        if k in wanted:
            given = chat.prefill(template, tokenizer)
            branch[form, k] = add(given, start) if given else start
        if completes:
            opens = chat.opens_turn(template, form, k - first, observed and not in_turn)
            written = chat.completion(template, tokenizer, thoughts[k], demonstration.actions[k], opens=opens)
            add(written, start, target=True)


def _shown(add, demonstration, head, template, tokenizer):
    """(first, last) -> the node after which stands what follows actions first..last-1, shown below the problem."""
    in_turn, observed = template.trunk_in == "user", demonstration.observations is not None

    @cache
    def shown(first: int, last: int) -> int:
        if first == last:
            return head
        before, k = shown(first, last - 1), last - 1
        closes = observed and not in_turn
        opens = not in_turn and chat.opens_turn(template, "action", k - first, observed)
        at = add(chat.action(template, tokenizer, demonstration.actions[k], opens=opens, closes=closes), before)
        if observed:
            at = add(chat.observation(template, tokenizer, demonstration.observations[k], in_turn=in_turn), at)
        return at

    return shown


def _add_solution(add, branch, demonstration, trained, wanted, at, template, tokenizer):
    """The chain of a whole solution below `at`, where it is trained thoughts in line."""
    count, answered = len(demonstration.actions), demonstration.observations
    thoughts = demonstration.thoughts or (None,) * count
    depth = max([*wanted, count if trained else 0])
    for k in range(depth + 1):
        if k in wanted:
            given = chat.prefill(template, tokenizer)
            branch["solve", k] = add(given, at) if given else at
        if k == depth:
            break
        last = answered is not None or trained and k == count - 1
        opens = chat.opens_turn(template, "solve", k, answered is not None)
        written = chat.completion(template, tokenizer, thoughts[k], demonstration.actions[k], last=last, opens=opens)
        at = add(written, at, target=trained)
        if answered is not None and k < count - 1:
            at = add(chat.observation(template, tokenizer, answered[k], in_turn=False), at)


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
