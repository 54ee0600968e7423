"""Published test sets as data: which file, which fields, how a model is asked, and how its answer is read."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jaxsrl.data.chat import SOLVE_INSTRUCTION
from jaxsrl.data.datasets import find
from jaxsrl.data.jsonl import Bad, DataError, read_rows
from jaxsrl.rewards.answer import FinalAnswer
from jaxsrl.rewards.extract import Extract, extract_answer
from jaxsrl.rewards.symbolic import PACKAGE, Symbolic
from jaxsrl.types import Demonstration


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A test set.

    Args:
      files: names in the data folder, of which the first that is there is read.
      published: problems of the set as it was published.
      problem, key: fields of a row.
      key_in: where the key stands in its field, if that holds a whole solution; see `extract_answer`.
      max_tokens: default cap of a completion.
      algebra: answers may be formulas, which math-verify compares where it is installed.
      system: what a published model is told; a run is asked as it was trained.
    """

    files: tuple[str, ...]
    published: int
    problem: str = "problem"
    key: str = "answer"
    key_in: Extract | None = None
    max_tokens: int = 2048
    algebra: bool = False
    system: str = SOLVE_INSTRUCTION


BENCHMARKS = {
    "gsm8k": Benchmark(
        files=("gsm8k/test.jsonl", "gsm8k/test_1119.jsonl"), published=1319, problem="question", key_in="hash",
        max_tokens=512,
    ),
    "math500": Benchmark(files=("eval/math500.jsonl",), published=500, algebra=True),
    "amc23": Benchmark(files=("eval/amc23.jsonl",), published=40),
    "aime24": Benchmark(files=("eval/aime24.jsonl",), published=30, max_tokens=4096),
    "aime25": Benchmark(files=("eval/aime25.jsonl",), published=30, max_tokens=4096),
    "minerva": Benchmark(
        files=("eval/minerva_math.jsonl",), published=272, key="solution", key_in="boxed", algebra=True
    ),
}  # fmt: skip
NUMERIC_TOLERANCE = 1e-4  # of two numbers, relative, as the Qwen2.5-Math evaluation has it


def benchmark_file(name: str, data_dir: str | Path | None) -> Path:
    """Raises: FileNotFoundError naming the files that would do, and how to say where they are."""
    files = BENCHMARKS[name].files
    there = [file for file in files if data_dir and (Path(data_dir) / file).is_file()]
    try:
        return find(data_dir, (there or files)[0])
    except FileNotFoundError as error:
        more = f" (or {', '.join(files[1:])})" if files[1:] else ""
        raise FileNotFoundError(f"benchmark {name}: {error}{more}") from None


def read_benchmark(name: str, path: Path) -> tuple[Demonstration, ...]:
    """The problems of a benchmark with their keys, in the order of the file; they have no actions.

    Raises: DataError naming file, line and field of a row that cannot be used: a benchmark is read whole or not at all.
    """
    settings, found = BENCHMARKS[name], []
    for line, row in read_rows(path):
        if isinstance(row, Bad):
            raise DataError(f"benchmark {name}: {row}")
        where = f"benchmark {name}: {path}:{line}"
        problem, key = _text(row, settings.problem, where), _text(row, settings.key, where)
        answer = extract_answer(key, settings.key_in) if settings.key_in else key
        if not answer:
            raise DataError(f"{where}: no {settings.key_in} answer in {settings.key}: …{key[-60:]!r}")
        number = f"{name}/{line}"
        found.append(Demonstration(problem_id=number, problem=problem, actions=(), answer=answer, source=where))
    if not found:
        raise DataError(f"benchmark {name}: {path} holds no problems")
    return tuple(found)


def _text(row: Mapping[str, Any], field: str, where: str) -> str:
    value = row.get(field)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float) or not str(value).strip():
        raise DataError(f"{where}: {field} must be a text or a number, got {value!r}; the row has: {', '.join(row)}")
    return str(value)


def benchmark_reward(name: str) -> FinalAnswer:
    """Reads a completion as published models are graded, and compares by value; see README.md."""
    algebra = BENCHMARKS[name].algebra and find_spec(PACKAGE) is not None
    return FinalAnswer(
        extract="stated", numeric_tolerance=NUMERIC_TOLERANCE, symbolic=Symbolic() if algebra else None
    )  # fmt: skip
