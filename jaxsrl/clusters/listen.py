"""On which addresses the processes of a run listen for one another.

JAX's coordinator takes every address of its machine, and XLA's collectives between CPUs the address that the machine's
name has. Neither asks who comes, nor encrypts (jax 0.10.2). Where all processes are on one machine, both take loopback.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from jax._src.distributed import global_state
from jax._src.lib import _jax

VARIABLE = "JAX_COORDINATOR_BIND_ADDRESS"
EVERYWHERE = "::"


def split(address: str) -> tuple[str, int]:
    """Host and port. Raises: ValueError where it is no HOST:PORT."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"write HOST:PORT, as 10.0.0.2:8476, got {address!r}")
    return host.strip("[]"), int(port)


def on_loopback(address: str) -> bool:
    host, _ = split(address)
    return host in ("localhost", "::1") or host.startswith("127.")


def bind_address(coordinator: str, given: str | None) -> str:
    """Where the first process is to listen: as told, on loopback where others look for it there, else everywhere."""
    return given or (coordinator if on_loopback(coordinator) else f"[{EVERYWHERE}]:{split(coordinator)[1]}")


def check_free(address: str) -> None:
    """Raises: OSError where nothing can listen there. JAX's coordinator (0.10.2) would die of a signal."""
    host, port = split(address)
    try:
        found = socket.getaddrinfo(None if host == EVERYWHERE else host, port, type=socket.SOCK_STREAM,
                                   flags=socket.AI_PASSIVE)  # fmt: skip
    except socket.gaierror as error:
        raise OSError(_refused(address, error)) from error
    errors = []
    for family, kind, _, _, where in found:
        try:
            with socket.socket(family, kind) as tried:
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                tried.bind(where)
                return
        except OSError as error:  # a machine may be without IPv6
            errors.append(error)
    raise OSError(_refused(address, errors[0])) from errors[0]


def _refused(address: str, error: OSError) -> str:
    return (
        f"the first process cannot listen on {address}: {error.strerror}. Take another port in "
        f"JAX_COORDINATOR_ADDRESS, or an address of this machine in {VARIABLE}"
    )


@contextmanager
def collectives_on_loopback() -> Iterator[None]:
    """Within it, collectives between CPUs that are made listen on loopback alone; JAX has no setting for it."""
    made = _jax.make_gloo_tcp_collectives
    _jax.make_gloo_tcp_collectives = partial(made, hostname="127.0.0.1")
    try:
        yield
    finally:
        _jax.make_gloo_tcp_collectives = made


def described(bind: str | None) -> str | None:
    """What a person should know of the port that this process has opened for the others; None where it has none.

    Args:
      bind: where it listens; None where JAX found the cluster itself, and listens everywhere.
    """
    if global_state.service is None:
        return None
    bind = bind or f"[{EVERYWHERE}]:{split(global_state.coordinator_address)[1]}"
    host, port = split(bind)
    if host not in (EVERYWHERE, "0.0.0.0"):
        return f"listening for the other processes on {bind}"
    return (
        f"listening for the other processes on port {port} of every address of this machine, and whoever reaches it is "
        f"let in: keep it within a private network, or set {VARIABLE}=HOST:PORT"
    )
