"""On which addresses processes listen. What a launch of real ones opens is in tests/launch/test_scripts.py."""

import os
import re
import socket
from contextlib import closing
from pathlib import Path

import jax
import pytest
from jax._src.lib import _jax

from jaxsrl.__main__ import main
from jaxsrl.clusters import listen, start
from jaxsrl.clusters.start import Processes, from_environment, joined
from tests.listening import listening, on_loopback

ROOT = Path(__file__).parents[2]
PROC = pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads /proc")


@PROC
@pytest.mark.parametrize("family, host, local", [
    (socket.AF_INET, "127.0.0.1", True), (socket.AF_INET, "0.0.0.0", False), (socket.AF_INET6, "::1", True),
    (socket.AF_INET6, "::", False), (socket.AF_INET6, "::ffff:127.0.0.1", True),
])  # fmt: skip
def test_what_listens_is_found(family, host, local):
    """The control of the tests that find nothing."""
    with socket.socket(family) as opened:
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        opened.bind((host, 0))
        assert opened.getsockname()[1] not in [port for _, port in listening([os.getpid()])]
        opened.listen()
        (found,) = (x for x in listening([os.getpid()]) if x[1] == opened.getsockname()[1])
        assert on_loopback(found[0]) == local and listening([os.getppid()]).isdisjoint({found})


@pytest.mark.parametrize("coordinator, given, bind", [
    ("127.0.0.1:8476", None, "127.0.0.1:8476"), ("localhost:8476", None, "localhost:8476"),
    ("[::1]:8476", None, "[::1]:8476"), ("10.0.0.2:8476", None, "[::]:8476"), ("one:8476", None, "[::]:8476"),
    ("one:8476", "10.0.0.2:8476", "10.0.0.2:8476"), ("127.0.0.1:8476", "0.0.0.0:8476", "0.0.0.0:8476"),
])  # fmt: skip
def test_jax_is_told_where_to_listen(coordinator, given, bind, monkeypatch):
    """Both the coordinator, and what CPUs send each other their parts by, which has no other setting."""
    asked, made = [], _jax.make_gloo_tcp_collectives
    monkeypatch.setattr(jax.distributed, "initialize", lambda *_, **options: asked.append(options))
    monkeypatch.setattr(listen, "check_free", lambda address: asked.append(address))
    variables = dict(zip(start.VARIABLES, (coordinator, "2", "0"), strict=True))
    with joined(from_environment(60, variables | ({listen.VARIABLE: given} if given else {}))):
        now = _jax.make_gloo_tcp_collectives
    assert asked[0] == bind and asked[1]["coordinator_bind_address"] == bind
    local = listen.on_loopback(coordinator)
    assert (now.keywords == {"hostname": "127.0.0.1"} and now.func is made) if local else now is made
    assert _jax.make_gloo_tcp_collectives is made


def test_what_listens_is_said(monkeypatch):
    class State:
        service, coordinator_address = None, "one:8476"

    monkeypatch.setattr(listen, "global_state", State)
    assert listen.described("[::]:8476") is None  # another process has the port
    monkeypatch.setattr(State, "service", object())
    assert listen.described("127.0.0.1:8476") == "listening for the other processes on 127.0.0.1:8476"
    for bind in ("[::]:8476", "0.0.0.0:8476", None):  # None: JAX found the cluster by itself
        said = listen.described(bind)
        assert "port 8476 of every address" in said and f"{listen.VARIABLE}=HOST:PORT" in said


def test_a_port_that_is_taken_is_said_and_no_signal(monkeypatch, capsys):
    """JAX's coordinator ends with SIGSEGV there. Another port may be free the next time: the code is not that of a
    wrong config."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for name, value in zip(start.VARIABLES, (address, "2", "0"), strict=True):
            monkeypatch.setenv(name, value)
        assert main(["train", str(ROOT / "tests" / "tiny_config.py")]) == 1
        said = capsys.readouterr().err
    assert re.search(rf"error: the first process cannot listen on {address}: .* in use", said), said
    assert not jax.distributed.is_initialized()
    listen.check_free(address)  # it is free now
    listen.check_free(f"[::]:{address.rpartition(':')[2]}")


def test_an_address_of_another_machine_is_said():
    with pytest.raises(OSError, match=f"cannot listen on 192.0.2.77:0: .*of this machine in {listen.VARIABLE}"):
        listen.check_free("192.0.2.77:0")
    with pytest.raises(OSError, match="cannot listen on no-such-host.invalid:0"):
        listen.check_free("no-such-host.invalid:0")


@pytest.mark.parametrize("variable, value", [(start.VARIABLES[0], "one"), (listen.VARIABLE, "10.0.0.2"),
                                             (listen.VARIABLE, ":8476"), (listen.VARIABLE, "one:port")])  # fmt: skip
def test_an_address_is_a_host_and_a_port(variable, value):
    given = {start.VARIABLES[0]: "one:8476", start.VARIABLES[1]: "2", start.VARIABLES[2]: "1", variable: value}
    with pytest.raises(ValueError, match=f"{variable}: write HOST:PORT, as .*, got '{value}'"):
        from_environment(60, given)
    assert Processes(count=1).bind is None
