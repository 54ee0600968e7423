"""Tokenizers of published families against the library's own ids: small ones made here, and those at hand."""

import json
import random
import unicodedata

import numpy as np
import pytest
from tokenizers import Tokenizer

from jaxsrl.data import datasets
from jaxsrl.data.chat import Template
from jaxsrl.data.token_bytes import decode_all, token_bytes
from jaxsrl.data.tokenizer import as_spelled, load_tokenizer
from tests.data.family_tokenizers import FAMILIES, TEXTS, folder

ODD = [
    "", " ", "  a", "a  ", "\n", "\n\n\n", "a\n\n b", "\t\tx", "  two   three    four", "x = 5 Ω", "e\u0301 é",
    "日本語 😀 \u200d", "a\x00b\x7f", "</s><s>[INST] x [/INST]", "<|im_end|><|eot_id|> <end_of_turn><bos>",
    "<think>x</think>", "<unk>", "<0x41>", "▁", "a▁b", "<table>", "1234567 12", "\u00a0", "Ġ", "\r\n", "don't",
    "\ufb01",
]  # fmt: skip


def noise(rng):
    ranges = [(0x20, 0x7E)] * 4 + [(0x09, 0x0D), (0xA0, 0x24F), (0x300, 0x36F), (0x4E00, 0x4FFF), (0x1F300, 0x1F64F)]
    return "".join(chr(rng.randint(*rng.choice(ranges))) for _ in range(rng.randint(1, 30)))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    where = tmp_path_factory.mktemp("families")
    return {name: folder(where / name, name) for name in FAMILIES}


def library(path):
    """Special tokens in a text are text; added tokens that are text are found."""
    own = Tokenizer.from_file(str(path / "tokenizer.json"))
    own.encode_special_tokens = True
    return own


@pytest.mark.parametrize("family", FAMILIES)
def test_ids_and_texts_are_the_librarys(made, family):
    tokenizer, own, rng = load_tokenizer(made[family]), library(made[family]), random.Random(0)
    forbidden = set(tokenizer._core.specials.values()) - {tokenizer._core.unknown}
    spaces = tokenizer.encode("a") != tokenizer.encode("a", first=False)
    assert spaces == (family in ("mistral", "llama2"))
    for text in [*TEXTS[:5], *ODD, *(noise(rng) for _ in range(300))]:
        ids = own.encode(text, add_special_tokens=False).ids
        if forbidden.isdisjoint(ids):
            assert tokenizer.encode(text) == ids, text
        for first in (True, False):
            assert forbidden.isdisjoint(tokenizer.encode(text, first=first))
        shown = tokenizer.decode(ids)
        if "\ufffd" not in shown:  # the library writes more of them for a character that is cut
            whole = own.decode(ids, skip_special_tokens=False)
            assert whole == (shown.removeprefix(" ") if spaces else shown), text


@pytest.mark.parametrize("family", FAMILIES)
def test_a_segment_after_the_first_is_spelled_as_it_is(made, family):
    """No space is put before it; only composing (NFC), and characters without a token, change it."""
    tokenizer, rng = load_tokenizer(made[family]), random.Random(1)
    fallback = family in ("gemma3", "mistral", "llama2")
    for text in [*TEXTS[:5], *ODD, *(noise(rng) for _ in range(200))]:
        want = text.replace("▁", " ") if fallback else text  # these families write a space so
        if family in ("qwen3", "neox"):
            want = unicodedata.normalize("NFC", text)
        if family == "smollm2":
            want = want.translate(dict.fromkeys((0, 1, 2)))
        assert as_spelled(tokenizer, text) == want


@pytest.mark.parametrize("family", FAMILIES)
def test_ids_are_read_from_the_table_as_by_the_tokenizer(made, family):
    """So what the device reads is what the host reads."""
    tokenizer, rng = load_tokenizer(made[family]), np.random.default_rng(0)
    token = rng.integers(0, tokenizer.vocab_size, (100, 30)).astype(np.int32)
    length = rng.integers(0, 31, 100)
    texts = decode_all(token, length, token_bytes(tokenizer, Template()))
    assert texts == [tokenizer.decode(row[:n].tolist()) for row, n in zip(token, length, strict=True)]


BEGINS = {"llama3": "<|begin_of_text|>", "gemma3": "<bos>", "mistral": "<s>", "llama2": "<s>"}


@pytest.mark.parametrize("family", FAMILIES)
def test_bos_is_known(made, family, tmp_path):
    tokenizer = load_tokenizer(made[family])
    assert tokenizer.begin == (tokenizer.special(BEGINS[family]) if family in BEGINS else ())
    assert load_tokenizer(folder(tmp_path / "a", family, add_bos_token=False)).begin == ()


def test_text_tokens_are_found_and_special_ones_are_text(made):
    neox, gemma = load_tokenizer(made["neox"]), load_tokenizer(made["gemma3"])
    assert neox.decode([neox.encode("a" + " " * 9 + "b")[1]]).isspace() and len(neox.encode(" " * 24)) == 1
    assert len(gemma.encode("<table>")) == 1 < len(gemma.encode("<bos>")) and gemma.special("<bos>") == gemma.begin


def test_a_model_of_text_may_lack_special_tokens_of_images(tmp_path):
    """Gemma 3 1B has 262,144 rows, and its tokenizer one token more, which no text yields."""
    path = folder(tmp_path / "a", "gemma3")
    whole = load_tokenizer(path)
    text = json.loads((path / "tokenizer.json").read_text())
    text["added_tokens"].append(text["added_tokens"][0] | {"id": whole.vocab_size, "content": "<image_soft_token>"})
    (path / "tokenizer.json").write_text(json.dumps(text))
    (path / "config.json").write_text(json.dumps({"text_config": {"vocab_size": whole.vocab_size, "eos_token_id": 5}}))
    tokenizer = load_tokenizer(path)
    assert tokenizer.vocab_size == whole.vocab_size and "<image_soft_token>" not in tokenizer.specials
    assert tokenizer.ends == (tokenizer.specials["<eos>"], 5)
    assert max(tokenizer.encode("<image_soft_token>")) < whole.vocab_size
    (path / "config.json").write_text(json.dumps({"vocab_size": whole.vocab_size - 1}))
    with pytest.raises(ValueError, match="vocab_size must be above the largest id"):
        load_tokenizer(path)


def test_a_byte_without_a_token_is_left_out_as_in_the_library(made):
    tokenizer = load_tokenizer(made["smollm2"])
    assert tokenizer.byte_ids is None and as_spelled(tokenizer, "a\x00b") == "ab"


@pytest.mark.parametrize("name", ["t5", "mistral_v1"])
@pytest.mark.needs("sentencepiece")
def test_published_files_at_hand(data_dir, name):
    from sentencepiece import SentencePieceProcessor

    path = data_dir / "tokenizers" / name
    tokenizer = load_tokenizer(path)
    if name == "t5":
        own = library(path)
        encode = lambda text: own.encode(text, add_special_tokens=False).ids
    else:
        encode = SentencePieceProcessor(model_file=str(path / "tokenizer.model")).encode
    texts = [*ODD, *(d.actions[-1] for d in datasets.numina(data_dir).demonstrations[:100])]
    for text in texts:
        if "</s>" not in text and "<unk>" not in text:  # which the libraries find in a text
            assert tokenizer.encode(text) == encode(text)
    assert as_spelled(tokenizer, "two words") == "two words" and tokenizer.decode(tokenizer.encode("a b")) == " a b"
