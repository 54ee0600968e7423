"""A stage with a seed of its own is the same in runs of every seed, and what follows is not."""

from dataclasses import replace
from pathlib import Path

import pytest

from jaxsrl.config.overrides import load, override
from jaxsrl.metrics import read
from jaxsrl.models.lora import LoRA
from tests.sharing import train

TINY = load(Path(__file__).parent / "tiny_config.py")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Of seeds 0 and 1: the lines of the base, which has a seed of its own or the run's, and the rollouts after it."""
    folder = tmp_path_factory.mktemp("seeds")

    def lines(seed: int, own: int | None):
        base, after = (replace(stage, steps=count) for stage, count in zip(TINY.stages, (2, 1), strict=False))
        made = replace(
            TINY, name=f"run{seed}-{own}", seed=seed, stages=(replace(base, seed=own), after), runs=str(folder),
        )  # fmt: skip
        run = train(made)
        learned = [
            line["loss"] for line in read(run / "metrics.jsonl") if line["stage"] == base.name and "loss" in line
        ]
        sampled = [line["completion"] for line in read(run / "rollouts" / f"{after.name}.jsonl")]
        return learned, sampled

    return {(seed, own): lines(seed, own) for seed in (0, 1) for own in (7, None)}


def test_runs_of_two_seeds_share_the_stage_that_has_its_own(runs):
    assert len(runs[0, 7][0]) == 2 and runs[0, 7][0] == runs[1, 7][0]


def test_without_one_they_differ(runs):
    assert runs[0, None][0] != runs[1, None][0] != runs[1, 7][0]


def test_a_later_stage_follows_the_seed_of_the_run(runs):
    assert runs[0, 7][1] and runs[0, 7][1] != runs[1, 7][1]


def test_it_is_set_by_name_and_checked():
    assert override(TINY, ["stages.sft.seed=5"]).seed_of(0) == 5
    assert TINY.seed_of(0) == TINY.seed
    with pytest.raises(ValueError, match=r"stages.sft.seed must be in 0\.\.2\*\*31-1, got -1"):
        override(TINY, ["stages.sft.seed=-1"])


def test_adapters_on_a_base_that_follows_the_run_are_refused():
    first = replace(TINY.stages[0], seed=5)
    with pytest.raises(ValueError, match="stages.sft.seed=5: without `weights` the base under the adapters"):
        replace(TINY, lora=LoRA(), stages=(first, *TINY.stages[1:]))
