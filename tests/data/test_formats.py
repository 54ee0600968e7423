"""The same rows from every format, and slices of them."""

import gzip
import json

import numpy as np
import pytest

from jaxsrl.data.actions import Splitter
from jaxsrl.data.demonstrations import Fields, read
from jaxsrl.data.formats import parse_split, shards
from jaxsrl.data.jsonl import DataError

ROWS = [{"id": f"{i}", "problem": f"p {i} é", "steps": ["a", f"b{i}"], "in": {"answer": i / 2}} for i in range(10)]
FIELDS = Fields(solution="steps", answer="in.answer", id="id")
GIVEN = Splitter(style="given")


def problems(path, rows_of="train"):
    found = read(path, FIELDS, GIVEN, rows_of=rows_of).demonstrations
    assert all(d.actions[1] == f"b{d.problem.split()[1]}" for d in found)
    assert all(float(d.answer) == int(d.problem.split()[1]) / 2 for d in found)
    return [int(d.problem.split()[1]) for d in found]


def write_jsonl(path, rows=ROWS):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_slices_are_of_all_rows_together(tmp_path):
    paths = [write_jsonl(tmp_path / "a.jsonl", ROWS[:4]), write_jsonl(tmp_path / "b.jsonl", ROWS[4:])]
    for text, right in (
        ("train", range(10)), ("train[:5]", range(5)), ("[3:6]", range(3, 6)), ("train[-2:]", (8, 9)),
        ("train[50%:]", range(5, 10)), ("train[:-80%]", range(2)), ("train[8:99]", (8, 9)),
    ):  # fmt: skip
        assert problems(paths, text) == list(right), text
    with pytest.raises(ValueError, match="train\\[:1000\\]"):
        parse_split("train[1:2:3]")
    with pytest.raises(DataError, match="no demonstrations"):
        problems(paths, "train[5:5]")


def test_a_folder_of_shards_is_read_in_the_order_of_names(tmp_path):
    (tmp_path / "data").mkdir()
    write_jsonl(tmp_path / "data" / "train-00001-of-00002.jsonl", ROWS[5:])
    write_jsonl(tmp_path / "data" / "train-00000-of-00002.jsonl", ROWS[:5])
    write_jsonl(tmp_path / "data" / "test-00000-of-00001.jsonl", ROWS[:2])
    (tmp_path / "data" / "README.md").write_text("no rows")
    assert problems(tmp_path) == list(range(10)) and problems(tmp_path, "test") == [0, 1]
    with pytest.raises(DataError, match="nothing of the split 'validation'; there is data/test-00000"):
        problems(tmp_path, "validation")
    plain = tmp_path / "plain"
    plain.mkdir()
    with pytest.raises(DataError, match="no file of a known format"):
        shards(plain, "train")
    write_jsonl(plain / "x.jsonl")
    assert problems(plain) == list(range(10))
    with pytest.raises(DataError, match="nothing of the split 'test'"):
        problems(plain, "test")


def test_a_gzip_file_is_known_by_its_bytes(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(gzip.compress(b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)))
    assert problems(path) == list(range(10))


def test_array_record(tmp_path):
    from array_record.python.array_record_module import ArrayRecordWriter

    path = tmp_path / "rows.array_record"
    writer = ArrayRecordWriter(str(path), "group_size:1")
    for row in [*ROWS, 7]:
        writer.write(json.dumps(row).encode())
    writer.close()
    found = read(path, FIELDS, GIVEN, max_bad_share=0.2)
    assert len(found.demonstrations) == 10
    assert [str(bad) for bad in found.quarantine] == [f"{path}:11: expected a JSON object, got int"]
    assert problems_of(found) == list(range(10))


def problems_of(found):
    return [int(d.problem.split()[1]) for d in found.demonstrations]


@pytest.mark.needs("pyarrow")
def test_parquet_and_folders_of_datasets(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist(ROWS)
    pq.write_table(table, tmp_path / "train.parquet", row_group_size=3)
    assert problems(tmp_path / "train.parquet", "train[2:]") == list(range(2, 10))
    for split, part in (("train", table), ("test", table.slice(0, 3))):
        folder = tmp_path / "saved" / split
        folder.mkdir(parents=True)
        (folder / "state.json").write_text("{}")
        with pa.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb") as file:
            with pa.ipc.new_stream(file, table.schema) as writer:
                writer.write_table(part, max_chunksize=4)
    assert problems(tmp_path / "saved") == list(range(10)) and problems(tmp_path / "saved", "test") == [0, 1, 2]
    assert problems(tmp_path / "saved" / "train") == list(range(10))
    with pa.OSFile(str(tmp_path / "file.arrow"), "wb") as file:
        with pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    assert problems(tmp_path / "file.arrow") == list(range(10))
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "train.parquet").read_bytes()[:-20])
    with pytest.raises(DataError, match="cut.parquet is cut off or damaged"):
        problems(tmp_path / "cut.parquet")


def test_a_package_that_is_missing_is_named_with_its_command(tmp_path, monkeypatch):
    import importlib

    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    (tmp_path / "a.parquet").write_bytes(b"")
    with pytest.raises(DataError, match=r"a.parquet is read by pyarrow, which is not installed: pip install 'jaxsrl"):
        problems(tmp_path / "a.parquet")


@pytest.mark.needs("tensorflow_datasets")
def test_a_folder_of_tfds(tmp_path):
    import tensorflow_datasets as tfds

    text = tfds.features.Text()
    step = tfds.features.FeaturesDict({"do": text, "saw": text})
    features = tfds.features.FeaturesDict(
        {"problem": text, "steps": tfds.features.Sequence(step), "answer": np.float64}
    )

    class Runs(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("2.0.0")
        pkg_dir_path = None

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, manager):
            return {"train": self._generate_examples(9), "test": self._generate_examples(2)}

        def _generate_examples(self, count):
            for i in range(count):
                yield i, {"problem": f"p {i} é", "steps": [{"do": "a", "saw": "x"}] * 2, "answer": i / 2}

    Runs(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    folder = tmp_path / "runs" / "2.0.0"
    fields = Fields(solution="steps[].do", observations="steps[].saw", answer="answer")
    found = read(folder, fields, GIVEN)
    assert sorted(d.problem for d in found.demonstrations) == [f"p {i} é" for i in range(9)]
    assert all(d.actions == ("a", "a") and d.observations == ("x", "x") for d in found.demonstrations)
    assert len(read(folder, fields, GIVEN, rows_of="train[:4]").demonstrations) == 4
    assert len(read(folder, fields, GIVEN, rows_of="test").demonstrations) == 2
    with pytest.raises(DataError, match="no split 'dev'; there are train, test"):
        read(folder, fields, GIVEN, rows_of="dev")
