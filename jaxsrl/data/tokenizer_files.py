"""A tokenizer as the files that Transformers and vLLM read."""

import json
import shutil
from pathlib import Path

from jaxsrl.data.bpe_tokenizer import ALPHABET
from jaxsrl.data.byte_tokenizer import ByteTokenizer

FILES = (
    "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "special_tokens_map.json",
    "added_tokens.json", "chat_template.jinja", "generation_config.json",
)  # fmt: skip


def write_files(source: str | Path, to: Path) -> None:
    """Copies a tokenizer's files into the folder `to`; "bytes" is written as byte-level BPE without merges."""
    to.mkdir(exist_ok=True)
    if source == "bytes":
        for name, content in _bytes().items():
            (to / name).write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        return
    source = Path(source)
    for path in [source] if source.is_file() else [source / name for name in FILES if (source / name).is_file()]:
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
