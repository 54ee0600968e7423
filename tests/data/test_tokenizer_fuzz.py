"""Damaged tokenizer files: each is read or refused with a reason."""

import copy
import json
import random

import pytest

from jaxsrl.data.tokenizer import load_tokenizer
from tests.data.family_tokenizers import folder

VALUES = (None, -1, 0, 2**40, True, "", "x", [], {}, [[]], {"a": 1}, 0.5)
NAMES = ("tokenizer.json", "tokenizer_config.json")


def places(value, path=()):
    """Every key and index, those of vocabularies apart."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value[:20]) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield (*path, key)
        if key != "vocab":
            yield from places(inner, (*path, key))


def damaged(rng, content):
    content = copy.deepcopy(content)
    *path, last = rng.choice(list(places(content)))
    inside = content
    for key in path:
        inside = inside[key]
    if rng.random() < 0.3:
        del inside[last]
    else:
        inside[last] = rng.choice(VALUES)
    return content


@pytest.mark.parametrize("family", ["llama3", "gemma3", "mistral"])
def test_damaged_files_are_read_or_refused(tmp_path, family):
    rng, where, read = random.Random(0), folder(tmp_path / "a", family), 0
    whole = {name: json.loads((where / name).read_text()) for name in NAMES}
    for _ in range(80):
        name = rng.choice((*NAMES, NAMES[0]))
        (where / name).write_text(json.dumps(damaged(rng, whole[name])))
        try:
            tokenizer = load_tokenizer(where)
            tokenizer.encode("a b</s>"), tokenizer.encode("a b", first=False)
            [tokenizer.token_bytes(token) for token in range(min(tokenizer.vocab_size, 2000))]
            read += 1
        except ValueError as error:
            assert str(where) in str(error) or "must be" in str(error)
        (where / name).write_text(json.dumps(whole[name]))
    assert 10 < read < 70
