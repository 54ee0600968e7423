"""Arrays give what Python's own text functions give, on every byte string."""

from functools import partial

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsrl.ops.text import (
    code_points,
    compress,
    decode,
    first,
    join,
    occurrences,
    padded_code_points,
    strip,
    whitespace,
)  # fmt: skip

ROOM, ROWS = 24, 64  # one shape for all: compiling costs more than running


def rows(texts, room=ROOM, fill=0):
    byte = np.full((len(texts), room), fill, np.uint8)
    for row, text in enumerate(texts):
        byte[row, : len(text)] = list(text)
    return byte, np.array([len(text) for text in texts], np.int32)


@jax.jit
@jax.vmap
def decoded(byte, size):
    code, begins = decode(byte, size)
    return compress(code, begins, room=byte.shape[0])


def texts_of(texts, fill=0):
    """Decoded on the device; filled up to ROWS, so that it compiles once."""
    assert len(texts) <= ROWS
    code, count = decoded(*rows([*texts, *[b""] * (ROWS - len(texts))], fill=fill))
    return ["".join(map(chr, c[:n])) for c, n in zip(np.asarray(code), np.asarray(count), strict=True)][: len(texts)]


def replaced(text):
    return text.decode("utf-8", "replace")


# Bytes at every bound of the table of well-formed sequences.
EDGES = bytes.fromhex("00 41 7f 80 8f 90 9f a0 bf c0 c1 c2 df e0 e1 ec ed ee ef f0 f1 f3 f4 f5 ff")
edgy = st.lists(st.sampled_from(list(EDGES)), max_size=ROOM).map(bytes)
cut = st.tuples(st.text(max_size=6), st.integers(0, ROOM), st.integers(0, ROOM)).map(
    lambda x: x[0].encode("utf-8", "surrogatepass")[x[1] % 4 :][: x[2]]
)


@settings(max_examples=120, deadline=None)
@given(st.lists(st.one_of(edgy, cut, st.binary(max_size=ROOM)), max_size=ROWS), st.sampled_from([0, 0x80, 0xBF, 0xF4]))
def test_any_bytes_are_decoded_as_python_does(texts, fill):
    """What stands behind the text is never looked at, even where it would complete a character."""
    assert texts_of(texts, fill) == [replaced(text) for text in texts]


def test_all_fours_of_bytes_at_the_bounds_are_decoded_as_python_does():
    """25 ** 4 texts."""
    alphabet = np.array(list(EDGES), np.uint8)
    grid = np.stack(np.meshgrid(*[alphabet] * 4, indexing="ij"), -1).reshape(-1, 4)
    code, count = map(np.asarray, jax.jit(jax.vmap(_four))(grid))
    joined = [replaced(bytes(row)) for row in grid]
    assert count.tolist() == [len(text) for text in joined]
    want = np.array([[*map(ord, text), *[0] * (4 - len(text))] for text in joined])
    np.testing.assert_array_equal(code, want)


def _four(byte):
    code, begins = decode(byte, np.int32(4))
    return compress(code, begins, room=4)


def test_whole_characters_and_maximal_subparts():
    """Examples whose number of U+FFFD other decoders get otherwise."""
    counts = {b"\xe2\x82": 1, b"\xed\xa0\x80": 3, b"\xf0\x9f\x98": 1, b"\xf4\x90\x80\x80": 4, b"\xc0\xaf": 2}
    assert [text.count("\N{REPLACEMENT CHARACTER}") for text in texts_of(list(counts))] == list(counts.values())
    assert texts_of(["a é ∑ 😀".encode()]) == ["a é ∑ 😀"]


def test_every_code_point_is_white_space_iff_python_says_so():
    every = np.arange(0x110000, dtype=np.int32)
    assert np.flatnonzero(jax.jit(whitespace)(every)).tolist() == [i for i in range(0x110000) if chr(i).isspace()]


@jax.jit
@jax.vmap
def stripped(byte, size):
    code, begins = decode(byte, size)
    begin, end = strip(begins & ~whitespace(code), np.int32(0), size)
    place = np.arange(byte.shape[0])
    return compress(code, begins & (place >= begin) & (place < end), room=byte.shape[0])


SPACES = [chr(i) for i in range(0x110000) if chr(i).isspace()]
spaced = st.text(st.sampled_from([*SPACES, "a", "\u200b", "\ufeff", "é", "😀", "\x00"]), max_size=6)


@settings(max_examples=60, deadline=None)
@given(st.lists(spaced, min_size=1, max_size=ROWS))
def test_strip_is_pythons(texts):
    code, count = stripped(*rows([*[t.encode() for t in texts], *[b""] * (ROWS - len(texts))]))
    got = ["".join(map(chr, c[:n])) for c, n in zip(np.asarray(code), np.asarray(count), strict=True)]
    assert got[: len(texts)] == [text.strip() for text in texts]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([b"<", b"ab>", b"<ab>", b"<a", "é".encode(), b"\x00"]), max_size=5).map(b"".join))
def test_marks_are_found_where_python_finds_them(text):
    byte, _ = rows([text])
    found = occurrences(byte[0], b"<ab>")
    assert np.flatnonzero(found).tolist() == [i for i in range(len(text)) if text.startswith(b"<ab>", i)]
    assert int(first(found)) == (text.find(b"<ab>") if b"<ab>" in text else ROOM)


def test_a_mark_that_could_reach_past_the_end_raises():
    for mark in (b"", b"a\x00"):
        with pytest.raises(ValueError, match="mark"):
            occurrences(np.zeros(4, np.uint8), mark)


PIECES = (b"a", b"", b"\xf0\x9f", b"\x98\x80", b"<think>", b"")
SPELLED = np.frombuffer(b"".join(PIECES), np.uint8)
START = np.cumsum([0, *map(len, PIECES)], dtype=np.int32)


@partial(jax.jit, static_argnames="room")
def joined(token, length, *, room):
    return join(token, length, SPELLED, START, room=room)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, len(PIECES) - 1), min_size=6, max_size=6), st.integers(0, 6))
def test_joined_pieces(token, length):
    """Pieces of no byte, pieces that split a character, and pieces that do not fit."""
    want = b"".join(PIECES[t] for t in token[:length])
    for room in (16, 48):
        byte, size, known = joined(np.array(token, np.int32), np.int32(length), room=room)
        assert int(size) == len(want) and bool(known)
        assert bytes(np.asarray(byte)) == want[:room].ljust(room, b"\x00")


@pytest.mark.parametrize("unknown", [-1, len(PIECES), 2**31 - 1])
def test_an_id_outside_the_table_is_said(unknown):
    token = np.array([0, unknown, 0, 0, 0, 0], np.int32)
    byte, size, known = joined(token, np.int32(3), room=16)
    assert not known and int(size) == 2 and bytes(np.asarray(byte[:3])) == b"aa\x00"
    assert joined(token, np.int32(1), room=16)[2]  # behind the text it is not looked at


def test_what_does_not_fit_is_counted():
    code, count = compress(np.arange(8, dtype=np.int32), np.arange(8) % 2 == 1, room=3)
    assert np.asarray(code).tolist() == [1, 3, 5] and int(count) == 4


def test_texts_known_before_as_code_points():
    assert code_points("aé∑😀\ud800\x00").tolist() == [97, 0xE9, 0x2211, 0x1F600, 0xD800, 0]
    code, length = padded_code_points(["∑😀a", "", "ab"], room=2)
    assert code.tolist() == [[0x2211, 0x1F600], [0, 0], [97, 98]] and length.tolist() == [3, 0, 2]
    assert code.dtype == length.dtype == np.int32
    none, length = padded_code_points([], room=3)
    assert none.shape == (0, 3) and length.shape == (0,)
