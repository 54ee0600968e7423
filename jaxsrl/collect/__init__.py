"""Layouts to rollouts to rewards to weights to rows, for training and evaluation alike."""

from jaxsrl.collect.settings import Collect, Rows

__all__ = ["Collect", "Rows"]
