"""The compiled backend: difflib's integer on every pair, and a clear word where it is not built."""

from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
import pytest

from jaxsrl.ops.similarity import build, default_backend, gallop, host, matched_length

PACKAGE = Path(host.__file__).parent


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A library made for this test, in a cache folder of its own."""
    if build.compiler() is None:
        pytest.skip("no C++ compiler on this machine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        assert not host.is_built()
        build.build()
        yield


def padded(sequences, junk):
    width = max(map(len, sequences))
    rows = np.full((len(sequences), width), junk, np.int32)
    for row, sequence in zip(rows, sequences, strict=True):
        row[: len(sequence)] = sequence
    return rows, np.array([len(s) for s in sequences], np.int32)


def found(a, b, autojunk, b_index=None):
    return matched_length(*padded(a, 1), *padded(b, 2), autojunk=autojunk, b_index=b_index, backend="host")


def difflib_length(a, b, autojunk):
    return sum(n for *_, n in SequenceMatcher(None, a, b, autojunk=autojunk).get_matching_blocks())


def pairs(rng, count, lengths, alphabets):
    """Independent, mutated and periodic pairs."""
    for n in range(count):
        alphabet = rng.choice(alphabets)
        a, b = (rng.integers(0, alphabet, rng.choice(lengths)).tolist() for _ in "ab")
        if n % 3 == 0 and b:
            a = list(b)
            for _ in range(rng.integers(0, 2 + len(b) // 8)):
                at = rng.integers(0, len(a) + 1)
                a[at : at + rng.integers(0, 2)] = rng.integers(0, alphabet, rng.integers(0, 3)).tolist()
        elif n % 11 == 0:
            a, b = (x[: rng.integers(1, 8)] * rng.integers(1, 9) for x in (a, b))
        yield a, b


@pytest.mark.parametrize("autojunk", [False, True])
@pytest.mark.parametrize(
    ("count", "lengths", "alphabets"),
    [
        (2500, (0, 1, 2, 7, 15, 31, 32, 33, 63, 64, 65), (1, 2, 3, 5, 20, 500)),
        (250, (1, 64, 127, 128, 129, 199, 200, 201, 256, 300), (2, 5, 20, 60, 100, 5000)),
    ],
    ids=["short", "around the words' and autojunk's borders"],
)
def test_pairs_equal_difflib(built, count, lengths, alphabets, autojunk):
    a, b = zip(*pairs(np.random.default_rng(count), count, lengths, alphabets), strict=True)
    np.testing.assert_array_equal(
        found(a, b, autojunk), [difflib_length(x, y, autojunk) for x, y in zip(a, b, strict=True)]
    )


def repeated(rng, *periods):
    """4,096 elements of a period each, the same ones as far as both periods reach."""
    elements = rng.permutation(100)
    return [np.resize(elements[:period], 4096).tolist() for period in periods]


@pytest.mark.parametrize("autojunk", [False, True])
@pytest.mark.parametrize("kind", ["one against half", "2 against 3", "7 against 11", "binary", "distinct", "mutated"])
def test_pathological_pairs_equal_the_big_integers(built, kind, autojunk):
    """Pairs on which difflib would take minutes; `gallop` is proven against it elsewhere."""
    rng = np.random.default_rng(0)
    match kind:
        case "one against half":
            a, b = [5] * 4096, [5] * 2048
        case "2 against 3":
            a, b = repeated(rng, 2, 3)
        case "7 against 11":
            a, b = repeated(rng, 7, 11)
        case "binary":
            a, b = (rng.integers(0, 2, 1500).tolist() for _ in "ab")
        case "distinct":
            a, b = (rng.permutation(4096).tolist() for _ in "ab")
        case _:
            b = rng.integers(0, 60, 4096).tolist()
            a = [x for x in b if rng.random() > 0.02]
    want = gallop.matched_length(*padded([a], 1), *padded([b], 2), np.zeros(1, np.int32), autojunk=autojunk)
    np.testing.assert_array_equal(found([a], [b], autojunk), want)


def test_deep_splits_need_no_deep_stack(built):
    """Every second element of b is new: blocks of one, each beside the last."""
    b = [x for n in range(2048) for x in (n, 10_000 + n)]
    assert found([list(range(2048))], [b], False) == [2048]
    assert found([b], [list(range(2048))], False) == [2048]


def test_any_int32_is_an_element(built):
    edge = [-(2**31), 2**31 - 1, -1, 0]
    assert found([edge], [edge[2:] + edge[:2]], False) == [2]


def test_experts_may_serve_several_pairs_from_several_threads(built):
    rng = np.random.default_rng(3)
    a, b = zip(*pairs(rng, 600, (20, 50), (3, 9)), strict=True)
    index = rng.integers(0, 50, 600).astype(np.int32)
    want = [difflib_length(x, b[q], True) for x, q in zip(a, index, strict=True)]
    np.testing.assert_array_equal(found(a, b[:50], True, index), want)


def test_widths_may_be_zero_and_lengths_must_fit(built):
    none, one = np.zeros((1, 0), np.int32), np.zeros((1, 3), np.int32)
    for a, b in ((none, one), (one, none), (none, none)):
        lengths = [np.array([x.shape[1]]) for x in (a, b)]
        assert host.matched_length(a, lengths[0], b, lengths[1], [0], autojunk=True) == [0]
    assert host.matched_length(none[:0], [], none[:0], [], [], autojunk=True).shape == (0,)
    for a_len, b_len, index, name in ((4, 3, 0, "a_len"), (3, -1, 0, "b_len"), (3, 3, 1, "b_index")):
        with pytest.raises(ValueError, match=name):
            host.matched_length(one, [a_len], one, [b_len], [index], autojunk=False)
    with pytest.raises(ValueError, match="one a_len"):
        host.matched_length(one, [1, 1], one, [1], [0], autojunk=False)


def test_where_it_is_not_built_the_command_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert not host.is_built()
    with pytest.raises(RuntimeError, match="python -m jaxsrl.ops.similarity.build"):
        found([[1]], [[1]], False)
    assert not list(tmp_path.rglob("*")), "a call built something"


def test_another_source_is_another_library(tmp_path, monkeypatch):
    before = host.library()
    other = tmp_path / "host.cpp"
    other.write_text((PACKAGE / "host.cpp").read_text() + "\n")
    monkeypatch.setattr(host, "SOURCE", other)
    assert host.library() != before


def test_a_failed_build_says_why_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert build.main() == 1
    assert "no C++ compiler found" in capsys.readouterr().err
    broken = tmp_path / "g++"
    broken.write_text("#!/bin/sh\necho no room left >&2\nexit 1\n")
    broken.chmod(0o755)
    assert build.main() == 1
    assert "no room left" in capsys.readouterr().err
    assert not host.is_built()
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["g++"]


def test_a_library_that_cannot_be_loaded_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    host.library().parent.mkdir()
    host.library().write_bytes(b"not a library")
    with pytest.raises(RuntimeError, match="cannot be loaded.*delete it and run: python -m"):
        found([[1]], [[1]], False)


def test_it_is_the_default_on_a_cpu_where_it_is_built(built, monkeypatch, tmp_path):
    assert default_backend() == "host"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_backend() == "xla"
