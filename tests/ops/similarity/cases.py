"""Pairs of sequences on which every backend is compared with difflib."""

from difflib import SequenceMatcher

import numpy as np


def padded(sequences, width, junk=0):
    """At least eight rows, the last ones empty: every shape costs seconds of compilation."""
    sequences = [*sequences, *[[]] * (8 - len(sequences))]
    token = np.full((len(sequences), width), junk, np.int32)
    for row, sequence in enumerate(sequences):
        token[row, : len(sequence)] = sequence
    return token, np.array([len(s) for s in sequences], np.int32)


def expected(a, b, autojunk):
    blocks = [SequenceMatcher(None, x, y, autojunk=autojunk).get_matching_blocks() for x, y in zip(a, b, strict=True)]
    return np.array([sum(block.size for block in bs) for bs in blocks], np.int32)


def ids(text):
    return [ord(c) for c in text]


def sequences(rng, count, lengths, alphabets=(1, 2, 3, 5, 20, 60, 500, 5000)):
    """Pairs of every kind: independent, a mutated copy, periodic."""
    a, b = [], []
    for pair in range(count):
        alphabet = rng.choice(alphabets)
        x, y = (list(rng.integers(0, alphabet, rng.choice(lengths))) for _ in "ab")
        if pair % 3 == 0:
            x = mutated(rng, y, alphabet)[: max(lengths)]
        if pair % 11 == 0 and x and y:
            x, y = (s[: rng.integers(1, 4)] * len(s) for s in (x, y))
            x, y = x[: rng.choice(lengths)], y[: rng.choice(lengths)]
        a.append([int(i) for i in x])
        b.append([int(i) for i in y])
    return a, b


def mutated(rng, sequence, alphabet):
    out = list(sequence)
    for _ in range(rng.integers(0, 2 + len(out) // 8)):
        at = rng.integers(0, len(out) + 1)
        if rng.random() < 0.5:
            out[at : at + 1] = []
        else:
            out.insert(at, rng.integers(0, alphabet))
    return out
