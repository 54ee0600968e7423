"""`jaxsrl bench step` prints what it says it prints."""

import gc
import json
import math

from jaxsrl.__main__ import main


def test_a_small_step_is_measured(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("JAXSRL_DATA", raising=False)
    path = tmp_path / "step.json"
    small = ("--demonstrations", "3", "--group-size", "2", "--completion-tokens", "600", "--models")
    assert main(["bench", "step", *small, "--json", str(path)]) == 0
    found, printed = json.loads(path.read_text()), capsys.readouterr().out
    assert found["fetches"] == 3
    for name in ("host_seconds/path", "host_seconds/all", "host_seconds/texts_seen_before", "host_peak_gib"):
        assert math.isfinite(found[name]) and found[name] > 0 and name in printed
    assert set(found["parts"]) == {"layout", "rows", "texts", "lines"} and found["about"] in printed
    assert found["host_seconds/all"] == sum(found["parts"].values()) >= found["host_seconds/path"]
    assert not gc.get_freeze_count()  # the collector is as it was
    assert "54 completions" in found["about"] and "bytes" in found["about"]


def test_one_of_several_processes_reads_its_own_rollouts(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("JAXSRL_DATA", raising=False)
    small = ("--demonstrations", "3", "--group-size", "2", "--completion-tokens", "300", "--processes", "2", "--models")
    assert main(["bench", "step", *small]) == 0
    out = capsys.readouterr().out
    assert "of one of 2 processes" in out and 0 < int(out.split(" completions")[0].split()[-1]) < 54


def test_an_unknown_model_is_named(capsys):
    assert main(["bench", "step", "--models", "qwen2.5-0.6b"]) == 2
    assert "no preset 'qwen2.5-0.6b'" in capsys.readouterr().err


def test_sizes_that_leave_nothing_are_named(capsys):
    assert main(["bench", "step", "--group-size", "1"]) == 2
    assert "group_size >= 2" in capsys.readouterr().err
