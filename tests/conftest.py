"""Fixtures of the whole suite, and which tests also run on a second Python."""

import os
from pathlib import Path

import jax
import pytest

# Broadcasting is written out in this project; a rank that sneaks in is a bug.
jax.config.update("jax_numpy_rank_promotion", "raise")

TESTS = Path(__file__).parent
BESIDE = TESTS.parents[1] / "shared" / "data"
# Marked `fast`: what leans on jax and its libraries, at about a minute altogether. A test elsewhere marks itself.
FAST = {"objectives", "rewards", "test_floors.py", "test_setup.py"}


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.is_relative_to(TESTS) and item.path.relative_to(TESTS).parts[0] in FAST:
            item.add_marker(pytest.mark.fast)


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


@pytest.fixture
def x64():
    """The test runs with 64-bit numbers: float64 is the default float."""
    with jax.enable_x64(True):
        yield
