"""What a config file needs: a run, its stages, and where demonstrations come from."""

from jaxsrl.config.demonstrations import ArithmeticTask, Files, Gsm8k, Numina
from jaxsrl.config.run import Config, Splits, Stage, Validate

__all__ = ["ArithmeticTask", "Config", "Files", "Gsm8k", "Numina", "Splits", "Stage", "Validate"]
