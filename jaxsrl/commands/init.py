"""Writes a config for a file of demonstrations, from what its first rows look like."""

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import fields as fields_of
from itertools import islice
from pathlib import Path
from typing import Any

from jaxsrl.data.actions import Splitter, split
from jaxsrl.data.fields import Fields, RowError, told
from jaxsrl.data.formats import Split, shards, source_rows
from jaxsrl.data.jsonl import Bad, DataError

ROWS = 200  # that are looked at
PROBLEM = ("problem", "question", "prompt", "instruction", "query", "input", "task")
SOLUTION = ("solution", "trace", "response", "answer", "output", "completion", "generation", "steps", "chosen")
ANSWER = ("answer", "final_answer", "ground_truth", "expected_answer", "target", "reference_answer")
STYLES = ("numbered", "headed", "lines", "paragraphs", "displays", "sentences")
CUT = 0.6  # of the rows must give two actions for a style to be taken
LONGEST_LINE = 300  # characters of a line that is still one action, on average

TEMPLATE = '''"""SFT on {file}, then SRL from it, bytes, from scratch: a beginning, to be made your own.

Run:    jaxsrl train {config} --set stages.sft.steps=20 --set stages.srl.steps=5
        jaxsrl data {config} --rows 3        shows how solutions are cut
Seen:   {rows} rows; {cut} of them give two actions or more, {actions} in the middle
"""

from jaxsrl.collect import Collect
from jaxsrl.config import Config, Files, Stage, Validate
from jaxsrl.data.actions import Splitter
from jaxsrl.data.demonstrations import Fields
from jaxsrl.evals.evaluate import Evaluation
from jaxsrl.models.config import preset
from jaxsrl.objectives.sft import SFT
from jaxsrl.objectives.srl import SRL
from jaxsrl.rewards.similarity import ActionSimilarity
from jaxsrl.rollout.sampling import Sampling
from jaxsrl.update import AdamW


def config() -> Config:
    data = Files(
        paths=({path!r},),
        fields={fields},
        splitter={splitter},
        extract={extract!r},
        finish_mark={finish!r},
        held_out=0.05,
        max_characters={characters},  # of problem and solution; nine in ten rows of those seen are shorter
    )
    probe = Evaluation(modes=("actions",))
    common = dict(data=data, action_tokens=256, solve_tokens=1024)
    return Config(
        name={name!r},
        model=preset("0.2M"),  # with published weights: weights="FOLDER", and leave this out
        stages=(
            Stage(
                name="sft",
                objective=SFT(trunk=("action",)),
                steps=300,
                optimizer=AdamW(lr=3e-3, warmup_steps=20, schedule="cosine", final_share=0.1),
                collect=Collect(demonstrations=8),
                validate=Validate(every=100, problems=16, evaluation=probe),
                **common,
            ),
            Stage(
                name="srl",
                objective=SRL(reward=ActionSimilarity(autojunk=False), group_size=8, max_branch_points=2),
                steps=100,
                optimizer=AdamW(lr=3e-4),
                collect=Collect(demonstrations=8),
                sampling=Sampling(max_new_tokens=256),
                validate=Validate(every=50, problems=16, evaluation=probe, metric="actions/similarity"),
                start_from="sft",
                **common,
            ),
        ),
    )
'''


def write_config(file: Path, to: Path | None) -> str:
    """Writes a config for a file or folder of demonstrations. Returns what was seen and where it lies.

    Raises: DataError where no field holds a problem or a solution, naming those there are; FileExistsError.
    """
    rows = [row for _, (_, row) in islice(source_rows(shards(file, "train"), Split(name="train")), ROWS)]
    good = [row for row in rows if not isinstance(row, Bad)]
    if not rows:
        raise DataError(f"{file} has no rows")
    if not good:
        raise DataError(f"{file}: none of the first {len(rows)} rows can be read; the first: {rows[0]}")
    fields, given = guess_fields(file, good)
    said = []
    for row in good:
        try:
            said.append(told(row, fields, turns=given))
        except RowError:
            continue
    if not said:
        raise DataError(f"{file}: no row has both {fields.problem!r} and {fields.solution!r}")
    solutions = [one.solution for one in said]
    splitter = Splitter(style="given") if given else guess_splitter([s for s in solutions if isinstance(s, str)])
    counts = [len(s) if given else len(split(s, splitter).actions) for s in solutions]
    whole = ["\n".join(s) if not isinstance(s, str) else s for s in solutions]
    extract, finish = guess_answer(whole)
    if extract == "hash" and fields.answer is None:
        fields = Fields(**{**_set(fields), "answer_mark": "####"})
    lengths = sorted(len(one.problem) + len(text) for one, text in zip(said, whole, strict=True))
    name = re.sub(r"\W+", "_", file.name.split(".")[0]).strip("_") or "own"
    target = to or Path(f"{name}.py")
    if target.exists():
        raise FileExistsError(f"{target} is there already; name another with --to")
    text = TEMPLATE.format(
        file=file, config=target, path=str(file.absolute()), name=name, rows=len(rows), fields=_shown(fields),
        cut=sum(n > 1 for n in counts), actions=int(statistics.median(counts)), splitter=_shown(splitter),
        extract=extract, finish=finish, characters=-(-lengths[int(0.9 * (len(lengths) - 1))] // 100) * 100,
    )  # fmt: skip
    target.write_text(text, encoding="utf-8")
    return (
        f"{target}: {_shown(fields)}, {_shown(splitter)}; {sum(n > 1 for n in counts)} of {len(rows)} rows give two "
        f"actions or more\nlook at them with: jaxsrl data {target} --rows 3"
    )


def guess_fields(file: Path, rows: Sequence[Mapping[str, Any]]) -> tuple[Fields, bool]:
    """Fields by their usual names, and whether the actions are given as a list.

    Raises: DataError naming the fields that there are.
    """
    row = rows[0]
    if "label" in row and "question" in row and isinstance(row["label"], Mapping):
        return Fields(form="prm800k"), True
    if "input" in row and "label" in row and "ки" in str(row["input"]):
        return Fields(form="math_shepherd"), True
    chat = next((name for name in ("messages", "conversations") if isinstance(row.get(name), list)), None)
    if chat:
        said = [message.get("role", message.get("from")) for message in row[chat]]
        return Fields(messages=chat), sum(role in ("assistant", "gpt") for role in said) > 1
    shown = ", ".join(f"{name} ({type(value).__name__})" for name, value in row.items())
    problem = next((name for name in PROBLEM if isinstance(row.get(name), str)), None)
    solution = next((name for name in SOLUTION if name != problem and isinstance(row.get(name), str | list)), None)
    if problem is None or solution is None:
        what = "problem" if problem is None else "solution"
        raise DataError(f"{file}: no field looks like a {what}; there are {shown}. Write Fields by hand")
    found: dict[str, str] = {"problem": problem, "solution": solution}
    steps = row[solution]
    if isinstance(steps, list) and steps and isinstance(steps[0], Mapping):
        found = {"problem": problem} | _agent(file, solution, steps[0])
    keyed = (n for n in ANSWER if n != solution and all(isinstance(r.get(n), str | int | float | None) for r in rows))
    if (key := next((name for name in keyed if name in row), None)) is not None:
        found["answer"] = key
    if isinstance(steps, list) and isinstance(row.get("labels"), list):
        found["labels"] = "labels"
    return Fields(**found), isinstance(steps, list)


def _agent(file: Path, name: str, step: Mapping[str, Any]) -> dict[str, str]:
    """Fields of a list of steps, each with what was done, thought and seen."""
    first = lambda *names: next((n for n in names if n in step), None)
    done, thought, seen = first("action", "actions", "command", "text"), first("thought"), first(
        "observation", "observations", "output"
    )  # fmt: skip
    if done is None:
        raise DataError(f"{file}: no field of {name} looks like an action; there are {', '.join(step)}")
    found = {"solution": f"{name}[].{done}", "thoughts": thought, "observations": seen}
    return {"solution": found["solution"]} | {k: f"{name}[].{v}" for k, v in found.items() if k != "solution" and v}


def guess_splitter(solutions: Sequence[str]) -> Splitter:
    """The first style that gives most rows two actions, lines only where these are short."""
    shares = {}
    for style in STYLES:
        cuts = [split(text, Splitter(style=style)).actions for text in solutions]
        shares[style] = sum(len(cut) > 1 for cut in cuts) / len(cuts)
        actions = [action for cut in cuts for action in cut]
        short = statistics.mean(map(len, actions)) <= LONGEST_LINE
        dangling = sum(bool(re.fullmatch(r"[\w ]{1,20}[:,]?", action)) for action in actions) / len(actions)
        if style == "lines" and (not short or dangling > 0.05 or any("\\begin{" in text for text in solutions)):
            continue
        if shares[style] >= CUT:
            return Splitter(style=style)
    return Splitter(style=max(shares, key=shares.get))


def guess_answer(solutions: Sequence[str]) -> tuple[str, str]:
    """(where the final answer stands, what ends a solution), by the mark that most solutions have."""
    has = lambda mark: sum(mark in text for text in solutions) > len(solutions) / 2
    if has("####"):
        return "hash", "####"
    return ("boxed", "\\boxed") if has("\\boxed") else ("last_number", "answer is")


def _set(value: Any) -> dict[str, Any]:
    """Fields of a dataclass that are not its defaults."""
    return {f.name: getattr(value, f.name) for f in fields_of(value) if getattr(value, f.name) != f.default}


def _shown(value: Any) -> str:
    return f"{type(value).__name__}({', '.join(f'{name}={item!r}' for name, item in _set(value).items())})"
