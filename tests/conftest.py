"""Fixtures of the whole suite, and which tests also run on a second Python."""

import gc
import importlib.util
import os
from importlib.metadata import version
from pathlib import Path

# Programs here run once or twice, so they are compiled with little effort; processes that tests start inherit that.
# A module that needs what the compiler can do uses the fixture `optimized`; with "0" outside, all are as in a real run.
if os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1") == "1" and version("jaxlib").startswith("0.10."):
    # XLA's older way to emit fusions takes half the time again. Later releases lack it, and end at an unknown flag.
    given = os.environ.get("XLA_FLAGS", "").split()
    os.environ["XLA_FLAGS"] = " ".join({"--xla_cpu_use_fusion_emitters=false": None} | dict.fromkeys(given))

import jax  # noqa: E402
import pytest  # noqa: E402

# Broadcasting is written out in this project; a rank that sneaks in is a bug.
jax.config.update("jax_numpy_rank_promotion", "raise")
# Sharded programs are tested on simulated devices; everything else runs on the first of them.
jax.config.update("jax_num_cpu_devices", 8)

TESTS = Path(__file__).parent
BESIDE = TESTS.parents[1] / "shared" / "data"
# Marked `fast`: what leans on jax and its libraries, at about a minute altogether. A test elsewhere marks itself.
# Compilers of accelerators, and other implementations to compare with: a test that is marked `needs(…)` uses them.
OPTIONAL = (
    "jax_cuda13_pjrt", "jax_cuda13_plugin", "libtpu", "math_verify", "matplotlib", "pyarrow", "rapidfuzz",
    "reasoning_gym", "sentencepiece", "tensorboard", "tensorflow_datasets", "torch", "transformers",
)  # fmt: skip
MOST_MAPS = 20_000
FAST = (
    "objectives/", "rewards/test_answer.py", "rewards/test_format.py", "rewards/test_similarity.py", "test_floors.py",
    "test_setup.py",
)  # fmt: skip


def absent() -> set[str]:
    return {name for name in OPTIONAL if importlib.util.find_spec(name) is None}


def pytest_collection_modifyitems(config, items):
    """Tests that need a package which is not installed are left out; the summary names it."""
    needed = lambda item: {name for mark in item.iter_markers("needs") for name in mark.args}
    unknown = {name for item in items for name in needed(item)} - set(OPTIONAL)
    assert not unknown, f"name these in OPTIONAL: {unknown}"
    out = [item for item in items if needed(item) & absent()]
    config.hook.pytest_deselected(items=out)
    items[:] = [item for item in items if item not in out]
    for item in items:
        if item.path.is_relative_to(TESTS) and item.path.relative_to(TESTS).as_posix().startswith(FAST):
            item.add_marker(pytest.mark.fast)


def pytest_terminal_summary(terminalreporter, config):
    if absent():
        terminalreporter.write_line(f"left out, not installed: tests that need {', '.join(sorted(absent()))}")


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


@pytest.fixture(scope="session")
def qwen3(data_dir):
    """The published tokenizer, which takes two seconds to read."""
    from jaxsrl.data.tokenizer import load_tokenizer

    return load_tokenizer(data_dir / "tokenizers" / "qwen3")


@pytest.fixture
def x64():
    """The test runs with 64-bit numbers: float64 is the default float."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def optimized():
    """The module's programs are compiled with the effort of a real run. None is shared with the modules around it."""
    before = jax.config.read("jax_disable_most_optimizations")
    with_effort(less=False)
    yield
    with_effort(less=before)


def with_effort(*, less: bool) -> None:
    """Whatever is compiled from here on."""
    jax.clear_caches()
    jax.config.update("jax_disable_most_optimizations", less)


@pytest.fixture(autouse=True, scope="module")
def few_programs():
    """Lets go of compiled programs before they are too many.

    On a CPU each is a handful of memory maps, of which Linux gives a process 65,530; with none left XLA aborts.
    """
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()
        gc.collect()
