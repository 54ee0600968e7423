"""What a fresh checkout promises: pinned and hashed packages, scripts that find their Python, a tidy tree."""

import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
REQUIREMENTS = (ROOT / "launch" / "requirements.txt").read_text()
SCRIPTS = sorted([*(ROOT / "launch").glob("*.sh"), ROOT / ".ci" / "run"])
TOP = {"pyproject.toml", "README.md", "LICENSE", "configs", "launch", "tests", "jaxsrl"}
SOURCES = sorted(p for room in TOP for p in (ROOT / room).rglob("*") if p.suffix in {".py", ".sh", ".js", ".css"})
MODULES = sorted(
    ".".join(p.relative_to(ROOT).with_suffix("").parts)
    for p in (ROOT / "jaxsrl").rglob("*.py")
    if p.name not in {"__main__.py", "__init__.py"} and not p.name.startswith("pallas_")
)
TOOLS = ("awk", "cat", "cksum", "dirname", "flock", "ls", "mkdir", "rm", "touch")  # all that launch/setup.sh calls


def plain(name: str) -> str:
    """A package's name as registries compare it: `Orbax_checkpoint[x]>=1` -> `orbax-checkpoint`."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", name)[0]).lower()


def declared() -> set[str]:
    return {plain(line) for line in PROJECT["project"]["dependencies"]}


def unhashed(text: str) -> list[str]:
    """The requirements of a file that lack an exact version or a SHA-256."""
    entries = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    return [e for e in entries if e.strip() and not re.match(r"[\w.-]+==\S+( ; .*?)? +--hash=sha256:[0-9a-f]{64}\b", e)]


def imported(source: str) -> set[str]:
    """Top-level modules a file imports, wherever in the file."""
    nodes = list(ast.walk(ast.parse(source)))
    names = {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module for n in nodes if isinstance(n, ast.ImportFrom) and n.level == 0}
    return {name.split(".")[0] for name in names}


def test_requirements_are_pinned_and_hashed():
    assert not unhashed(REQUIREMENTS), unhashed(REQUIREMENTS)
    assert unhashed("jax==0.10.2\n") and unhashed("jax>=0.10 \\\n    --hash=sha256:" + 64 * "0")


def test_requirements_name_no_place_to_fetch_from():
    lines = [line for line in REQUIREMENTS.splitlines() if re.search(r"://|@|^\s*-(?!-hash=)", line)]
    assert not lines, lines


def test_requirements_cover_what_pyproject_asks_for():
    pinned = {plain(line) for line in REQUIREMENTS.splitlines() if re.match(r"\w", line)}
    wanted = declared() | {plain(x) for x in PROJECT["project"]["optional-dependencies"]["test"]}
    wanted |= {plain(x) for x in PROJECT["dependency-groups"]["setup"]}
    assert wanted <= pinned, wanted - pinned


def test_each_python_has_its_jax():
    assert re.search(r"^jax==0\.10\.2 ; python_full_version < '3\.12'", REQUIREMENTS, re.MULTILINE)
    assert re.search(r"^jax==0\.12\.\S+ ; python_full_version >= '3\.12'", REQUIREMENTS, re.MULTILINE)


def test_every_import_is_declared():
    owner = packages_distributions()
    extras = ("data", "grade", "gym", "tensorboard", "wandb", "trackio", "figures")
    optional = {plain(x) for extra in extras for x in PROJECT["project"]["optional-dependencies"][extra]}
    peers = ROOT / "jaxsrl/bench/peers"  # started by the Python of an environment of the peer's own
    for path in set((ROOT / "jaxsrl").rglob("*.py")) - set(peers.rglob("*.py")):
        for module in imported(path.read_text()) - sys.stdlib_module_names - {"jaxsrl", "__future__"}:
            names = {plain(name) for name in owner.get(module, [module])}
            where = f"{path.relative_to(ROOT)} imports {module}, which pyproject.toml does not name"
            assert names & (declared() | optional), where


@pytest.mark.parametrize("module", MODULES)
def test_modules_import(module):
    importlib.import_module(module)


def test_no_file_is_long():
    lengths = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in SOURCES}
    assert lengths and max(lengths.values()) <= 600, [name for name, lines in lengths.items() if lines > 600]


def test_top_level_is_as_designed():
    ignored = {line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines() if line.startswith("/")}
    there = {p.name for p in ROOT.iterdir() if not p.name.startswith(".")} - ignored - {"__pycache__"}
    assert there <= TOP, there - TOP


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_scripts_are_sound(script):
    subprocess.run(["bash", "-n", script], check=True)
    assert script.name == "python.sh" or os.access(script, os.X_OK)  # python.sh is sourced
    assert script.name == "python.sh" or "set -euo pipefail" in script.read_text()


def test_ci_runs_what_a_person_types():
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith("bash launch/test.sh")


@pytest.fixture
def machine(tmp_path):
    """A checkout's launch/ in a folder with a space, and a PATH with nothing but the tools it needs."""
    root = tmp_path / "a checkout"
    shutil.copytree(ROOT / "launch", root / "launch")
    shutil.copy(ROOT / "pyproject.toml", root)
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        if found := shutil.which(tool):
            (tmp_path / "bin" / tool).symlink_to(found)
    return root


def run(machine: Path, *command) -> subprocess.CompletedProcess:
    env = {"PATH": str(machine.parent / "bin"), "HOME": str(machine.parent / "home")}
    return subprocess.run([shutil.which("bash"), *command], env=env, cwd="/", capture_output=True, text=True)


def fake_python(machine: Path, name: str, body: str):
    path = machine.parent / "bin" / name
    path.write_text(f"#!{shutil.which('bash')}\n{body}\n")
    path.chmod(0o755)


def test_without_python_it_says_how_to_get_one(machine):
    for _ in range(2):
        done = run(machine, machine / "launch" / "setup.sh")
        assert done.returncode == 1 and not (machine / ".venv").exists()
        assert all(way in done.stderr for way in ("3.11 or newer", "apt-get", "pyenv", "uv python", "JAXSRL_PYTHON"))
        fake_python(machine, "python3", "exit 1")  # the second time one is there, but too old


def test_candidates_are_run_not_believed(machine):
    fake_python(machine, "python3", "echo 'command not found' >&2; exit 127")  # a shim of a version not installed
    fake_python(machine, "python3.12", f'exec "{sys.executable}" "$@"')
    done = run(machine, "-euc", '. "$0"; find_python 11', machine / "launch" / "python.sh")
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, sys.executable, "")
    assert run(machine, "-euc", '. "$0"; find_python 99', machine / "launch" / "python.sh").returncode == 1


def test_a_foreign_environment_is_left_alone(machine):
    fake_python(machine, "python3", f'exec "{sys.executable}" "$@"')
    (machine / ".venv").mkdir()
    (machine / ".venv" / "mine").touch()
    done = run(machine, machine / "launch" / "setup.sh")
    assert done.returncode == 1 and "was not made by this script" in done.stderr
    assert (machine / ".venv" / "mine").exists()


def test_local_without_a_config_prints_usage(machine):
    done = run(machine, machine / "launch" / "local.sh")
    assert done.returncode == 2 and "usage: launch/local.sh CONFIG" in done.stdout


def test_rank_promotion_raises():
    with pytest.raises(ValueError, match="rank"):
        jnp.ones((2, 3)) + jnp.ones(3)


def test_float64_where_asked(x64):
    assert jnp.asarray(np.pi).dtype == jnp.float64
