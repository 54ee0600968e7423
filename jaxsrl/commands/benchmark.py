"""Published test sets asked of a policy: greedy and sampled, with progress, files and a table."""

import hashlib
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxsrl.collect.complete import Sampler
from jaxsrl.commands.policy import Asked
from jaxsrl.commands.published import context
from jaxsrl.commands.results import interval, keep, plain
from jaxsrl.config.run import ConfigError
from jaxsrl.console import Console
from jaxsrl.data.chat import head, prefill
from jaxsrl.evals.benchmarks import BENCHMARKS, benchmark_file, benchmark_reward, read_benchmark
from jaxsrl.evals.direct import solve_directly
from jaxsrl.evals.summary import Column, Decoding, summarise
from jaxsrl.models.config import ModelConfig
from jaxsrl.policy import sampling_params
from jaxsrl.rollout.sampling import Sampling
from jaxsrl.runs import environment, write_json
from jaxsrl.stages.evaluation import evaluation_sampler
from jaxsrl.types import Demonstration, Metrics

ON_A_CPU = 16  # completions at a time, where a device tells nothing of its memory
MOST_AT_ONCE = 512
MOST_SLOTS = 8  # samples of one problem that share its prompt
FOR_CACHES = 0.5  # of the memory that is free beside the weights


@dataclass(frozen=True, kw_only=True)
class Asking:
    """What is asked.

    Args:
      benchmarks: names, see `evals/benchmarks.py`.
      problems: of each, the first so many of its file; None takes all.
      samples: of each problem at `temperature`, beside the greedy completion; 0 leaves them out.
      max_tokens: cap of a completion; None takes the benchmark's.
      batch: completions at a time; None: what the device's memory holds.
    """

    benchmarks: tuple[str, ...]
    problems: int | None = None
    samples: int = 0
    temperature: float = 1.0
    max_tokens: int | None = None
    batch: int | None = None
    seed: int = 0

    def __post_init__(self):
        for name in ("problems", "max_tokens", "batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be >= 1, got {value}")
        if self.samples < 0 or not 0 < self.temperature < float("inf"):
            raise ConfigError(
                f"samples must be >= 0 and temperature > 0 and finite, got samples={self.samples} "
                f"temperature={self.temperature}"
            )
        if len(set(self.benchmarks)) < len(self.benchmarks):
            raise ConfigError(f"each benchmark once, got {', '.join(self.benchmarks)}")

    @property
    def decodings(self) -> tuple[Decoding, ...]:
        sampled = Decoding(temperature=self.temperature, samples=self.samples)
        return (Decoding(), sampled) if self.samples else (Decoding(),)


@dataclass(frozen=True, kw_only=True)
class Problems:
    """A benchmark that was read."""

    name: str
    path: Path
    asked: tuple[Demonstration, ...]
    there: int


def read_benchmarks(asking: Asking, data_dir: str | Path | None) -> tuple[Problems, ...]:
    """All that is asked, read before any weights are. Raises: FileNotFoundError, DataError."""
    found = []
    for name in asking.benchmarks:
        path = benchmark_file(name, data_dir)
        whole = read_benchmark(name, path)
        found.append(Problems(name=name, path=path, asked=whole[: asking.problems], there=len(whole)))
    return tuple(found)


def run_benchmarks(
    asked: Asked, asking: Asking, problems: Sequence[Problems], to: Path, json: Path | None, console: Console
) -> str:
    """Asks every benchmark and returns the table.

    Each one's results are written into `to` as soon as they are there, with the completions; `json` gets all of them.
    """
    params, _ = sampling_params(asked.policy)
    console.say(asked.name)
    results: list[dict[str, Any]] = []
    written = []
    for one in problems:
        metrics, records, settings, seconds = _ask(asked, params, asking, one, console)
        result = {
            "policy": asked.name, "benchmark": one.name, "file": one.path, "sha256": _sha256(one.path),
            "problems": len(one.asked), "problems_in_file": one.there,
            "problems_published": BENCHMARKS[one.name].published, "settings": settings, "metrics": metrics,
            "seconds": round(seconds, 1), "environment": environment(),
        }  # fmt: skip
        results.append(result)
        written.append(keep(to, f"{asked.short}.{one.name}", result, records))
        if json is not None:
            write_json(json, plain({"policy": asked.name, "results": results}))
        console.say(f"  {one.name}: {seconds:.0f} s, {written[-1]}")
    return "\n".join([table(results, asking), *_notes(results)])


def _ask(asked: Asked, params, asking: Asking, one: Problems, console: Console):
    """Metrics and records of one benchmark, the settings that they depend on, and seconds."""
    settings, reward = BENCHMARKS[one.name], benchmark_reward(one.name)
    # Read whether or not it came to its end, as the published evaluations do; how many did not is shown beside it.
    read = lambda rollouts, problems: reward(replace(rollouts, truncated=np.zeros(len(rollouts), bool)), problems)
    cap = asking.max_tokens or settings.max_tokens
    longest = max(_prompt_tokens(asked, problem) for problem in one.asked)
    room = -(-longest // 64) * 64
    batch = asking.batch or at_once(asked.policy.model, room + cap) * asked.rows
    limit = context(asked.folder)
    if limit is not None and longest + cap > limit:
        console.say(f"  {one.name}: up to {longest} + {cap} tokens, the model was made for {limit}; set --max-tokens")
    metrics, records, started = {}, [], time.monotonic()
    for decoding in asking.decodings:
        slots = min(decoding.samples, MOST_SLOTS)
        rows = -(-max(batch // slots, 1) // asked.rows) * asked.rows
        sampler = evaluation_sampler(
            asked.policy, asked.template, Sampling(max_new_tokens=cap), asked.tokenizer, rows=rows, row_tokens=room,
            slots=slots,
        )  # fmt: skip
        label = f"{one.name} {decoding.name}"
        watched = _watched(sampler, label, len(one.asked) * decoding.samples, console)
        key = jax.random.key(asking.seed)
        found, lines = solve_directly(watched, params, key, one.asked, decoding, read, reward.same)
        metrics |= found
        if not decoding.temperature:
            metrics |= _ended(lines)
        records += [{"benchmark": one.name, "decoding": decoding.name} | line for line in lines]
        console.line(f"  {label}: {_headline(found, decoding)}", last=True)
    about = {
        "samples": asking.samples, "temperature": asking.temperature if asking.samples else 0.0, "max_tokens": cap,
        "batch": batch, "seed": asking.seed, "template": asked.tokenizer.template,
        "system": asked.template.solve_system, "extract": reward.extract, "accept": list(reward.accept),
        "numeric_tolerance": reward.numeric_tolerance, "math_verify": reward.symbolic is not None,
    }  # fmt: skip
    return metrics, records, about, time.monotonic() - started


def _ended(records: Sequence[Mapping[str, Any]]) -> Metrics:
    """Right and come to its end: the last number of a text that was cut off may be right by chance."""
    both = np.array([one["correct"] and not one["truncated"] for one in records], float)
    return summarise([one["problem"] for one in records], {"answer_ended": Column(value=both, share=True)})


def _prompt_tokens(asked: Asked, problem: Demonstration) -> int:
    opened = prefill(asked.template, asked.tokenizer)
    return len(head(asked.template, asked.tokenizer, "solve", problem.problem)) + len(opened)


def at_once(model: ModelConfig, tokens: int) -> int:
    """Completions of a call on one device: a power of two whose caches take half of the memory that is free."""
    told = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" not in told:
        return ON_A_CPU
    width = 4 if model.dtype == "float32" else 2
    a_completion = 2 * model.layers * model.kv_heads * model.head_width * width * tokens + 8 * model.vocab
    fit = int((told["bytes_limit"] - told.get("bytes_in_use", 0)) * FOR_CACHES / a_completion)
    return min(2 ** max(fit.bit_length() - 1, 0), MOST_AT_ONCE)


def _watched(sampler: Sampler, label: str, total: int, console: Console) -> Sampler:
    """The sampler with a progress line: completions that are here, and how long the rest may take."""
    under_way: deque[int] = deque()
    done, begun, since = 0, 0, 0.0

    def sample(params, prompts, *rest):
        nonlocal done, begun, since
        under_way.append(int(np.asarray(prompts.slot_active).sum()))
        if len(under_way) > 2:  # `complete` has read all but the last call when it makes another
            done += under_way.popleft()
        now, left = time.monotonic(), ""
        if done and not begun:
            begun, since = done, now  # the first call compiles: what it took says nothing about the others
        elif done > begun:
            left = f", {(now - since) / (done - begun) * (total - done):.0f} s left"
        console.line(f"  {label}: {done}/{total} completions{left}")
        return sampler.sample(params, prompts, *rest)

    return replace(sampler, sample=sample)


def _headline(metrics: Mapping[str, Any], decoding: Decoding) -> str:
    name = f"avg@{decoding.samples}" if decoding.temperature else "answer"
    return f"{interval(metrics, name, percent=True)} % right"


def table(results: Sequence[Mapping[str, Any]], asking: Asking) -> str:
    """A row per benchmark, in percent with 95 % intervals over problems."""
    k = asking.samples
    columns = [("greedy", "answer"), ("and ended", "answer_ended")]
    columns += [(f"avg@{k}", f"avg@{k}"), (f"pass@{k}", f"pass@{k}"), (f"maj@{k}", f"maj@{k}")] if k else []
    columns += [("no answer", "malformed"), ("cut off", "truncated")]
    rows = [["benchmark", "problems", *(title for title, _ in columns), "tokens"]]
    for one in results:
        metrics = one["metrics"]
        shown = [interval(metrics, name, percent=True) for _, name in columns]
        asked, whole = one["problems"], one["problems_published"]
        count = str(asked) if asked == whole else f"{asked} of {whole}"
        rows.append([one["benchmark"], count, *shown, f"{metrics['tokens_mean']:.0f}"])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    aligned = ([cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows)
    return "\n".join("  ".join(row).rstrip() for row in aligned)


def _notes(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the table does not say."""
    lines = ["in percent, with 95 % intervals over problems; the last three columns are of greedy completions"]
    if any(BENCHMARKS[one["benchmark"]].algebra and not one["settings"]["math_verify"] for one in results):
        lines.append("formulas are compared by their normal form alone: math-verify is not installed (extra `grade`)")
    ran_out = lambda metrics: any(value for name, value in metrics.items() if name.endswith("timeout_share"))
    late = [one["benchmark"] for one in results if ran_out(one["metrics"])]
    if late:
        lines.append(f"comparisons of {', '.join(late)} ran out of time: these numbers need not repeat")
    return lines


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
