"""One writer of a run at a time, and what it says when it is not this one."""

import threading
import time

import pytest

from jaxsrl.exit_codes import code_of
from jaxsrl.stores import lease, objects
from jaxsrl.stores.lease import Head, Held, Lost, take
from jaxsrl.stores.objects import NoAccess, NoBucket, Objects, StoreError, is_stored, parts_of

RUN = "gs://bucket/runs/tiny"
SNAPSHOT = {"token": 1, "count": 4, "stage": "sft", "step": 8, "done": False, "manifest": ["0" * 64, 1]}


def quiet(text):
    pass


@pytest.mark.parametrize("text, parts", [
    ("gs://bucket/runs/tiny", ("bucket", "runs/tiny")), ("gs:/bucket/runs//tiny/", ("bucket", "runs/tiny")),
    ("gs://my-bucket.eu", ("my-bucket.eu", "")),
])  # fmt: skip
def test_addresses(text, parts):
    """A command line's Path has one slash less."""
    assert is_stored(text) and parts_of(text) == parts


def test_what_is_no_address():
    assert not any(map(is_stored, ("runs", "/gs://x", "s3://bucket/x", "gs://", None, "gs:")))
    with pytest.raises(ValueError, match="no address"):
        parts_of("gs://bucket/../other")


def test_of_two_that_swap_one_gets_it(bucket):
    run = Objects.at(RUN)
    absent = run.read("x")[1]
    made = run.swap("x", b"first", absent)
    assert made and run.swap("x", b"second", absent) is None
    assert run.swap("x", b"third", made) and run.swap("x", b"fourth", made) is None
    assert run.read("x")[0] == b"third"


def test_a_held_run_is_refused_by_name(bucket, monkeypatch):
    monkeypatch.setattr(lease, "LEASE", 5.0)
    hold, over = take(Objects.at(RUN), "this disk", quiet), threading.Event()

    def renew():
        while not over.wait(0.05):
            hold.renew()

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        said = []
        with pytest.raises(Held, match=f"{RUN} is being written by process {hold.head.holder['pid']} on") as caught:
            take(Objects.at(RUN), "another disk", said.append)
    finally:
        over.set()
        thread.join()
    assert code_of(caught.value) == 1 and "waiting 5 s for a sign" in said[0]
    hold.renew()  # its right is untouched


def test_one_that_died_loses_the_run_after_its_lease(bucket):
    dead = take(Objects.at(RUN), "this disk", quiet)
    dead.complete(SNAPSHOT, 2)
    began = time.monotonic()
    taken = take(Objects.at(RUN), "another disk", quiet)
    assert time.monotonic() - began >= 0.6
    assert taken.head.token == 2 and [one["count"] for one in taken.head.snapshots] == [4]
    for late in (dead.renew, lambda: dead.complete(SNAPSHOT | {"count": 6}, 2), dead.give_back):  # it wakes up
        with pytest.raises(Lost, match=f"{RUN} was taken over by process"):
            late()
    head, _ = Head.read(Objects.at(RUN))
    assert head == taken.head


def test_one_that_gave_it_back_or_wrote_here_is_not_waited_for(bucket, monkeypatch):
    monkeypatch.setattr(lease, "LEASE", 100.0)
    take(Objects.at(RUN), "this disk", quiet).give_back()
    hold = take(Objects.at(RUN), "another disk", quiet)
    assert hold.head.token == 2
    assert take(Objects.at(RUN), "another disk", quiet).head.token == 3  # whose lock this process has
    with pytest.raises(Lost):
        hold.renew()


def test_an_answer_that_is_lost_does_not_lose_the_run(bucket):
    """The write was carried out, and its writer was told of an error: it is the holder all the same."""
    hold = take(Objects.at(RUN), "this disk", quiet)
    bucket.fault["POST"] = "late"
    with pytest.raises(StoreError):
        hold.complete(SNAPSHOT, 2)
    bucket.fault.clear()
    hold.renew()
    hold.complete(SNAPSHOT | {"count": 6}, 2)
    hold.complete(SNAPSHOT | {"count": 6}, 2)  # tried again
    assert [one["count"] for one in Head.read(Objects.at(RUN))[0].snapshots] == [4, 6]


def test_a_damaged_head_is_named(bucket):
    take(Objects.at(RUN), "this disk", quiet)
    name = "runs/tiny/run.json"
    bucket.put(name, bucket.objects[name][1].replace(b'"token": 1', b'"token": 7'))
    with pytest.raises(StoreError, match="run.json was damaged"):
        take(Objects.at(RUN), "this disk", quiet)


def test_who_may_not_ask_is_told_what_to_do(bucket):
    for status in (401, 403):
        bucket.fault["GET"] = status
        with pytest.raises(NoAccess, match="gcloud auth application-default login") as caught:
            take(Objects.at(RUN), "this disk", quiet)
        assert code_of(caught.value) == 1
    bucket.fault.clear()
    with pytest.raises(NoBucket, match="gs://elsewhere/runs: there is no such bucket") as caught:
        take(Objects.at("gs://elsewhere/runs"), "this disk", quiet)
    assert code_of(caught.value) == 2


@pytest.mark.parametrize("fault, said", [
    (503, "does not answer: .*Service Unavailable"), (429, "does not answer: .*Too Many Requests"),
    ("cut", "does not answer: .*Empty reply"), ("slow", "has not answered for 0 s"),
])  # fmt: skip
def test_a_store_that_does_not_answer(bucket, fault, said, monkeypatch):
    monkeypatch.setattr(objects, "PATIENCE", 0.3 if fault == "slow" else 30.0)
    bucket.fault["GET"] = fault
    with pytest.raises(StoreError, match=f"{RUN} {said}") as caught:
        take(Objects.at(RUN), "this disk", quiet)
    assert code_of(caught.value) == 1
