"""The audits of traces and of difficulty with a real sampler: a policy that learned one maze by heart."""

import json
from dataclasses import dataclass, replace

import pytest

from jaxsrl.config.generated import Generated
from jaxsrl.config.overrides import load
from jaxsrl.config.run import TaskData
from jaxsrl.evals.audits.difficulty import Difficulty
from jaxsrl.evals.audits.traces import Traces
from jaxsrl.evals.evaluate import Evaluation
from jaxsrl.objectives.sft import SFT
from jaxsrl.tasks.mazes import Mazes
from jaxsrl.update import AdamW
from tests.commands.random_model import TINY
from tests.sharing import train

MAZES = Mazes(size=3, family="kruskal", least=1)
SHORTEST = min(range(12), key=lambda i: len("".join(MAZES.demonstration("test", i).actions)))


@dataclass(frozen=True, kw_only=True)
class OneMaze:
    """The same maze to learn from and to be asked."""

    def load(self, data_dir: str | None) -> TaskData:
        loaded = Generated(task=MAZES, train=1, validation=1, test=1).load(data_dir)
        one = (MAZES.demonstration("test", SHORTEST),)
        return replace(loaded, train=one, validation=one, test=one)


@pytest.fixture(scope="module")
def metrics(tmp_path_factory):
    """Of the tests of `heart`, which learns one maze and is asked it, and of `others`: the same policy on others."""
    config = load(TINY)
    validate = replace(config.stages[0].validate, every=0, problems=1)
    test = Evaluation(modes=("direct",), probes=(Traces(away=("wilson",), problems=3), Difficulty()))
    heart = replace(
        config.stages[0], name="heart", objective=SFT(trunk=("solve",)), data=OneMaze(), steps=200, validate=validate,
        optimizer=AdamW(lr=3e-2, schedule="cosine"), test=test, test_problems=1, solve_tokens=160,
    )  # fmt: skip
    data = Generated(task=MAZES, train=2, validation=1, test=12)
    others = replace(heart, name="others", data=data, steps=0, start_from="heart", test_problems=12)
    rows = replace(config.rows, tokens=512, prompt_tokens=384)
    made = replace(
        config, name="maze", model=replace(config.model, width=32), rows=rows, stages=(heart, others),
        checkpoint_every=1000, runs=str(tmp_path_factory.mktemp("runs")),
    )  # fmt: skip
    lines = [json.loads(line) for line in (train(made) / "metrics.jsonl").open()]
    return {line["stage"]: line for line in lines if line.get("split") == "test"}


def test_what_was_learned_by_heart_is_valid_there_and_nowhere_else(metrics):
    heart = metrics["heart"]
    assert heart["traces/problems"] == heart["traces/right"] == heart["traces/trace_valid"] == 1
    assert heart["traces/trace_lines"] == heart["traces/work"] and heart["traces/capped"] == 0
    assert heart["traces/wilson_right"] == heart["traces/wilson_trace_valid"] == 0
    # the same policy, asked other mazes beside it: what it writes still looks like a search, and is none of theirs
    others = metrics["others"]
    assert others["traces/problems"] == 9 and others["traces/trace_lines"] > 2
    assert others["traces/right"] == others["traces/trace_valid"] == pytest.approx(1 / 9)
    assert others["traces/trace_valid_right"] == 1 and others["traces/trace_valid_wrong"] == 0


def test_its_accuracy_falls_with_difficulty(metrics):
    """The one that it knows is one of the easiest; the levels are the operations of the search."""
    found = {n.removeprefix("difficulty/"): v for n, v in metrics["others"].items() if n.startswith("difficulty/")}
    assert [found[f"difficulty_{i}"] for i in range(1, 6)] == [5, 7, 9, 12, 14] and found["trend"] < 0
    assert found["right_1"] > 0 == found["right_5"] and found["right_5_high"] > 0.5
    assert metrics["heart"]["difficulty/trend"] is None and metrics["heart"]["difficulty/right_1"] == 1
