"""What is uploaded of a run folder, and that what comes back is that or is named."""

import json
import shutil
from pathlib import Path

import pytest

from jaxsrl.checkpoint import SaveError
from jaxsrl.checksums import write_sums
from jaxsrl.stores import keep, snapshot
from jaxsrl.stores.keep import kept
from jaxsrl.stores.lease import Head, Lost
from jaxsrl.stores.objects import Objects, StoreError

RUN = "gs://bucket/runs/tiny"


def line(step):
    return json.dumps({"step": step}) + "\n"


def save(folder: Path, count: int, *, keep_last: int = 2) -> None:
    """What a run leaves: a checkpoint after `count` lines, one line that it does not know, and a policy."""
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(line(count))
    known = (folder / "metrics.jsonl").stat().st_size
    for top, names in ((f"resume/{count}", ("state/a", "record/metadata")), (f"policy/sft/best-{count:09d}", ("a",))):
        for name in names:
            path = folder / "checkpoints" / top / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{top} {name} " * 20)
        if top.startswith("resume"):
            record = {"stage": "sft", "step": 2 * count, "done": False, "offsets": {"metrics.jsonl": known}}
            path.write_text(json.dumps(record))
        write_sums(folder / "checkpoints" / top)
    for old in (folder / "checkpoints" / "resume").glob("*"):
        if int(old.name) <= count - keep_last:
            shutil.rmtree(old)


@pytest.fixture
def place(bucket):
    """A run that was saved twice, and stored each time."""
    with kept("gs://bucket/runs", "tiny", 2) as place:
        place.folder.mkdir(parents=True)
        (place.folder / "config.json").write_text("{}")
        for count in (1, 2):
            save(place.folder, count)
            place.keeper._store(count)
        (place.folder / "metrics.jsonl").open("a").write(line("no checkpoint knows it"))
    return place


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def flip(bucket, folder: Path, name: str) -> None:
    """One bit of the object that a file of the run was stored in."""
    found = [(key, data) for key, (_, data) in bucket.objects.items() if "/parts/" in key and data]
    (key, data), *_ = [(k, d) for k, d in found if (folder / name).read_bytes().startswith(d)]
    bucket.put(key, bytes([data[0] ^ 1]) + data[1:])


def test_what_is_stored_comes_back(bucket, place):
    before = files(place.folder)
    shutil.rmtree(place.folder)
    with kept("gs://bucket/runs", "tiny", 2) as again:
        after = files(again.folder)
        assert "checkpoint 2 (stage sft, step 4) copied to" in again.said[0]
    assert after["metrics.jsonl"] == (line(1) + line(2)).encode()  # as far as the checkpoint knows
    same = lambda found: {k: v for k, v in found.items() if "resume/1" not in k and k != "metrics.jsonl"}
    assert same(after) == same(before)
    assert sorted(k for k in after if "resume/2" in k) == sorted(k for k in before if "resume/2" in k)


def test_a_journal_is_one_object_for_each_checkpoint(bucket, place):
    stored = [data for _, data in bucket.objects.values()]
    assert line(1).encode() in stored and line(2).encode() in stored and (line(1) + line(2)).encode() not in stored


def test_what_no_snapshot_has_is_removed_and_what_is_there_not_sent_again(bucket, place, monkeypatch):
    monkeypatch.setattr(snapshot, "PIECES", 3)
    first = (place.folder / "checkpoints/policy/sft/best-000000001/a").read_bytes()
    with kept("gs://bucket/runs", "tiny", 2) as again:
        for count in (3, 4, 5):
            save(again.folder, count)
            bucket.heard.clear()
            again.keeper._store(count)
        sent = [said for said in bucket.heard if said.startswith("POST") and "/parts/" in said]
        assert len(sent) == 7  # three files of the checkpoint, two of the policy, lines, a manifest
    stored = [data for _, data in bucket.objects.values()]
    assert stored.count(first) == 1 and not any(b"resume/3" in data and b"files" not in data for data in stored)
    head, _ = Head.read(Objects.at(RUN))
    assert [(one["token"], one["count"]) for one in head.snapshots] == [(2, 4), (2, 5)]


def test_what_was_copied_from_the_store_is_not_sent_back(bucket, place):
    shutil.rmtree(place.folder)
    bucket.heard.clear()
    with kept("gs://bucket/runs", "tiny", 2):
        pass  # nothing is trained
    assert not [said for said in bucket.heard if said.startswith("POST") and "/parts/" in said]
    with kept("gs://bucket/runs", "tiny", 2) as again:
        save(again.folder, 3)
    shutil.rmtree(place.folder)
    with kept("gs://bucket/runs", "tiny", 2) as again:
        bucket.heard.clear()
        save(again.folder, 4)
        again.keeper._store(4)
        sent = [said for said in bucket.heard if said.startswith("POST") and "/parts/" in said]
        assert len(sent) == 7  # of three policies those of the first two were there


def test_large_files_are_cut_into_parts(bucket, monkeypatch):
    monkeypatch.setattr(snapshot, "PART", 64)
    with kept("gs://bucket/runs", "tiny", 2) as place:
        place.folder.mkdir(parents=True)
        save(place.folder, 1)
    before = files(place.folder)
    parts = [data for name, (_, data) in bucket.objects.items() if "/parts/" in name and b"files" not in data]
    assert max(map(len, parts)) == 64
    shutil.rmtree(place.folder)
    with kept("gs://bucket/runs", "tiny", 2) as again:
        assert files(again.folder) == before


def test_a_flipped_byte_is_found_and_the_older_good_one_used(bucket, place):
    flip(bucket, place.folder, "checkpoints/resume/2/state/a")
    shutil.rmtree(place.folder)
    with kept("gs://bucket/runs", "tiny", 2) as again:
        assert snapshot.newest(again.folder) == 1 and again.keeper.done == 1
        warning, copied = again.said
        assert "checkpoint 2 (stage sft, step 4) is damaged in the store: gs://bucket/runs/tiny/parts/" in warning
        assert "(of checkpoints/resume/2/state/a) was changed" in warning
        assert "Going on from checkpoint 1 (stage sft, step 2)" in warning and "checkpoint 1" in copied
        save(again.folder, 2)  # the same bits once more: they are stored anew, as what lies there is damaged
        again.keeper._store(2)
    shutil.rmtree(place.folder)
    with kept("gs://bucket/runs", "tiny", 2) as again:
        assert snapshot.newest(again.folder) == 2 and len(again.said) == 1


def test_a_missing_object_is_found(bucket, place):
    lost = next(name for name, (_, data) in bucket.objects.items() if data.startswith(b"resume/2 state/a"))
    del bucket.objects[lost]
    shutil.rmtree(place.folder)
    with kept("gs://bucket/runs", "tiny", 2) as again:
        assert snapshot.newest(again.folder) == 1 and "is missing" in again.said[0]


def test_lines_that_are_damaged_everywhere_do_not_cost_the_checkpoint(bucket, place):
    """Both snapshots have the first line; what reads it says what it is worth."""
    flip(bucket, place.folder, "metrics.jsonl")
    shutil.rmtree(place.folder)
    with kept("gs://bucket/runs", "tiny", 2) as again:
        assert snapshot.newest(again.folder) == 2 and "(of metrics.jsonl) was changed" in again.said[0]


def test_where_nothing_is_good_nothing_is_begun(bucket, place):
    flip(bucket, place.folder, "checkpoints/resume/2/state/a")
    flip(bucket, place.folder, "checkpoints/resume/1/state/a")
    shutil.rmtree(place.folder)
    with pytest.raises(StoreError, match="no snapshot of gs://bucket/runs/tiny is good"):
        with kept("gs://bucket/runs", "tiny", 2):
            pass
    assert not place.folder.exists()


def test_the_folder_of_this_machine_is_used_where_nobody_else_wrote_since(bucket, place, monkeypatch, tmp_path):
    with kept("gs://bucket/runs", "tiny", 2) as again:
        assert not again.said and again.keeper.done == 2  # nothing was copied
        save(again.folder, 3)  # ends before it is stored
        again.keeper._store = lambda count: None
    with kept("gs://bucket/runs", "tiny", 2) as again:
        assert not again.said and again.keeper.done is None and snapshot.newest(again.folder) == 3
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("JAXSRL_CACHE", str(tmp_path / "other"))
        with kept("gs://bucket/runs", "tiny", 2) as other:
            assert "checkpoint 3" in other.said[0]
            save(other.folder, 4)
    with kept("gs://bucket/runs", "tiny", 2) as again:
        assert "checkpoint 4 (stage sft, step 8) copied" in again.said[0] and snapshot.newest(again.folder) == 4


def test_a_run_is_uploaded_from_one_process_of_a_machine(bucket, place):
    with kept("gs://bucket/runs", "tiny", 2):
        with pytest.raises(StoreError, match="is being written by another process"):
            with kept("gs://bucket/runs", "tiny", 2):
                pass


def test_a_checkpoint_that_is_removed_while_it_is_uploaded(bucket, place, monkeypatch):
    """Two are saved meanwhile, and the run keeps two: links hold the files of the one on its way."""
    with kept("gs://bucket/runs", "tiny", 2) as again:
        save(again.folder, 3)
        upload = snapshot.Uploader.upload

        def slow(self, staged):
            for count in (4, 5):
                save(again.folder, count)
            return upload(self, staged)

        said = []
        again.keeper._say = said.append
        with monkeypatch.context() as patched:
            patched.setattr(snapshot.Uploader, "upload", slow)
            again.keeper._store(3)
        assert "2 were made meanwhile" in said[0]
        head, _ = Head.read(Objects.at(RUN))
        found = snapshot.manifest(again.keeper.hold.objects, head.snapshots[-1])
        assert not snapshot.fetch(again.keeper.hold.objects, found, again.folder.with_name("copy"))
        copied = again.folder.with_name("copy")
        assert snapshot.newest(copied) == 3 and (copied / "checkpoints/resume/3/state/a").is_file()


def test_a_policy_that_is_removed_while_it_is_linked_is_not_stored_in_part(bucket, place):
    (place.folder / "checkpoints/policy/sft/best-000000001/a").unlink()
    with pytest.raises(snapshot.Changing):
        snapshot.stage(place.folder, 2, place.folder.with_name("links"))


def test_a_store_that_is_down_is_said_once_a_checkpoint_and_ends_the_run_in_the_end(bucket, place):
    with kept("gs://bucket/runs", "tiny", 2) as again:
        said, keeper = [], again.keeper
        keeper._say = said.append
        bucket.fault["POST"] = 503
        save(again.folder, 3)
        assert not keeper._try_to_store(3) and not keeper._try_to_store(3)
        assert (
            len(said) == 1
            and "checkpoint 3 is not stored (1 in a row): gs://bucket/runs/tiny does not answer" in said[0]
        )
        assert not keeper.check()
        save(again.folder, 4)
        assert not keeper._try_to_store(4)
        with pytest.raises(SaveError, match=r"has not taken 2 checkpoints in a row \(survive.failed_saves\)"):
            again.asked(lambda: False)()
        bucket.fault.clear()
        assert keeper._try_to_store(4) and "the store answers again" in said[-1] and not again.asked(lambda: False)()


def test_the_end_is_insisted_on(bucket, place, monkeypatch):
    monkeypatch.setattr(keep, "AT_THE_END", 0.01)
    with pytest.raises(SaveError, match="does not have the end of the run, which is in"):
        with kept("gs://bucket/runs", "tiny", 2) as again:
            save(again.folder, 3)
            bucket.fault["POST"] = 503


def test_who_lost_the_run_stores_nothing_more(bucket, place):
    with pytest.raises(Lost):
        with kept("gs://bucket/runs", "tiny", 2) as again:
            head, generation = Head.read(Objects.at(RUN))
            Objects.at(RUN).swap(
                "run.json", Head(token=head.token + 1, holder={"pid": 1, "host": "x"}).encoded(), generation
            )
            save(again.folder, 3)
            again.keeper._try_to_store(3)
            again.asked(lambda: False)()
    assert Head.read(Objects.at(RUN))[0].snapshots == ()
