"""A source of one's own, as `jaxsrl/data/README.md` writes it."""

from dataclasses import dataclass

from jaxsrl.config import TaskData, splits
from jaxsrl.data.actions import Splitter
from jaxsrl.data.demonstrations import Loaded, problem_id
from jaxsrl.rewards.answer import FinalAnswer
from jaxsrl.types import Demonstration


def our_rows():
    for n in range(40):
        yield f"row {n}", f"What is {n} + 1?", (f"{n} + 1 = {n + 1}", f"\\boxed{{{n + 1}}}"), str(n + 1)


@dataclass(frozen=True, kw_only=True)
class Mine:
    """Solutions from our own store."""

    held_out: int = 10

    def load(self, data_dir: str | None) -> TaskData:
        rows = [
            Demonstration(problem_id=problem_id(ask), problem=ask, actions=tuple(steps), answer=key, source=name)
            for name, ask, steps, key in our_rows()
        ]
        loaded = Loaded(demonstrations=tuple(rows), quarantine=(), counts={"rows": len(rows)}, files={})
        return splits(
            loaded, reward=FinalAnswer(extract="boxed"), finish_mark="\\boxed", splitter=Splitter(style="given"),
            held_out=self.held_out,
        )  # fmt: skip


def test_a_class_with_load_is_data():
    found = Mine().load(None)
    assert [len(part) for part in (found.train, found.validation, found.test)] == [30, 5, 5]
    assert found.finished("\\boxed{3}", found.train[0]) and found.first_action(" a \n b") == "a \n b"
    assert found.reward.judge("so \\boxed{3}", "3") and found.counts == {"rows": 40, "too_long": 0}
