"""What a config file needs: a run, its stages, and where demonstrations come from."""

from jaxsrl.config.built import Built
from jaxsrl.config.demonstrations import ArithmeticTask, Files, Gsm8k, Numina
from jaxsrl.config.mixed import Mixed
from jaxsrl.config.run import Config, Stage, TaskData, Validate
from jaxsrl.config.splits import splits
from jaxsrl.config.survive import Survive
from jaxsrl.old_names import moved

__all__ = [
    "ArithmeticTask", "Built", "Config", "Files", "Gsm8k", "Mixed", "Numina", "Stage", "Survive", "TaskData",
    "Validate", "splits",
]  # fmt: skip


def __getattr__(name: str):
    return moved(name, __name__, {"Splits": TaskData})
