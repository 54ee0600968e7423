"""Arguments of the command that audits policies."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from jaxsrl.cli.runs import check_written


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Asks policies what accuracy does not say, on the same questions, and sets them side by side.

    Args:
      problems: how many questions, the first ones; of each stage.
      split: whose problems, without --benchmark.
      batch: prompts at a time; default is what the memory holds.
      seed: of what is sampled.
      to: where numbers, records and the page go; default is audits/ in the first run's folder, or here.
      json: one file with all numbers, too.
    """

    policies: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[POLICY ...]")] = ()
    """runs/NAME:STAGE, runs/NAME:STAGE:best; or runs/NAME, for what it began with and each of its stages."""
    weights: tyro.conf.UseAppendAction[Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FOLDER")]] = ()
    """A published model's folder; may be given several times."""
    config: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Config file of the runs, where it defines data, tasks or probes itself: a run's folder keeps no code."""
    probes: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = ()
    """Names of audits, or files of your own with a value PROBE; default is all that apply."""
    set: tyro.conf.UseAppendAction[Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE")]] = ()
    """A setting of a probe, as faithfulness.samples=4 or traces.away=wilson,kruskal; may be given several times."""
    scorer: Annotated[str | None, tyro.conf.arg(metavar="POLICY")] = None
    """What texts are scored under, alike for all: a policy or a model's folder; default is the first one's base."""
    benchmark: Literal["gsm8k", "math500", "amc23", "aime24", "aime25", "minerva"] | None = None
    """Whose problems, instead of the first run's own."""
    max_tokens: int | None = None
    """Cap of a solution; default is that of the first run's last stage, and 320 of a benchmark."""
    template: str = "auto"
    """Of --weights: the kind of its chat template; auto is the folder's own."""
    system: Annotated[str | None, tyro.conf.arg(metavar="TEXT")] = None
    """Of --weights: the system text."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """Of --weights: default is bfloat16 on an accelerator, float32 on a CPU."""
    problems: int = 50
    split: Literal["validation", "test"] = "test"
    stages: Annotated[tuple[str, ...], tyro.conf.arg(metavar="STAGE ...")] = ()
    """Stages of the first run whose problems are asked, as an easy and a hard one; default is the last stage."""
    batch: int | None = None
    seed: int = 0
    data_dir: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder of demonstration files; the variable JAXSRL_DATA says the same."""
    to: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None

    def __call__(self) -> None:
        for name in ("problems", "max_tokens", "batch"):
            value = vars(self)[name]
            if value is not None and value < 1:
                raise ValueError(f"--{name.replace('_', '-')} must be >= 1, got {value}")
        check_written(self.json)
        from jaxsrl.commands.audit import Auditing, audit, chosen_probes
        from jaxsrl.commands.audited import targets_of
        from jaxsrl.commands.published import Published
        from jaxsrl.config.saved import own_parts
        from jaxsrl.console import Console
        from jaxsrl.report.audits import FOLDER
        from jaxsrl.report.page import write_report

        if self.config is not None and not self.policies:
            raise ValueError(f"--config {self.config} is of a run's folder: name one")
        own = () if self.config is None else own_parts(self.config)
        probes = chosen_probes(self.probes, self.set)
        targets = targets_of(self.policies, self.weights, own)
        runs = [one for one in targets if one.config is not None]
        auditing = Auditing(
            policies=tuple(targets), probes=probes, by_default=not self.probes, questions=self._questions(runs),
            scorer=self._scorer(own), batch=self.batch, seed=self.seed,
            published=Published(folder=Path(), kind=self.template, system=self.system, dtype=self.dtype),
        )  # fmt: skip
        to = self.to or (runs[0].folder / FOLDER if runs else Path(FOLDER))
        print(audit(auditing, to, self.json, Console()))
        if runs and self.to is None:
            print(f"report: {write_report(runs[0].folder)}")

    def _questions(self, runs):
        from dataclasses import replace

        from jaxsrl.commands.audited import benchmark_questions, run_questions

        if self.stages and (self.benchmark is not None or not runs):
            raise ValueError("--stages are those of a run whose problems are asked: leave it out here")
        if self.benchmark is not None:
            found = benchmark_questions(self.benchmark, self.problems, self.data_dir)
        elif runs:
            found = run_questions(runs[0], self.split, self.problems, self.data_dir, self.stages)
        else:
            raise ValueError("--weights alone needs --benchmark: a published model has no held-out problems of its own")
        cap = self.max_tokens
        return found if cap is None else replace(found, caps={name: min(cap, n) if name == "action" else cap
                                                              for name, n in found.caps.items()})  # fmt: skip

    def _scorer(self, own):
        if self.scorer is None:
            return None
        from jaxsrl.commands.audited import Target, targets_of

        if (Path(self.scorer) / "config.json").is_file() and not (Path(self.scorer) / "checkpoints").is_dir():
            return Target(folder=Path(self.scorer))
        found = targets_of((self.scorer,), (), own)
        if len(found) > 1:
            raise ValueError(f"--scorer {self.scorer} is {len(found)} policies: name one, as {self.scorer}:STAGE")
        return found[0]
