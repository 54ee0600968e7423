"""Sources mixed by weight: shares, sides, and a position that any number of processes goes on from."""

import json
from dataclasses import replace

import pytest

from jaxsrl.config.demonstrations import Files
from jaxsrl.config.keys import check_keys
from jaxsrl.config.mixed import Mixed
from jaxsrl.config.run import ConfigError, Stage, Validate
from jaxsrl.data.demonstrations import Fields
from jaxsrl.data.sources import Order, take
from jaxsrl.evals.evaluate import Evaluation
from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.rlvr import RLVR
from jaxsrl.rewards.answer import FinalAnswer


def write(path, numbers):
    rows = [{"problem": f"Add {n}.", "solution": f"a\nb {n}", "answer": None if n % 10 == 3 else n} for n in numbers]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def mixed(tmp_path):
    write(tmp_path / "a.jsonl", range(40))
    write(tmp_path / "b.jsonl", range(30, 60))
    part = Files(paths=str(tmp_path / "a.jsonl"), fields=Fields(answer="answer"), held_out=6)
    return Mixed(parts=(part, replace(part, paths=str(tmp_path / "b.jsonl"), split_seed=4)), weights=(3.0, 1.0))


def test_no_part_trains_on_what_another_holds_out(mixed):
    found = mixed.load(None)
    away = {d.problem_id for d in (*found.validation, *found.test)}
    assert len(found.validation) == len(found.test) == 6 and not away & {d.problem_id for d in found.train}
    alone = [part.load(None) for part in mixed.parts]
    assert away & {d.problem_id for part in alone for d in part.train}  # there was something to get wrong
    assert sum(found.parts) == len(found.train) < sum(len(part.train) for part in alone)
    assert found.counts["rows"] == 70 and len(found.files) == 2


def test_weights_are_shares_of_what_is_drawn():
    order = Order(count=30, seed=0, parts=(20, 10), weights=(3.0, 1.0))
    drawn = [order(at) for at in range(80)]
    assert sum(i < 20 for i in drawn) == 60 and sorted(i for i in drawn if i < 20)[::3] == list(range(20))
    assert sorted(i for i in drawn if i >= 20)[::2] == list(range(20, 30))
    assert drawn != [Order(count=30, seed=1, parts=(20, 10), weights=(3.0, 1.0))(at) for at in range(80)]
    whole, after = take(range(30), order, 8, 12)
    shares = [take(range(30), replace(order, shard_index=i, shard_count=3), 8, 12) for i in range(3)]
    assert sum((share for share, _ in shares), []) == whole and {at for _, at in shares} == {after}
    with pytest.raises(ValueError, match="add up to 30"):
        Order(count=30, seed=0, parts=(20, 9), weights=(3.0, 1.0))


def test_rows_without_a_key_leave_their_part(mixed):
    stage = Stage(
        name="s", objective=RLVR(reward=FinalAnswer(), group_size=4, policy=GRPO()), data=mixed, steps=1,
        validate=Validate(evaluation=Evaluation(modes=("actions",))),
    )  # fmt: skip
    found = mixed.load(None)
    kept = check_keys(stage, found)
    assert (
        kept.counts["without_key"] > 0
        and sum(kept.parts) == len(kept.train) == sum(found.parts) - kept.counts["without_key"]
    )
    names = [d.source.rpartition(":")[0] for d in kept.train]
    assert names == [mixed.parts[0].paths[0]] * kept.parts[0] + [mixed.parts[1].paths[0]] * kept.parts[1]


def test_parts_that_cannot_be_mixed(mixed):
    with pytest.raises(ValueError, match="a weight for each"):
        replace(mixed, weights=(1.0,))
    with pytest.raises(ValueError, match="> 0"):
        replace(mixed, weights=(1.0, 0.0))
    other = replace(mixed, parts=(mixed.parts[0], replace(mixed.parts[1], extract="hash")))
    with pytest.raises(ConfigError, match=r"data.parts.1 judges final answers otherwise"):
        other.load(None)
