"""Joining the processes of a run, being told to stop, and leaving when something went wrong.

Slurm, Open MPI, Kubernetes (an indexed Job or a JobSet) and the metadata of a TPU say who the others are, and JAX reads
it. Anywhere else three variables do: JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import jax

from jaxsrl.clusters import listen
from jaxsrl.exit_codes import FAILED
from jaxsrl.processes import any_process

GRACE = 5.0  # seconds that a process which fails waits for the others to fail in the same way
SAID_AFTER = 15.0  # seconds of waiting for others until it is said, and then each time
LATER = 60  # seconds after this process has given up that JAX does, which would abort with native stacks
ASKED = "Are all started, do the variables agree, and is the port open?"
VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")


class ProcessError(RuntimeError):
    """The processes of a run do not find one another, or one is gone; the message names which and why."""


@dataclass(frozen=True, kw_only=True)
class Processes:
    """Which process this is, and of how many.

    Args:
      coordinator: HOST:PORT of the first process; None leaves all three to JAX's detection.
      count, index: how many there are, and this one's number.
      heartbeat: seconds after which a process that says nothing is taken for dead, and the others end.
      patience: seconds to wait for all of them at the start.
      bind: HOST:PORT that the first process listens on; None chooses, see `listen.py`.
    """

    coordinator: str | None = None
    count: int | None = None
    index: int | None = None
    heartbeat: int = 60
    patience: int = 300
    bind: str | None = None

    def __post_init__(self):
        if self.heartbeat < 1 or self.patience < 1:
            raise ValueError(
                f"heartbeat and patience must be >= 1 s, got heartbeat={self.heartbeat} patience={self.patience}"
            )
        given = [value is not None for value in (self.coordinator, self.count, self.index)]
        if any(given) and not all(given) and self.count != 1:
            raise ValueError(f"{', '.join(VARIABLES)} are given together, got {self.described()}")
        if all(given) and not 0 <= self.index < self.count:
            raise ValueError(f"JAX_PROCESS_ID must be in 0..JAX_NUM_PROCESSES-1, got {self.described()}")
        for name, address in ((VARIABLES[0], self.coordinator), (listen.VARIABLE, self.bind)):
            try:
                listen.split(address or "localhost:0")
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None

    def described(self) -> str:
        return " ".join(f"{n}={v}" for n, v in zip(VARIABLES, (self.coordinator, self.count, self.index), strict=True))

    @property
    def alone(self) -> bool:
        """Said to be the only one: nothing is looked for."""
        return self.count == 1


def from_environment(heartbeat: int, environment: Mapping[str, str] = os.environ) -> Processes:
    """The three variables and where to listen; a single task of Slurm is alone, so that it keeps its node's devices.

    Raises: ValueError naming the variable that is no number or is missing.
    """

    def number(name: str) -> int | None:
        value = environment.get(name)
        if value is not None and not value.isdigit():
            raise ValueError(f"{name} must be a number, got {value!r}")
        return None if value is None else int(value)

    coordinator, count, index = environment.get(VARIABLES[0]), number(VARIABLES[1]), number(VARIABLES[2])
    if count is None and coordinator is None and environment.get("SLURM_NTASKS") == "1":
        count = 1
    bind = environment.get(listen.VARIABLE)
    return Processes(coordinator=coordinator, count=count, index=index, heartbeat=heartbeat, bind=bind)


@contextmanager
def joined(processes: Processes) -> Iterator[None]:
    """The block runs as one of `processes`, or alone where there is nothing to join. Before any device is touched.

    Raises: ProcessError where the others do not come, or one is gone later; OSError where the first cannot listen.
    """
    with ExitStack() as held:
        if not processes.alone:
            if processes.coordinator and listen.on_loopback(processes.coordinator):
                held.enter_context(listen.collectives_on_loopback())
            _join(processes)
        with _losing():
            yield


@contextmanager
def _losing() -> Iterator[None]:
    """Says of an error which another process is the cause of that it is gone."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.distributed.is_initialized() and _speaks_of_peers(str(error)):
            raise ProcessError(
                f"process {jax.process_index()} of {jax.process_count()} lost another one, which was killed, failed or "
                f"is out of reach: {str(error).splitlines()[0]}. The same command goes on from the last checkpoint"
            ) from error
        raise


def _join(processes: Processes) -> None:
    # `told_to_stop` hears signals: JAX's service for them counts steps, but Orbax tells it the number of its saves.
    jax.config.update("jax_enable_preemption_service", False)
    bind = listen.bind_address(processes.coordinator, processes.bind) if processes.coordinator else processes.bind
    if processes.index == 0 and bind:
        listen.check_free(bind)
    try:
        with _waiting(processes):
            jax.distributed.initialize(
                processes.coordinator, processes.count, processes.index,
                cluster_detection_method="deactivate" if processes.coordinator else None,
                initialization_timeout=processes.patience + LATER, heartbeat_timeout_seconds=processes.heartbeat,
                coordinator_bind_address=bind,
            )  # fmt: skip
    except ValueError:
        if processes.coordinator:
            raise
        # JAX found no cluster that names a coordinator: this process is alone.
    except jax.errors.JaxRuntimeError as error:  # a RuntimeError
        raise ProcessError(f"the processes did not find one another ({processes.described()}): {error}") from error
    except RuntimeError as error:
        if processes.coordinator or "must be called before" not in str(error):
            raise
        # A caller in the same process has used devices already: it began alone, and stays so.
    if said := listen.described(bind):
        print(said, flush=True)


@contextmanager
def _waiting(processes: Processes) -> Iterator[None]:
    """Says whom this process waits for once that takes long, and again now and then; in the end it exits."""
    over, began = threading.Event(), time.monotonic()
    if processes.index == 0:
        whom = f"the other processes of {processes.count} to come to {processes.coordinator}"
    else:
        whom = f"the first process at {processes.coordinator or 'the address that the cluster names'}"

    def say() -> None:
        while not over.wait(min(SAID_AFTER, began + processes.patience - time.monotonic())):
            waited = time.monotonic() - began
            if waited >= processes.patience:  # native code holds the thread that could raise
                print(f"error: waited {waited:.0f} s for {whom}: {ASKED}", file=sys.stderr, flush=True)
                os._exit(FAILED)
            print(
                f"waiting for {whom}, for {waited:.0f} s of {processes.patience} s. {ASKED}",
                file=sys.stderr,
                flush=True,
            )

    thread = threading.Thread(target=say, name="waiting for processes", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _speaks_of_peers(text: str) -> bool:
    return any(word in text for word in ("Gloo", "NCCL", "Connection closed", "Connection reset", "heartbeat"))


@contextmanager
def told_to_stop() -> Iterator[Callable[[], bool]]:
    """Yields a question that all processes ask together: has any of them been sent SIGTERM?

    The first SIGTERM lets the work under way end; a second one ends the process at once.
    """
    told = threading.Event()

    def hear(*_) -> None:
        told.set()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    before = signal.signal(signal.SIGTERM, hear)
    try:
        yield lambda: any_process(told.is_set())
    finally:
        signal.signal(signal.SIGTERM, before)


def leave(code: int) -> None:
    """Ends a process of several that has failed; returns where it is alone.

    If every process failed, all shut down cleanly. Otherwise they would wait for each other: after a few seconds this
    one exits, and the others end with the error that it is gone.
    """
    if not jax.distributed.is_initialized():
        return
    parting = threading.Thread(target=jax.distributed.shutdown, daemon=True)
    parting.start()
    parting.join(GRACE)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
