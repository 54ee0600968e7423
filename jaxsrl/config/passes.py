"""What is measured over a whole set once: lengths, verdicts on keys, used ids, each stored by what it depends on.

A set that `jaxsrl data build` wrote has a folder `passes/`; `jaxsrl data build` fills it, a run reads it.
"""

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxsrl.config.check_lengths import longest_tokens, measured
from jaxsrl.config.overrides import to_dict
from jaxsrl.config.run import Config, Stage, TaskData
from jaxsrl.data.built import Stored
from jaxsrl.data.tokenizer import Tokenizer
from jaxsrl.rewards.answer import FinalAnswer
from jaxsrl.types import Demonstration

GRADED = 1024  # texts that are graded at once


def lengths(config: Config, stage: Stage, splits: TaskData, tokenizer: Tokenizer) -> np.ndarray | None:
    """[N, 2] int32: tokens of the longest prompt and path of each row of a stored split; None if never measured."""
    path = _lengths_path(config, stage, splits, tokenizer)
    if path is None or not path.exists():
        return None
    found = np.load(path)
    return found[splits.train.places] if isinstance(splits.train, Stored) else None


def kept_ids(splits: TaskData, tokenizer: Tokenizer) -> np.ndarray | None:
    """Ids that occur in the training split, sorted; None if they were never collected."""
    path = _ids_path(splits, tokenizer)
    return np.load(path) if path is not None and path.exists() else None


def write_passes(config: Config, stage: Stage, splits: TaskData, tokenizer: Tokenizer) -> Iterator[str]:
    """Takes the passes that are missing, over all rows of the training split; yields what each did.

    The tokenizer is the folder's own, before `used_ids_only` cuts it down.
    """
    path = _lengths_path(config, stage, splits, tokenizer)
    assert path is not None, "only a set that was built has passes"
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
        found = measured(lambda d: longest_tokens(config, stage, d, tokenizer), splits.train)
        _save(path, np.asarray(found, np.int32).reshape(-1, 2))
        yield f"lengths: {len(found)} rows, the longest prompt has {max(p for p, _ in found)} tokens"
    path = _ids_path(splits, tokenizer)
    if not path.exists():
        kept: set[int] = set()
        for demonstration in splits.train:
            kept.update(token for text in texts(demonstration) for token in tokenizer.encode(text, first=False))
        _save(path, np.array(sorted(kept), np.int32))
        yield f"used ids: {len(kept)} of {tokenizer.vocab_size}"
    if isinstance(splits.reward, FinalAnswer) and splits.reward.verify is None:
        path = splits.passes / f"verdicts-{_hash(splits, to_dict(splits.reward))}.json"
        if not path.exists():
            _write(path, json.dumps(disagreements(splits.reward, splits.train), ensure_ascii=False, indent=1).encode())
        yield f"keys: the grader disagrees with {len(json.loads(path.read_text(encoding='utf-8')))} rows, see {path}"


def texts(d: Demonstration) -> Iterator[str]:
    """Every text that a demonstration puts into a prompt or a target."""
    return filter(None, (d.problem, *d.actions, *(d.thoughts or ()), *(d.observations or ())))


def disagreements(reward: FinalAnswer, demonstrations: Sequence[Demonstration]) -> list[str]:
    """Rows with a key whose own solution the grader does not find right: its answer, and the key."""
    out: list[str] = []
    for start in range(0, len(demonstrations), GRADED):
        part = [d for d in demonstrations[start : start + GRADED] if d.answer is not None]
        found = [reward.answer_in("\n".join(d.actions)) for d in part]
        pairs = [(text, d.answer) for text, d in zip(found, part, strict=True) if text is not None]
        same = iter(reward.same(pairs))
        for text, d in zip(found, part, strict=True):
            if text is None or not next(same):
                said = "has no answer that it finds" if text is None else f"answers {text!r}"
                out.append(f"{d.source or d.problem_id}: the expert {said}, the key is {d.answer!r}")
    return out


def _lengths_path(config: Config, stage: Stage, splits: TaskData, tokenizer: Tokenizer) -> Path | None:
    if splits.passes is None:
        return None
    asked = {
        "tokenizer": _of(tokenizer), "template": to_dict(config.template), "objective": to_dict(stage.objective),
        "completion": stage.sampling.max_new_tokens,
    }  # fmt: skip
    return splits.passes / f"lengths-{_hash(splits, asked)}.npy"


def _ids_path(splits: TaskData, tokenizer: Tokenizer) -> Path | None:
    return None if splits.passes is None else splits.passes / f"ids-{_hash(splits, _of(tokenizer))}.npy"


def _of(tokenizer: Tokenizer) -> str:
    """What a tokenizer is: what its ids spell, and how some text is cut into them."""
    spelled = b"\0".join(tokenizer.token_bytes(token) for token in range(tokenizer.vocab_size))
    probe = tokenizer.encode("The 3 roots of $x^3-2x=0$\n\nare: déjà, 漢字.")
    return hashlib.sha256(spelled + json.dumps([tokenizer.name, tokenizer.vocab_size, probe]).encode()).hexdigest()


def _hash(splits: TaskData, asked: Any) -> str:
    """Of the data and of what was asked of them."""
    files: Mapping[str, str] = splits.files
    told = json.dumps([sorted(files.values()), asked], sort_keys=True, default=str)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _save(path: Path, found: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.save(buffer, found)
    _write(path, buffer.getvalue())


def _write(path: Path, data: bytes) -> None:
    """A file that is there whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(data)
    temporary.replace(path)
