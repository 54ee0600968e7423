"""What a run logs is mirrored as it is, once; a missing package or a service that fails ends no run."""

import json
import sys
from types import SimpleNamespace

import pytest

from jaxsrl.metrics import Journal, read
from jaxsrl.mirrors import Mirror, Mirrors, check_installed, open_mirrors, values

TRAIN = {"stage": "srl", "step": 1, "kind": "train", "loss": 0.5, "reward/mean": None, "collect/groups": 3}
EVAL = {"stage": "srl", "step": 1, "kind": "eval", "split": "test", "actions/exact": 0.25}


class Service:
    """A fake of W&B's and Trackio's interface: what it was told, and a kill on request."""

    def __init__(self):
        self.logged, self.began, self.finished, self.kill_at = [], [], 0, None

    def init(self, **settings):
        self.began.append(settings)
        return self

    def log(self, numbers, step):
        if step == self.kill_at:
            raise KeyboardInterrupt
        self.logged.append((step, numbers))

    def finish(self):
        self.finished += 1


@pytest.fixture(params=["wandb", "trackio"])
def service(request, monkeypatch):
    fake = Service()
    monkeypatch.setitem(sys.modules, request.param, fake)
    return SimpleNamespace(name=request.param, fake=fake)


def attempt(folder, name, lines, say=print, keep=None):
    """An attempt that begins with the first `keep` lines of what is there, and logs `lines`."""
    path = folder / "metrics.jsonl"
    if keep is not None:
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:keep]))
    journal = Journal(folder)
    try:
        with open_mirrors([name], folder, "run", {"name": "run"}, say) as mirrors:
            for line in lines:
                journal.write("metrics.jsonl", [line])
                mirrors.write([line])
    finally:
        journal.close()


def steps(*numbers):
    return [TRAIN | {"step": n} for n in numbers]


def test_names_say_stage_and_split():
    assert values(TRAIN, stage=True) == {"srl/loss": 0.5, "srl/collect/groups": 3}
    assert values(EVAL, stage=False) == {"test/actions/exact": 0.25}


def test_a_service_gets_every_line_once_over_a_resume(tmp_path, service):
    """Steps 3 and 4 are cut by the resume and come again; an evaluation is a line of its own."""
    attempt(tmp_path, service.name, [*steps(1, 2), EVAL, *steps(3, 4)])
    attempt(tmp_path, service.name, steps(3, 4, 5), keep=3)
    assert [n for n, _ in service.fake.logged] == [0, 1, 2, 3, 4, 5]
    assert [v["srl/step"] for _, v in service.fake.logged] == [1, 2, 1, 3, 4, 5]
    assert service.fake.logged[2][1]["srl/test/actions/exact"] == 0.25
    first, second = service.fake.began
    assert first == second and first["resume"] == "allow" and first["config"] == {"name": "run"}
    assert service.fake.finished == 2


def test_a_line_that_a_kill_hits_is_not_doubled(tmp_path, service):
    service.fake.kill_at = 1
    with pytest.raises(KeyboardInterrupt):
        attempt(tmp_path, service.name, steps(1, 2))
    service.fake.kill_at = None
    attempt(tmp_path, service.name, steps(2, 3), keep=1)
    assert [n for n, _ in service.fake.logged] == [0, 2]


def test_a_mirror_that_is_new_to_a_run_gets_what_is_there(tmp_path, service):
    Journal(tmp_path).write("metrics.jsonl", steps(1, 2))
    attempt(tmp_path, service.name, steps(3))
    assert [v["srl/step"] for _, v in service.fake.logged] == [1, 2, 3]


def test_one_that_fails_is_said_and_the_others_go_on():
    heard, got = [], []

    def broken(number, line):
        raise ConnectionError("no route")

    good = Mirror(name="good", write=lambda number, line: got.append(number), close=lambda: None)
    mirrors = Mirrors(open=[Mirror(name="bad", write=broken, close=lambda: None), good], say=heard.append)
    mirrors.write(steps(1, 2))
    assert got == [0, 1] and heard == ["bad failed and is left out from here on: ConnectionError: no route"]


def test_one_that_cannot_be_opened_is_an_error_before_the_first_step(tmp_path, service):
    service.fake.init = lambda **settings: 1 / 0
    with pytest.raises(RuntimeError, match=f"mirrors={service.name} cannot be opened, ZeroDivisionError: "):
        attempt(tmp_path, service.name, steps(1))
    assert not (tmp_path / "metrics.jsonl").exists()


def test_a_missing_package_is_named_with_its_command(monkeypatch):
    monkeypatch.setattr("jaxsrl.mirrors.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs the package trackio: pip install 'jaxsrl\[trackio\]'"):
        check_installed(("trackio",))
    check_installed(())


@pytest.mark.needs("tensorboard")
def test_event_files_hold_what_the_metrics_hold(tmp_path):
    """Read by TensorBoard itself: after a resume every step is there once, as in `metrics.jsonl`."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    attempt(tmp_path, "tensorboard", [*steps(1, 2), EVAL, *steps(3, 4), *({**x, "stage": "two"} for x in steps(1))])
    attempt(tmp_path, "tensorboard", steps(3, 4, 5), keep=3)
    assert [x["step"] for x in read(tmp_path / "metrics.jsonl")] == [1, 2, 1, 3, 4, 5]
    found = EventAccumulator(str(tmp_path / "tensorboard" / "srl"))
    found.Reload()
    assert [(e.step, e.value) for e in found.Scalars("loss")] == [(n, 0.5) for n in (1, 2, 3, 4, 5)]
    assert [e.value for e in found.Scalars("test/actions/exact")] == [0.25]
    assert "reward/mean" not in found.Tags()["scalars"]
    assert not list((tmp_path / "tensorboard").glob("two/events*"))  # that stage was cut away


def test_what_was_sent_is_kept_beside_the_run(tmp_path, service):
    attempt(tmp_path, service.name, steps(1, 2))
    said = json.loads((tmp_path / "mirrors" / f"{service.name}.json").read_text())
    assert said["lines"] == 2 and len(said["run"]) == 8
