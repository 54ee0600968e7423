"""A made-up run folder with everything a real one holds, of any size."""

import itertools
import json
import math
import random
from difflib import SequenceMatcher
from pathlib import Path

import pytest

OBJECTIVES = {
    "sft": {"type": "SFT", "average": "token"},
    "srl": {"type": "SRL", "group_size": 8, "threshold": 0.05, "clip_low": 0.2, "clip_high": 0.2, "kl_coef": 0.0},
    "rlvr": {"type": "GRPO", "group_size": 8, "clip_low": 0.2, "clip_high": 0.28, "kl_coef": 0.0},
}
EXPERT = "Add the tens: 40 + 30 = 70, then the ones: 7 + 5 = 12"
ACTIONS = (
    EXPERT, "Add the tens: 40 + 30 = 70, and the ones 7 + 5 = 13", "Sum the tens first: 40 + 30 = 70",
    "7 + 5 = 12, carry the one", "The answer is 82", None, "Add the ones: 5 + 7 = 12, then the tens: 40 + 30 = 70",
    "Add the tens: 40 - 30 = 10",
)  # fmt: skip


def config(stages, steps):
    data = {"type": "Arithmetic", "problems": 4000, "operands": 3, "digits": 2, "think": True}
    made = []
    for i, name in enumerate(stages):
        made.append({
            "type": "Stage", "name": name, "objective": OBJECTIVES[name], "data": data, "steps": steps,
            "optimizer": {"type": "AdamW", "lr": 3e-5 if i else 1e-3, "schedule": "constant" if i else "cosine"},
            "start_from": f"{stages[i - 1]}:best" if i else None,
        })  # fmt: skip
    model = {"type": "ModelConfig", "layers": 4, "width": 128, "heads": 4, "vocab": 272}
    return {"type": "Config", "name": "srl_arithmetic", "model": model, "stages": made, "seed": 0, "tokenizer": "bytes"}


def train_line(stage, step, steps, noise):
    u = step / steps
    line = {
        "stage": stage,
        "step": step,
        "kind": "train",
        "lr": 1e-3 * (1 + math.cos(math.pi * u)) / 2 if stage == "sft" else 3e-5,
    }
    if stage == "sft":
        line |= {"loss": 0.2 + 2.2 * math.exp(-6 * u) + noise.gauss(0, 0.05)}
    else:
        reward = 0.3 + 0.35 * (1 - math.exp(-3 * u)) + noise.gauss(0, 0.05)
        line |= {
            "loss": noise.gauss(0, 0.02), "reward/mean": reward, "reward/similarity": reward + 0.1,
            "reward/malformed_share": max(0.0, 0.4 * math.exp(-5 * u) + noise.gauss(0, 0.02)), "collect/groups": 64,
            "collect/kept_share": 0.9 - 0.4 * u + noise.gauss(0, 0.04), "collect/rounds": 1 + (noise.random() < u),
            "completion/tokens_mean": 40 - 12 * u + noise.gauss(0, 1),
            "completion/entropy": 0.9 * math.exp(-u) + noise.gauss(0, 0.03),
            "completion/truncated_share": max(0.0, 0.05 - 0.1 * u), "pack/cut_trees": 0,
            "pack/tokens": 9000 + noise.gauss(0, 300),
        }  # fmt: skip
    return line | {"grad/norm": 0.6 + 0.2 * noise.random() + (40 if noise.random() < 0.01 else 0), "update/skipped": 0}


def eval_line(stage, step, split, level, noise):
    line = {"stage": stage, "step": step, "kind": "eval", "split": split, "actions/count": 380, "direct/count": 100}
    shares = {"actions/exact": 0.1 + 0.6 * level, "chained/answer": 0.02 + 0.6 * level,
              "direct/answer": 0.05 + 0.5 * level,
              "forced_actions/exact": 0.12 + 0.6 * level, "forced_chained/answer": 0.03 + 0.6 * level}  # fmt: skip
    for name, value in shares.items():
        value = min(1.0, max(0.0, value + noise.gauss(0, 0.015)))
        half = 1.96 * math.sqrt(value * (1 - value) / 100) + 0.01
        line |= {name: value, f"{name}_low": max(0.0, value - half), f"{name}_high": min(1.0, value + half)}
    similar = 0.45 + 0.4 * level
    line |= {"actions/similarity": similar,
             "actions/similarity_low": similar - 0.03, "actions/similarity_high": similar + 0.03,
             "actions/similarity_other_problem": 0.31, "actions/similarity_previous": 0.42}  # fmt: skip
    for mode in ("actions", "direct", "chained", "forced_actions", "forced_chained"):
        thinks = 1.0 if "forced" in mode else 0.2 + 0.7 * level
        line |= {
            f"{mode}/malformed": 0.3 * (1 - level),
            f"{mode}/thinks": thinks,
            f"{mode}/tokens_mean": 40 + 10 * level,
        }
    return line


def rollout_rows(stage, step, groups, expert=EXPERT):
    rows = []
    for group in range(groups):
        kept = group % 3 != 1
        for sample in range(8):
            action = ACTIONS[(sample + group) % 8]
            text = "<think>I have 47 and 35. Tens and ones\nseparately are easier.</think>" + (action or "")
            if action is None:
                text = "<think>47 + 35 is 40 + 30 + 7 + 5 is 70 + 12 and so on and"
            reward = -1.0 if action is None else SequenceMatcher(None, action, expert, autojunk=False).ratio()
            rows.append({
                "stage": stage, "step": step, "problem": f"train-{step}-{group}", "branch": group % 3, "group": group,
                "sample": sample, "expert_action": expert, "completion": text, "truncated": action is None,
                "action": action,
                "reward": reward, "advantage": (reward - 0.4) if kept else 0.0, "kept": kept, "tokens": len(text),
                "form": "action", "reward_settings": {"unit": "char", "autojunk": False},
            })  # fmt: skip
    return rows


def dump(path: Path, rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def build_run(folder: Path, stages=("sft", "srl", "rlvr"), steps=12, every=4, groups=3) -> Path:
    noise = random.Random(0)
    metrics, timing = [], []
    for i, stage in enumerate(stages):
        for step in range(steps + 1):
            if step:
                metrics.append(train_line(stage, step, steps, noise))
                seconds = {
                    "collect": 0.0 if stage == "sft" else 1.1,
                    "update": 0.7,
                    "evaluate": 0.2,
                    "checkpoint": 0.01,
                }
                timing.append(
                    {"attempt": 1, "stage": stage, "step": step, "seconds": seconds, "tokens_per_second": 5200.5}
                )
            if step % every == 0:
                metrics.append(eval_line(stage, step, "validation", (i + step / steps) / len(stages), noise))
        metrics.append(eval_line(stage, steps, "test", (i + 1) / len(stages), noise))
        if stage != "sft":
            dump(
                folder / f"rollouts/{stage}.jsonl",
                [r for s in range(1, steps + 1) for r in rollout_rows(stage, s, groups)],
            )
    dump(folder / "metrics.jsonl", metrics)
    dump(folder / "timing.jsonl", timing)
    (folder / "config.json").write_text(json.dumps(config(stages, steps)))
    (folder / "environment.json").write_text(json.dumps({"python": "3.11.9", "devices": ["cpu"], "cores": 2}))
    for attempt in (1, 2):
        (folder / f"logs/attempt_{attempt}").mkdir(parents=True)
    (folder / "quarantine").mkdir()
    for stage in stages:
        (folder / f"quarantine/{stage}.txt").write_text("demos.jsonl:17: not JSON\ndemos.jsonl:40: no actions\n")
    return folder


@pytest.fixture
def make_run(tmp_path):
    """make_run(...) writes a run folder of the given stages and size and returns it."""
    made = itertools.count()
    return lambda **size: build_run(tmp_path / f"run{next(made)}", **size)


@pytest.fixture
def sampled():
    """sampled(stage, step, groups) is a step's lines of rollouts."""
    return rollout_rows
