import pytest

from jaxsrl.config.overrides import override
from jaxsrl.config.run import Validate
from jaxsrl.evals.settings import Evaluation
from jaxsrl.objectives.rlvr import RLVR
from jaxsrl.objectives.sft import SFT
from jaxsrl.objectives.srl import SRL
from jaxsrl.old_names import new_metric
from jaxsrl.rewards import similarity
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


def test_an_old_class_is_found_and_said():
    with pytest.warns(FutureWarning, match="StepSimilarity is now ActionSimilarity"):
        assert similarity.StepSimilarity is similarity.ActionSimilarity
    with pytest.raises(AttributeError, match="no attribute 'StepSimilarities'"):
        similarity.StepSimilarities  # noqa: B018
