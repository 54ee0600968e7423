"""Every config that ships takes two optimizer steps a stage, at smoke size."""

from dataclasses import fields, replace
from pathlib import Path

import pytest

from jaxsrl.collect import BatchShapes, Collect
from jaxsrl.config import Gsm8k
from jaxsrl.config.altered import AlteredInputs, WithUnanswerable
from jaxsrl.config.generated import Generated, UnitCommitment
from jaxsrl.config.overrides import load, override
from jaxsrl.evals.evaluate import Evaluation
from jaxsrl.metrics import read
from jaxsrl.models.config import ModelConfig
from jaxsrl.rewards.overlong import Overlong
from tests.sharing import train

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.py"))
REAL = ("agent", "gsm8k", "math", "numina", "prm800k", "smollm2", "task_commitment")
ONE_SIZE = BatchShapes(
    tokens=1280, rows=1, prompt_tokens=1024, prompt_rows=1, slots=4, evaluate_rows=1, evaluate_slots=4
)
SMALL = ModelConfig(vocab=272, width=16, layers=1, heads=2, kv_heads=1, head_width=8, mlp_width=16)


def smoke(stage):
    """Two steps on two demonstrations; everything an objective decides stays as it is."""
    objective = stage.objective
    names = {f.name for f in fields(objective)}
    few = {"group_size": 2, "max_branch_points": 2}
    objective = replace(objective, **{name: value for name, value in few.items() if name in names})
    if isinstance(getattr(objective, "reward", None), Overlong):
        objective = replace(objective, reward=replace(objective.reward, max_tokens=8, margin_tokens=4))
    validate = replace(
        stage.validate, every=0, problems=1, evaluation=Evaluation(modes=("actions",)), metric="actions/exact"
    )
    # A policy of no skill solves nothing: bands of what it solves would be empty.
    curation = stage.curation and replace(stage.curation, pass_rate=None, bucket=None)
    data = few_of(stage.data)
    if data != stage.data:
        stage = replace(stage, rows=ONE_SIZE)  # so that they share what is compiled
    if isinstance(data, Gsm8k):  # a few hundred short problems are measured as fast as they are read
        data = replace(data, max_characters=min(data.max_characters or 320, 240))
    return replace(
        stage, objective=objective, curation=curation, data=data, steps=min(stage.steps, 2),
        collect=Collect(demonstrations=2), validate=validate, test=None,
        sampling=replace(stage.sampling, max_new_tokens=8), action_tokens=8, solve_tokens=8,
        rows=replace(stage.rows, rows=1, prompt_rows=1, slots=4) if stage.rows else None,
    )  # fmt: skip


def few_of(data):
    """Some tasks solve every problem that they make."""
    if isinstance(data, AlteredInputs | WithUnanswerable):
        return replace(data, data=replace(data.data, train=8, validation=2, test=2))
    return replace(data, train=8, validation=2, test=2) if isinstance(data, Generated | UnitCommitment) else data


def shrunk(path, runs):
    config = load(path)
    rows = replace(config.rows, rows=1, prompt_rows=1, slots=4, evaluate_rows=1, evaluate_slots=4)
    # Published weights are not at hand: a model from scratch over bytes stands in for them.
    return replace(
        config, model=SMALL, weights=None, rows=rows, stages=tuple(map(smoke, config.stages)), runs=str(runs)
    )


def lines_of(folder, stage):
    return [x for x in read(folder / "metrics.jsonl") if x["stage"] == stage and x["kind"] == "train"]


def marked(path):
    return pytest.param(path, marks=[pytest.mark.needs("reasoning_gym")] if path.stem == "task_reasoning_gym" else [])


@pytest.mark.parametrize("path", [marked(p) for p in CONFIGS if not p.stem.startswith(REAL)], ids=lambda p: p.stem)
def test_generated_data(path, tmp_path):
    config = shrunk(path, tmp_path)
    folder = train(config)
    for stage in config.stages:
        assert [line["step"] for line in lines_of(folder, stage.name)] == [1, 2][: stage.steps]
    assert (folder / "report.html").stat().st_size > 1000


@pytest.mark.parametrize("path", [p for p in CONFIGS if p.stem.startswith(REAL)], ids=lambda p: p.stem)
def test_real_data(path, tmp_path, data_dir):
    """No good row is set aside, and every stage moves."""
    config = replace(shrunk(path, tmp_path), data_dir=str(data_dir))
    folder = train(config)
    assert not (folder / "quarantine").exists()
    for stage in config.stages:
        assert [line["step"] for line in lines_of(folder, stage.name)] == [1, 2][: stage.steps]


def test_qwen3_tokenizer(tmp_path, data_dir):
    """With another tokenizer, cut down to the ids that occur, the same config runs."""
    config = shrunk(next(p for p in CONFIGS if p.stem == "gsm8k_sft"), tmp_path)
    config = override(config, ["tokenizer=tokenizers/qwen3", "used_ids_only=true", "name=qwen"])
    folder = train(replace(config, data_dir=str(data_dir)))
    (stage,) = config.stages
    losses = [line["loss"] for line in lines_of(folder, stage.name)]
    assert len(losses) == 2 and losses[1] < losses[0] + 1


def test_a_recipe(tmp_path, data_dir):
    """All recipes are one function: the one with adapters, on short problems and without its weights."""
    path = CONFIGS[0].parent / "recipes" / "qwen3_8b_lora_h100.py"
    config = replace(shrunk(path, tmp_path), weights=None, data_dir=str(data_dir))
    short = ["stages.srl.data.held_out=2", "stages.srl.data.max_characters=700"]
    config = override(config, [*short, "rows.tokens=2560", "rows.prompt_tokens=1536"])
    assert [line["step"] for line in lines_of(train(config), "srl")] == [1, 2]


def test_every_config_says_how_it_is_run():
    for path in CONFIGS:
        head = path.read_text().split('"""')[1]
        assert f"configs/{path.name}" in head and "Run:" in head, path
