"""Compares pairs of LaTeX texts with math-verify. A program of its own, which `symbolic.py` starts and speaks with.

It imports sympy once, has no thread and never sees jax, so that it may fork: every worker is a copy of the warm server.
The kernel ends a worker that has used its processor time on a pair, in the midst of whatever it computes, and refuses
memory beyond the limit; the server then forks the next. Workers refuse to write files, to start programs and to open
connections, and sympy's way to evaluate text as Python is shut.

One line of JSON each way: {"pairs": [[found, key], …]} -> [verdict, …], `true`, `false`, "time", "memory" or "died".
Where it stands, it and each worker write to the pipe JAXSRL_STACKS when they are sent SIGUSR1.
Settings are the first argument: {"deadline": seconds, "memory": bytes, "workers": n, "recycle": pairs}.
"""

import faulthandler
import gc
import json
import logging
import os
import re
import resource
import selectors
import signal
import socket
import sys
import time
from dataclasses import dataclass, field

PATIENCE = 10.0  # of the wall clock: a worker that does not even compute is ended after so many deadlines, and 5 s
REFUSED = (
    "os.", "subprocess.", "socket.", "shutil.", "ctypes.", "pty.", "ftplib.", "urllib.", "webbrowser.", "tempfile.",
    "pickle.",
)  # fmt: skip
ALLOWED = ("os.listdir", "os.scandir")  # what an import asks
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
WARM = (  # pairs that bring in what sympy imports late, and fill the tables of its parser
    ("1", "\\frac{2}{2}"), ("\\log_2 8", "3"), ("2\\sin x\\cos x", "\\sin 2x"), ("x \\ge 2", "[2,\\infty)"),
    ("x=1", "2x=2"), ("\\{1,2\\}", "1,2"),
    ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\begin{pmatrix}x\\\\2\\end{pmatrix}"),
    ("(-1,0)\\cup(1,2]", "(1,2]\\cup(-1,0)"), ("\\sqrt{3+2\\sqrt{2}}", "1+\\sqrt{2}"), ("e^{i\\pi}", "-1"),
)  # fmt: skip


@dataclass
class Worker:
    pid: int
    link: socket.socket
    job: int | None = None  # index of the pair it works on
    begun: float = 0.0
    done: int = 0
    said: bytes = b""


@dataclass
class Crew:
    """The workers of a server, and the settings they are made by."""

    settings: dict
    workers: list[Worker] = field(default_factory=list)

    def hire(self) -> Worker:
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if not pid:
            ours.close()
            for other in self.workers:
                other.link.close()
            os._exit(work(theirs, self.settings))
        theirs.close()
        worker = Worker(pid, ours)
        self.workers.append(worker)
        return worker

    def end(self, worker: Worker) -> int:
        """Its exit status as the system gives it."""
        worker.link.close()
        self.workers.remove(worker)
        os.kill(worker.pid, signal.SIGKILL)
        return os.waitpid(worker.pid, 0)[1]


def main() -> None:
    logging.disable(logging.CRITICAL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.register(signal.SIGUSR1, file=int(os.environ["JAXSRL_STACKS"]))  # and of every worker, a fork of this
    crew = Crew(json.loads(sys.argv[1]))
    warm()
    gc.collect()
    gc.freeze()  # the workers' collectors leave shared pages alone
    print("ready", flush=True)
    try:
        for line in iter(sys.stdin.readline, ""):
            print(json.dumps(compare(crew, json.loads(line)["pairs"])), flush=True)
    finally:
        for worker in list(crew.workers):
            crew.end(worker)


def warm() -> None:
    """Imports everything, then shuts the way on which sympy evaluates text as Python: its own modules take it too."""
    import sympy.parsing.sympy_parser as python_text
    import sympy.physics.units  # noqa: F401  simplify() imports it late

    for pair in WARM:
        same(*pair)
    python_text.parse_expr = number  # sympify(text) ends in it
    sys.dont_write_bytecode = True


def compare(crew: Crew, pairs: list[list[str]]) -> list:
    verdicts: list = [None] * len(pairs)
    waiting = list(range(len(pairs)))[::-1]
    limit = PATIENCE * crew.settings["deadline"] + 5.0
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin.fileno(), selectors.EVENT_READ, None)  # to see its end
        busy: list[Worker] = []
        while waiting or busy:
            while waiting and len(busy) < crew.settings["workers"]:
                worker = next((w for w in crew.workers if w.job is None), None) or crew.hire()
                worker.job, worker.begun = waiting.pop(), time.monotonic()
                worker.link.sendall(json.dumps(pairs[worker.job]).encode() + b"\n")
                busy.append(worker)
                selector.register(worker.link, selectors.EVENT_READ, worker)
            for key, _ in selector.select(timeout=1.0):
                if key.data is None:
                    sys.exit(0)  # whoever asked is gone, or breaks the protocol
                listen(crew, key.data, verdicts)
            for worker in [w for w in busy if w.job is not None and time.monotonic() - w.begun > limit]:
                verdicts[worker.job], worker.job = "time", None
                selector.unregister(worker.link)
                busy.remove(worker)
                crew.end(worker)
            for worker in [w for w in busy if w.job is None]:
                selector.unregister(worker.link)
                busy.remove(worker)
                if worker.done >= crew.settings["recycle"] or worker.done < 0:
                    close(crew, worker, verdicts)
    return verdicts


def listen(crew: Crew, worker: Worker, verdicts: list) -> None:
    """Takes what a worker says; `done` is -1 - job for one that has died."""
    try:
        data = worker.link.recv(1 << 12)
    except ConnectionResetError:
        data = b""
    worker.said += data
    if not data:
        worker.done, worker.job = -1 - worker.job, None
    elif worker.said.endswith(b"\n"):
        verdicts[worker.job] = json.loads(worker.said)
        worker.done = crew.settings["recycle"] if verdicts[worker.job] == "memory" else worker.done + 1
        worker.job, worker.said = None, b""


def close(crew: Crew, worker: Worker, verdicts: list) -> None:
    job = -1 - worker.done
    if job < 0:
        crew.end(worker)
        return
    worker.link.close()
    crew.workers.remove(worker)
    _, status = os.waitpid(worker.pid, 0)
    ended = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    verdicts[job] = "time" if ended in (signal.SIGPROF, signal.SIGXCPU) else "died"


def work(link: socket.socket, settings: dict) -> int:
    """A worker's life: reads a pair, answers, until the link is closed."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process
    in_use = _in_use()
    for what, value in (
        (resource.RLIMIT_AS, in_use + settings["memory"]), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0),
    ):  # fmt: skip
        resource.setrlimit(what, (value, value))
    sys.addaudithook(refuse)
    for line in link.makefile("r"):
        found, key = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, settings["deadline"])
        try:
            verdict = same(found, key)
        except MemoryError:
            verdict = "memory"
        except Exception:  # what it cannot read or compare is not the same
            verdict = False
        signal.setitimer(signal.ITIMER_PROF, 0)
        link.sendall(json.dumps(verdict).encode() + b"\n")
    return 0


def _in_use() -> int:
    """Bytes of address space that the process has as it begins."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 1 << 30


def refuse(event: str, arguments: tuple) -> None:
    """An audit hook: nothing that a text makes sympy do may reach beyond the process."""
    if event == "open" and (set(arguments[1] or "r") & set("wax+") or arguments[2] & WRITING):
        raise PermissionError("a worker writes no file")
    if event.startswith(REFUSED) and event not in ALLOWED:
        raise PermissionError(f"a worker does not call {event}")


def same(found: str, key: str) -> bool:
    """math-verify's verdict on two LaTeX texts, without its time limits."""
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse, verify

    reading = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none", equations=False
    )
    config = [LatexExtractionConfig(boxed_match_priority=-1, normalization_config=reading)]
    both = []
    for text in (key, found):
        read = parse(
            f"${text}$", config, fallback_mode="no_fallback", extraction_mode="first_match", parsing_timeout=0,
            raise_on_error=True,
        )  # fmt: skip
        if not read:
            return False
        both.append(read)
    # Floats are compared to 12 places, and differences of less than 1e-30 count as zero: 1.4142 is not the root of 2.
    return bool(verify(*both, float_rounding=12, numeric_precision=30, timeout_seconds=0, raise_on_error=True))


def number(text: str, *_, **__):
    from sympy import Float, Integer

    text = text.replace(" ", "")
    if text.isascii() and text.isdigit():
        return Integer(int(text))
    if re.fullmatch(r"\d*\.?\d+(?:[eE][-+]?\d{1,4})?|\d+\.", text):
        return Float(text)
    raise ValueError("only numbers are read from text")


if __name__ == "__main__":
    main()
