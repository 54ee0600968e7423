import hashlib
import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from jaxsrl.data import datasets
from jaxsrl.data.jsonl import read_rows
from jaxsrl.data.spelling import ALPHABET
from jaxsrl.data.tokenizer import as_spelled, load_tokenizer
from jaxsrl.data.used_ids import used_ids

GOLDEN = json.loads((Path(__file__).parent / "golden" / "tokenizer_reference.json").read_text(encoding="utf-8"))
MARKS = {300: "<|endoftext|>", 301: "<|im_end|>", 302: "<think>"}
SPECIAL = {300, 301}  # `<think>` is an added token that is not special, as Qwen3's


def write_folder(path, **config):
    """A tokenizer of 256 bytes and four merges."""
    pieces = [*ALPHABET.values(), "he", "ll", "Ġhe", "Ċ1"]
    path.mkdir(exist_ok=True)
    (path / "vocab.json").write_text(json.dumps({piece: token for token, piece in enumerate(pieces)}))
    (path / "merges.txt").write_text("#version: 0.2\nh e\nl l\nĠ he\nĊ 1\n")
    added = {str(token): {"content": text, "special": text != "<think>"} for token, text in MARKS.items()}
    config = {"tokenizer_class": "Qwen2Tokenizer", "added_tokens_decoder": added, "eos_token": "<|endoftext|>"} | config
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    return path


def write_json(path, **change):
    """The same as a tokenizer.json."""
    write_folder(path)
    vocab = json.loads((path / "vocab.json").read_text())
    merges = (path / "merges.txt").read_text().splitlines()[1:]
    content = {
        "version": "1.0",
        "normalizer": None,
        "added_tokens": [
            {
                "id": token,
                "content": text,
                "special": token in SPECIAL,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
            }
            for token, text in MARKS.items()
        ],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": None,
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": vocab, "merges": merges, "ignore_merges": True},
    } | change
    (path / "tokenizer.json").write_text(json.dumps(content))
    return path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return load_tokenizer(write_folder(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def gpt2(data_dir):
    return load_tokenizer(data_dir / "tokenizers" / "gpt2")


def test_alphabet_is_that_of_the_library():
    assert set(ALPHABET.values()) == set(pre_tokenizers.ByteLevel.alphabet()) and list(ALPHABET) == list(range(256))
    assert ALPHABET[ord(" ")] == "Ġ" and ALPHABET[ord("\n")] == "Ċ" and ALPHABET[0xAD] == "Ń"


def test_merges_marks_and_sizes(tiny):
    assert tiny.encode("hello he") == [256, 257, ord("o"), 258]
    assert tiny.encode("\n1") == [10, ord("1")]  # merges never cross words
    assert (tiny.vocab_size, tiny.end, tiny.special("<think>"), tiny.special("he")) == (303, 301, (302,), (256,))
    assert tiny.decode([302, 256, 299]) == "<think>he\ufffd"
    assert tiny.byte_ids == tuple(range(256))


def test_a_text_is_encoded_once_and_its_ids_are_the_callers_own(tiny):
    before = tiny._encoded.cache_info().misses
    first = tiny.encode("only here: hello")
    kept = list(first)
    first.append(7)
    assert tiny.encode("only here: hello") == kept and all(type(token) is int for token in kept)
    assert tiny._encoded.cache_info().misses == before + 1


@given(text=st.text())
def test_round_trip_up_to_composition(tiny, text):
    ids = tiny.encode(text)
    assert tiny.decode(ids) == unicodedata.normalize("NFC", text)
    assert not set(ids) & SPECIAL
    assert b"".join(map(tiny.token_bytes, ids)).decode() == tiny.decode(ids)


@given(st.lists(st.integers(0, 302)))
def test_any_ids_decode_and_text_is_a_fixed_point(tiny, ids):
    text = tiny.decode(np.array(ids, int))
    assert tiny.decode(tiny.encode(text)) == unicodedata.normalize("NFC", text)


def test_spelled_special_tokens_are_text_and_other_added_tokens_are_found(tiny):
    assert tiny.encode("a<think>b") == [97, 302, 98]
    for text in (MARKS[token] for token in SPECIAL):
        assert len(tiny.encode(text)) > 1 and tiny.decode(tiny.encode(text)) == text
        assert tiny.encode(f"a{text}b") == [*tiny.encode("a"), *tiny.encode(text), *tiny.encode("b")]


def test_ids_that_do_not_exist(tiny):
    for token in (-1, 303):
        with pytest.raises(ValueError, match="0..302"):
            tiny.decode([token])


def test_tokenizer_json_alone_and_in_a_folder(tmp_path, tiny):
    folder = write_json(tmp_path / "a")
    for path in (folder, folder / "tokenizer.json"):
        tokenizer = load_tokenizer(path)
        assert tokenizer.encode("hello he<think>") == tiny.encode("hello he<think>")
        assert tokenizer.special("<think>") == (302,) and tokenizer.vocab_size == 303
    for name in ("LlamaTokenizerFast", "PreTrainedTokenizerFast", "GPT2TokenizerFast"):
        assert load_tokenizer(folder, tokenizer_class=name).encode("he") == [256]


def test_a_mark_that_is_in_the_vocabulary_too_never_comes_out_of_text(tmp_path):
    folder = write_json(tmp_path / "a")
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["vocab"]["!!!!"] = 303
    content["added_tokens"].append(content["added_tokens"][0] | {"id": 303, "content": "!!!!"})
    (folder / "tokenizer.json").write_text(json.dumps(content))
    tokenizer = load_tokenizer(folder)
    assert tokenizer.encode("!!!!") == [33] * 4 and tokenizer.special("!!!!") == (303,)


def test_the_size_of_the_models_vocabulary_counts(tmp_path):
    folder = write_folder(tmp_path / "a")
    (folder / "config.json").write_text('{"vocab_size": 320}')
    assert load_tokenizer(folder).vocab_size == 320
    (folder / "config.json").write_text('{"vocab_size": 300}')
    with pytest.raises(ValueError, match="largest id 302, got 300"):
        load_tokenizer(folder)


def test_end_may_be_chosen(tmp_path):
    folder = write_folder(tmp_path / "a")
    assert load_tokenizer(folder, end="<|endoftext|>").end == 300
    with pytest.raises(ValueError, match="end must be one of .*, got '<eos>'"):
        load_tokenizer(folder, end="<eos>")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"tokenizer_class": "BertTokenizer"}, "unknown tokenizer_class 'BertTokenizer' for vocab.json.*known are"),
        ({"tokenizer_class": None}, "names no tokenizer_class; set tokenizer_class, known are"),
        ({"tokenizer_class": "LlamaTokenizer"}, "unknown tokenizer_class 'LlamaTokenizer'.*or add its tokenizer.json"),
        ({"eos_token": "<eos>", "added_tokens_decoder": {}}, "no special token ends a text; name it as eos_token"),
    ],
)
def test_what_is_not_known_is_refused(tmp_path, config, message):
    with pytest.raises(ValueError, match=message):
        load_tokenizer(write_folder(tmp_path / "a", **config))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True}}, "a step WordPiece: what a token spells"),
        ({"decoder": {"type": "CTC"}}, "a step CTC"),
        ({"decoder": None, "pre_tokenizer": None}, "it has no decoder, so nothing says what its tokens spell"),
        ({"pre_tokenizer": {"type": "Unheard"}}, "the library tokenizers cannot read it"),
    ],
)
def test_what_cannot_be_read_back_is_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        load_tokenizer(write_json(tmp_path / "a", **change))


def test_missing_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no tokenizer at"):
        load_tokenizer(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="expected tokenizer.json, or vocab.json and merges.txt, or a SentencePiece"):
        load_tokenizer(tmp_path)
    (tmp_path / "vocab.txt").write_text("[UNK]")
    with pytest.raises(ValueError, match="by themselves only tokenizer.json and SentencePiece models"):
        load_tokenizer(tmp_path / "vocab.txt")
    (tmp_path / "vocab.json").write_text("[")
    (tmp_path / "merges.txt").write_text("")
    with pytest.raises(ValueError, match="cannot be read"):
        load_tokenizer(tmp_path, tokenizer_class="GPT2Tokenizer")
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match="tokenizer.json"):
        load_tokenizer(tmp_path)


def test_a_vocabulary_without_every_byte_is_read_but_not_cut_down(tmp_path):
    """What has no token is left out of the ids, as the library does."""
    folder = write_folder(tmp_path / "a")
    vocab = json.loads((folder / "vocab.json").read_text())
    for character in (ALPHABET[0], ALPHABET[255]):
        del vocab[character]
    (folder / "vocab.json").write_text(json.dumps(vocab))
    tokenizer = load_tokenizer(folder)
    assert tokenizer.byte_ids is None and as_spelled(tokenizer, "he\x00llo") == "hello"
    with pytest.raises(ValueError, match="no token for some single byte.*set used_ids_only=false"):
        used_ids(tokenizer, ["hello"])


@pytest.mark.parametrize("dropout", [0.1, 1.0])
def test_merges_drawn_at_random_are_refused(tmp_path, dropout):
    folder = write_json(tmp_path / "a")
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["dropout"] = dropout
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"tokenizer.json: model.dropout={dropout} draws.*set it to null"):
        load_tokenizer(folder)


def test_every_end_that_the_files_name_ends_a_completion(tmp_path):
    folder = write_folder(tmp_path / "a")
    assert load_tokenizer(folder).ends == (301, 300)
    (folder / "config.json").write_text('{"eos_token_id": 302}')
    (folder / "generation_config.json").write_text('{"eos_token_id": [299, 302]}')
    assert load_tokenizer(folder).ends == (301, 300, 302, 299)
    assert load_tokenizer(folder, end="<|endoftext|>").ends == (300, 302, 299)
    (folder / "generation_config.json").write_text('{"eos_token_id": [777]}')
    with pytest.raises(ValueError, match=r"must be in 0\.\.302, got 777; mend bos_token_id or eos_token_id"):
        load_tokenizer(folder)


def test_ids_equal_those_of_transformers(qwen3, gpt2):
    assert len(GOLDEN["texts"]) > 250
    for text, qwen_ids, gpt2_ids in GOLDEN["texts"] + GOLDEN["spelled"]:
        assert qwen3.encode(text) == qwen_ids, text
        assert gpt2.encode(text) == gpt2_ids, text
        assert gpt2.decode(gpt2_ids) == text
        assert qwen3.decode(qwen_ids) == unicodedata.normalize("NFC", text)


def test_templates_in_pieces_equal_transformers_on_the_whole(qwen3):
    for pieces, ids in GOLDEN["pieces"]:
        ours = [
            t for piece in pieces for t in (qwen3.encode(piece) if isinstance(piece, str) else qwen3.special(piece[0]))
        ]
        assert ours == ids


def test_ids_of_whole_texts_equal_those_of_transformers(qwen3, gpt2, data_dir):
    rows = {}
    for file, field, row, *hashes in GOLDEN["whole"]:
        if file not in rows:
            rows[file] = [content for _, content in read_rows(data_dir / file)]
        text = rows[file][row][field]
        for tokenizer, expected in zip((qwen3, gpt2), hashes, strict=True):
            assert hashlib.sha256(json.dumps(tokenizer.encode(text)).encode()).hexdigest()[:16] == expected, (file, row)


def test_published_ids(qwen3, gpt2):
    assert (qwen3.encode("Hello world"), gpt2.encode("Hello world")) == ([9707, 1879], [15496, 995])
    assert [qwen3.special(s) for s in ("<|im_start|>", "<think>", "</think>")] == [(151644,), (151667,), (151668,)]
    assert (qwen3.end, qwen3.vocab_size, gpt2.end, gpt2.vocab_size) == (151645, 151936, 50256, 50257)
    assert len(gpt2.special("<think>")) > 1


def test_every_id_has_bytes(qwen3, gpt2):
    for tokenizer in (qwen3, gpt2):
        spelled = [tokenizer.token_bytes(token) for token in range(tokenizer.vocab_size)]
        assert all(spelled) and sorted(spelled[token] for token in tokenizer.byte_ids) == [
            bytes([b]) for b in range(256)
        ]


@pytest.mark.parametrize(("dataset", "at_end", "at_start"), [("numina", 1.0, 0.01), ("gsm8k", 0.999, 0.5)])
def test_actions_in_segments_are_tokenised_as_the_whole(qwen3, data_dir, dataset, at_end, at_start):
    """With the separator at the end of the action before; at the start of the next one, next to nothing agrees."""
    demonstrations = getattr(datasets, dataset)(data_dir).demonstrations[:500]
    separator = {"numina": "\n\n", "gsm8k": "\n"}[dataset]
    encode, same, same_at_start = qwen3.encode, 0, 0
    for d in demonstrations:
        whole = encode(separator.join(d.actions))
        same += sum((encode(a + separator) for a in d.actions[:-1]), []) + encode(d.actions[-1]) == whole
        same_at_start += encode(d.actions[0]) + sum((encode(separator + a) for a in d.actions[1:]), []) == whole
    assert same >= at_end * len(demonstrations)
    assert same_at_start <= at_start * len(demonstrations)
