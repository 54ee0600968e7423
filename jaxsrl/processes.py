"""What the processes of a run say to one another. All run the same program; the first alone prints and writes.

With one process nothing here communicates. With several, every function but `is_first` is to be called by all of them,
in the same order: they meet in it.
"""

import json
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental.multihost_utils import process_allgather

T = TypeVar("T")
ROOM = 256  # bytes of the smallest message; rooms are powers of two, so that few programs are compiled


class Stopped(Exception):
    """The run was told to stop; once it leaves `train`, it has saved where it stands."""


def is_first() -> bool:
    """Whether this process is the one that prints and writes."""
    return jax.process_index() == 0


def fetch(tree: Any) -> Any:
    """Arrays that lie on devices of all processes as whole host arrays, in every process."""
    here = lambda x: not isinstance(x, jax.Array) or x.is_fully_addressable or x.is_fully_replicated
    if all(map(here, jax.tree.leaves(tree))):
        return jax.device_get(tree)
    return jax.tree.map(lambda x: jax.device_get(x) if here(x) else process_allgather(x, tiled=True), tree)


def gather(value: Any) -> list[Any]:
    """A JSON value of each process, in their order."""
    if jax.process_count() == 1:
        return [value]
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = process_allgather(np.array([len(text)], np.int32))[:, 0]
    padded = np.zeros(max(ROOM, 1 << int(sizes.max() - 1).bit_length()), np.uint8)
    padded[: len(text)] = text
    rows = process_allgather(padded)
    return [json.loads(row[:size].tobytes()) for row, size in zip(rows, sizes, strict=True)]


def anywhere(flag: bool) -> bool:
    """Whether it is set in any process."""
    if jax.process_count() == 1:
        return flag
    return bool(process_allgather(np.array([flag], np.int32)).any())


def from_each(make: Callable[[], T]) -> list[T]:
    """What `make` returns in each process, a JSON value, in their order.

    Raises: where `make` raised, its error; elsewhere ValueError or RuntimeError with its words: all end with one code.
    """
    if jax.process_count() == 1:
        return [make()]
    raised = None
    try:
        said = {"value": make()}
    except Exception as error:
        raised, wrong = error, isinstance(error, ValueError | FileNotFoundError)
        said = {"error": str(error), "wrong": wrong}
    told = gather(said)
    if raised is not None:
        raise raised
    for said in told:
        if "error" in said:
            raise (ValueError if said["wrong"] else RuntimeError)(said["error"])
    return [said["value"] for said in told]


def from_first(make: Callable[[], T]) -> T:
    """What `make` returns in the first process, a JSON value; it is called there alone. Raises as `from_each` does."""
    return from_each(lambda: make() if is_first() else None)[0]
