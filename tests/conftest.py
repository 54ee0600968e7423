"""Fixtures of the whole suite."""

import os
from pathlib import Path

import jax
import pytest

# Broadcasting is written out in this project; a rank that sneaks in is a bug.
jax.config.update("jax_numpy_rank_promotion", "raise")

BESIDE = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data: the variable JAXSRL_DATA, else `shared/data` beside the checkout, else a skip."""
    named = os.environ.get("JAXSRL_DATA")
    folder = Path(named) if named else BESIDE
    if not folder.is_dir():
        if named:
            pytest.fail(f"JAXSRL_DATA={named} is no folder")
        pytest.skip("no real data: set JAXSRL_DATA to the data folder")
    return folder
