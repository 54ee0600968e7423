"""What a config file needs: a run, its stages, and where demonstrations come from."""

from jaxsrl.config.demonstrations import ArithmeticTask, Files, Gsm8k, Numina
from jaxsrl.config.run import Config, Stage, TaskData, Validate
from jaxsrl.config.survive import Survive
from jaxsrl.old_names import moved

__all__ = ["ArithmeticTask", "Config", "Files", "Gsm8k", "Numina", "Stage", "Survive", "TaskData", "Validate"]


def __getattr__(name: str):
    return moved(name, __name__, {"Splits": TaskData})
