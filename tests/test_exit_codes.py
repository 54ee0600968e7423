"""Every way out of a command has the code that the table says."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import pytest

import jaxsrl.__main__ as command
import jaxsrl.train as loop
from jaxsrl.checkpoint import CheckpointError, Checkpoints, SaveError
from jaxsrl.clusters.start import ProcessError
from jaxsrl.config.overrides import ConfigError, load, override
from jaxsrl.exit_codes import OF_ERROR, code_of
from jaxsrl.processes import Stopped
from jaxsrl.runs import OtherInputs, RunError
from jaxsrl.stages.replay import Corrupted
from jaxsrl.stages.skipped import Diverged
from jaxsrl.train import TrainingError, in_training
from tests.sharing import train
from tests.tiny_config import Spelling

TINY = Path(__file__).parent / "tiny_config.py"
CODES = {
    ConfigError: 2, ValueError: 2, FileNotFoundError: 2, RunError: 1, CheckpointError: 1, ProcessError: 1, OSError: 1,
    OtherInputs: 2, PermissionError: 1, MemoryError: 1, TrainingError: 1, Diverged: 3, SaveError: 74, Stopped: 75,
    Corrupted: 77, KeyboardInterrupt: 130,
}  # fmt: skip


@pytest.mark.parametrize("kind", CODES, ids=lambda kind: kind.__name__)
def test_an_error_has_its_code(kind, monkeypatch):
    def fails(self):
        raise kind("why")

    assert code_of(kind("why")) == CODES[kind]
    monkeypatch.setattr(command.Report, "__call__", fails)
    if kind is MemoryError:  # a fault of the program: Python prints where, and ends with 1
        with pytest.raises(MemoryError):
            command.main(["report", "runs/x"])
    else:
        assert command.main(["report", "runs/x"]) == CODES[kind]


def test_names_in_the_table_are_of_errors_that_there_are():
    assert set(OF_ERROR) == {kind.__name__ for kind in (Stopped, SaveError, Diverged, Corrupted, TrainingError)}


def test_a_wrong_value_is_another_error_once_training_has_begun():
    """So that 2 is never seen by a relauncher that would then give up a run of days."""
    trained = []
    with pytest.raises(ValueError), in_training(trained):
        raise ValueError("the value")
    with pytest.raises(TrainingError, match="the value"), in_training(trained):
        trained.append("sft")
        raise ValueError("the value")
    with pytest.raises(Stopped), in_training(trained):
        raise Stopped


def test_a_device_without_room_is_one_message():
    dump = "RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes.\nBufferAssignment OOM Debugging.\n" + "x\n" * 100
    with pytest.raises(TrainingError, match="99 bytes.. `jaxsrl plan CONFIG") as caught, in_training([]):
        raise jax.errors.JaxRuntimeError(dump)
    assert "\n" not in str(caught.value) and code_of(caught.value) == 1
    with pytest.raises(jax.errors.JaxRuntimeError), in_training(["sft"]):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")


def test_a_run_that_fails_in_its_second_step_does_not_exit_2(tmp_path):
    asked = []

    def stop():
        asked.append(1)
        if len(asked) > 12:
            raise FileNotFoundError("a file of the data that was removed")
        return False

    with pytest.raises(TrainingError, match="a file of the data"):
        train(replace(load(TINY), runs=str(tmp_path)), stop)
    assert (tmp_path / "tiny" / "metrics.jsonl").stat().st_size


@pytest.mark.parametrize("where", ["report", "last save", "first stage"])
def test_what_fails_after_training_does_not_exit_2(where, tmp_path, monkeypatch):
    """Nor what fails before it with another code: a run that never began is wrong the next time too."""

    def fails(*_, **__):
        raise ValueError(f"fails: {where}")

    config = override(load(TINY), ["stages.sft.steps=1", "stages.sft.validate.every=0"])
    config = replace(config, runs=str(tmp_path), stages=config.stages[:1])
    match where:
        case "report":
            monkeypatch.setattr(loop, "write_report", fails)
        case "last save":
            monkeypatch.setattr(loop, "finish", lambda *_: monkeypatch.setattr(Checkpoints, "wait", fails))
        case "first stage":
            monkeypatch.setattr(loop, "make_parts", fails)
    with pytest.raises(ValueError if where == "first stage" else TrainingError, match=f"fails: {where}") as caught:
        train(config)
    assert code_of(caught.value) == (2 if where == "first stage" else 1)


@dataclass(frozen=True, kw_only=True)
class Unread(Spelling):
    """Data that nobody may read."""

    def load(self, data_dir):
        raise AssertionError("read before the settings were checked")


@pytest.mark.parametrize("setting, said", [
    ("stages.sft.validate.metric=actions/similarty", "did you mean actions/similarity"),
    ("stages.sft.validate.metric=actions/answer", "is none of: actions/count"),
    ("mesh.fsdp=64", "64"),
])  # fmt: skip
def test_settings_are_checked_before_data_are_read(tmp_path, setting, said):
    config = load(TINY)
    config = replace(config, runs=str(tmp_path), stages=tuple(replace(s, data=Unread()) for s in config.stages))
    if setting.startswith("mesh"):
        config = replace(config, rows=replace(config.rows, rows=64, prompt_rows=64, evaluate_rows=64))
    with pytest.raises(ValueError, match=said) as caught:
        train(override(config, [setting]))
    assert code_of(caught.value) == 2 and not (tmp_path / "tiny").exists()


def test_an_unknown_store_is_refused_before_anything_is_made(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command.main(["train", str(TINY), "--runs", "s3://bucket/runs"]) == 2
    assert "runs=s3://bucket/runs is an object store" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_the_readme_has_every_code():
    text = (TINY.parents[1] / "README.md").read_text()
    table = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| `")]
    assert {f"`{code}`" for code in (0, 1, 2, 3, 74, 75, 76, 77, 130)} <= set(table), json.dumps(table)
