"""The parts of a stage, for tests that take its optimizer steps themselves."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxsrl.config import Config
from jaxsrl.config.overrides import to_dict
from jaxsrl.data.token_bytes import token_bytes
from jaxsrl.policy import Compiled, make_placement
from jaxsrl.progress import Progress
from jaxsrl.runs import open_run
from jaxsrl.stages.begin import load_data
from jaxsrl.stages.material import Material
from jaxsrl.stages.parts import Parts, make_parts
from jaxsrl.types import TrainState
from tests.sharing import COMPILED


@contextmanager
def stage_parts(
    config: Config, index: int = 0, compiled: Compiled = COMPILED
) -> Iterator[tuple[Parts, TrainState, Progress]]:
    """A stage as it starts, in a run folder of its own."""
    splits, tokenizer, model = load_data(config)
    material = Material(
        model=model, tokenizer=tokenizer, token_bytes=token_bytes(tokenizer, config.template),
        placement=make_placement(config.mesh, config.layout_to_sample), compiled=compiled,
    )  # fmt: skip
    with open_run(Path(config.runs) / config.name, to_dict(config), lambda *_: None) as run:
        of_stage = splits[config.stages[index].name]
        parts, state, progress = make_parts(run, config, index, material, of_stage, lambda: False)
        try:
            yield parts, state, progress
            parts.writer.drain()
        finally:
            parts.writer.close()
