"""A stage with a learning rate of 0 profiles its policy, and a later one trains on what that profile chooses."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jaxsrl.config.overrides import load, to_dict
from jaxsrl.data.curation import Curation
from jaxsrl.metrics import read
from jaxsrl.objectives.pivot import PivotRL
from jaxsrl.train import TrainingError
from tests.coin import coin
from tests.sharing import train

TINY = load(Path(__file__).parent / "tiny_config.py")


def rates(folder, stage):
    """Share of rewarded rollouts by problem."""
    rewards: dict[str, list[float]] = {}
    for line in read(folder / "rollouts" / f"{stage}.jsonl"):
        rewards.setdefault(line["problem"], []).append(line["reward"])
    return {name: float(np.mean(values)) for name, values in rewards.items()}


def test_a_band_of_the_start_policy(tmp_path):
    rlvr = TINY.stages[2]
    rlvr = replace(rlvr, objective=replace(rlvr.objective, reward=coin))
    common = dict(updates_per_rollout=1, test=None, validate=replace(rlvr.validate, every=0))
    profile = replace(
        rlvr, name="profile", start_from=None, steps=5, optimizer=replace(rlvr.optimizer, lr=0.0),
        collect=replace(rlvr.collect, demonstrations=1), **common,
    )  # fmt: skip
    band = replace(
        rlvr, name="band", start_from="profile", steps=2,
        curation=Curation(profile="profile", pass_rate=(0.0, 0.5), count=2), **common,
    )  # fmt: skip
    config = replace(TINY, stages=(profile, band), runs=str(tmp_path))
    folder = train(config)
    before = rates(folder, "profile")
    inside = {name for name, rate in before.items() if rate <= 0.5}
    assert len(before) == 5 and 2 <= len(inside) < 5  # one pass over all problems, and the band leaves some out
    assert len(rates(folder, "band")) == 2 and rates(folder, "band").keys() <= inside
    assert json.loads((folder / "config.json").read_text()) == to_dict(config)
    empty = replace(band, curation=Curation(profile="profile", pass_rate=(0.0, 0.5), count=5))
    with pytest.raises(TrainingError, match="stages.band.curation: .*pass_rate"):
        train(replace(config, name="empty", stages=(profile, empty)))


def test_a_profile_that_is_missing_is_named():
    _, srl, _ = TINY.stages
    with pytest.raises(ValueError, match="needs curation=Curation"):
        replace(srl, objective=PivotRL(reward=srl.objective.reward))
    with pytest.raises(ValueError, match="curation.profile='later' must be an earlier stage"):
        replace(TINY, stages=(replace(TINY.stages[0], curation=Curation(profile="later")),))
