"""Two stages of SFT in seconds, the second from what the first found best: `jaxsrl train tests/stores/tiny_run.py`."""

from dataclasses import replace
from pathlib import Path

from jaxsrl.config import Config
from jaxsrl.config.overrides import load


def config() -> Config:
    tiny = load(Path(__file__).parents[1] / "tiny_config.py")
    first = replace(tiny.stages[0], steps=4, validate=replace(tiny.stages[0].validate, every=2))
    more = replace(first, name="more", start_from="sft:best")
    return replace(tiny, name="tiny", runs="gs://bucket/runs", checkpoint_every=1, stages=(first, more))
