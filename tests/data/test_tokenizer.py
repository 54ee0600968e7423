import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxsrl.data.tokenizer import load_tokenizer

BYTES = load_tokenizer()


@given(st.text())
def test_bytes_round_trip(text):
    assert BYTES.decode(BYTES.encode(text)) == text
    assert all(token < 256 for token in BYTES.encode(text))


def test_byte_ids_are_as_agreed():
    names = ["<|end|>", "<think>", "</think>", "<|action|>", "<|solve|>", "<|turn|>"]
    assert [BYTES.special(name) for name in names] == [(256,), (257,), (258,), (259,), (260,), (261,)]
    assert BYTES.special("<|other|>") == tuple(b"<|other|>")
    assert (BYTES.vocab_size, BYTES.end, BYTES.name) == (272, 256, "bytes")


def test_spelled_marks_are_text():
    assert BYTES.encode("<think>") == list(b"<think>") != list(BYTES.special("<think>"))


def test_decoding_of_pieces_marks_and_unused_ids():
    assert BYTES.decode([0xC3, 257, 0xA9]) == "\ufffd<think>\ufffd"
    assert BYTES.decode([271]) == "\ufffd" and BYTES.token_bytes(258) == b"</think>"
    assert b"".join(BYTES.token_bytes(k) for k in range(256)) == bytes(range(256))
    for token in (-1, 272):
        with pytest.raises(ValueError, match="0..271"):
            BYTES.token_bytes(token)


def test_the_byte_tokenizer_has_no_settings():
    with pytest.raises(ValueError, match="no settings"):
        load_tokenizer("bytes", end="<|x|>")


def test_transformers_is_not_needed():
    rooms = "jaxsrl.data.used_ids, jaxsrl.data.datasets, jaxsrl.data.sources"
    check = f"import sys, {rooms}; assert not {{'transformers', 'grain'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)
