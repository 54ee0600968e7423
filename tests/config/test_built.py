"""Sets that are built once: what is written is what is read, what has changed is refused, and passes are taken once."""

import json
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jaxsrl.collect.settings import BatchShapes, Collect
from jaxsrl.config import built as of_built
from jaxsrl.config.built import Built
from jaxsrl.config.check_lengths import check_fits, fitting
from jaxsrl.config.demonstrations import Files
from jaxsrl.config.keys import check_keys
from jaxsrl.config.passes import disagreements, kept_ids, lengths
from jaxsrl.config.run import Config, ConfigError, Stage, Validate
from jaxsrl.data import large
from jaxsrl.data.actions import Splitter
from jaxsrl.data.built import Stored, from_row, open_set, to_row
from jaxsrl.data.demonstrations import Fields
from jaxsrl.data.jsonl import DataError
from jaxsrl.data.record_sums import Records
from jaxsrl.data.sources import Order
from jaxsrl.evals.evaluate import Evaluation
from jaxsrl.models.config import preset
from jaxsrl.objectives.sft import SFT
from jaxsrl.rewards.answer import FinalAnswer
from jaxsrl.rollout.sampling import Sampling
from jaxsrl.stages.begin import load_data, spelled_splits
from jaxsrl.stages.material import Source
from jaxsrl.types import Demonstration

FULL = Demonstration(
    problem_id="p", problem="é?", actions=("a", "b", "c"), answer="7", titles=("T", None, "U"), source="f:1",
    quality=0.5, thoughts=("", None, "t"), observations=("o", "", ""),
)  # fmt: skip


@pytest.mark.parametrize("d", [FULL, Demonstration(problem_id="q", problem="x", actions=("a",))])
def test_a_row_keeps_what_there_is_and_what_there_is_not(d):
    assert from_row(to_row(d)) == d


def stored(count, changes=()):
    rows = [to_row(replace(FULL, problem_id=str(i), problem="x" * (1 + i % 7))) for i in range(count)]
    return Stored(rows, None, changes)


def test_stored_rows_are_read_by_place():
    rows = stored(10).changed(lambda d: replace(d, problem=d.problem.upper()))
    assert len(rows) == 10 and rows[-1].problem_id == "9" and rows[3].problem == "XXXX"
    assert [d.problem_id for d in rows[2:5]] == ["2", "3", "4"] == [d.problem_id for d in list(rows)[2:5]]
    left = rows.without(np.array([0, 2]))
    assert [d.problem_id for d in left] == [str(i) for i in (1, 3, 4, 5, 6, 7, 8, 9)] and left.places[1] == 3
    assert [d.problem_id for d in left.without(np.array([3]))][:2] == ["1", "4"]
    with pytest.raises(IndexError):
        rows[10]


def test_rows_that_turn_out_too_long_are_passed_over_and_positions_say_so():
    items = stored(20)
    source = Source(items=items, order=Order(count=20, seed=1), fits=lambda d: len(d.problem) < 5)
    drawn, places, after = source.take(0, 6)
    assert len(drawn) == len(places) == 6 and after == places[-1] + 1 > 6
    order = Order(count=20, seed=1)
    assert [items[order(at)] for at in places] == drawn
    assert all(len(items[order(at)].problem) >= 5 for at in set(range(after)) - set(places))
    again, _, end = source.take(after, 3)  # from the saved position on, as any number of processes would
    assert source.take(0, 9)[0] == drawn + again and source.take(0, 9)[2] == end
    with pytest.raises(ConfigError, match="hardly any fits"):
        replace(source, fits=lambda d: False).take(0, 2)


def write(path, count=30):
    rows = [
        {"problem": f"Add {n} and 1.", "solution": f"{n} + 1 = {n + 1}\n#### {n + 1 + (n == 3)}",
         "answer": None if n == 4 else n + 1}
        for n in range(count)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def config(folder, data, tokens=128):
    stage = Stage(
        name="sft", objective=SFT(), data=data, steps=0, collect=Collect(demonstrations=2),
        validate=Validate(problems=1, evaluation=Evaluation(modes=("actions",))), action_tokens=8, solve_tokens=8,
        sampling=Sampling(max_new_tokens=4),
    )  # fmt: skip
    rows = BatchShapes(
        tokens=tokens, rows=2, prompt_tokens=96, prompt_rows=2, slots=2, evaluate_rows=2, evaluate_slots=2
    )
    return Config(name="built", model=preset("0.1M"), rows=rows, stages=(stage,), data_dir=str(folder))


FILES = Files(paths="a.jsonl", fields=Fields(answer="answer"), held_out=6, extract="hash", finish_mark="####")


def test_the_graders_verdict_on_experts(tmp_path):
    write(tmp_path / "a.jsonl")
    found = disagreements(FinalAnswer(extract="hash"), FILES.load(str(tmp_path)).train)
    assert len(found) <= 1
    everything = replace(FILES, held_out=1).load(str(tmp_path))
    found = disagreements(FinalAnswer(extract="hash"), (*everything.train, *everything.validation, *everything.test))
    assert found == [f"{tmp_path / 'a.jsonl'}:4: the expert answers '5', the key is '4'"]
    said = disagreements(FinalAnswer(extract="boxed"), everything.train[:1])
    assert said[0].endswith("the expert has no answer that it finds, the key is '1'") or len(said) == 1


FLIPS = 200
BEGIN, HEAD, SIZE = (
    64,
    40,
    slice(8, 16),
)  # bytes of a shard before its first chunk, of a chunk's head, and its size there


def check_flips(folder, rows):
    """Each of 200 flipped bits of what rows are decoded from is found when they are read, and nowhere a wrong row."""
    shard = folder / "demonstrations-train.array_record-00000-of-00001"
    good, random, said = shard.read_bytes(), np.random.default_rng(0), []
    end = BEGIN
    for _ in rows:  # a chunk each; what follows is where rows begin, and padding
        end += HEAD + int.from_bytes(good[end:][SIZE], "little")
    for bit in random.integers(8 * BEGIN, 8 * end, FLIPS).tolist():
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        shard.write_bytes(bad)
        with pytest.raises(DataError, match="row [0-9]+, counted from 0, ") as raised:
            tuple(open_set(folder).rows("train"))
        said.append(str(raised.value))
    assert all(str(shard) in text and "build the set anew" in text for text in said)
    shard.write_bytes(good)
    assert tuple(open_set(folder).rows("train")) == rows
    for name in ("crc32-train.npy", "features.json", "metadata.json", "checksums.json"):
        path = folder / name
        good = path.read_bytes()
        path.write_bytes(good[:-3] + bytes([good[-3] ^ 1]) + good[-2:])
        with pytest.raises(DataError, match=f"{name} (has changed|is damaged)"):
            open_set(folder)
        path.write_bytes(good)


def test_a_row_is_compared_with_its_sum_and_the_file_is_named():
    class Reader(list):
        def __getitem__(self, at):
            if at == 4:
                raise RuntimeError("hash\n mismatch")
            return super().__getitem__(at)

    raw = Reader([b"zero", b"one", b"two", b"three", b"four"])
    sums = np.array([zlib.crc32(x) for x in (b"zero", b"one", b"twp", b"three", b"four")], np.uint32)
    files = Path("a-0"), Path("a-1"), Path("a-2")
    rows = Records(raw=raw, decode=bytes.decode, sums=sums, ends=np.array([2, 3, 5]), files=files)
    assert [rows[0], rows[1], rows[3], len(rows)] == ["zero", "one", "three", 5]
    with pytest.raises(DataError, match="^a-1: row 0, counted from 0, is not as it was written"):
        rows[2]
    with pytest.raises(DataError, match=r"^a-2: row 1, counted from 0, cannot be read \(hash mismatch\)"):
        rows[4]
    assert replace(rows, sums=None)[2] == "two"  # the control: without sums nothing is compared


@pytest.mark.needs("tensorflow_datasets")
def test_build_read_and_measure(tmp_path, monkeypatch):
    from jaxsrl.commands.build import build

    write(tmp_path / "a.jsonl")
    made = config(tmp_path, FILES)
    lines = list(build(made, None, tmp_path / "sets"))
    assert "24 train, 3 validation, 3 test" in lines[0] and lines[1].startswith("lengths: 24 rows")
    folder = tmp_path / "sets" / "demonstrations" / "1.0.0"
    files, now = FILES.load(str(tmp_path)), Built(path="sets").load(str(tmp_path))
    for part in ("train", "validation", "test"):
        assert getattr(files, part) == getattr(now, part)
    assert now.counts == files.counts and now.reward == files.reward and now.first_action("1\n2") == "1"
    assert Built(path="sets", rows_of="train[2:5]").load(str(tmp_path)).train == files.train[2:5]
    assert [line for line in build(made, None, tmp_path / "sets")][0] == f"{folder} is there already"
    passes = sorted(folder.glob("passes/*"))
    assert len(passes) == 3  # nothing was measured again
    with pytest.raises(ConfigError, match="was built with another splitter; name another"):
        list(build(config(tmp_path, replace(FILES, splitter=Splitter(annotations="drop"))), None, tmp_path / "sets"))

    # As a set of many rows: read row by row, with what was measured.
    for module in (of_built, large):
        monkeypatch.setattr(module, "MEASURED_WHOLE", 10)
    monkeypatch.setattr(large, "SAMPLED", 5)
    lazy = config(tmp_path, Built(path="sets", rows_of="train[1:]"))
    splits, tokenizer, _ = load_data(lazy)
    (stage,), splits = lazy.stages, splits["sft"]
    assert isinstance(splits.train, Stored) and splits.train[:23] == spelled_splits(tokenizer, files).train[1:]
    known = lengths(lazy, stage, splits, tokenizer)
    assert known.shape == (23, 2) and known[:, 1].max() > 0 == known[:, 0].max()
    assert lengths(replace(lazy, template=replace(lazy.template, separator=";")), stage, splits, tokenizer) is None
    assert set(kept_ids(splits, tokenizer)) >= set(tokenizer.encode(files.train[0].problem))
    monkeypatch.setattr("jaxsrl.config.check_lengths.MEASURED_WHOLE", 10)
    said = check_fits(lazy, stage, splits, tokenizer, known=known)
    assert said == "all 23 demonstrations were measured before; 0 are too long for the rows and left out"
    assert check_fits(lazy, stage, splits, tokenizer).startswith("5 of 23 demonstrations were measured")
    with pytest.raises(ConfigError, match="do not fit rows.tokens=8"):
        short = config(tmp_path, lazy.stages[0].data, tokens=8)
        check_fits(short, stage, splits, tokenizer, known=known)
    assert len(check_keys(stage, splits).train) == 23  # SFT compares with no key

    check_flips(folder, now.train)
    (folder / "crc32-train.npy").rename(tmp_path / "crc32-train.npy")  # as before rows had checksums
    sums = json.loads((folder / "checksums.json").read_text())
    (folder / "checksums.json").write_text(json.dumps({n: s for n, s in sums.items() if n != "crc32-train.npy"}))
    old = Built(path="sets").load(str(tmp_path))
    assert tuple(old.train) == now.train and "a flipped bit in train is not found" in old.notes[-1] and not now.notes

    damaged = folder / "demonstrations-test.array_record-00000-of-00001"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.raises(DataError, match="is not as it was built"):
        open_set(tmp_path / "sets")
    with pytest.raises(DataError, match="holds no set"):
        open_set(tmp_path)


def test_what_fits_was_never_measured(tmp_path):
    from jaxsrl.data.byte_tokenizer import ByteTokenizer
    from jaxsrl.data.shapes import Shapes

    shapes = Shapes(
        prompt_rows=1, prompt_tokens=1, slots=1, groups=1, group_size=1, code_points=0, sheets=0, trunk_tokens=1,
        demonstrations=1, targets=20, tokens=40, runs=16, rows=(1,), round_rows=1,
    )  # fmt: skip
    made = config(tmp_path, FILES)
    fits = fitting(made, made.stages[0], ByteTokenizer(), shapes)
    short = Demonstration(problem_id="p", problem="x?", actions=("a", "b"))
    assert fits(short) and not fits(replace(short, problem="x" * 60))
    assert not fits(replace(short, actions=("a" * 25, "b")))  # more targets than there is room for
