"""Arguments of the measurements."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from jaxsrl.bench.workload import Work
from jaxsrl.cli.runs import settled


@dataclass(frozen=True, kw_only=True)
class Similarity:
    """Measures every way on this machine to compute a step's similarity, side by side; a few minutes."""

    backends: tuple[str, ...] = ()
    """Some of difflib, cydifflib, rapidfuzz, gallop, difflib_fast, host, xla, pallas_gpu, pallas_tpu; default is all
    there are."""
    chars: tuple[int, ...] = (100, 300, 1000)
    """Lengths of steps in code points."""
    tokens: tuple[int, ...] = (32, 128, 512)
    """Lengths of steps in token ids."""
    seconds: float = 0.8
    """At least, for each implementation of each length."""
    repeat: int = 4096
    """Elements of the pathological pairs; 0 leaves them out."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Where to write the numbers, too."""

    def __call__(self) -> None:
        from jaxsrl.bench.similarity import main

        main(self.backends, self.chars, self.tokens, self.seconds, self.repeat, self.json)


@dataclass(frozen=True, kw_only=True)
class Training:
    """Measures optimizer steps of SFT, SRL and RLVR at random weights: seconds by part, tokens/s, peak memory."""

    model: str = "0.2M"
    """A preset, as qwen2.5-0.5b."""
    objectives: tuple[str, ...] = ()
    """Some of sft, srl, rlvr; default is all."""
    steps: int = 3
    """After the one that compiles; medians are shown."""
    work: Work = Work()
    data: int = 1
    """Devices of the mesh axis, as in `mesh.data` of a config; fsdp and tensor likewise."""
    fsdp: int = 1
    tensor: int = 1
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Where to write the numbers, too."""

    def __call__(self) -> None:
        from jaxsrl.bench.training import main
        from jaxsrl.sharding import MeshShape

        layout = MeshShape(data=self.data, fsdp=self.fsdp, tensor=self.tensor)
        main(self.objectives, self.model, self.work, layout, self.steps, self.json)


@dataclass(frozen=True, kw_only=True)
class Step:
    """Measures what an SRL step costs the host: processor seconds by part, peak memory, and fetches from the device.

    And counts the FLOPs of the learner's gradient over those that its trees need, on four shapes of trees.
    """

    demonstrations: int = 512
    """Of the step; each has 10 actions and 9 branch points."""
    group_size: int = 8
    completion_tokens: int = 299
    processes: int = 1
    """Of the run; of several one is measured."""
    models: tuple[str, ...] = ("qwen2.5-0.5b", "qwen2.5-1.5b")
    """Presets whose FLOPs are counted; nothing is computed with them."""
    against: tuple[str, ...] = ()
    """Peers as trl=FOLDER or tunix=FOLDER of a virtual environment; then their optimizer steps and ours are all that is
    measured, and --json gets a line a step."""
    shapes: tuple[str, ...] = ()
    """Of --against: some of grpo, srl; default is both."""
    turns: int = 5
    """Of --against: measured steps of each system."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Where to write the numbers, too."""

    def __call__(self) -> None:
        if self.against:
            from jaxsrl.bench.against import main as against

            return against(self.against, self.shapes, self.turns, self.json)
        if self.shapes:
            raise ValueError("--shapes is of --against PEER=FOLDER, which is not given")
        from jaxsrl.bench.step import main

        sizes = self.demonstrations, self.group_size, self.completion_tokens, self.processes
        with settled():  # as a run is
            main(*sizes, self.models, self.json)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Measures this machine."""

    what: Annotated[
        Annotated[Similarity, tyro.conf.subcommand("similarity")]
        | Annotated[Step, tyro.conf.subcommand("step")]
        | Annotated[Training, tyro.conf.subcommand("training")],
        tyro.conf.arg(name=""),
    ]

    def __call__(self) -> None:
        self.what()
