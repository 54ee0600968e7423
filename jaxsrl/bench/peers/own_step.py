"""Optimizer steps of `jaxsrl train` with default settings, on the material of a folder.

python -m jaxsrl.bench.peers.own_step FOLDER CORE: one JSON line a step, with its processor seconds and the mean
tokens of its completions.
"""

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxsrl.collect import Collect
from jaxsrl.config import Config, Stage, TaskData, Validate
from jaxsrl.config.survive import Survive
from jaxsrl.evals.evaluate import Evaluation
from jaxsrl.models.config import ModelConfig
from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.rlvr import RLVR
from jaxsrl.objectives.srl import SRL
from jaxsrl.rewards.similarity import ActionSimilarity
from jaxsrl.rollout.sampling import Sampling
from jaxsrl.train import train
from jaxsrl.types import Demonstration, Rewards
from jaxsrl.update import AdamW


@dataclass(frozen=True)
class LowerShare:
    """The share of the cap that lower-case letters fill."""

    cap: int

    def __call__(self, rollouts, demonstrations) -> Rewards:
        share = [sum("a" <= c <= "z" for c in text[: self.cap]) / self.cap for text in rollouts.text]
        return Rewards(
            reward=np.array(share), action=tuple(rollouts.text), expert=(None,) * len(rollouts), settings={}
        )  # fmt: skip


@dataclass(frozen=True)
class Folder:
    """The demonstrations of the folder; one of them is asked before the first step, and none later."""

    folder: str
    reward: LowerShare | ActionSimilarity

    def load(self, data_dir: str | None) -> TaskData:
        rows = [json.loads(line) for line in (Path(self.folder) / "demonstrations.jsonl").read_text().splitlines()]
        items = tuple(
            Demonstration(problem_id=str(i), problem=row["problem"], actions=tuple(row["actions"]), answer="a")
            for i, row in enumerate(rows)
        )
        return TaskData(
            train=items, validation=items[:1], test=(), reward=self.reward, finished=lambda *_: True,
            first_action=lambda text: text,
        )  # fmt: skip


def main(folder: Path, core: int) -> None:
    os.sched_setaffinity(0, {core})
    sizes = json.loads((folder / "sizes.json").read_text())
    cap, group = sizes["completion_tokens"], sizes["group_size"]
    if sizes["reward"] == "lower":
        reward, mode, metric = LowerShare(cap), "direct", "direct/answer"
        objective = RLVR(reward=reward, policy=GRPO(filter_std=None), group_size=group)
    else:
        reward = ActionSimilarity(autojunk=False, malformed=0.0, think="optional")
        mode, metric = "actions", "actions/exact"  # it compares actions, not solutions
        objective = SRL(reward=reward, policy=GRPO(filter_std=None), group_size=group)
    stage = Stage(
        name="step", objective=objective, data=Folder(str(folder), reward), steps=sizes["steps"],
        collect=Collect(demonstrations=sizes["demonstrations"]), sampling=Sampling(max_new_tokens=cap),
        optimizer=AdamW(lr=sizes["lr"], weight_decay=0.0), validate=Validate(
            every=10**6, problems=1, metric=metric, evaluation=Evaluation(modes=(mode,)),
        ), solve_tokens=8, action_tokens=8,
    )  # fmt: skip
    config = Config(
        name="own", model=ModelConfig(**sizes["model"]), stages=(stage,), weights=str(folder / "model"),
        checkpoint_every=10**6, runs=str(folder / "runs"),
        survive=Survive(hang_after=0),  # it stands still while others have their turn
    )  # fmt: skip
    clock = {"last": time.process_time(), "step": 0}

    def asked() -> bool:
        """The loop asks whether to stop before every step."""
        now = time.process_time()
        if clock["step"]:
            cpu, tokens = round(now - clock["last"], 4), _completion_tokens(folder / "runs" / "own" / "metrics.jsonl")
            print(json.dumps({"step": clock["step"], "cpu": cpu, "tokens": tokens}), flush=True)
        clock.update(last=now, step=clock["step"] + 1)
        return False

    train(config, stop=asked)


def _completion_tokens(metrics: Path) -> float | None:
    """Of the last step on average; None before the first one, when only an evaluation was asked about."""
    said = json.loads(metrics.read_text().splitlines()[-1])
    return said.get("completion/tokens_mean")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
