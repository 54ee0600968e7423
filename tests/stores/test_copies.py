"""Data and weights of a store are copied before a run begins, and again only where they have changed."""

import shutil
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxsrl.config.demonstrations import data_folder, tokenizer_path
from jaxsrl.config.overrides import load
from jaxsrl.exit_codes import code_of
from jaxsrl.models.families import read_config
from jaxsrl.policy import load_base
from jaxsrl.stages.begin import load_data
from jaxsrl.stores import copies
from jaxsrl.stores.copies import bring, here, run_here
from jaxsrl.stores.objects import NoAccess, StoreError
from jaxsrl.studies.study import load_study
from tests.models.checkpoints import checkpoint

DATA = "gs://bucket/data"


@pytest.fixture
def copied(bucket, tmp_path):
    """Three files, one of them of several ranges and one empty, and their copies."""
    for name, text in (("a.jsonl", b"one\n" * 9), ("more/b.jsonl", b"two\n" * 100), ("empty", b""), ("more/", b"")):
        bucket.put(f"data/{name}", text)
    bring(DATA)
    return tmp_path / "cache" / "copies" / "bucket" / "data"


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(copies, "PART", 100)


def reads(bucket):
    """Names that were read as a whole or in part, without those of which only the generation was asked."""
    found = [
        said.split("?")[0].rsplit("/o/data/")[1]
        for said in bucket.heard
        if "/o/data/" in said and "NotMatch" not in said
    ]
    return sorted(set(found))


def test_files_are_as_they_lie_in_the_store(copied):
    assert (copied / "a.jsonl").read_bytes() == b"one\n" * 9
    assert (copied / "more" / "b.jsonl").read_bytes() == b"two\n" * 100 and (copied / "empty").read_bytes() == b""
    assert here(DATA) == str(copied) and here("/data") == "/data" and data_folder(DATA) == str(copied)


def test_only_what_has_changed_is_copied_again(bucket, copied):
    bucket.heard.clear()
    bring(DATA)
    assert reads(bucket) == []
    bucket.put("data/a.jsonl", b"new\n")
    del bucket.objects["data/empty"]
    bring(DATA)
    assert reads(bucket) == ["a.jsonl"] and (copied / "a.jsonl").read_bytes() == b"new\n"
    assert not (copied / "empty").exists()


def test_a_copy_that_was_damaged_is_made_anew(bucket, copied):
    (copied / "a.jsonl").write_bytes(b"onE\n" * 9)
    bucket.heard.clear()
    bring(DATA)
    assert reads(bucket) == ["a.jsonl"] and (copied / "a.jsonl").read_bytes() == b"one\n" * 9


def test_an_object_that_is_replaced_while_it_is_copied_is_no_file(bucket):
    bucket.put("data/b", b"x" * 250)

    def replaced(request):
        if request.startswith("GET") and "/o/data/b" in request:
            bucket.put("data/b", b"y" * 250)

    bucket.before = replaced
    with pytest.raises(StoreError, match="gs://bucket/data/b was written or removed while it was copied"):
        bring(DATA)


def test_what_is_not_there_or_cannot_be_a_file(bucket):
    with pytest.raises(FileNotFoundError, match="gs://bucket/data holds nothing") as caught:
        bring(DATA)
    assert code_of(caught.value) == 2
    bucket.fault["GET"] = 403  # a listing is then empty, and says nothing of it
    with pytest.raises(NoAccess):
        bring(DATA)
    bucket.fault.clear()
    bucket.put("data/../x", b"")
    with pytest.raises(StoreError, match="cannot be a file"):
        bring(DATA)
    with pytest.raises(FileNotFoundError, match="there is no run gs://bucket/runs/none"):
        run_here("gs://bucket/runs/none")


def test_weights_and_their_tokenizer_are_read_from_the_copy(bucket, tmp_path):
    """Those of a folder of this machine, to the bit."""
    local = checkpoint(tmp_path / "weights", "llama")
    for path in local.iterdir():
        bucket.put(f"weights/{path.name}", path.read_bytes())
    config = replace(load("tests/tiny_config.py"), tokenizer="bytes", weights="gs://bucket/weights")
    assert tokenizer_path(config) == str(tmp_path / "cache/copies/bucket/weights")
    with pytest.raises(ValueError, match="tokenizer"):  # the folder has none; what there is was copied
        load_data(config)
    model = read_config(local)
    starts = {stage.name: stage.start_from for stage in config.stages}
    found, want = (load_base(model, starts, "sft", 0, str(where), None) for where in (config.weights, local))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)), found, want)
    shutil.rmtree(local)


def test_a_study_needs_a_folder_that_its_workers_share():
    with pytest.raises(ValueError, match="runs=gs://bucket/runs is an object store, and workers of a study share a"):
        load_study(Path("tests/studies/tiny_study.py"), {"runs": "gs://bucket/runs"})
