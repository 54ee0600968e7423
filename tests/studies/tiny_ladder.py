"""A ladder of six sizes and three budgets, for its plan and its fit: its runs are made up by the test."""

from dataclasses import replace

from jaxsrl.studies.ladder import Ladder, shaped
from tests.tiny_config import Spelling, config


def ladder() -> Ladder:
    tiny = config()
    stage = replace(tiny.stages[0], data=Spelling(train=8_000), validate=replace(tiny.stages[0].validate, every=0))
    return Ladder(
        name="tiny-ladder", base=replace(tiny, stages=(stage,)), budgets=(2e10, 4e10, 8e10), rates=(0.5, 1.0, 2.0),
        sizes=shaped((32, 64, 96, 128, 160, 192), tiny.model, aspect=64),
    )  # fmt: skip
