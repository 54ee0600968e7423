"""Tokens per second and peak memory of optimizer steps of SFT, SRL and RLVR, at random weights of any size."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import jax
import numpy as np

from jaxsrl.bench.synthetic import WideBytes, long_demonstrations
from jaxsrl.bench.workload import Work
from jaxsrl.collect import BatchShapes, Collect
from jaxsrl.collect.collect import collect, collection_metrics
from jaxsrl.collect.learn import learn
from jaxsrl.config.run import Config, Stage
from jaxsrl.data.sources import Order
from jaxsrl.data.token_bytes import token_bytes
from jaxsrl.models.config import ModelConfig, parameter_count, preset
from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.rlvr import RLVR
from jaxsrl.objectives.sft import SFT
from jaxsrl.objectives.srl import SRL
from jaxsrl.policy import Compiled, first_params, make_placement, make_policy, sampling_params
from jaxsrl.rewards.answer import FinalAnswer
from jaxsrl.rewards.similarity import ActionSimilarity
from jaxsrl.rollout.sampling import Sampling
from jaxsrl.sharding import MeshShape, place_state
from jaxsrl.stages.functions import make_collector, make_learner
from jaxsrl.stages.material import Material, Source
from jaxsrl.stages.sizes import chosen_shapes
from jaxsrl.types import Objective
from jaxsrl.update import init_state, optimizer

NAMES = ("sft", "srl", "rlvr")


def shapes(work: Work) -> BatchShapes:
    """Those of the compiled programs."""
    trunk = work.prompt_tokens + work.actions * (work.action_tokens + 1) + 64  # 64: what the template adds
    return BatchShapes(
        tokens=work.row_tokens, rows=work.rows, prompt_tokens=trunk, prompt_rows=work.demonstrations, slots=work.slots
    )


@dataclass(frozen=True, kw_only=True)
class Speed:
    """One objective. Seconds are medians of a step's parts; tokens are real ones, padding is not counted."""

    objective: str
    sample_seconds: float
    grade_seconds: float  # layout, rewards, weights: what lies beside the sampler until the learner begins
    learn_seconds: float
    sampled_tokens: int
    learned_tokens: int
    padding_share: float
    compile_seconds: float  # the first step, with its own work
    peak_gib: float | None  # of the fullest device, of the process so far; None where the backend does not say


def objectives() -> dict[str, Objective]:
    """No group is dropped, however a random model is rewarded."""
    similarity = ActionSimilarity(autojunk=False, malformed=0.0, think="optional")
    return {
        "sft": SFT(),
        "srl": SRL(reward=similarity, policy=GRPO()),
        "rlvr": RLVR(reward=FinalAnswer(verify=lambda text, _: sum(text.encode()) % 2 == 0), policy=GRPO()),
    }


def measure(name: str, model: ModelConfig, work: Work, layout: MeshShape, steps: int) -> Speed:
    """Median of `steps` optimizer steps after the one that compiles."""
    objective = replace(objectives()[name], **({} if name == "sft" else {"group_size": work.group_size}))
    stage = Stage(
        name=name, objective=objective, data=None, steps=steps + 1, collect=Collect(demonstrations=work.demonstrations),
        sampling=Sampling(max_new_tokens=work.completion_tokens), rows=shapes(work),
    )  # fmt: skip
    config = Config(name="bench", model=model, stages=(stage,), mesh=layout, layout_workers=0)
    tokenizer = WideBytes(model.vocab)
    material = Material(
        model=model, tokenizer=tokenizer, token_bytes=token_bytes(tokenizer, config.template),
        placement=make_placement(config.mesh, config.layout_to_sample), compiled=Compiled(),
    )  # fmt: skip
    mesh = material.placement.mesh
    params = first_params(model, 0, 0, None, mesh)
    policy = make_policy(model, params, None, None, material.placement, tokenizer.ends, material.compiled)
    state = place_state(mesh, init_state(params, optimizer(stage.optimizer), jax.random.key(0)))
    items = long_demonstrations(work)
    source = Source(items=items, order=Order(count=len(items), seed=0))
    sizes = chosen_shapes(config, stage, source, material)
    learner = make_learner(config, stage, material, policy, sizes)
    collector = make_collector(config, stage, material, policy, sizes, learner, source, lambda: None)
    clock = _Clock()
    collector = replace(collector, draw=clock.timed(collector.draw))
    parts = []
    for step in range(steps + 1):
        started, clock.seconds = time.perf_counter(), 0.0
        key = jax.random.fold_in(jax.random.key(1), step)
        sampled = sampling_params(replace(policy, params=state.params))[0]
        found = collect(collector, 0, step, lambda sampled=sampled: sampled, key, 1.0)
        between = time.perf_counter()
        state, _, rows = learn(learner, state, found, lambda: None)
        jax.block_until_ready(state.params)
        ended = time.perf_counter()
        parts.append((clock.seconds, between - started - clock.seconds, ended - between))
    sample, grade, learned = np.median(parts[1:], axis=0)
    metrics = collection_metrics(collector.reader, found, {})
    return Speed(
        objective=name, sample_seconds=sample, grade_seconds=grade, learn_seconds=learned,
        sampled_tokens=metrics["collect/sampled_tokens"], learned_tokens=rows["pack/tree_tokens"],
        padding_share=1 - rows["pack/tokens"] / rows["pack/slots"], compile_seconds=sum(parts[0]),
        peak_gib=_peak_gib(),
    )  # fmt: skip


class _Clock:
    """Keeps the seconds of calls apart."""

    def __init__(self):
        self.seconds = 0.0

    def timed(self, function):
        def run(*arguments):
            started = time.perf_counter()
            out = jax.block_until_ready(function(*arguments))
            self.seconds += time.perf_counter() - started
            return out

        return run


def _peak_gib() -> float | None:
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    peaks = [s["peak_bytes_in_use"] for s in stats if "peak_bytes_in_use" in s]
    return max(peaks) / 2**30 if peaks else None


def main(names: Sequence[str], size: str, work: Work, layout: MeshShape, steps: int, path: Path | None) -> None:
    """Measures, prints a table, and writes it as JSON where a path is given.

    Raises: ValueError for an unknown objective or preset, or fewer than one step.
    """
    unknown = [name for name in names if name not in NAMES]
    if unknown or steps < 1:
        raise ValueError(f"objectives are {', '.join(NAMES)} and steps >= 1, got {unknown or names} and steps={steps}")
    model = preset(size)
    device = jax.devices()[0]
    print(f"{size}: {parameter_count(model) / 1e6:.1f} M parameters, {model.dtype} over float32, remat {model.remat}")
    print(f"{layout.size} x {device.device_kind}, jax {jax.__version__}; {work}\n")
    print("| objective | step s | sample s | grade s | learn s | sampled tok/s | learned tok/s | padding | peak GiB |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    rows = []
    for name in names or NAMES:
        speed = measure(name, model, work, layout, steps)
        rows.append(asdict(speed))
        print(_line(speed))
    if path is not None:
        about = {"model": size, "device": device.device_kind, "jax": jax.__version__, "steps": steps}
        path.write_text(json.dumps(about | {"work": asdict(work), "mesh": asdict(layout), "rows": rows}, indent=1))


def _line(speed: Speed) -> str:
    seconds = (speed.sample_seconds, speed.grade_seconds, speed.learn_seconds)
    sampled = f"{speed.sampled_tokens / seconds[0]:,.0f}" if speed.sampled_tokens else "–"
    peak = "–" if speed.peak_gib is None else f"{speed.peak_gib:.2f}"
    times = " | ".join(f"{x:.3f}" for x in (sum(seconds), *seconds))
    learned = f"{speed.learned_tokens / seconds[2]:,.0f}"
    return f"| {speed.objective} | {times} | {sampled} | {learned} | {speed.padding_share:.0%} | {peak} |"
