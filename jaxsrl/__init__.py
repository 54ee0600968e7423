"""Training language models from expert demonstrations on the action tree."""

__version__ = "0.1.0"
