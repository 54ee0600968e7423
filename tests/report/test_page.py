"""The page as a whole: self-contained, well formed, the same each time, and never a crash."""

import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxsrl.report import ReportError, write_report

VOID = {"meta", "input"}


class Balanced(HTMLParser):
    """Checks that every element closes where it should and collects names, attributes and ids."""

    def __init__(self, page):
        super().__init__()
        self.open, self.seen, self.ids = [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, name, attributes):
        self.seen.append((name, dict(attributes)))
        self.ids += [value for key, value in attributes if key == "id"]
        if name not in VOID:
            self.open.append(name)

    def handle_endtag(self, name):
        assert self.open.pop() == name


def read(path):
    return path.read_bytes().decode("utf-8")


def test_a_page_is_self_contained_and_well_formed(make_run):
    page = read(write_report(make_run()))
    parsed = Balanced(page)
    assert page.startswith("<!doctype html>") and len(set(parsed.ids)) == len(parsed.ids)
    names = {name for name, _ in parsed.seen}
    assert not names & {"link", "img", "iframe", "object", "base"}
    assert all("src" not in a and a.get("href", "#").startswith("#") for _, a in parsed.seen)
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)|fetch\(", page)
    charts = [a for name, a in parsed.seen if name == "svg" and a.get("role") == "img"]
    assert charts and all(a["aria-label"] for a in charts)
    assert len(page) < 1_500_000


def test_the_same_files_give_the_same_bytes(make_run, tmp_path):
    folder = make_run()
    first = write_report(folder).read_bytes()
    assert write_report(folder).read_bytes() == first
    assert not list(folder.glob("*.tmp"))


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(ReportError, match=r"config\.json"):
        write_report(tmp_path)
    assert not list(tmp_path.iterdir())


def test_hostile_text_stays_text(make_run):
    hostile = "</div></script><script>alert(1)</script><img src=x onerror=alert(1)>\ud800\x00\u202e"
    folder = make_run(stages=("srl",), steps=2)
    row = {"stage": "srl", "step": 1, "problem": hostile, "branch": 0, "group": 0, "sample": 0,
           "expert_action": hostile, "completion": hostile, "action": hostile, "reward": 0.5,
           "advantage": 0.1, "kept": True, "tokens": 3,
           "truncated": False, "form": "action", "reward_settings": {"autojunk": True}}  # fmt: skip
    (folder / "rollouts/srl.jsonl").write_text(json.dumps(row) + "\n")
    config = {"name": hostile, "tokenizer": hostile, "stages": [{"name": hostile, "objective": {"type": hostile}}]}
    (folder / "config.json").write_text(json.dumps(config))
    lines = [{"stage": hostile, "step": 1, "kind": kind, "split": hostile, hostile: 1.0} for kind in ("eval", "train")]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = read(write_report(folder))
    parsed = Balanced(page)
    assert sum(name == "script" for name, _ in parsed.seen) == 1 and not any(name == "img" for name, _ in parsed.seen)
    assert not any(key.startswith("on") for _, attributes in parsed.seen for key in attributes)
    assert "&lt;script&gt;alert(1)" in page and "\x00" not in page and "\u202e" not in page


EVERY = ["config.json", "metrics.jsonl", "timing.jsonl", "environment.json", "rollouts", "logs"]


@pytest.mark.parametrize("missing", EVERY)
def test_any_file_may_be_missing(make_run, missing):
    folder = make_run(steps=3)
    target = folder / missing
    target.unlink() if target.is_file() else target.rename(folder / "elsewhere")
    Balanced(read(write_report(folder)))


def test_a_supervised_run_without_evaluations_says_so(make_run):
    page = read(write_report(make_run(stages=("sft",), steps=5)))
    assert "No completions" in page and "<b>loss</b>" in page


def test_a_run_that_has_only_begun(tmp_path):
    (tmp_path / "config.json").write_text('{"name": "fresh", "stages": [{"name": "srl", "steps": 10}]}')
    page = read(write_report(tmp_path))
    assert "No eval yet" in page and "No training step" in page and "not started" in page


def test_nulls_and_nan_leave_gaps(make_run):
    folder = make_run(stages=("srl",), steps=6, every=3)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"stage":"srl","step":7,"kind":"train","loss":null,"reward/mean":NaN,"lr":1e999,"x":Infinity}\n')
        file.write(
            '{"stage":"srl","step":7,"kind":"eval","split":"validation","actions/exact":null,"direct/answer":NaN}\n'
        )
        file.write('{"stage":"srl","step":8,"kind":"tra')
    page = read(write_report(folder))
    assert not re.search(r"\b(nan|inf|None|NaN)\b", re.sub(r"<script>.*</script>", "", page, flags=re.DOTALL))
    assert "no value at 1 logged step:" in page


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "type", "steps", "lr"]), inner)
    ),
    max_leaves=6,
)
keys = st.sampled_from([
    "stage", "step", "kind", "split", "name", "stages", "loss", "lr", "reward/mean", "actions/exact",
    "actions/exact_low",
    "actions/similarity", "actions/similarity_x", "update/skipped", "seconds", "tokens_per_second", "completion",
    "action",
    "expert_action", "reward", "advantage", "group", "branch", "tokens", "reward_settings", "model", "devices",
])  # fmt: skip
place = {"stage": st.sampled_from(["a", "b"]), "step": st.integers(0, 3)}
rows = st.lists(
    st.builds(
        lambda extra, fixed: extra | fixed, st.dictionaries(keys, values, max_size=8),
        st.fixed_dictionaries(place | {"kind": st.sampled_from(["train", "eval"]), "completion": st.text(max_size=8)}),
    ),
    max_size=5,
)  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(config=st.dictionaries(keys, values, max_size=6), metrics=rows, timing=rows, rollouts=rows)
def test_whatever_the_files_hold_there_is_a_page(tmp_path, config, metrics, timing, rollouts):
    (tmp_path / "rollouts").mkdir(exist_ok=True)
    (tmp_path / "config.json").write_text(json.dumps(config))
    for name, lines in (("metrics", metrics), ("timing", timing), ("rollouts/a", rollouts)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    Balanced(read(write_report(tmp_path)))
