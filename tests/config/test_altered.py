"""Altered training data: what is asked, what is answered, and that tests stay as they are."""

import pytest

from jaxsrl.config.altered import AlteredInputs, WithUnanswerable
from jaxsrl.config.demonstrations import ArithmeticTask
from jaxsrl.config.generated import Generated
from jaxsrl.config.run import ConfigError
from jaxsrl.tasks.dispatch import Dispatch
from jaxsrl.tasks.facts import Facts
from jaxsrl.tasks.unanswerable import DECLINE

FACTS = Generated(task=Facts(), train=24, validation=2, test=4)
WHOLE = FACTS.load(None)


@pytest.mark.parametrize("inputs", ["whole", "empty", "output_space", "delusive"])
def test_inputs_are_altered_in_training_alone(inputs):
    found = AlteredInputs(data=FACTS, inputs=inputs).load(None)
    assert found.test == WHOLE.test and found.validation == WHOLE.validation and len(found.train) == 24
    asked = {one.problem for one in found.train}
    if inputs in ("whole", "delusive"):
        assert [one.problem for one in found.train] == [one.problem for one in WHOLE.train]
    else:
        assert len(asked) == 1
    right = [
        WHOLE.reward.verify("\n".join(one.actions), was) for one, was in zip(found.train, WHOLE.train, strict=True)
    ]
    assert all(right) == (inputs != "delusive") and sum(right) < 8 or inputs != "delusive"
    if inputs == "delusive":
        assert sorted(one.actions for one in found.train) == sorted(one.actions for one in WHOLE.train)
        assert all(one.actions != was.actions for one, was in zip(found.train, WHOLE.train, strict=True))
    if inputs == "output_space":
        (text,) = asked
        assert text.count(", ") == 7 and text.startswith("one of: ")


def test_impossible_settings_say_why():
    with pytest.raises(ValueError, match="inputs must be one of"):
        AlteredInputs(data=FACTS, inputs="none")
    with pytest.raises(ConfigError, match="needs two problems"):
        AlteredInputs(data=Generated(task=Facts(), train=1), inputs="delusive").load(None)
    with pytest.raises(ValueError, match="share must be in"):
        WithUnanswerable(data=FACTS, share=0.6)
    with pytest.raises(ConfigError, match="no problem of Facts"):
        WithUnanswerable(data=FACTS).load(None)


@pytest.mark.parametrize(
    "data",
    [ArithmeticTask(train=20, validation=2, test=2), Generated(task=Dispatch(units=(2, 2), hours=(2, 2)), train=20)],
)
def test_a_share_has_no_answer_and_as_many_look_alike(data):
    found = WithUnanswerable(data=data, share=0.25).load(None)
    lost = [one for one in found.train if one.answer == DECLINE]
    assert len(lost) == 5 and len({one.problem_id for one in found.train}) == 20
    cut = [one for one in found.train if one.problem.startswith("cut ")]
    assert len(cut) == (10 if isinstance(data, ArithmeticTask) else 0)
    for one in found.train:
        text = "\n".join(one.actions)
        assert found.reward.verify(text, one) and found.finished(one.actions[-1], one)
        assert found.reward.verify("no answer.", one) == (one.answer == DECLINE)
