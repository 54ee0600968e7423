"""Texts that a policy is taken to have written, as trees: what several begin with alike is one trunk."""

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from jaxsrl.data.actions import Splitter, split
from jaxsrl.data.chat import Template, Tokenizer, family, head, ids, tail
from jaxsrl.data.templates import THINK_CLOSE, THINK_OPEN, Mark, Piece
from jaxsrl.data.tree import path
from jaxsrl.types import Node, Tree

Path = tuple[str, ...]  # pieces of one text
MARKED = re.compile(f"({re.escape(THINK_OPEN)}|{re.escape(THINK_CLOSE)})")


def cut_text(text: str, splitter: Splitter) -> Path:
    """A solution in pieces, one an action, which joined are the text: what stands between two belongs to the earlier.

    White space before the first action belongs to it. A text without an action has no pieces.
    """
    actions = split(text, splitter).actions
    starts, at = [], 0
    for action in actions:
        found = text.find(action, at)
        if found < 0:  # line ends or annotations were rewritten: the pieces are then the actions as they were read
            return tuple(one + splitter.separator for one in actions[:-1]) + actions[-1:]
        starts.append(found)
        at = found + len(action)
    bounds = [0, *starts[1:], len(text)]
    return tuple(text[a:b] for a, b in zip(bounds, bounds[1:], strict=False)) if actions else ()


def completion_tree(template: Template, tokenizer: Tokenizer, problem: str, paths: Sequence[Path]) -> Tree:
    """The problem asked for a whole solution, and behind it the paths; path i ends where ("solve", i) branches off."""
    root = _root(template, tokenizer, problem)
    nodes, ends = radix([(*root, *(_spelled(template, tokenizer, "".join(p)) if any(p) else ())) for p in paths])
    return Tree(nodes=tuple(nodes), branch={("solve", i): node for i, node in enumerate(ends)})


def scored_tree(
    template: Template, tokenizer: Tokenizer, problem: str, paths: Sequence[Path],
    continuations: Sequence[Sequence[str]],
) -> tuple[Tree, list[list[int]]]:  # fmt: skip
    """The paths with continuations to be scored: a tree, and of each path the target nodes of its continuations."""
    root = _root(template, tokenizer, problem)
    cuts = [[_continued(template, tokenizer, "".join(p), end) for end in ends]
            for p, ends in zip(paths, continuations, strict=True)]  # fmt: skip
    flat = [cut for some in cuts for cut in some]
    nodes, at = radix([(*root, *context) for context, _ in flat])
    known: dict[tuple[int, tuple[int, ...]], int] = {}
    targets = []
    for parent, (_, tokens) in zip(at, flat, strict=True):
        if (parent, tokens) not in known:
            known[parent, tokens] = len(nodes)
            nodes.append(Node(token=np.asarray(tokens, np.int32), parent=parent, target=True))
        targets.append(known[parent, tokens])
    rest = iter(targets)
    return Tree(nodes=tuple(nodes), branch={}), [[next(rest) for _ in some] for some in cuts]


def text_tree(tokenizer: Tokenizer, texts: Sequence[str]) -> tuple[Tree, list[list[int]]]:
    """Whole texts outside of any template, every token a target; of each text its nodes in order."""
    nodes, ends = radix([(*tokenizer.begin, *ids(tokenizer, text, first=True)) for text in texts])
    tree = Tree(nodes=tuple(replace(node, target=True) for node in nodes), branch={})
    return tree, [path(tree, end) for end in ends]


def radix(sequences: Sequence[Sequence[int]]) -> tuple[list[Node], list[int]]:
    """The tree of token sequences in which what some begin with alike is one node; and where each ends, -1 at once."""
    nodes: list[Node] = []
    ends = [-1] * len(sequences)

    def grow(members: list[int], depth: int, parent: int) -> None:
        some = [sequences[i] for i in members]
        first, last = min(some), max(some)  # what the first and the last in order share, all share
        shared = next((k for k, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(map(len, some)))
        if shared > depth:
            nodes.append(Node(token=np.asarray(first[depth:shared], np.int32), parent=parent))
            parent = len(nodes) - 1
        branches: dict[int, list[int]] = {}
        for i in members:
            if len(sequences[i]) == shared:
                ends[i] = parent
            else:
                branches.setdefault(sequences[i][shared], []).append(i)
        for branch in branches.values():
            grow(branch, shared, parent)

    if sequences:
        grow(list(range(len(sequences))), 0, -1)
    return nodes, ends


def _root(template: Template, tokenizer: Tokenizer, problem: str) -> list[int]:
    closes = tail(template, tokenizer) if template.trunk_in == "user" else []
    return [*head(template, tokenizer, "solve", problem), *closes]


def _spelled(template: Template, tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of the assistant's turn so far; think marks in it are the marks themselves, as the policy wrote them.

    The whole text is spelled in one: cut into pieces, a blank line before a word may be other tokens.
    """
    whole = family(template, tokenizer).lead + text
    pieces: list[Piece] = [Mark(part) if MARKED.fullmatch(part) else part for part in MARKED.split(whole) if part]
    return ids(tokenizer, *pieces)


def _continued(template, tokenizer, text: str, end: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What stands before a continuation, and its tokens: those that the joint spelling has more."""
    alone, joint = (_spelled(template, tokenizer, one) for one in (text, text + end))
    differ = [i for i, (a, b) in enumerate(zip(alone, joint, strict=False)) if a != b]
    shared = min([*differ, len(alone), len(joint)])
    return tuple(joint[:shared]), tuple(joint[shared:])
