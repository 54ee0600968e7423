"""Texts that a policy is taken to have written, as trees: what several begin with alike is one trunk."""

import re
from collections.abc import Sequence

import numpy as np

from jaxsrl.data.actions import Splitter, split
from jaxsrl.data.chat import Template, Tokenizer, family, head, ids, tail
from jaxsrl.data.templates import THINK_CLOSE, THINK_OPEN, Mark, Piece
from jaxsrl.types import Node, Tree

Path = tuple[str, ...]  # pieces of one text, spelled apart
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


class _Trie:
    """Nodes of a tree as they are added; one that is there already is not added again."""

    def __init__(self):
        self.nodes: list[Node] = []
        self.known: dict[tuple[int, tuple[int, ...], bool], int] = {}

    def add(self, tokens: Sequence[int], parent: int, *, target: bool = False) -> int:
        name = parent, tuple(tokens), target
        if not tokens and parent >= 0 and not target:
            return parent
        if name not in self.known:
            self.nodes.append(Node(token=np.asarray(tokens, np.int32), parent=parent, target=target))
            self.known[name] = len(self.nodes) - 1
        return self.known[name]


def completion_tree(template: Template, tokenizer: Tokenizer, problem: str, paths: Sequence[Path]) -> Tree:
    """The problem asked for a whole solution, and behind it the paths; path i ends where ("solve", i) branches off."""
    trie = _Trie()
    root = _root(trie, template, tokenizer, problem)
    branch = {("solve", i): _walk(trie, root, template, tokenizer, path) for i, path in enumerate(paths)}
    return Tree(nodes=tuple(trie.nodes), branch=branch)


def scored_tree(
    template: Template, tokenizer: Tokenizer, problem: str, paths: Sequence[Path],
    continuations: Sequence[Sequence[str]],
) -> tuple[Tree, list[list[int]]]:  # fmt: skip
    """`completion_tree` with continuations to be scored: its target nodes, of each path those of its continuations."""
    trie = _Trie()
    root = _root(trie, template, tokenizer, problem)
    nodes = []
    for path, ends in zip(paths, continuations, strict=True):
        at = _walk(trie, root, template, tokenizer, path)
        nodes.append([_continued(trie, root, at, template, tokenizer, path, end) for end in ends])
    return Tree(nodes=tuple(trie.nodes), branch={}), nodes


def text_tree(tokenizer: Tokenizer, texts: Sequence[Path]) -> tuple[Tree, list[list[int]]]:
    """Whole texts outside of any template, every token a target; of each text its nodes in order."""
    trie, nodes = _Trie(), []
    for text in texts:
        at, own = -1, []
        for number, piece in enumerate(text):
            begin = [*tokenizer.begin] if number == 0 else []
            at = trie.add([*begin, *ids(tokenizer, piece, first=number == 0)], at, target=True)
            own.append(at)
        nodes.append(own)
    return Tree(nodes=tuple(trie.nodes), branch={}), nodes


def _root(trie: _Trie, template: Template, tokenizer: Tokenizer, problem: str) -> int:
    at = trie.add(head(template, tokenizer, "solve", problem), -1)
    return trie.add(tail(template, tokenizer), at) if template.trunk_in == "user" else at


def _walk(trie: _Trie, at: int, template: Template, tokenizer: Tokenizer, path: Path) -> int:
    for number, piece in enumerate(path):
        at = trie.add(_spelled(template, tokenizer, piece, opens=number == 0), at)
    return at


def _spelled(template: Template, tokenizer: Tokenizer, text: str, *, opens: bool) -> list[int]:
    """Token ids of a piece; think marks in it are the marks themselves, as the policy wrote them."""
    whole = family(template, tokenizer).lead + text if opens else text
    pieces: list[Piece] = [Mark(part) if MARKED.fullmatch(part) else part for part in MARKED.split(whole) if part]
    return ids(tokenizer, *pieces)


def _continued(trie, root: int, at: int, template, tokenizer, path: Path, end: str) -> int:
    """The node of a continuation: the tokens that the joint spelling of the last piece and it has more."""
    opens, last = len(path) < 2, path[-1] if path else ""
    alone = _spelled(template, tokenizer, last, opens=opens)
    joint = _spelled(template, tokenizer, last + end, opens=opens)
    shared = next(
        (i for i, (a, b) in enumerate(zip(alone, joint, strict=False)) if a != b), min(len(alone), len(joint))
    )
    if shared < len(alone):
        at = trie.add(joint[:shared], _walk(trie, root, template, tokenizer, path[:-1]))
    return trie.add(joint[shared:], at, target=True)
