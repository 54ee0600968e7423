"""Data that make themselves: any task of `jaxsrl/tasks/` as a stage's demonstrations."""

from dataclasses import dataclass, replace

from jaxsrl.config.demonstrations import data_folder
from jaxsrl.config.run import TaskData
from jaxsrl.data.datasets import find
from jaxsrl.rewards.answer import FinalAnswer
from jaxsrl.tasks.commitment import Commitment, read_case
from jaxsrl.tasks.draw import Task, generate, lines_of


@dataclass(frozen=True, kw_only=True)
class Generated:
    """Demonstrations of a task; splits share no problem.

    Args:
      task: settings of the problems, such as `Mazes()`; `held_out` are those of validation and test where they differ.
      train, validation, test: how many problems.
      shuffle_experts: control in which every problem has the expert actions of the next one: a reward that is not
        about the problem can teach the format only.
    """

    task: Task
    held_out: Task | None = None
    train: int = 2048
    validation: int = 64
    test: int = 200
    shuffle_experts: bool = False

    def load(self, data_dir: str | None) -> TaskData:
        away = self.held_out or self.task
        train = generate(self.task, self.train, "train")
        if self.shuffle_experts:
            others = train[1:] + train[:1]
            train = [replace(d, actions=other.actions) for d, other in zip(train, others, strict=True)]
        return TaskData(
            train=tuple(train), validation=tuple(generate(away, self.validation, "validation")),
            test=tuple(generate(away, self.test, "test")), reward=FinalAnswer(verify=away.right),
            finished=away.finished, first_action=first_line, task=away,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class UnitCommitment:
    """Unit commitment cut from real systems.

    Args:
      files: cases of PGLib-UC, relative to the data folder or absolute.
      units, hours: fewest and most of a problem.
      outage: held-out problems are those of N-1, cut from the first so many training problems; 0 draws whole ones.
    """

    files: tuple[str, ...] = (
        "unit_commitment/rts_gmlc_2020-01-27.json.gz", "unit_commitment/rts_gmlc_2020-07-06.json.gz",
    )  # fmt: skip
    units: tuple[int, int] = (3, 5)
    hours: tuple[int, int] = (4, 6)
    outage: int = 0
    train: int = 512
    validation: int = 64
    test: int = 200

    def load(self, data_dir: str | None) -> TaskData:
        folder = data_folder(data_dir)
        cases = tuple(read_case(find(folder, name)) for name in self.files)
        task = Commitment(cases=cases, units=self.units, hours=self.hours)
        away = replace(task, outage=self.outage)
        given = {"train": self.train, "validation": self.validation, "test": self.test}
        return Generated(task=task, held_out=away, **given).load(data_dir)


def first_line(text: str) -> str:
    return next(iter(lines_of(text)), "")
