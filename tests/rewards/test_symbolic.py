"""math-verify in workers: what it decides, and what no text can do to the run."""

import importlib.util
import os
import re
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from jaxsrl import descendants
from jaxsrl.descendants import stacks_of_descendants
from jaxsrl.rewards import symbolic
from jaxsrl.rewards.answer import FinalAnswer
from jaxsrl.rewards.symbolic import Symbolic

from .test_answer import demonstration, rollouts

HERE = pytest.mark.needs("math_verify")
SETTINGS = dict(deadline=1.0, workers=2)
BOMBS = [
    "10^{10^{10}}", "9^{9^{9^{9}}}", "(1+x)^{100000}", "(1000000)!", r"\prod_{k=1}^{10^8} k", "2^{2^{2^{2^{2^2}}}}",
    "x^{" * 60 + "x" + "}" * 60, r"\frac{1}{10^{10^{9}}}",
]  # fmt: skip


def test_without_the_package_the_setting_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(symbolic, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install"):
        FinalAnswer(symbolic=Symbolic())
    with pytest.raises(ValueError, match="deadline"):
        Symbolic(deadline=0)


@HERE
def test_algebra_is_decided():
    reward = FinalAnswer(symbolic=Symbolic(**SETTINGS))
    same = [
        (r"\log_2 8", "3"),
        (r"\sin^2 x+\cos^2 x", "1"),
        (r"\sqrt{3+2\sqrt{2}}", r"1+\sqrt2"),
        (r"2\sin x\cos x", r"\sin 2x"),
    ]
    different = [(r"\log_2 9", "3"), (r"\sin x", r"\cos x"), ("e^{-50}", "e^{-60}"), (r"\ln 2", "0.693147")]
    assert reward.same(same) == [True] * 4 and reward.same(different) == [False] * 4
    assert FinalAnswer().same(same) == [False] * 4


def burnt(pid: int) -> float:
    """Seconds of processor time of a process's children that have ended."""
    numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(numbers[13]) + int(numbers[14])) / os.sysconf("SC_CLK_TCK")


@HERE
def test_bombs_cost_their_deadline_and_change_no_other_score():
    settings = Symbolic(deadline=0.4, workers=2)
    plain = [(r"\log_2 8", "3"), (r"\sin x", r"\cos x"), (r"\ln e", "1"), (r"\cos 0", "0")] * 10
    want = settings.compare(plain)
    assert want == [True, False, True, False] * 10
    bombs = [(bomb, r"x+\log 3") for bomb in BOMBS]
    mixed = [pair for pairs in zip(plain, bombs, strict=False) for pair in pairs] + plain[len(bombs) :]
    server = symbolic._server(settings).process.pid
    before = burnt(server)
    got = settings.compare(mixed)
    # Time of processors is promised; the clock of a busy machine is not. A worker that is ended did others before.
    assert 0 < burnt(server) - before <= 2 * settings.deadline * len(bombs)
    assert [v for pair, v in zip(mixed, got, strict=True) if pair not in bombs] == want
    assert [v for pair, v in zip(mixed, got, strict=True) if pair in bombs] == [None] * len(bombs)


@HERE
def test_a_timeout_is_wrong_and_counted():
    reward = FinalAnswer(symbolic=Symbolic(**SETTINGS))
    keys = [demonstration(r"\log 3"), demonstration(r"\log 3")]
    rewards = reward(rollouts(r"\boxed{9^{9^{9^{9}}}}", r"\boxed{\log 3}", r"\boxed{\log 4}", "none"), keys)
    assert rewards.reward.tolist() == [0, 1, 0, 0]
    assert rewards.metrics["reward/timeout_share"] == 0.25
    assert rewards.settings["symbolic"]["deadline"] == 1.0


@HERE
def test_a_worker_that_eats_memory_or_is_recycled_loses_no_score():
    settings = Symbolic(deadline=5.0, memory_mb=64, workers=1, recycle=2)
    pairs = [(r"\log_2 8", "3"), ("(" * 200 + "x" + ")" * 200 + "^{3}", "1"), *[(r"\ln e", "1")] * 5]
    got = settings.compare(pairs)
    assert got[0] is True and got[2:] == [True] * 5 and got[1] in (False, None)


@HERE
def test_nothing_is_executed(tmp_path):
    """200 payloads in forms that sympy's and Python's readers of text would run; each would leave a file."""
    sign = tmp_path / "executed"
    code = [
        f"__import__('os').system('touch {sign}')", f"open('{sign}','w').write('x')", f"exec('open(\"{sign}\",\"w\")')",
        f"[c for c in ().__class__.__base__.__subclasses__()] or open('{sign}','w')",
        f"__import__('pathlib').Path('{sign}').touch()",
    ]  # fmt: skip
    wraps = [
        "{}", r"\text{{{}}}", r"\mathrm{{{}}}", r"\operatorname{{{}}}(1)", "x+{}", r"\frac{{{}}}{{2}}", r"\sqrt{{{}}}",
        r"\{{{}\}}", "({},1)",
        r"\log({})", "x_{{{}}}", "1e{}", "0.{}", "{}=5", r"\begin{{pmatrix}}{}\end{{pmatrix}}", "[{},2)", "2^{{{}}}",
        r"\sin({})", "eval({})",
        r"\int {} dx",
    ]  # fmt: skip
    payloads = [wrap.format(text) for wrap in wraps for text in code]
    reward = FinalAnswer(symbolic=Symbolic(deadline=2.0, workers=2))
    pairs = [(payload, "x+1") for payload in payloads] + [("x+1", payload) for payload in payloads]
    assert len(pairs) == 200
    assert not any(reward.same(pairs))
    settings = Symbolic(deadline=2.0, workers=2)  # and without the cheap path before it
    assert not any(settings.compare(pairs)) and not sign.exists()


@HERE
def test_a_worker_refuses_to_reach_out():
    spec = importlib.util.spec_from_file_location("server", symbolic.SERVER)
    server = importlib.util.module_from_spec(spec)
    sys.modules["server"] = server  # a dataclass looks its module up
    spec.loader.exec_module(server)
    for event, arguments in [
        ("os.system", ("x",)), ("subprocess.Popen", ()), ("socket.connect", ()), ("open", ("f", "w", 0)),
        ("open", ("f", None, os.O_WRONLY)), ("os.remove", ("f",)),
    ]:  # fmt: skip
        with pytest.raises(PermissionError):
            server.refuse(event, arguments)
    server.refuse("open", ("f", "r", 0))
    with pytest.raises(ValueError, match="only numbers"):
        server.number("__import__('os')")
    assert str(server.number("12")) == "12" and np.isclose(float(server.number("0.5")), 0.5)


@HERE
def test_a_server_that_was_killed_is_started_again():
    settings = Symbolic(deadline=1.5, workers=1)
    assert settings.compare([(r"\ln e", "1")]) == [True]
    server = symbolic._server(settings)
    server.process.kill()
    server.process.wait()
    assert settings.compare([(r"\ln e", "1")]) == [True]


@HERE
def test_a_server_whose_worker_is_stuck_says_where_both_are(monkeypatch):
    """As the log of a run that hangs has it: `compare` waits for the server, the server for its worker."""
    monkeypatch.setattr(descendants, "PATIENCE", 100.0)  # servers of other tests are asked before
    settings = Symbolic(deadline=20.0, workers=1)
    assert settings.compare([(r"\ln e", "1")]) == [True]
    server = symbolic._server(settings).process.pid
    said = lambda: [text for text in stacks_of_descendants() if re.match(rf"--- process .*\b{server}[ ,]", text)]
    own, its = said()  # the server and its worker, the parent first
    assert f"process {server} below {os.getpid()}," in own and "in work" in its
    worker = int(its.split()[2])
    os.kill(worker, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(settings.compare, [(r"\log_2 8", "3")])
        end = time.monotonic() + 150  # less than the server's patience with its worker
        while "in compare" not in (text := said()[0]):
            assert time.monotonic() < end, text
        os.kill(worker, signal.SIGCONT)
        assert waiting.result() == [True]
