"""A run's config from its folder: what evaluation reads is what was set."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from jaxsrl.config.overrides import load, override, to_dict
from jaxsrl.config.run import ConfigError
from jaxsrl.config.saved import STAGE, saved_config

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.py"))
GSM8K = ROOT / "configs" / "gsm8k_srl.py"


def again(config, folder=Path("runs/x")):
    return saved_config(json.loads(json.dumps(to_dict(config))), folder)


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
    with pytest.raises(ConfigError, match=r"stages.sft.data is a Spelling, .* give the config file instead"):
        found.stages[0].data.load(None)


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
