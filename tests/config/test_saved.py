"""A run's config from its folder: what evaluation reads is what was set."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from jaxsrl.config.overrides import load, override, to_dict
from jaxsrl.config.run import ConfigError
from jaxsrl.config.saved import STAGE, own_parts, saved_config

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.py"))
GSM8K = ROOT / "configs" / "gsm8k_srl.py"


def again(config, folder=Path("runs/x"), own=()):
    return saved_config(json.loads(json.dumps(to_dict(config))), folder, own)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_config_is_read_back(path):
    """New data classes must be found too: see `saved._value`."""
    config = load(path)
    found = again(config, Path("runs") / config.name)
    for one, other in zip(config.stages, found.stages, strict=True):
        assert all(getattr(one, name) == getattr(other, name) for name in STAGE)
    assert replace(found, stages=config.stages, runs=config.runs) == config


def test_settings_of_the_command_line_are_read_back():
    more = ["lora.rank=4", "template.kind=plain", "stages.srl.data.held_out=7", "mesh.fsdp=2", "rows.rows=None"]
    found = again(override(load(GSM8K), [*more, "seed=3", "weights=w"]))
    assert (found.lora.rank, found.template.kind, found.stages[1].data.held_out) == (4, "plain", 7)
    assert (found.mesh.fsdp, found.rows.rows, found.seed, found.weights) == (2, None, 3, "w")


def test_a_run_is_found_where_its_folder_is(tmp_path):
    found = again(load(GSM8K), tmp_path / "moved.there")
    assert (found.runs, found.name) == (str(tmp_path), "moved.there")


def test_data_of_ones_own_are_missed_when_they_are_loaded():
    found = again(load(ROOT / "tests" / "tiny_config.py"))
    assert found.stages[0].action_tokens == 6
    with pytest.raises(ConfigError, match=r"stages.sft.data is a Spelling, .* audit takes it beside it: --config FILE"):
        found.stages[0].data.load(None)


OWN = """
from dataclasses import dataclass, replace
from collections.abc import Callable
from pathlib import Path
from jaxsrl.config.generated import Generated
from jaxsrl.config.overrides import load
from jaxsrl.evals.evaluate import Evaluation

def first(text): return text[:1]

@dataclass(frozen=True)
class Data:
    cut: Callable[[str], str] = first
    train: int = 5
    def load(self, data_dir): ...

@dataclass(frozen=True)
class Riddle:
    hard: bool = False

@dataclass(frozen=True)
class Counting:
    name: str = "counting"
    measures = calls = ()
    needs_answer = False
    def __call__(self, policy, demonstrations, key): ...

def config():
    tiny = load(Path("TINY"))
    one, two, *_ = tiny.stages
    test = Evaluation(probes=(Counting(),))
    stages = replace(one, data=Data(), test=test), replace(two, data=Generated(task=Riddle()))
    return replace(tiny, stages=stages)
"""


def test_classes_of_a_config_file_come_from_that_file(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(OWN.replace("TINY", str(ROOT / "tests" / "tiny_config.py")))
    config, own = load(path), own_parts(path)
    found = again(config, own=own)
    assert {type(one).__name__ for one in own} == {"Data", "Riddle", "Counting"}
    data, probe = found.stages[0].data, found.stages[0].test.probes[0]
    assert data.cut("abc") == "a" and type(data).__name__ == "Data"  # a function, too, where nothing was changed
    assert type(probe).__name__ == "Counting" and found.stages[1].data.task == own[-1]
    hard = again(override(config, ["stages.srl.data.task.hard=True"]), own=own)  # what was set counts
    assert hard.stages[1].data.task.hard and not config.stages[1].data.task.hard
    changed = again(override(config, ["stages.sft.data.train=3"]), own=own)
    with pytest.raises(
        ConfigError, match=r"data.cut is 'first', .* write into the config file what the run was started"
    ):
        changed.stages[0].data.load(None)
    other = own_parts(ROOT / "tests" / "tiny_config.py")
    with pytest.raises(ConfigError, match=r"sft.data is a Data, .* the file given has Spelling"):
        again(config, own=other).stages[0].data.load(None)
    with pytest.raises(ConfigError, match="gsm8k_srl.py uses no data, task or probe class of its own"):
        own_parts(GSM8K)


@pytest.mark.parametrize(("change", "said"), [
    ({"colour": 1}, "config.json: written by another version: .*colour"), ({"stages": None}, "no config of a run"),
    ({"template": {"type": "Template", "kind": {"a": 1}}}, r"template.kind is \{'a': 1\}, which cannot be read back"),
])  # fmt: skip
def test_what_this_version_does_not_have_is_named(change, said):
    saved = json.loads(json.dumps(to_dict(load(GSM8K)))) | change
    with pytest.raises(ConfigError, match=said):
        saved_config(saved, Path("runs/x"))


def test_fields_that_came_later_have_their_defaults():
    saved = json.loads(json.dumps(to_dict(load(GSM8K))))
    del saved["lora"], saved["sampler_mesh"], saved["stages"][0]["rows"]
    assert saved_config(saved, Path("runs/x")).lora is None
