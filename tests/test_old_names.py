import pytest

from jaxsrl.config.overrides import override
from jaxsrl.objectives.rlvr import RLVR
from jaxsrl.objectives.srl import SRL
from tests.tiny_config import config


def test_an_old_setting_is_taken_and_said():
    with pytest.warns(FutureWarning, match=r"SRL\(samples=...\) is now group_size="):
        assert SRL(grader=None, samples=4).group_size == 4
    with pytest.raises(TypeError, match="leave out samples"):
        RLVR(grader=None, samples=4, group_size=4)
    with pytest.raises(TypeError, match="unexpected keyword argument 'sample'"):
        SRL(grader=None, sample=4)


def test_an_old_key_is_taken_and_said():
    with pytest.warns(FutureWarning, match="samples is now group_size"):
        made = override(config(), ["stages.srl.objective.samples=6"])
    assert made.stages[1].objective.group_size == 6
