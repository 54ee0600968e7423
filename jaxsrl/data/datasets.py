"""The files of the data folder that are demonstrations, with their fields and their splitter.

The folder is an argument; the command line fills it from a flag or from the variable `JAXSRL_DATA`.
"""

from pathlib import Path
from typing import Literal

from jaxsrl.data.actions import Splitter
from jaxsrl.data.demonstrations import Fields, Loaded, read


def gsm8k(
    data_dir: str | Path | None,
    *,
    part: Literal["train", "test"] = "train",
    annotations: Literal["keep", "drop", "thought"] = "drop",
    max_bad_share: float = 0.01,
) -> Loaded:
    """Grade-school problems, an action a line. The last action is `#### 42`, so it is never the target of a step."""
    names = {"train": "gsm8k/train.jsonl.gz", "test": "gsm8k/test_1119.jsonl"}
    if part not in names:
        raise ValueError(f"part must be one of {', '.join(names)}, got {part!r}")
    fields = Fields(problem="question", solution="answer", answer_mark="####")
    splitter = Splitter(style="lines", annotations=annotations)
    return read(find(data_dir, names[part]), fields, splitter, max_bad_share=max_bad_share)


def numina(
    data_dir: str | Path | None, *, preamble: Literal["join", "drop"] = "join", max_bad_share: float = 0.01
) -> Loaded:
    """AMC and AIME problems with numbered, titled solutions (NuminaMath). Some occur twice, solved differently."""
    fields = Fields(answer="answer", id="id")
    splitter = Splitter(style="numbered", preamble=preamble)
    return read(find(data_dir, "numina_amc_aime/train.jsonl.gz"), fields, splitter, max_bad_share=max_bad_share)


def openthoughts(
    data_dir: str | Path | None, *, preamble: Literal["join", "drop"] = "join", max_bad_share: float = 0.01
) -> Loaded:
    """Olympiad problems with numbered solutions (OpenThoughts), 84 rows."""
    fields = Fields(answer="answer", id="id")
    splitter = Splitter(style="numbered", preamble=preamble)
    return read(find(data_dir, "openthoughts_math/solutions.jsonl.gz"), fields, splitter, max_bad_share=max_bad_share)


def find(data_dir: str | Path | None, name: str) -> Path:
    """The file or folder `name` of the data folder.

    Raises: FileNotFoundError that says how to name the folder and what was expected in it.
    """
    how = "give the data folder by its flag or in the variable JAXSRL_DATA"
    if not data_dir:
        raise FileNotFoundError(f"no data folder: {how}; it should hold {name}")
    path = Path(data_dir) / name
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: {how}; it should hold {name}")
    return path
