"""A long run grows nowhere: no memory, objects, arrays, descriptors or threads, and nothing is compiled again.

`JAXSRL_SOAK=300 python -m pytest tests/test_soak.py -s` runs for five minutes instead of a few steps.
"""

import ctypes
import os
import sys
import threading
import time
from array import array
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxsrl.config.overrides import load, override
from jaxsrl.processes import Stopped
from tests.sharing import train

SECONDS = float(os.environ.get("JAXSRL_SOAK", "0"))
WARM, STEPS = 64, 160  # calls of `stop` that warm up, and that a short run ends after
COLUMNS = 7
SLACK = 4  # arrays, descriptors and threads that are there at one moment and not at another: a leak is one a step
# Growth per 1000 calls, where the run is long enough to tell: MiB that are resident, MiB that the C library has given
# out (what it keeps for itself is not in it), and Python's blocks of small objects. Of these TensorStore keeps eight a
# save, which is 900 here. STEP is what may be added once, as an allocator takes memory in pieces.
SLOPES = {"resident": 1.0, "in use": 1.0, "blocks": 2000.0}
STEP = {"resident": 1.0, "in use": 1.0, "blocks": 1000.0}


class Mallinfo(ctypes.Structure):
    """Of the C library: bytes by what became of them."""

    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
    )]  # fmt: skip


def allocator():
    """() -> MiB in use, from the heap and mapped; a constant where the C library does not say."""
    ask = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if ask is None:
        return lambda: 0.0
    ask.restype = Mallinfo

    def in_use() -> float:
        now = ask()
        return (now.uordblks + now.hblkhd) / 2**20

    return in_use


class Meter:
    """What the process holds, each time that the run asks whether to stop."""

    def __init__(self):
        self.compiled, self.end = [], time.monotonic() + SECONDS
        self.rows = array("d")  # COLUMNS numbers a call, and no object of Python's
        self.on, self.in_use = True, allocator()
        jax.monitoring.register_event_duration_secs_listener(self.hear)

    def hear(self, event, duration, fun_name="", **_):
        if self.on and event.endswith("backend_compile_duration"):
            self.compiled.append(fun_name)

    def __call__(self) -> bool:
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20
        descriptors, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
        memory = resident, self.in_use(), sys.getallocatedblocks()
        self.rows.extend((len(jax.live_arrays()), descriptors, threads, len(self.compiled), *memory))
        return len(self.rows) >= STEPS * COLUMNS and time.monotonic() > self.end


def soaked():
    """SRL behind SFT, without which hardly a group is kept: a learner that is first used in the night compiles then."""
    short = ["stages.sft.validate.every=0", "stages.srl.validate.every=4", "checkpoint_every=4",
             "stages.srl.steps=1000000"]  # fmt: skip
    config = override(load(Path(__file__).parent / "tiny_config.py"), short)
    return replace(config, stages=config.stages[:2])


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="a C library that does not count")
def test_what_is_in_use_is_counted():
    in_use = allocator()
    before = in_use()
    held = [bytes(2**20) for _ in range(20)]
    assert in_use() - before > 0.9 * len(held)
    del held
    assert in_use() - before < 10


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_nothing_grows(tmp_path):
    meter = Meter()
    with pytest.raises(Stopped):
        train(replace(soaked(), runs=str(tmp_path)), meter)
    before = len(meter.compiled)
    jax.jit(lambda x: x * 2 + len(meter.rows))(np.float32(1))
    assert len(meter.compiled) > before, "the control: what is compiled is heard of"
    meter.on = False
    rows = np.array(meter.rows).reshape(-1, COLUMNS)
    half = WARM + (len(rows) - WARM) // 2
    first, second = rows[WARM:half], rows[half:]
    for column, name in enumerate(("arrays", "descriptors", "threads")):
        least = first[:, column].min(), second[:, column].min()  # when nothing is on its way
        assert least[1] <= least[0] + SLACK, (name, least, rows[:, column].tolist())
    late = meter.compiled[int(rows[WARM, 3]) : int(rows[-1, 3])]
    assert not late, f"compiled again: {late}, at calls {(WARM + np.flatnonzero(np.diff(rows[WARM:, 3])) + 1).tolist()}"
    grown = np.polyfit(np.arange(len(second)), second[:, 4:], 1)[0] * 1000
    slopes = dict(zip(SLOPES, grown.round(2).tolist(), strict=True))
    print(f"{len(rows)} calls, arrays {second[:, 0].max():.0f}, per 1000 calls {slopes}")
    for name, most in SLOPES.items() if SECONDS else ():
        assert slopes[name] < most + STEP[name] * 1000 / len(second), slopes
