import importlib

import pytest

from jaxsrl.config.overrides import override
from jaxsrl.config.run import Validate
from jaxsrl.evals.settings import Evaluation
from jaxsrl.objectives.rlvr import RLVR
from jaxsrl.objectives.sft import SFT
from jaxsrl.objectives.srl import SRL
from jaxsrl.old_names import new_metric
from tests.tiny_config import config


def test_an_old_setting_is_taken_and_said():
    with pytest.warns(FutureWarning, match=r"SRL\(samples=...\) is now group_size="):
        assert SRL(reward=None, samples=4).group_size == 4
    with pytest.raises(TypeError, match="leave out samples"):
        RLVR(reward=None, samples=4, group_size=4)
    with pytest.raises(TypeError, match="unexpected keyword argument 'sample'"):
        SRL(reward=None, sample=4)


def test_an_old_key_is_taken_and_said():
    with pytest.warns(FutureWarning, match="samples is now group_size"):
        made = override(config(), ["stages.srl.objective.samples=6"])
    assert made.stages[1].objective.group_size == 6


def test_old_values_are_taken_and_said():
    with pytest.warns(FutureWarning, match="is now .'solve', 'action'."):
        assert SFT(trunk=("solve", "step")) == SFT(trunk=("solve", "action"))
    with pytest.warns(FutureWarning, match="actions"):
        assert Evaluation(modes=("steps", "direct")) == Evaluation(modes=("actions", "direct"))
    with pytest.warns(FutureWarning, match="actions/exact"):
        assert Validate(metric="steps/exact") == Validate(metric="actions/exact")
    assert new_metric("forced_steps/exact") == "forced_actions/exact" and new_metric("seconds/steps") == "seconds/steps"


@pytest.mark.parametrize(("module", "old", "new"), [
    ("rewards.similarity", "StepSimilarity", "ActionSimilarity"), ("rewards.detectors", "Watched", "WithDetectors"),
    ("objectives.chord", "Mu", "MuSchedule"), ("sharding", "Layout", "MeshShape"), ("config", "Splits", "TaskData"),
    ("config.guidance", "guided", "at_granularity"), ("collect", "Rows", "BatchShapes"),
])  # fmt: skip
def test_an_old_class_is_found_and_said(module, old, new):
    room = importlib.import_module(f"jaxsrl.{module}")
    with pytest.warns(FutureWarning, match=f"{old} is now {new}"):
        assert getattr(room, old) is getattr(room, new)
    with pytest.raises(AttributeError, match=f"no attribute '{old}s'"):
        getattr(room, f"{old}s")
