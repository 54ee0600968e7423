"""Tokenizers from the files that published models come with: `tokenizer.json`, `vocab.json` and `merges.txt`, `.model`.

Ids of a whole text are those of the libraries `tokenizers` and `sentencepiece`, special tokens left out.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from jaxsrl.data import library_core
from jaxsrl.data.file_tokenizer import Core, FileTokenizer, Settings
from jaxsrl.data.templates import FAMILIES, recognised


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
GPT2_VOCAB, GPT2_END = 50257, 50256
BEGINNING = ("LlamaTokenizer", "CodeLlamaTokenizer", "GemmaTokenizer")  # put BOS first unless they are told not to


def load_folder(
    path: Path, *, tokenizer_class: str | None = None, end: str | None = None, template: str | None = None
) -> FileTokenizer:
    """See `load_tokenizer`."""
    if not path.exists():
        raise FileNotFoundError(f"no tokenizer at {path}; expected a folder, a tokenizer.json, or the name bytes")
    folder = path if path.is_dir() else path.parent
    beside = folder if path.is_dir() else None  # a bare file is read by itself
    config, path = _json(beside, "tokenizer_config.json"), _file(path)
    try:
        added = [token | {"id": int(number)} for number, token in config.get("added_tokens_decoder", {}).items()]
        if path.suffix == ".model":
            core, begin = _from_model(path, added)
            name = "SentencePiece"
        else:
            name = _class(path, config, tokenizer_class)
            read = _json(folder, path.name) if path.is_file() else _from_vocab(path, RULES[name], config)
            content = _with_added(read, added)
            core, begin = library_core.library_core(content), library_core.begins_with(content)
        kind = template or recognised(folder, chat_template(beside, config))
        own = FAMILIES[kind].end  # where the tokenizer lacks it, `chat.check_marks` names all marks that it lacks
        ends = _ends(beside, core.marks, config, end or (own if own in core.marks else None), name)
        begin = _begin(core.marks, config, begin)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: {error if isinstance(error, ValueError) else repr(error)}") from error
    settings = Settings(
        name=name, begin=begin, ends=ends, template=kind,
        vocab_size=_said(_json(beside, "config.json"), "vocab_size"),
    )  # fmt: skip
    return FileTokenizer(core, settings)


def _from_model(path: Path, added: Iterable[Mapping[str, Any]]) -> tuple[Core, tuple[int, ...]]:
    from jaxsrl.data.sentencepiece_core import begins_with, sentencepiece_core  # a library that few folders need

    return sentencepiece_core(path, {t["content"]: t["id"] for t in added if t.get("special")}), begins_with(path)


def chat_template(folder: Path | None, config: Mapping[str, Any]) -> str | None:
    """The chat template of a folder: a file of its own, or in `tokenizer_config.json`; of several the `default`."""
    if folder is not None and (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    found = config.get("chat_template")
    if isinstance(found, list):
        found = {one["name"]: one["template"] for one in found}.get("default")
    return found


def _file(path: Path) -> Path:
    """The file to read, or the folder of `vocab.json` and `merges.txt`."""
    if path.is_file():
        if path.name != "tokenizer.json" and path.suffix != ".model":
            raise ValueError(f"{path}: by themselves only tokenizer.json and SentencePiece models (.model) can be read")
        return path
    if (path / "tokenizer.json").exists():
        return path / "tokenizer.json"
    if (path / "vocab.json").exists() and (path / "merges.txt").exists():
        return path
    if models := sorted(path.glob("*.model")):
        return models[0]
    raise ValueError(f"{path}: expected tokenizer.json, or vocab.json and merges.txt, or a SentencePiece .model")


def _json(folder: Path | None, name: str) -> dict[str, Any]:
    """An absent file is empty."""
    if folder is None or not (folder / name).exists():
        return {}
    try:
        found = json.loads((folder / name).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{folder / name}: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{folder / name} holds a {type(found).__name__}, not an object")
    return found


def _class(path: Path, config: Mapping[str, Any], given: str | None) -> str:
    """The class by which a folder of `vocab.json` and `merges.txt` is read; a tokenizer.json says it all itself."""
    named = given or _content(config.get("tokenizer_class"))
    if path.is_file():
        return (named or "PreTrainedTokenizer").removesuffix("Fast")
    if named is None:
        vocab = _json(path, "vocab.json")
        if len(vocab) == GPT2_VOCAB and vocab.get("<|endoftext|>") == GPT2_END:
            return "GPT2Tokenizer"
        raise ValueError(f"tokenizer_config.json names no tokenizer_class; set tokenizer_class, {_known()}")
    name = named.removesuffix("Fast")
    if name not in RULES:
        raise ValueError(f"unknown tokenizer_class {named!r} for vocab.json and merges.txt, {_known()}; or add its "
                         "tokenizer.json")  # fmt: skip
    return name


def _known() -> str:
    return "known are " + ", ".join(f"{name}[Fast]" for name in RULES)


def _from_vocab(folder: Path, rules: Rules, config: Mapping[str, Any]) -> dict[str, Any]:
    """What a tokenizer.json of the same tokenizer would hold."""
    try:
        core = Tokenizer(models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
    except Exception as error:  # the library raises no narrower one
        raise ValueError(f"vocab.json and merges.txt cannot be read: {error}") from error
    if rules.nfc:
        core.normalizer = normalizers.NFC()
    spaced = bool(config.get("add_prefix_space"))
    bytelevel = pre_tokenizers.ByteLevel(add_prefix_space=spaced, use_regex=rules.split is None)
    words = [] if rules.split is None else [pre_tokenizers.Split(Regex(rules.split), behavior="isolated")]
    core.pre_tokenizer, core.decoder = pre_tokenizers.Sequence([*words, bytelevel]), decoders.ByteLevel()
    vocab = core.get_vocab(with_added_tokens=False)
    special = [{"id": vocab[name], "content": name, "special": True} for name in rules.specials if name in vocab]
    return _with_added(json.loads(core.to_str()), special)


def _with_added(content: dict[str, Any], more: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """With added tokens that the files beside it name; what the file says itself stays."""
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    own = content.get("added_tokens") or []
    known = {token["content"] for token in own}
    new = [plain | dict(token) for token in more if token["content"] not in known]
    return content | {"added_tokens": sorted([*own, *new], key=lambda token: token["id"])}


def _begin(marks: Mapping[str, int], config: Mapping[str, Any], found: tuple[int, ...]) -> tuple[int, ...]:
    """What stands before every text: as `add_bos_token` says, else as the tokenizer's own file does."""
    said, named = config.get("add_bos_token"), _content(config.get("bos_token"))
    if said is None and (_content(config.get("tokenizer_class")) or "").removesuffix("Fast") in BEGINNING:
        said = True
    if said is False:
        return ()
    return (marks[named],) if said and named in marks else found


def _content(token: Any) -> str | None:
    """Special tokens are named by a text, or by an object that holds it."""
    found = token.get("content") if isinstance(token, Mapping) else token
    if not isinstance(found, str | None):
        raise ValueError(f"tokenizer_config.json names a token or a class by {str(found)[:50]!r}, which is no text")
    return found


def _ends(
    folder: Path | None, marks: Mapping[str, int], config: Mapping[str, Any], end: str | None, name: str
) -> tuple[int, ...]:
    """Every id that ends a completion, first the one that is trained to.

    Raises: ValueError if `end` is no special token, or the files name none.
    """
    named = _content(config.get("eos_token"))
    usual = ("<|im_end|>", named, "<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>")
    first = end or next((one for one in usual if one in marks), None)
    if first not in marks:
        known = ", ".join(list(marks)[:20])
        raise ValueError(f"{name}: end must be one of {known}, got {first!r}: no special token ends a text; name it as "
                         "eos_token in tokenizer_config.json")  # fmt: skip
    others = [marks[named]] if named in marks else []
    for file in ("config.json", "generation_config.json"):
        others += _ids(_json(folder, file))
    return tuple(dict.fromkeys([marks[first], *others]))


def _ids(found: Mapping[str, Any]) -> Iterator[int]:
    """`eos_token_id` of a configuration: a number, a list of them, or nothing."""
    said = _said(found, "eos_token_id")
    for token in said if isinstance(said, list) else [said]:
        if type(token) is int:
            yield token


def _said(found: Mapping[str, Any], key: str) -> Any:
    """A key of a configuration, or of its part for text, where the model is one of images too."""
    inner = found.get("text_config")
    return found.get(key, inner.get(key) if isinstance(inner, Mapping) else None)
