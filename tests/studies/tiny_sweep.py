"""A sweep of learning rates at three widths and three depths, whose runs are made up by the test."""

from dataclasses import replace
from pathlib import Path

from jaxsrl.studies.ladder import shaped
from jaxsrl.studies.transfer import Transfer
from tests.tiny_config import config

TINY = Path(__file__)


def transfer() -> Transfer:
    tiny = config()
    stage = replace(tiny.stages[0], validate=replace(tiny.stages[0].validate, every=0))
    widths = shaped((16, 32, 64), tiny.model, layers=1, head_width=8)
    return Transfer(
        name="tiny-sweep", base=replace(tiny, stages=(stage,)), widths=widths,
        depths=tuple(replace(widths[0], layers=layers) for layers in (1, 2, 4)),
        rates=tuple(5e-4 * 2**i for i in range(6)), seeds=(0, 1),
    )  # fmt: skip
