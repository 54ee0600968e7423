"""Objects under an address such as `gs://bucket/folder`, read and written by TensorStore."""

import os
import re
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, TypeVar

import tensorstore

T = TypeVar("T")
PATIENCE = 30.0  # seconds that a request may take, and one more for each MB: half of a lease
RETRIES = {"max_retries": 5, "initial_delay": "500ms", "max_delay": "8s"}  # of one request, by TensorStore
THREADS = 8  # requests at a time
PART = 2**25  # bytes of the largest object that is written, and of the largest range that is read
ADDRESS = re.compile(r"gs:/{1,2}([a-z0-9][a-z0-9._-]*)/?(.*)")  # a Path has swallowed the second slash


class StoreError(RuntimeError):
    """The store did not do what was asked; the message names it and the fix."""


class NoAccess(StoreError):
    """It does not know who asks, or does not let them."""


class Halted(StoreError):
    """It was told to stop before it was done."""


class NoBucket(StoreError, FileNotFoundError):
    """There is no such bucket."""


def is_stored(path: str | PurePath | None) -> bool:
    """Whether a path is an address of a store."""
    return path is not None and bool(ADDRESS.fullmatch(str(path)))


def parts_of(path: str | PurePath) -> tuple[str, str]:
    """Bucket, and the path in it without slashes at its ends. Raises: ValueError where it is no address."""
    found = ADDRESS.fullmatch(str(path))
    if found is None or ".." in found[2].split("/"):
        raise ValueError(f"{path} is no address of a store: gs://BUCKET/FOLDER")
    return found[1], "/".join(filter(None, found[2].split("/")))


def cache_folder() -> Path:
    """Where copies are kept: the variable JAXSRL_CACHE, by default `~/.cache/jaxsrl`."""
    named = os.environ.get("JAXSRL_CACHE")
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(named) if named else Path(home) / "jaxsrl"


@dataclass(frozen=True)
class Objects:
    """The objects whose names begin with an address."""

    address: str  # gs://bucket/folder
    store: Any  # tensorstore.KvStore

    @staticmethod
    def at(path: str | PurePath) -> "Objects":
        """Opens an address; nothing is asked of the store yet."""
        bucket, folder = parts_of(path)
        address = f"gs://{bucket}/{folder}".rstrip("/")
        spec = {"driver": "gcs", "bucket": bucket, "path": f"{folder}/" if folder else ""}
        context = tensorstore.Context({"gcs_request_retries": RETRIES})
        return Objects(address, _asked(address, lambda: tensorstore.KvStore.open(spec, context=context), PATIENCE))

    def read(self, name: str, unless: bytes | None = None) -> tuple[bytes | None, bytes]:
        """An object's bytes, None where there is none, and its generation, which changes with each write.

        Args:
          unless: a generation that is known already: if it is still that, the bytes are empty.
        """
        found = self._ask(lambda: self.store.read(name, if_not_equal=unless))
        return None if found.state == "missing" else found.value, found.stamp.generation

    def read_range(self, name: str, first: int, end: int | None) -> tuple[bytes | None, bytes]:
        """As `read`, of the bytes from `first` to `end`, or to the last; None where there are not so many."""
        try:
            size = PART if end is None else end - first
            found = self._ask(lambda: self.store.read(name, byte_range=slice(first, end)), size)
        except StoreError as error:
            if "OUT_OF_RANGE" in str(error):
                return None, b""
            raise
        return None if found.state == "missing" else found.value, found.stamp.generation

    def write(self, name: str, data: bytes) -> None:
        self._ask(lambda: self.store.write(name, data), len(data))

    def swap(self, name: str, data: bytes, generation: bytes) -> bytes | None:
        """Writes an object that is still of a generation. Returns the new one; None where another was there.

        What is written is to be like nothing else: then an answer that was lost is told from a write that was.
        """
        made = self._ask(lambda: self.store.write(name, data, if_equal=generation), len(data)).generation
        if made:
            return made
        there, generation = self.read(name)
        return generation if there == data else None

    def names(self) -> list[str]:
        """Of all objects. One who may not list them is told of none."""
        return sorted(name.decode() for name in self._ask(self.store.list))

    def remove(self, names: Iterable[str]) -> None:
        each(lambda name: self._ask(lambda: self.store.write(name, None)), names)

    def _ask(self, what: Callable[[], Any], size: int = 0) -> Any:
        return _asked(self.address, what, PATIENCE + size / 1e6)


def each(what: Callable[[Any], T], values: Iterable[Any], halted: Callable[[], bool] = lambda: False) -> list[T]:
    """What a function returns for each value, several at a time; after an error no other is begun.

    Raises: Halted where it was told to; what the function raised.
    """
    failed = threading.Event()

    def one(value: Any) -> T:
        if failed.is_set() or halted():
            raise Halted("told to stop")
        try:
            return what(value)
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(THREADS, "store") as pool:
        asked = [pool.submit(one, value) for value in values]
    errors = [error for future in asked if (error := future.exception()) is not None]
    if errors:
        raise next((error for error in errors if not isinstance(error, Halted)), errors[0])
    return [future.result() for future in asked]


def _asked(address: str, what: Callable[[], Any], patience: float) -> Any:
    """Waits for an answer. Raises: StoreError in words of what can be done about it."""
    try:
        return what().result(timeout=patience)
    except TimeoutError as error:
        raise StoreError(f"{address} has not answered for {patience:.0f} s") from error
    except (ValueError, OSError, RuntimeError) as error:  # TensorStore's are of any of these kinds
        text = " ".join(str(error).split())
    if "PERMISSION_DENIED" in text or "UNAUTHENTICATED" in text:
        raise NoAccess(
            f"{address} is not open to this account ({text[:150]}). On a VM give its service account the role "
            "storage.objectAdmin and the scope cloud-platform; elsewhere run `gcloud auth application-default login`, "
            "or name a key's file in GOOGLE_APPLICATION_CREDENTIALS"
        )
    if "NOT_FOUND" in text:
        raise NoBucket(f"{address}: there is no such bucket: `gcloud storage buckets create` makes one")
    raise StoreError(f"{address} does not answer: {text[:200]}")
