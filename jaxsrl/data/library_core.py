"""A `tokenizer.json` as the library `tokenizers` reads it; see `file_tokenizer.Core`."""

import copy
import json
import re
from collections.abc import Mapping
from typing import Any

from tokenizers import Tokenizer

from jaxsrl.data.file_tokenizer import Core
from jaxsrl.data.spelling import byte_ids, speller, steps


def library_core(content: Mapping[str, Any]) -> Core:
    """Raises: ValueError if the library cannot read it, its merges are drawn at random, or its ids not read back."""
    if content["model"].get("dropout"):
        raise ValueError(
            f"model.dropout={content['model']['dropout']} draws a text's ids anew each time; set it to null in the file"
        )
    spell = speller(content)
    whole = _tokenizer(content)
    bare = _without_prefix(content)
    inside = whole if bare == content else _tokenizer(bare)
    added = {token["content"]: token for token in content.get("added_tokens", [])}
    # The library numbers added tokens itself, in the order of the file.
    number = {whole.token_to_id(text): int(token["id"]) for text, token in added.items()}
    number = {own: said for own, said in number.items() if own != said}
    vocab = whole.get_vocab(with_added_tokens=False)
    spelled = {int(token["id"]): text.encode() for text, token in added.items()}
    pieces = {token: piece for piece, token in vocab.items()}

    def ids(tokenizer: Tokenizer, text: str) -> list[int]:
        # The same ids as `encode`, which also says where in the text each of them stands: a tenth of its time.
        found = tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids
        return [number.get(token, token) for token in found] if number else found

    def first_word_apart(text: str) -> list[int]:
        """Where white space only separates words and a space is put before each: before all but the first one."""
        word = re.match(r"\S*", text)[0]
        rest = text[len(word) :]
        return (ids(inside, word) if word else []) + (ids(whole, rest) if rest else [])

    def piece(token: int) -> bytes | None:
        return spelled[token] if token in spelled else spell(pieces[token]) if token in pieces else None

    special = {text: int(token["id"]) for text, token in added.items() if token.get("special")}
    marks = {text: int(t["id"]) for text, t in added.items() if text in special or text[:1] + text[-1:] == "<>"}
    unknown = vocab.get(content["model"].get("unk_token"), content["model"].get("unk_id"))
    return Core(
        whole=lambda text: ids(whole, text),
        inside=first_word_apart if _splits_at_spaces(content) else lambda text: ids(inside, text),
        piece=piece, specials=special, marks=dict(sorted(marks.items(), key=lambda item: item[1])),
        byte_ids=byte_ids(content, vocab), size=max(*vocab.values(), *spelled) + 1,
        text_size=max({*vocab.values(), *spelled} - {*special.values()}) + 1, unknown=unknown,
    )  # fmt: skip


def begins_with(content: Mapping[str, Any]) -> tuple[int, ...]:
    """Ids that the file's post-processor puts before a text."""
    for step in steps(content.get("post_processor")):
        if step["type"] == "TemplateProcessing":
            before: list[int] = []
            for part in step["single"]:
                if "SpecialToken" not in part:
                    return tuple(before)
                before += step["special_tokens"][part["SpecialToken"]["id"]]["ids"]
        if step["type"] in ("BertProcessing", "RobertaProcessing"):
            return (int(step["cls"][1]),)
    return ()


def _tokenizer(content: Mapping[str, Any]) -> Tokenizer:
    plain = content | {"post_processor": None, "decoder": None, "truncation": None, "padding": None}
    try:
        made = Tokenizer.from_str(json.dumps(plain))
    except Exception as error:  # the library raises no narrower one
        raise ValueError(f"the library tokenizers cannot read it: {error}") from error
    made.encode_special_tokens = True  # special tokens are text; added tokens that are not special are still found
    return made


def _without_prefix(content: Mapping[str, Any]) -> dict[str, Any]:
    """The same, except that no space is put before a text."""
    bare = copy.deepcopy({key: value for key, value in content.items() if key != "model"}) | {"model": content["model"]}
    for step in steps(bare.get("pre_tokenizer")):
        if step["type"] == "Metaspace":
            step.pop("add_prefix_space", None)  # the older way to say it
            step["prepend_scheme"] = "never"
        elif "add_prefix_space" in step:
            step["add_prefix_space"] = False
    bare["normalizer"] = _not_prepended(bare.get("normalizer"))
    return bare


def _not_prepended(part: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if part is None or part["type"] == "Prepend":
        return None
    if part["type"] != "Sequence":
        return part
    kept = [inner for step in part["normalizers"] if (inner := _not_prepended(step)) is not None]
    return part | {"normalizers": kept} if kept else None


def _splits_at_spaces(content: Mapping[str, Any]) -> bool:
    kinds = [step["type"] for step in steps(content.get("pre_tokenizer"))]
    return "WhitespaceSplit" in kinds and "Metaspace" in kinds
