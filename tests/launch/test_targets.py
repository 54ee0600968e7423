"""What targets render: stored texts, files that engines can read, and what is refused before a queue is joined."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import yaml

from jaxsrl.__main__ import main
from jaxsrl.clusters.hardware import hardware
from jaxsrl.clusters.launch.flags import PLATFORM, environment
from jaxsrl.clusters.launch.job import Place
from jaxsrl.commands.launch import TARGETS, prepare
from tests.launch.rendered import GOLDEN, PLACE, RECIPES, ROOT, STORED, cases, render, text_of

REFUSED = {"slurm": "is for GPUs", "tpu-vm": "is for TPUs", "skypilot": "one slice at a time"}


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("target, name", cases())
def test_the_text_is_the_stored_one(target, name):
    stored = (GOLDEN / f"{target}_{name}.txt").read_text()
    assert text_of(target, name) == stored, "python -m tests.launch.rendered writes it anew; read the diff"


def test_every_text_that_is_stored_is_asked_for():
    assert {path.stem for path in GOLDEN.iterdir()} == {f"{target}_{name}" for target, name in cases()}


def rendered():
    """Target, recipe and what they make, of all that go together."""
    for target in TARGETS:
        for recipe in RECIPES:
            try:
                yield target, recipe, render(target, recipe)
            except ValueError as error:
                assert REFUSED[target] in str(error), error


@pytest.mark.parametrize("target, name", cases())
def test_runs_in_a_store_are_named_in_the_command_and_written_in_the_share(target, name):
    recipe = next(path.relative_to(ROOT) for path in RECIPES if path.stem == name)
    place = replace(PLACE, runs="gs://bucket/runs")
    job = prepare(recipe, target=target, place=place).job
    trains = [text for text in TARGETS[target](job).files.values() if "jaxsrl train" in text]
    assert trains and all("--runs gs://bucket/runs" in text for text in trains)
    assert job.environment.get("JAXSRL_CACHE") == (None if target == "local" else "/shared/cache")


def test_all_recipes_on_all_targets(tmp_path):
    """Scripts that bash and shellcheck take, YAML that parses; some target has each recipe."""
    found, scripts = list(rendered()), []
    for number, (target, recipe, launch) in enumerate(found):
        for name, text in launch.rendered.files.items():
            if name.endswith(".yaml"):
                (check_task if target == "skypilot" else check_jobset)(yaml.safe_load(text), launch.job)
                continue
            path = tmp_path / f"{number}_{target}_{recipe.stem}_{name}"
            path.write_text(text)
            scripts.append(str(path))
            assert "{{" not in text and "}}" not in text  # of a template that was not filled in
        assert launch.rendered.start and launch.rendered.stop and launch.rendered.logs and launch.rendered.status
    for script in scripts:
        subprocess.run(["bash", "-n", script], check=True)
    if checker := shutil.which("shellcheck"):
        subprocess.run([checker, "--severity=warning", *scripts], check=True)
    for recipe in RECIPES:
        assert {target for target, other, _ in found if other == recipe} >= {"local", "gke"}
    assert len(found) > 30


def check_jobset(made: dict, job) -> None:
    spec = made["spec"]
    (part,) = spec["replicatedJobs"]
    inner = part["template"]["spec"]
    (container,) = inner["template"]["spec"]["containers"]
    limits = container["resources"]["limits"]
    assert made["kind"] == "JobSet" and spec["failurePolicy"]["maxRestarts"] == job.restarts
    assert part["replicas"] * inner["completions"] * sum(limits.values()) == job.devices.devices
    assert inner["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == [2, 3]
    values = {x["name"]: x.get("value") for x in container["env"]}
    assert values.items() >= dict(job.environment).items()
    assert ("JAX_PROCESS_ID" in values) == (job.devices.chip.platform == "gpu")
    assert all(isinstance(x, str | None) for x in values.values())  # a number would be refused


def check_task(made: dict, job) -> None:
    assert made["resources"]["job_recovery"] and made["resources"]["use_spot"] is True
    assert made["envs"] == dict(job.environment) and "jaxsrl train" in made["run"]


def test_flags_say_why_and_are_known():
    flags = [flag for flags in PLATFORM.values() for flag in flags]
    assert all(flag.reason and flag.source and flag.date for flag in flags)
    for value in (flag.value for flag in flags if flag.variable == "XLA_FLAGS"):
        assert accepted({"XLA_FLAGS": value})
    assert not accepted({"XLA_FLAGS": "--xla_gpu_no_such_flag=true"})


def accepted(variables: dict[str, str], code: str = "import jax; jax.devices()") -> bool:
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"JAX_PLATFORMS": "cpu"} | variables, capture_output=True
    )
    return done.returncode == 0


@pytest.mark.needs("libtpu")
def test_flags_of_tpus_are_known():
    quiet = {"TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
    code = "from jax.experimental import topologies as t; t.get_topology_desc(platform='tpu', topology_name='v5e:2x2')"
    value = environment(hardware("2xv5e-16"), {})["LIBTPU_INIT_ARGS"]
    assert value.count("--xla") == 2 and accepted(quiet | {"LIBTPU_INIT_ARGS": value}, code)
    assert not accepted(quiet | {"LIBTPU_INIT_ARGS": "--xla_tpu_no_such_flag=true"}, code)


def test_what_the_user_sets_wins():
    made = environment(hardware("h100"), {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.5"})
    assert made["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.5" and "XLA_FLAGS" not in made
    assert "XLA_FLAGS" in environment(hardware("2x8xh200"), {}) and "LIBTPU_INIT_ARGS" not in environment(None, {})


@pytest.mark.parametrize("arguments, said", [
    (["--target", "pbs"], "no target 'pbs'; there are: local, slurm, tpu-vm, gke, skypilot"),
    (["--target", "slurm"], "--target slurm needs to know where: --place.code /shared/jaxsrl (launch/README.md)"),
    (["--target", "gke"], "--place.image REGISTRY/jaxsrl:tpu, --place.claim shared"),
    (["--target", "gke", "--accelerator", "v5p-16"], "mesh.fsdp=8"),
    (["--target", "local", "--set", "rows.prompt_rows=4096", "--accelerator", "8xh200"], "does not fit 8xh200"),
    (["--target", "local", "--set", "mesh.fsbp=2"], "mesh.fsdp"),
    (["--target", "local", "--processes", "0"], "--processes must be >= 1"),
    (["--target", "local", "--env", "NOT A NAME=1"], "--env"),
])  # fmt: skip
def test_mistakes_are_found_before_a_queue_is_joined(arguments, said, capsys):
    config = "configs/recipes/qwen3_1_7b_2xv5e_16.py" if "v5p-16" in arguments else "configs/recipes/qwen3_8b_8xh200.py"
    assert main(["launch", config, "--dry-run", *arguments]) == 2
    assert said.replace("mesh.fsdp=8", "mesh.fsdp") in capsys.readouterr().err


def test_a_config_of_another_folder_is_refused(tmp_path):
    path = shutil.copy(RECIPES[0], tmp_path)
    with pytest.raises(ValueError, match="lies outside of"):
        prepare(type(RECIPES[0])(path), target="gke", place=PLACE)


def test_a_dry_run_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["launch", str(ROOT / "configs" / "quickstart.py"), "--target", "local", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "launches/quickstart/local/run.sh" in said and "start: bash" in said and "PYTHONUNBUFFERED=1" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("target", [name for name in TARGETS if name != "local"])
def test_what_a_target_asks_for_has_an_example_that_it_takes(target):
    recipe = next(path.relative_to(ROOT) for path in RECIPES if path.stem == STORED[target][0])
    job = prepare(recipe, target=target, place=PLACE).job
    with pytest.raises(ValueError, match="needs to know where: --place") as caught:
        TARGETS[target](replace(job, place=Place()))
    asked = dict(re.findall(r"--place\.(\w+) ([^\s,]+)", str(caught.value)))
    assert TARGETS[target](replace(job, place=Place(**asked))).files
