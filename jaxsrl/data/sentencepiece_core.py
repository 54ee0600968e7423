"""A SentencePiece `.model` as the library `sentencepiece` reads it; see `file_tokenizer.Core`."""

from pathlib import Path

from sentencepiece import SentencePieceProcessor

from jaxsrl.data.file_tokenizer import Core
from jaxsrl.data.spelling import SPACE, replaced

UNKNOWN_TEXT = " \N{DOUBLE QUESTION MARK} "  # what SentencePiece writes for what it cannot spell
# Field 3 (normalizer_spec) of ModelProto with field 3 (add_dummy_prefix) set to 0. Messages of protocol buffers that
# stand one behind the other are merged, so these bytes behind a model switch the space before a text off.
# Source: sentencepiece_model.proto of github.com/google/sentencepiece.
NO_PREFIX = b"\x1a\x02\x18\x00"


def sentencepiece_core(path: Path, special: dict[str, int]) -> Core:
    """Args:
      special: further tokens that no text yields, spelling -> id: those that the files beside the model name.
    Raises: ValueError if the file is no model of the library.
    """
    data = path.read_bytes()
    try:
        whole, inside = (SentencePieceProcessor(model_proto=model) for model in (data, data + NO_PREFIX))
        size = whole.get_piece_size() if data else 0
    except RuntimeError as error:
        raise ValueError(f"{path}: no SentencePiece model: {str(error).splitlines()[0]}") from None
    if not size:
        raise ValueError(f"{path}: no SentencePiece model: it has no pieces")
    names = [whole.id_to_piece(token) for token in range(size)]
    unknown = whole.unk_id()
    specials = {names[token]: token for token in range(size) if whole.is_control(token)} | special
    named = {token: name for name, token in specials.items()}
    bytes_of = {f"<0x{byte:02X}>": byte for byte in range(256)}
    found = {bytes_of[names[t]]: t for t in range(size) if whole.is_byte(t) and names[t] in bytes_of}

    def piece(token: int) -> bytes | None:
        if token in named:
            return named[token].encode()
        if not 0 <= token < size:
            return None
        return UNKNOWN_TEXT.encode() if token == unknown else replaced(names[token], [(SPACE, " ")], True)

    return Core(
        whole=whole.encode, inside=inside.encode, piece=piece, specials=specials, marks=specials,
        byte_ids=tuple(found[byte] for byte in range(256)) if len(found) == 256 else None,
        size=max(size, *(token + 1 for token in specials.values())), text_size=size, unknown=unknown,
    )  # fmt: skip


def begins_with(path: Path) -> tuple[int, ...]:
    """The model's BOS token, where it has one."""
    token = SentencePieceProcessor(model_file=str(path)).bos_id()
    return (token,) if token >= 0 else ()
