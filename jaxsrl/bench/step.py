"""What an SRL step costs the host: its layout, the learner's rows, texts and log lines. Completions are made up.

And, counted, what the learner's gradient computes over what its trees need (`flops.py`), and what the sampler reads
(`sampler.py`).
"""

import io
import json
import os
import random
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxsrl.bench.flops import executed_over_useful
from jaxsrl.bench.pairs import names, step_text
from jaxsrl.bench.sampler import sampler_rows
from jaxsrl.collect import BatchShapes, Collect
from jaxsrl.collect.collect import Collection
from jaxsrl.collect.device import CARRIES, KEPT
from jaxsrl.collect.grading import Graded, Reader, own_jobs, read
from jaxsrl.collect.rollout_log import rollout_lines, shown_problems
from jaxsrl.config.demonstrations import ArithmeticTask
from jaxsrl.config.run import Config, Stage, Validate
from jaxsrl.data.byte_tokenizer import ByteTokenizer
from jaxsrl.data.chat import Template
from jaxsrl.data.choose import Room, choose_shapes
from jaxsrl.data.compaction import plan
from jaxsrl.data.layout import Layout, lay_out
from jaxsrl.data.templates import THINK_CLOSE, THINK_OPEN
from jaxsrl.data.token_bytes import token_bytes
from jaxsrl.data.tokenizer import Tokenizer, load_tokenizer
from jaxsrl.data.tree import build
from jaxsrl.evals.evaluate import Evaluation
from jaxsrl.metrics import Journal
from jaxsrl.models.config import ModelConfig, preset
from jaxsrl.objectives.srl import SRL
from jaxsrl.processes import counting
from jaxsrl.rewards.similarity import ActionSimilarity
from jaxsrl.rollout.sampling import Sampling
from jaxsrl.tasks.arithmetic import Arithmetic
from jaxsrl.train import train
from jaxsrl.types import Demonstration, Rewards

ACTIONS, CHARACTERS = 10, 480  # about 150 tokens of Qwen3's an action
ROW_TOKENS, ROWS = 8192, 64


def main(
    demonstrations: int, group_size: int, completion_tokens: int, processes: int, models: Sequence[str],
    path: Path | None,
) -> None:  # fmt: skip
    """Measures, prints a table, and writes it as JSON where a path is given.

    Args:
      models: presets whose FLOPs and bytes are counted, see `flops.py` and `sampler.py`.
    Raises: ValueError for sizes that leave nothing to measure, or an unknown preset.
    """
    for name in models:
        preset(name)  # before minutes are spent
    if min(demonstrations, completion_tokens, processes) < 1 or group_size < 2:
        raise ValueError(
            f"needs demonstrations, completion_tokens and processes >= 1 and group_size >= 2, got {demonstrations}, "
            f"{completion_tokens}, {processes} and {group_size}"
        )
    tokenizer = _tokenizer()
    seconds, again, about = measure(tokenizer, demonstrations, group_size, completion_tokens, processes)
    found = {
        "host_seconds/path": seconds["rows"], "host_seconds/all": sum(seconds.values()),
        "host_seconds/texts_seen_before": sum(seconds.values()) - seconds["layout"] + again,
        "host_peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, "fetches": fetches(),
    }  # fmt: skip
    found |= executed_over_useful(models) | sampler_rows(models)
    print(f"{demonstrations} demonstrations x {ACTIONS - 1} branch points x {group_size} rollouts, {about}")
    if processes > 1:
        print(f"of one of {processes} processes, which lays out the whole step and reads and logs its own rollouts")
    print("texts are tokenized for the first time, but in `texts_seen_before`, as where a run has measured its data")
    print("processor seconds of the host; the reward is not in them, and made-up completions are in the memory\n")
    for name, value in (seconds | found).items():
        print(f"{name:<32} {value:.3f}")
    if path is not None:
        path.write_text(json.dumps(found | {"parts": seconds, "about": about}, indent=1) + "\n")


def measure(
    tokenizer: Tokenizer, demonstrations: int, group_size: int, completion_tokens: int, processes: int = 1
) -> tuple[dict[str, float], float, str]:
    """Processor seconds of each part, of a second layout, whose texts are known, and what was measured in words."""
    rng, objective = random.Random(0), SRL(reward=None, group_size=group_size)
    items = [_demonstration(rng, i) for i in range(demonstrations)]
    points = [objective.branch_points(d, 0) for d in items]
    some = range(min(32, demonstrations))
    trees = [build(items[i], points[i], (), Template(), tokenizer) for i in some]
    room = Room(demonstrations=len(some), completion_tokens=completion_tokens, prompt_parts=processes)
    fixed = {"tokens": ROW_TOKENS, "rows": (ROWS, ROWS // 4, ROWS // 16)}
    shapes = choose_shapes(trees, [points[i] for i in some], room, fixed)
    pool = -(-shapes.trunk_tokens * demonstrations // len(some))
    shapes = replace(shapes, demonstrations=demonstrations, trunk_tokens=pool, prompt_tokens=2 * shapes.prompt_tokens)
    seconds: dict[str, float] = {}
    first = lambda rows: np.arange(rows) < rows // processes  # of one process
    clock = lambda name, run: _timed(seconds, name, run)
    lay = lambda: lay_out(
        items, points, shapes, template=Template(), tokenizer=tokenizer, held=first(shapes.prompt_rows)
    )
    layout = clock("layout", lay)
    again: dict[str, float] = {}
    _timed(again, "layout", lay)
    token, length = _completions(rng, tokenizer, layout, completion_tokens)
    active = layout.jobs.active
    used = np.zeros(len(layout.trunk.target), bool)
    planned = clock("rows", lambda: plan(layout.tables, length, active, used, shapes, held=first))
    reader = Reader(
        reward=None, described=None, token_bytes=token_bytes(tokenizer, Template()),
        own=np.arange(shapes.jobs) < shapes.jobs // processes,
    )  # fmt: skip
    jobs = own_jobs(reader, layout, range(len(layout.sheets)))
    rollouts = clock("texts", lambda: read(reader, layout, jobs, token, length))
    actions = tuple(text.partition(THINK_CLOSE)[2] for text in rollouts.text)
    expert = tuple(items[m].actions[k] for m, k in zip(rollouts.demonstration, rollouts.branch, strict=True))
    rewards = Rewards(
        reward=np.full(len(jobs), 0.25), action=actions, expert=expert, settings={"order": "model, expert"}
    )
    flags = np.where(active, CARRIES | KEPT, 0).astype(np.uint8)
    collection = Collection(
        layout=layout, position=0, step=0, whole=None, completions=None, scores=None, weighed=None, length=length,
        flags=flags,
        trunk_used=used, advantage=np.zeros(len(flags), np.float32), rounds=1, short=False,
    )  # fmt: skip
    graded = Graded(job=jobs, rollouts=rollouts, rewards=rewards)
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder))
        clock("lines", lambda: [journal.write(f"{name}.jsonl", lines(collection, graded, "srl", 1)) for name, lines in
                                (("problems", shown_problems), ("rollouts", rollout_lines))])  # fmt: skip
        journal.close()
        size = os.path.getsize(Path(folder) / "rollouts.jsonl")
    said = f"{len(jobs)} completions of up to {completion_tokens} tokens, {tokenizer.name}"
    return seconds, again["layout"], f"{said}, {len(planned.batches)} batches, {size / 2**20:.0f} MiB of lines"


def _timed(seconds: dict[str, float], name: str, run: Callable[[], Any]) -> Any:
    started = time.process_time()
    out = run()
    seconds[name] = time.process_time() - started
    return out


def _tokenizer() -> Tokenizer:
    """Qwen3's from the data folder that JAXSRL_DATA names, else bytes."""
    folder = Path(os.environ.get("JAXSRL_DATA", "")) / "tokenizers" / "qwen3"
    there = "JAXSRL_DATA" in os.environ and folder.is_dir()
    return load_tokenizer(folder, template="plain") if there else ByteTokenizer()


def _demonstration(rng: random.Random, index: int) -> Demonstration:
    own = names(rng)
    actions = tuple(step_text(rng, own, CHARACTERS) for _ in range(ACTIONS))
    return Demonstration(problem_id=str(index), problem=step_text(rng, own, 560), actions=actions, answer="1")


def _completions(rng, tokenizer: Tokenizer, layout: Layout, cap: int) -> tuple[np.ndarray, np.ndarray]:
    """Of every job: a thought of the wanted length, and an action."""
    thoughts = [tokenizer.encode(step_text(rng, names(rng), 900)) for _ in range(64)]
    actions = [tokenizer.encode(step_text(rng, names(rng), CHARACTERS)) for _ in range(64)]
    opened, closed = tokenizer.special(THINK_OPEN), tokenizer.special(THINK_CLOSE)
    token = np.zeros((len(layout.jobs.active), cap), np.int32)
    for job in np.flatnonzero(layout.jobs.active).tolist():
        end = [*closed, *actions[rng.randrange(64)], tokenizer.end]
        filling = (thoughts[rng.randrange(64)] * (1 + cap // 64))[: max(0, cap - len(end) - len(opened))]
        token[job] = [*opened, *filling, *end][-cap:]
    return token, np.where(layout.jobs.active, cap, 0).astype(np.int32)


def fetches() -> int:
    """How often a steady SRL step waits for a value of the device, whose reward is there: three steps' less two's."""
    counts = []
    for steps in (2, 3):
        with tempfile.TemporaryDirectory() as folder, counting() as fetched, quiet():
            train(_small(steps, folder))
        counts.append(len(fetched))
    return counts[1] - counts[0]


@contextmanager
def quiet() -> Iterator[None]:
    """What a run says goes nowhere."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        yield


def _small(steps: int, folder: str) -> Config:
    reward = ActionSimilarity(autojunk=False, malformed=0.0, think="optional", where="device")
    stage = Stage(
        name="srl", objective=SRL(reward=reward, group_size=2), steps=steps, collect=Collect(demonstrations=2),
        data=ArithmeticTask(settings=Arithmetic(run=(3, 3)), train=8, validation=1, test=1),
        sampling=Sampling(max_new_tokens=4), action_tokens=4, solve_tokens=4,
        validate=Validate(problems=1, evaluation=Evaluation(modes=("actions",))),
    )  # fmt: skip
    model = ModelConfig(vocab=272, width=16, layers=1, heads=2, kv_heads=1, head_width=8, mlp_width=16)
    rows = BatchShapes(tokens=128, rows=2, prompt_tokens=96, prompt_rows=2, slots=8, evaluate_rows=1, evaluate_slots=4)
    return Config(name="fetches", model=model, rows=rows, stages=(stage,), runs=folder, checkpoint_every=99)
