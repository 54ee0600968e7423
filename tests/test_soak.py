"""A long run grows nowhere: no memory, no arrays, no descriptors, no threads, and nothing is compiled again.

`JAXSRL_SOAK=300 python -m pytest tests/test_soak.py -s` runs for five minutes instead of a few steps.
"""

import os
import threading
import time
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
SLACK = 4  # arrays, descriptors and threads that are there at one moment and not at another: a leak is one a step
SLOPE = 1.0  # MiB of resident memory per 1000 steps, where the run is long enough to tell


class Meter:
    """What the process holds, each time that the run asks whether to stop."""

    def __init__(self):
        self.compiled, self.rows, self.end = [], [], time.monotonic() + SECONDS
        self.on = True
        jax.monitoring.register_event_duration_secs_listener(self.hear)

    def hear(self, event, duration, fun_name="", **_):
        if self.on and event.endswith("backend_compile_duration"):
            self.compiled.append(fun_name)

    def __call__(self) -> bool:
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20
        descriptors, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
        self.rows.append((len(jax.live_arrays()), descriptors, threads, len(self.compiled), resident))
        return time.monotonic() > self.end if SECONDS else len(self.rows) >= STEPS


def soaked():
    """SRL behind SFT, without which hardly a group is kept: a learner that is first used in the night compiles then."""
    short = ["stages.sft.validate.every=0", "stages.srl.validate.every=4", "checkpoint_every=4",
             "stages.srl.steps=1000000"]  # fmt: skip
    config = override(load(Path(__file__).parent / "tiny_config.py"), short)
    return replace(config, stages=config.stages[:2])


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_nothing_grows(tmp_path):
    meter = Meter()
    with pytest.raises(Stopped):
        train(replace(soaked(), runs=str(tmp_path)), meter)
    before = len(meter.compiled)
    jax.jit(lambda x: x * 2 + len(meter.rows))(np.float32(1))
    assert len(meter.compiled) > before, "the control: what is compiled is heard of"
    meter.on = False
    rows = np.array(meter.rows)
    half = WARM + (len(rows) - WARM) // 2
    first, second = rows[WARM:half], rows[half:]
    for column, name in enumerate(("arrays", "descriptors", "threads")):
        least = first[:, column].min(), second[:, column].min()  # when nothing is on its way
        assert least[1] <= least[0] + SLACK, (name, least, rows[:, column].tolist())
    late = meter.compiled[int(rows[WARM, 3]) : int(rows[-1, 3])]
    assert not late, f"compiled again: {late}, at calls {(WARM + np.flatnonzero(np.diff(rows[WARM:, 3])) + 1).tolist()}"
    steps = np.arange(len(second))
    slope = float(np.polyfit(steps, second[:, 4], 1)[0]) * 1000
    print(f"{len(rows)} calls, arrays {second[:, 0].max():.0f}, {slope:.2f} MiB per 1000 calls, {rows[-1, 4]:.0f} MiB")
    assert not SECONDS or slope < SLOPE, f"{slope} MiB per 1000 steps"
