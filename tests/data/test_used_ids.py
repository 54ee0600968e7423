import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxsrl.data import datasets
from jaxsrl.data.tokenizer import load_tokenizer
from jaxsrl.data.used_ids import UsedIds, used_ids

BYTES = load_tokenizer()


@given(st.text())
def test_the_byte_tokenizer_stays_as_it_is(text):
    small = used_ids(BYTES, ["abc"])
    assert small.encode(text) == BYTES.encode(text) and (small.vocab_size, small.end) == (272, 256)


@pytest.fixture(scope="module")
def texts(data_dir):
    rows = datasets.gsm8k(data_dir).demonstrations[:1000]
    return [d.problem for d in rows] + ["\n".join(d.actions) for d in rows]


def test_texts_keep_their_tokens_under_new_numbers(qwen3, texts):
    small = used_ids(qwen3, texts)
    assert small.vocab_size < 8000 and small.vocab_size % 16 == 0
    for text in texts:
        ids = small.encode(text)
        assert [small.base_ids[token] for token in ids] == qwen3.encode(text)
        assert small.decode(ids) == text
    assert small.encode(texts[0]) == used_ids(qwen3, texts[::-1]).encode(texts[0])


@given(text=st.text())
def test_other_texts_fall_back_to_bytes_and_come_back(qwen3, text):
    small = UsedIds(qwen3, [])
    ids = small.encode(text)
    assert small.decode(ids) == qwen3.decode(qwen3.encode(text))
    kept = {*small.byte_ids, *small.specials.values()}  # added tokens that are not special are found in a text
    assert set(ids) <= kept and not {small.specials[name] for name in ("<|im_end|>", "<|endoftext|>")} & set(ids)


def test_special_tokens_stay_single(qwen3):
    small = UsedIds(qwen3, [])
    for name in qwen3.specials:
        (token,) = small.special(name)
        assert small.token_bytes(token) == name.encode() and small.base_ids[token] == qwen3.specials[name]
    assert small.base_ids[small.end] == qwen3.end
    assert small.decode(small.special("<|other|>")) == "<|other|>"
    assert small.decode([small.vocab_size - 1]) in ("\ufffd", "</think>")


def test_ids_out_of_range_are_refused(qwen3):
    with pytest.raises(ValueError, match="kept ids"):
        UsedIds(qwen3, [qwen3.vocab_size])
    with pytest.raises(ValueError, match="token must be"):
        UsedIds(qwen3, []).token_bytes(-1)
