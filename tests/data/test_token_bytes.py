import numpy as np
import pytest

from jaxsrl.data.chat import Template
from jaxsrl.data.sentencepiece import pieces
from jaxsrl.data.token_bytes import table, token_bytes
from jaxsrl.data.tokenizer import load_tokenizer
from jaxsrl.data.used_ids import UsedIds


def spelled(found, ids):
    return b"".join(found.spelled[found.start[t] : found.start[t + 1]].tobytes() for t in ids)


def check(tokenizer, ids=None):
    found = token_bytes(tokenizer, Template())
    assert found.end == tokenizer.end and found.given == b"" and len(found.start) == tokenizer.vocab_size + 1
    for token in range(tokenizer.vocab_size) if ids is None else ids:
        assert spelled(found, [token]) == tokenizer.token_bytes(token)
    return found


def test_the_table_of_bytes_has_marks_and_unused_ids():
    found = check(load_tokenizer())
    assert spelled(found, [0xC3, 257, 0xA9, 271]) == b"\xc3<think>\xa9\xef\xbf\xbd"


def test_what_the_template_gave_comes_first():
    assert token_bytes(load_tokenizer(), Template(prefill_think=True)).given == b"<think>"


@pytest.mark.parametrize("name", ["qwen3", "gpt2"])
def test_tables_of_byte_level_bpe(data_dir, name):
    tokenizer = load_tokenizer(data_dir / "tokenizers" / name)
    found = check(tokenizer, range(0, tokenizer.vocab_size, 7))
    text = "naïve ∑ 𝛼 = 7 😀\n\n日本語"
    assert spelled(found, tokenizer.encode(text)).decode() == text
    assert spelled(found, [*tokenizer.specials.values()]).decode() == "".join(tokenizer.specials)
    few = UsedIds(tokenizer, tokenizer.encode("12 + 3"))
    check(few)


# Ids that the library sentencepiece 0.2.3 gives for these texts.
ENCODED = {
    "x = 1 + 2": [1318, 327, 28705, 28740, 648, 28705, 28750],
    "naïve ∑ 𝛼 = 7 😀": [1879, 28920, 333, 28705, 31384, 28705, 243, 160, 158, 191, 327, 28705, 28787, 28705, 30575],
    "a\n\n\tb  c": [264, 13, 13, 12, 28726, 28705, 277],
    "日本語テキスト🀄": [28705, 29142, 29119, 30321, 29610, 29753, 29109, 29123, 243, 162, 131, 135],
    "𓀀é\u200b": [28705, 243, 150, 131, 131, 28797, 28935],
}


def test_sentencepiece_with_byte_fallback(data_dir):
    found = table(pieces(data_dir / "tokenizers" / "mistral_v1" / "tokenizer.model"), end=2)
    assert len(found.start) == 32001
    for text, ids in ENCODED.items():
        assert spelled(found, ids).decode() == " " + text
    assert spelled(found, [0, 1, 2]) == " ⁇ <s></s>".encode()
    assert spelled(found, [*range(3, 259)]) == bytes(range(256))


def test_what_is_no_model_raises(data_dir, tmp_path):
    whole = (data_dir / "tokenizers" / "mistral_v1" / "tokenizer.model").read_bytes()
    path = tmp_path / "tokenizer.model"
    for data in (b"", b"{}", b"version https://git-lfs", whole[:1001], bytes(100)):
        path.write_bytes(data)
        with pytest.raises(ValueError, match="tokenizer.model: no SentencePiece model"):
            pieces(path)


def test_the_end_must_be_a_token():
    with pytest.raises(ValueError, match="end must be one of the 2 tokens"):
        table([b"a", b"b"], end=2)
    assert table([b""], end=0).spelled.dtype == np.uint8
