"""Lines on disk: the same values are the same bytes, and files can be cut back to what a checkpoint knew."""

import errno
import json
import os
import zlib

import numpy as np
import pytest

from jaxsrl.checksums import journal_damage
from jaxsrl.metrics import Journal, encode, merge, read

pytestmark = pytest.mark.fast


def test_line_of_arrays_and_what_json_cannot_say():
    line = {"a": np.float32(0.1), "b": np.array(3), "nan": float("nan"), "inf": np.float64("inf"), "none": None}
    assert json.loads(encode(line)) == {"a": float(np.float32(0.1)), "b": 3, "nan": None, "inf": None, "none": None}
    assert list(json.loads(encode({"z": 1, "a": 2}))) == ["z", "a"]
    assert encode(line).endswith("}\n") and encode(line) == encode(dict(line))


def test_text_that_is_not_unicode_is_still_a_line():
    assert json.loads(encode({"completion": "a\ud800\n\u2028é"})) == {"completion": "a?\n\u2028é"}


@pytest.mark.parametrize("value", [0.1, 1e-300, 2**53 + 1, -0.0])
def test_numbers_come_back_to_the_last_bit(value):
    back = json.loads(encode({"x": value}))["x"]
    assert repr(back) == repr(value)


def test_merge_takes_the_last_and_leaves_arrays_behind():
    assert merge([{"a": np.float32(2)}, {"a": 1, "b": np.nan}]) == {"a": 1, "b": None}


def test_offsets_cut_every_file_back(tmp_path):
    journal = Journal(tmp_path)
    journal.write("metrics.jsonl", [{"step": 1}])
    journal.write("evals/srl.jsonl", [{"é": 1}])
    offsets = journal.offsets()
    assert offsets == {"evals/srl.jsonl": len('{"é":1}\n'.encode()), "metrics.jsonl": 11}
    kept = {name: (tmp_path / name).read_bytes() for name in offsets}
    journal.write("metrics.jsonl", [{"step": 2}])
    journal.write("evals/later.jsonl", [{"step": 2}])
    journal.close()
    with (tmp_path / "evals" / "srl.jsonl").open("a") as file:
        file.write('{"cut of')
    again = Journal(tmp_path)
    for pattern in ("metrics.jsonl", "evals/*.jsonl"):
        again.cut(offsets, pattern)
    assert {name: (tmp_path / name).read_bytes() for name in offsets} == kept
    assert (tmp_path / "evals" / "later.jsonl").read_bytes() == b""
    again.write("metrics.jsonl", [{"step": 3}])
    assert again.offsets()["metrics.jsonl"] == 22
    again.close()
    assert read(tmp_path / "metrics.jsonl") == [{"step": 1}, {"step": 3}]


@pytest.mark.parametrize("damage", ["short", "missing"])
def test_file_changed_from_outside_is_refused(tmp_path, damage):
    path = tmp_path / "metrics.jsonl"
    if damage == "short":
        path.write_text("{}\n")
    with pytest.raises(ValueError, match="metrics.jsonl.*checkpoint knows 10"):
        Journal(tmp_path).cut({"metrics.jsonl": 10}, "metrics.jsonl")


def test_full_disk_is_said_by_offsets_and_lines_wait(tmp_path, monkeypatch):
    """A disk that takes half a line, then none, then all: the file is as if it had never been full."""
    room, write = [3], os.write

    def short(handle, data):
        if not (count := min(room[0], len(data))):
            raise OSError(errno.ENOSPC, "No space left on device")
        room[0] -= count
        return write(handle, bytes(data[:count]))

    monkeypatch.setattr(os, "write", short)
    journal = Journal(tmp_path)
    for step in (1, 2):
        journal.write("metrics.jsonl", [{"step": step}])
    with pytest.raises(OSError, match=r"No space left.*metrics\.jsonl"):
        journal.offsets()
    assert (tmp_path / "metrics.jsonl").read_bytes() == b'{"s' and read(tmp_path / "metrics.jsonl") == []
    room[0] = 1000
    journal.write("metrics.jsonl", [{"step": 3}])
    assert journal.offsets() == {"metrics.jsonl": 33}
    assert read(tmp_path / "metrics.jsonl") == [{"step": step} for step in (1, 2, 3)]
    crcs = {"metrics.jsonl": zlib.crc32((tmp_path / "metrics.jsonl").read_bytes())}
    assert journal.crcs() == crcs and journal_damage(tmp_path, journal.offsets(), crcs) == {}
    journal.close()
    again = Journal(tmp_path)  # a checksum is carried on
    again.write("metrics.jsonl", [{"step": 4}])
    assert again.crcs() == {"metrics.jsonl": zlib.crc32((tmp_path / "metrics.jsonl").read_bytes())} != crcs
    again.close()
    text = (tmp_path / "metrics.jsonl").read_bytes()
    (tmp_path / "metrics.jsonl").write_bytes(text.replace(b"2", b"3"))
    for length, known, said in ((33, crcs, "was changed in its first 33 bytes"), (45, {}, "has 44 bytes of 45")):
        assert said in journal_damage(tmp_path, {"metrics.jsonl": length}, known)["metrics.jsonl"]


def test_a_folder_that_cannot_be_written_is_named_and_nothing_is_lost(tmp_path):
    (tmp_path / "rollouts").write_text("in the way")
    journal = Journal(tmp_path)
    journal.write("rollouts/srl.jsonl", [{"step": 1}])
    with pytest.raises(OSError, match=r"rollouts/srl\.jsonl"):
        journal.offsets()
    (tmp_path / "rollouts").unlink()
    assert journal.offsets() == {"rollouts/srl.jsonl": 11}
    journal.close()


def test_last_line_cut_by_a_kill_is_left_out(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"a":1}\n\n{"a":2')
    assert read(tmp_path / "m.jsonl") == [{"a": 1}]
    assert read(tmp_path / "none.jsonl") == []
