"""The arrays find the action that `format.parse` finds, whatever the text and however it is cut into tokens."""

from functools import partial
from itertools import pairwise

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsrl.data.token_bytes import table
from jaxsrl.rewards.format import parse
from jaxsrl.rewards.similarity_device import read_action
from jaxsrl.types import Rooms

MARKS = (b"<think>", b"</think>", b"<solution>", b"</solution>")
PARTS_OF_MARKS = {mark[i:j]: None for mark in MARKS for i in range(len(mark)) for j in range(i + 2, len(mark) + 1)}
# Every byte, every part of a mark, parts joined with what may stand beside them; the last one ends a completion.
PIECES = (
    *(bytes([i]) for i in range(256)), *PARTS_OF_MARKS, b"nk>\n", b" <", b"><", b"/think>x", b"\xe3\x80", b"\x80\x80",
    b"\xf0\x9f", b"\x98\x80a", b"", b"<|end|>",
)  # fmt: skip
END = len(PIECES) - 1
TABLE = table(PIECES, ends=(END,))
ROWS, ROOMS, TOKENS = 64, Rooms(bytes=128, code_points=128), 96
BEGINNING_WITH = {b: [t for t in range(END) if PIECES[t][:1] == bytes([b])] for b in range(256)}


@partial(jax.jit, static_argnames=("think", "prefilled"))
def read(token, length, *, think, prefilled):
    one = partial(read_action, think=think, prefilled=prefilled, rooms=ROOMS)
    return jax.vmap(one, in_axes=(0, 0, None))(token, length, TABLE)


def actions(texts, think, prefilled):
    """The action in each list of tokens, None where malformed."""
    found = []
    for first in range(0, len(texts), ROWS):
        some = texts[first : first + ROWS]
        token = np.zeros((ROWS, TOKENS), np.int32)
        for row, ids in enumerate(some):
            token[row, : len(ids)] = ids
        length = np.array([len(ids) for ids in some] + [0] * (ROWS - len(some)), np.int32)
        action, count, formed, fits = map(np.asarray, read(token, length, think=think, prefilled=prefilled))
        assert fits.all() and not count[~formed].any()
        found += ["".join(map(chr, action[i, : count[i]])) if formed[i] else None for i in range(len(some))]
    return found


def host(ids, think, prefilled):
    if not ids or ids[-1] != END:
        return None
    text = b"".join(PIECES[t] for t in ids[:-1]).decode(errors="replace")
    parsed = parse(text, think=think, prefilled=prefilled)
    return parsed and parsed.action


MODES = [(think, prefilled) for think in ("required", "optional") for prefilled in (False, True)]


def check(texts):
    """Returns the share that is well formed in each mode, so that a test can say that it tests something."""
    shares = []
    for mode in MODES:
        want = [host(ids, *mode) for ids in texts]
        got = actions(texts, *mode)
        assert got == want, next((ids, g, w) for ids, g, w in zip(texts, got, want, strict=True) if g != w)
        shares.append(np.mean([w is not None for w in want]))
    return shares


PARTS = (
    "<think>", "</think>", "<solution>", "</solution>", " ", "\n", "\u3000", "a", "é", "😀", "<", "think>", "\x00",
)  # fmt: skip


def completion(rng):
    """Near the border: a think block with up to two changes, or a few parts in any order."""
    some = lambda most: [str(x) for x in rng.choice(PARTS[4:], rng.integers(0, most))]
    wrap = rng.random() < 0.3
    parts = [
        *some(3),
        *["<think>"] * (rng.random() < 0.6),
        *some(4),
        "</think>",
        *some(3),
        *["<solution>"] * wrap,
        *some(5),
    ]
    parts += [*["</solution>"] * wrap, *some(2)]
    for _ in range(rng.choice([0, 0, 1, 2])):
        at = rng.integers(len(parts))
        parts[at : at + rng.integers(2)] = [str(rng.choice(PARTS))] * rng.integers(2)
    if rng.random() < 0.2:
        parts = [str(x) for x in rng.choice(PARTS, rng.integers(0, 7))]
    return "".join(parts)[:40]


def tokens(rng, text):
    """The bytes of a text cut into pieces at random, sometimes cut off inside a character, sometimes with no end."""
    data, ids = text.encode(), []
    data = data[: len(data) - rng.choice([0, 0, 0, 1, 2])]
    while data:
        ids.append(int(rng.choice([t for t in BEGINNING_WITH[data[0]] if data.startswith(PIECES[t])])))
        data = data[len(PIECES[ids[-1]]) :]
        if rng.random() < 0.05:
            ids.append(END - 1)  # a token of no bytes
    return ids + [END] * (rng.random() < 0.95)


def test_completions_near_the_border_of_well_formed():
    rng = np.random.default_rng(0)
    texts = [tokens(rng, completion(rng)) for _ in range(2048)]
    shares = check(texts)
    assert all(0.1 < share < 0.9 for share in shares), shares


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(st.integers(0, 255), st.integers(256, END)), max_size=12).map(lambda ids: [*ids, END]))
def test_any_tokens(ids):
    check([ids])


@pytest.mark.parametrize("mark", MARKS)
def test_a_mark_may_be_split_in_every_way(mark):
    """All 2 ** (len - 1) ways to write it in tokens."""
    before, after = b"<think>t</think><solution>a</solution>".split(mark)
    texts = []
    for cuts in range(2 ** (len(mark) - 1)):
        at = [0, *(i + 1 for i in range(len(mark) - 1) if cuts >> i & 1), len(mark)]
        parts = [PIECES.index(mark[i:j]) for i, j in pairwise(at)]
        texts.append([*before, *parts, *after, END])
    assert set(actions(texts, "required", False)) == {"a"}


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("<think></think>a", "a"),
        (" \n<think>t</think>\u3000a\u2009", "a"),
        ("x<think>t</think>a", None),
        ("<think>t</think>a<think>", None),
        ("<think><think>t</think>a", None),
        ("<think>t</think>a</think>b", None),
        ("</think>a<think>", None),
        ("<think>t</think>", None),
        ("<think>t</think> \x1f ", None),
        ("<think>t</think>\u200b", "\u200b"),  # no width, and no white space
        ("<think>t</think><solution> </solution>", None),
        ("<think>t</think><solution>a", "<solution>a"),
        ("<think>t</think><solution>\x85a </solution> ", "a"),
        ("<think>t</think><solution></solution></solution>", "</solution>"),
    ],
)
def test_by_hand(text, want):
    ids = [[*text.encode(), END]]
    assert actions(ids, "required", False) == [want] == [host(ids[0], "required", False)]


def test_no_end_token_is_malformed():
    ids = list(b"<think>t</think>a")
    assert actions([ids, [*ids, END], []], "required", False) == [None, "a", None]
