"""What the processes of a run say to one another. All run the same program; the first alone prints and writes.

With one process nothing here communicates. With several, every function but `is_first` is to be called by all of them,
in the same order: they meet in it.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental.multihost_utils import process_allgather
from jaxtyping import Float

T = TypeVar("T")
ROOM = 256  # bytes of the smallest message; rooms are powers of two, so that few programs are compiled
_seen: ContextVar[list[int] | None] = ContextVar("seen", default=None)
_hear: ContextVar[Callable[[Any], None] | None] = ContextVar("hear", default=None)


class Stopped(Exception):
    """The run was told to stop; once it leaves `train`, it has saved where it stands."""


def is_first() -> bool:
    """Whether this process is the one that prints and writes."""
    return jax.process_index() == 0


def fetch(tree: Any) -> Any:
    """Arrays that lie on devices of all processes as whole host arrays, in every process.

    A step waits for its devices here and nowhere else.
    """
    if (seen := _seen.get()) is not None:
        seen.append(sum(x.nbytes for x in jax.tree.leaves(tree) if isinstance(x, jax.Array)))
    here = lambda x: not isinstance(x, jax.Array) or x.is_fully_addressable or x.is_fully_replicated
    if all(map(here, jax.tree.leaves(tree))):
        return jax.device_get(tree)
    return jax.tree.map(lambda x: jax.device_get(x) if here(x) else _all(x, tiled=True), tree)


@contextmanager
def counting() -> Iterator[list[int]]:
    """Yields a list to which each `fetch` within adds the bytes that it brought."""
    token = _seen.set([])
    try:
        yield _seen.get()
    finally:
        _seen.reset(token)


def add_up(values: Float[np.ndarray, "*N"]) -> Float[np.ndarray, "*N"]:
    """The sum over all processes, float64; shapes must be equal."""
    return np.sum(from_all(values), axis=0)


def from_all(values: Float[np.ndarray, "*N"]) -> Float[np.ndarray, "S *N"]:
    """Those of every process, float64, in their order; shapes must be equal."""
    values = np.asarray(values, np.float64, order="C")
    if jax.process_count() == 1 or not values.size:
        return np.broadcast_to(values, (jax.process_count(), *values.shape))
    # As words: without 64-bit numbers switched on, a message would be rounded to float32.
    words = _all(values.reshape(-1).view(np.uint32))
    return np.ascontiguousarray(words).view(np.float64).reshape(len(words), *values.shape)


def gather(value: Any) -> list[Any]:
    """A JSON value of each process, in their order."""
    if jax.process_count() == 1:
        return [value]
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = _all(np.array([len(text)], np.int32))[:, 0]
    padded = np.zeros(max(ROOM, 1 << int(sizes.max() - 1).bit_length()), np.uint8)
    padded[: len(text)] = text
    rows = _all(padded)
    return [json.loads(row[:size].tobytes()) for row, size in zip(rows, sizes, strict=True)]


def any_process(flag: bool) -> bool:
    """Whether it is set in any process."""
    if jax.process_count() == 1:
        return flag
    return bool(_all(np.array([flag], np.int32)).any())


def _all(values: Any, *, tiled: bool = False) -> Any:
    """What each process has: the one way on which values of the host cross. Text alone goes as uint8."""
    if (hear := _hear.get()) is not None:
        hear(values)
    return process_allgather(values, tiled=tiled)


@contextmanager
def hearing(hear: Callable[[Any], None]) -> Iterator[None]:
    """Within it, `hear` is told of every message of this process."""
    token = _hear.set(hear)
    try:
        yield
    finally:
        _hear.reset(token)


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


def broadcast_from_first(make: Callable[[], T]) -> T:
    """What `make` returns in the first process, a JSON value; it is called there alone. Raises as `from_each` does."""
    return from_each(lambda: make() if is_first() else None)[0]
