"""A tokenizer as the files that Transformers and vLLM read."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxsrl.data.byte_tokenizer import ByteTokenizer
from jaxsrl.data.chat import Template, prefill
from jaxsrl.data.chat_jinja import jinja
from jaxsrl.data.spelling import ALPHABET
from jaxsrl.data.templates import FAMILIES
from jaxsrl.data.tokenizer import Tokenizer
from jaxsrl.data.tokenizer_folder import chat_template, recognised

FILES = (
    "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "special_tokens_map.json",
    "added_tokens.json", "chat_template.jinja", "generation_config.json",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Text:
    """How a policy was trained to read and to write; kept with a run.

    Args:
      name: of the tokenizer; the class by which a folder of `vocab.json` and `merges.txt` was read.
      template: the kind, `auto` no more.
      system: the system text for a whole solution.
      given: what the template writes of a completion.
      begin, ends: ids, see `Tokenizer`; `end` is the spelling of the first of `ends`, which was trained.
    """

    name: str
    template: str
    system: str
    given: str
    begin: tuple[int, ...]
    ends: tuple[int, ...]
    end: str


def text_of(template: Template, tokenizer: Tokenizer) -> Text:
    """What `finish_files` needs to know of a run."""
    kind = tokenizer.template if template.kind == "auto" else template.kind
    given = tokenizer.decode(prefill(template, tokenizer))
    return Text(
        name=tokenizer.name, template=kind, system=template.solve_system, given=given,
        begin=tokenizer.begin, ends=tokenizer.ends, end=tokenizer.token_bytes(tokenizer.end).decode(),
    )  # fmt: skip


def finish_files(folder: Path, text: Text) -> None:
    """Makes files beside a model say what was trained: where a text begins, what ends it, and the chat template.

    The end is written everywhere that Transformers and vLLM look for one: `config.json`, `generation_config.json`,
    `tokenizer_config.json` and `special_tokens_map.json`. The folder's own template stays where it is the one trained.
    """
    ids: dict[str, Any] = {"eos_token_id": list(text.ends) if len(text.ends) > 1 else text.ends[0]}
    if text.begin:
        ids["bos_token_id"] = text.begin[0]
    _change(folder / "config.json", ids)
    _change(folder / "generation_config.json", ids)
    if (folder / "special_tokens_map.json").is_file():
        _change(folder / "special_tokens_map.json", {"eos_token": text.end})
    config = _read(folder / "tokenizer_config.json")
    own = chat_template(folder, config)
    about: dict[str, Any] = {"eos_token": text.end}
    if (folder / "vocab.json").is_file() and not (folder / "tokenizer.json").is_file():
        about["tokenizer_class"] = config.get("tokenizer_class") or text.name
    if own is None or text.given or not _is(folder, own, text.template):
        family = FAMILIES[text.template]
        system = "" if text.template == "plain" else text.system or family.system
        about["chat_template"] = jinja(family, system=system, given=text.given, begins=bool(text.begin))
        (folder / "chat_template.jinja").unlink(missing_ok=True)  # it would count before the other
    _change(folder / "tokenizer_config.json", about)


def _is(folder: Path, own: str, kind: str) -> bool:
    """Whether a template is of a kind; one of no known family is of none."""
    try:
        return recognised(folder, own) == kind
    except ValueError:
        return False


def _read(path: Path) -> dict[str, Any]:
    """An absent file is empty."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _change(path: Path, values: Mapping[str, Any]) -> None:
    said = _read(path) | values
    path.write_text(json.dumps(said, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def write_files(source: str | Path, to: Path) -> None:
    """Copies a tokenizer's files into the folder `to`; "bytes" is written as byte-level BPE without merges."""
    to.mkdir(exist_ok=True)
    if source == "bytes":
        for name, content in _bytes().items():
            (to / name).write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        return
    source = Path(source)
    named = [source / name for name in FILES if (source / name).is_file()]
    for path in [source] if source.is_file() else [*named, *sorted(source.glob("*.model"))]:
        shutil.copyfile(path, to / path.name)


def _bytes() -> dict[str, dict]:
    """The same ids as `ByteTokenizer`: a byte is its own id, and the marks follow."""
    bytelevel = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    specials = ByteTokenizer.specials
    marks = [{"id": token, "content": mark} | plain for mark, token in specials.items()]
    end = next(mark for mark, token in specials.items() if token == ByteTokenizer.end)
    core = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": marks, "normalizer": None,
        "pre_tokenizer": bytelevel, "post_processor": None, "decoder": bytelevel,
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "merges": [],
            "vocab": {character: byte for byte, character in ALPHABET.items()},
        },
    }  # fmt: skip
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": end, "clean_up_tokenization_spaces": False}
    return {"tokenizer.json": core, "tokenizer_config.json": settings}
