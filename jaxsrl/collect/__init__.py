"""Layouts to rollouts to rewards to weights to rows, for training and evaluation alike."""

from jaxsrl.collect.settings import BatchShapes, Collect
from jaxsrl.old_names import moved

__all__ = ["Collect", "BatchShapes"]


def __getattr__(name: str):
    return moved(name, __name__, {"Rows": BatchShapes})
