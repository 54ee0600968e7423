"""Byte-level BPE tokenizers from the files that published models come with (Qwen2 to Qwen3, GPT-2, Llama 3, …).

Ids equal those of Transformers for text without special tokens. Where Transformers would turn a special token's
spelling inside the text into its id, this does not: the encoder is built without special tokens.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from jaxsrl.data.byte_tokenizer import UNUSED


@dataclass(frozen=True)
class Rules:
    """What the files `vocab.json` and `merges.txt` leave out."""

    split: str | None  # words are cut by this before merging; None: by GPT-2's own expression
    nfc: bool  # text is composed first
    specials: tuple[str, ...]  # special wherever the vocabulary or the configuration has them


# Source of the expression and of NFC: Qwen2's published tokenizer.json; GPT-2's expression is in `tokenizers`.
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
RULES = {
    "Qwen2Tokenizer": Rules(QWEN2_SPLIT, nfc=True, specials=("<|endoftext|>",)),
    "GPT2Tokenizer": Rules(None, nfc=False, specials=("<|endoftext|>",)),
}
FROM_JSON = ("PreTrainedTokenizer", "LlamaTokenizer", "TokenizersBackend")  # need tokenizer.json, which says it all
GPT2_VOCAB, GPT2_END = 50257, 50256
# Texts whose ids are kept, some 100 MB. Those of a demonstration are asked for before the first step and in every
# epoch; the library needs a tenth of a millisecond for each.
REMEMBERED = 2**19


class BPETokenizer:
    """A tokenizer whose tokens are byte strings.

    Args:
      core: encodes text and knows no special tokens.
      specials: spelling -> id; none of these ids comes out of `encode`.
      vocab_size: None: one more than the largest id.
    Raises: ValueError if a byte has no token of its own, or `end` is no special token.
    """

    def __init__(self, core: Tokenizer, *, name: str, specials: Mapping[str, int], end: str, vocab_size: int | None):
        vocab = core.get_vocab(with_added_tokens=False)
        missing = [byte for byte, character in ALPHABET.items() if character not in vocab]
        if missing:
            raise ValueError(f"{name}: {len(missing)} bytes have no token of their own, the first is {missing[0]}")
        if end not in specials:
            raise ValueError(f"{name}: end must be one of {', '.join(specials)}, got {end!r}")
        self.name = name
        self.specials = MappingProxyType(dict(specials))
        self.end = specials[end]
        self.byte_ids = tuple(vocab[character] for character in ALPHABET.values())
        largest = max(*vocab.values(), *specials.values())
        self.vocab_size = largest + 1 if vocab_size is None else vocab_size
        if self.vocab_size <= largest:
            raise ValueError(f"{name}: vocab_size must be above the largest id {largest}, got {vocab_size}")
        self._core = core
        self._spelling = {token: text.encode() for text, token in specials.items()}
        self._encoded = lru_cache(REMEMBERED)(self._encode)

    def encode(self, text: str) -> list[int]:
        return self._encoded(text).tolist()

    def _encode(self, text: str) -> np.ndarray:
        return np.array(self._core.encode(text, add_special_tokens=False).ids, np.int32)

    def decode(self, ids: Iterable[int]) -> str:
        known = self._spelling
        spelled = [known[token] if token in known else self.token_bytes(token) for token in ids]
        return b"".join(spelled).decode(errors="replace")

    def special(self, name: str) -> tuple[int, ...]:
        return (self.specials[name],) if name in self.specials else tuple(self.encode(name))

    def token_bytes(self, token: int) -> bytes:
        token = int(token)
        if not 0 <= token < self.vocab_size:
            raise ValueError(f"token must be in 0..{self.vocab_size - 1}, got {token}")
        if token not in self._spelling:
            piece = self._core.id_to_token(token)
            self._spelling[token] = UNUSED if piece is None else bytes(_BYTE[character] for character in piece)
        return self._spelling[token]


def _alphabet() -> dict[int, str]:
    """Byte -> the printable character that stands for it in the vocabulary: itself, or the next one from U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    shown = {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}
    return dict(sorted(shown.items()))


ALPHABET = _alphabet()
_BYTE = {character: byte for byte, character in ALPHABET.items()}


def load_folder(path: Path, *, tokenizer_class: str | None = None, end: str | None = None) -> BPETokenizer:
    """See `load_tokenizer`. `tokenizer.json` is read where there is one, else `vocab.json` and `merges.txt`."""
    if not path.exists():
        raise FileNotFoundError(f"no tokenizer at {path}; expected a folder, a tokenizer.json, or the name bytes")
    folder = path if path.is_dir() else path.parent
    config = _json(folder / "tokenizer_config.json") if path.is_dir() else {}
    if path.is_dir() and (path / "tokenizer.json").exists():
        path = path / "tokenizer.json"
    if path.is_file() and path.name != "tokenizer.json":
        raise ValueError(f"{path}: only tokenizer.json can be read by itself; SentencePiece models (.model) cannot be")
    if path.is_dir() and not {"vocab.json", "merges.txt"} <= {file.name for file in path.iterdir()}:
        kinds = "SentencePiece models (.model) cannot be read; " if list(path.glob("*.model")) else ""
        raise ValueError(f"{path}: {kinds}expected tokenizer.json, or vocab.json and merges.txt")
    name = _class(path, config, tokenizer_class)
    core, specials = _from_json(path) if path.is_file() else _from_vocab(path, RULES[name])
    added = config.get("added_tokens_decoder", {})
    specials |= _specials(path, [token | {"id": number} for number, token in added.items()])
    specials = dict(sorted(specials.items(), key=lambda item: item[1]))
    model = _json(folder / "config.json") if path.is_dir() or config else {}
    return BPETokenizer(
        core,
        name=name,
        specials=specials,
        end=end or _end(specials, config),
        vocab_size=model.get("vocab_size"),
    )


def _json(path: Path) -> dict[str, Any]:
    """An absent file is empty."""
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _class(path: Path, config: Mapping[str, Any], given: str | None) -> str:
    """The class by which a folder is read; a bare tokenizer.json needs none."""
    named = given or config.get("tokenizer_class")
    if named is None and path.is_file():
        return "PreTrainedTokenizer"
    if named is None:
        vocab = _json(path / "vocab.json")
        if len(vocab) == GPT2_VOCAB and vocab.get("<|endoftext|>") == GPT2_END:
            return "GPT2Tokenizer"
        raise ValueError(f"{path}: tokenizer_config.json names no tokenizer_class; set tokenizer_class, {_known()}")
    name = named.removesuffix("Fast")
    if name not in RULES and name not in FROM_JSON:
        raise ValueError(f"{path}: unknown tokenizer_class {named!r}, {_known()}")
    if name in FROM_JSON and path.is_dir():
        raise ValueError(f"{path}: tokenizer_class {named!r} needs a tokenizer.json")
    if config.get("add_prefix_space"):
        raise ValueError(f"{path}: add_prefix_space=true is not supported, a text in segments would gain spaces")
    return name


def _known() -> str:
    return "known are " + ", ".join(f"{name}[Fast]" for name in (*RULES, *FROM_JSON))


def _end(specials: Mapping[str, int], config: Mapping[str, Any]) -> str:
    named = config.get("eos_token")
    named = named.get("content") if isinstance(named, Mapping) else named
    return next((name for name in ("<|im_end|>", named, "<|endoftext|>") if name in specials), "")


def _from_vocab(folder: Path, rules: Rules) -> tuple[Tokenizer, dict[str, int]]:
    try:
        core = Tokenizer(models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
    except Exception as error:  # the library raises no narrower one
        raise ValueError(f"{folder}: vocab.json and merges.txt cannot be read: {error}") from error
    if rules.nfc:
        core.normalizer = normalizers.NFC()
    bytelevel = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=rules.split is None)
    words = [] if rules.split is None else [pre_tokenizers.Split(Regex(rules.split), behavior="isolated")]
    core.pre_tokenizer = pre_tokenizers.Sequence([*words, bytelevel])
    vocab = core.get_vocab(with_added_tokens=False)
    return core, {name: vocab[name] for name in rules.specials if name in vocab}


def _from_json(path: Path) -> tuple[Tokenizer, dict[str, int]]:
    """Raises: ValueError if the file describes anything but byte-level BPE without a prefix space."""
    content = _json(path)
    steps = content.get("pre_tokenizer") or {}
    steps = steps.get("pretokenizers", [steps])
    bytelevel = [step for step in steps if step.get("type") == "ByteLevel"]
    kind = (content.get("model") or {}).get("type")
    if kind != "BPE" or not bytelevel:
        words = ", ".join(str(step.get("type")) for step in steps)
        raise ValueError(f"{path}: only byte-level BPE can be read, this is {kind or 'no named model'} with {words}")
    if bytelevel[0].get("add_prefix_space"):
        raise ValueError(f"{path}: add_prefix_space=true is not supported, a text in segments would gain spaces")
    specials = _specials(path, content.get("added_tokens", []))
    vocab = {piece: token for piece, token in content["model"]["vocab"].items() if piece not in specials}
    plain = content | {"model": content["model"] | {"vocab": vocab}, "added_tokens": []}
    plain |= {"post_processor": None, "decoder": None, "truncation": None, "padding": None}
    try:
        return Tokenizer.from_str(json.dumps(plain)), specials
    except Exception as error:  # the library raises no narrower one
        raise ValueError(f"{path}: {error}") from error


def _specials(path: Path, added: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Raises: ValueError if an added token stands for ordinary text (GPT-NeoX's runs of spaces), which is no mark."""
    specials = {}
    for token in added:
        content = token["content"]
        if not token.get("special") and not (content.startswith("<") and content.endswith(">")):
            raise ValueError(f"{path}: added token {content!r} stands for ordinary text, which is not supported")
        specials[content] = int(token["id"])
    return specials
