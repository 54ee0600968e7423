"""Arguments of the commands for machines that are elsewhere."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from jaxsrl.cli.runs import check_written
from jaxsrl.clusters.launch.job import Place


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Memory, collectives and speed of a config on accelerators that need not be there; 2 where it does not fit."""

    config: Annotated[Path | None, tyro.conf.Positional] = None
    """Python file with a function config() -> Config."""
    target: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """v5p-16, 2xv5e-16 (slices), h200, 8xh200 (a node); default is the file's ACCELERATOR."""
    set: tyro.conf.UseAppendAction[Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE")]] = ()
    """A setting to change; may be given several times."""
    all: bool = False
    """Plans every config of configs/recipes, or of the folder given."""
    search: bool = False
    """Ranks mesh, sampler mesh, remat and rows by formula, and compiles the best three."""
    scaling: tuple[int, ...] = ()
    """Chips, as 16 64 256: a table of weak scaling by formula."""
    estimate: bool = False
    """By formula, even where the compiler is installed."""
    effort: Literal["quick", "full"] = "full"
    """Of TPU's compiler; quick takes a fifth of the time, and its memory may differ by a GiB or two."""
    share: float = 0.92
    """Of a device's memory that may be filled."""
    cache: bool = True
    """Keep what compilers said, by a hash of the program."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Where to write the numbers, too."""

    def __call__(self) -> None:
        os.environ.setdefault("JAX_PLATFORMS", "cpu")  # what is compiled for need not be there, and is left alone
        from jaxsrl.commands import plan
        from jaxsrl.config.overrides import load, override

        if not 0 < self.share <= 1:
            raise ValueError(f"--share must be in 0..1, of a device's memory, got {self.share}")
        check_written(self.json)
        cache = plan.cache_folder() if self.cache else None
        how = {"estimate": self.estimate, "effort": self.effort, "cache": cache, "share": self.share}
        if self.all:
            print(plan.plan_all(self.config or Path("configs/recipes"), **how))
            return
        if self.config is None:
            raise ValueError("give a CONFIG, or --all for every recipe")
        config = override(load(self.config), self.set)
        devices = plan.devices_of(self.config, self.target)
        if self.scaling:
            print(plan.plan_scaling(config, devices.chip.name, self.scaling))
            return
        if self.search:
            values, text = plan.plan_search(config, devices, **how)
        else:
            found, text = plan.plan_one(config, devices, **how)
            values = found.to_json()
        if self.json is not None:
            plan.write_json(values, self.json)
        print(text)


@dataclass(frozen=True, kw_only=True)
class Launch:
    """Starts a config on this machine, under Slurm, on TPU VMs, in GKE or through SkyPilot; see launch/README.md."""

    config: Annotated[Path, tyro.conf.Positional]
    """Python file with a function config() -> Config, below the current folder."""
    target: Annotated[str, tyro.conf.arg(metavar="NAME")]
    """local, slurm, tpu-vm, gke or skypilot."""
    verb: Literal["start", "status", "logs", "stop"] = "start"
    """What to do."""
    dry_run: bool = False
    """Print files and commands, and do nothing."""
    accelerator: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """v5p-16, 2xv5e-16, 8xh200, ...; default is the file's ACCELERATOR."""
    set: tyro.conf.UseAppendAction[Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE")]] = ()
    """A setting to change; may be given several times."""
    env: tyro.conf.UseAppendAction[Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE")]] = ()
    """A variable of every process, instead of the platform's; may be given several times."""
    data_dir: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder of demonstration files, as the machines see it."""
    processes: int = 1
    """On this machine; of GPUs each takes one."""
    restarts: int = 20
    """After a failure that is no wrong config."""
    place: Place = Place()

    def __call__(self) -> int:
        os.environ.setdefault("JAX_PLATFORMS", "cpu")  # planning takes no device from the run
        from jaxsrl.commands import launch

        made = launch.prepare(
            self.config, target=self.target, settings=self.set, accelerator=self.accelerator, place=self.place,
            arguments=("--data-dir", self.data_dir) if self.data_dir else (), given=launch.variables(self.env),
            processes=self.processes, restarts=self.restarts,
        )  # fmt: skip
        if self.dry_run:
            print(launch.described(made, files=True))
            return 0
        if self.verb == "start":
            launch.write(made)
            print(launch.described(made, files=False), flush=True)
        return launch.run(made, self.verb)
