"""Every command on a tiny run, and what wrong input gets."""

import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from jaxsrl.__main__ import main
from jaxsrl.config.overrides import load
from jaxsrl.config.run import ConfigError
from jaxsrl.data.byte_tokenizer import ByteTokenizer
from jaxsrl.stages.begin import load_data

ROOT = Path(__file__).parents[1]
TINY = str(ROOT / "tests" / "tiny_config.py")
PATIENCE = 250  # seconds that a command may take on a machine that does other things too


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of all runs, with one tiny run in it."""
    runs = tmp_path_factory.mktemp("runs")
    assert main(["train", TINY, "--runs", str(runs)]) == 0
    return runs


def call(capsys, *arguments):
    code = main([str(a) for a in arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_train_leaves_a_whole_run(run):
    made = {path.name for path in (run / "tiny").iterdir()}
    assert {
        "config.json",
        "environment.json",
        "metrics.jsonl",
        "timing.jsonl",
        "rollouts",
        "evals",
        "report.html",
    } <= made


def test_the_same_command_again_does_nothing(run, capsys):
    before = (run / "tiny" / "metrics.jsonl").read_bytes()
    code, _, err = call(capsys, "train", TINY, "--runs", run)
    assert code == 0 and (run / "tiny" / "metrics.jsonl").read_bytes() == before


def test_eval(run, capsys):
    code, out, _ = call(capsys, "eval", TINY, "--runs", run, "--policy", "srl:best", "--problems", 2)
    assert code == 0 and "policy srl:best-" in out and "actions/exact" in out
    for wrong in ("srl-lost", "srl:lost", "srl:best-999"):
        code, _, err = call(capsys, "eval", TINY, "--runs", run, "--policy", wrong)
        assert code == 1 and f"no policy '{wrong}'" in err and "rlvr:last" in err


def test_the_old_spelling_of_a_policy_is_read_with_a_note(run, capsys):
    now = call(capsys, "eval", TINY, "--runs", run, "--policy", "srl", "--problems", 1)
    before = call(capsys, "eval", TINY, "--runs", run, "--policy", "srl-last", "--problems", 1)
    assert before[:2] == now[:2] and now[0] == 0 and "policy srl:last" in now[1]
    assert "write srl:last" in before[2] and "old spelling" not in now[2]


def test_sample(run, capsys):
    code, out, _ = call(capsys, "sample", TINY, "--runs", run, "--after", 1, "--samples", 2)
    assert code == 0 and out.count("──") == 2 and "given:" in out and "expert:" in out
    code, out, _ = call(capsys, "sample", TINY, "--runs", run, "--problem", "9:xyx", "--form", "solve", "--samples", 1)
    assert code == 0 and "9:xyx" in out
    for wrong in (("--samples", 0), ("--temperature", 0), ("--temperature", "nan")):
        code, _, err = call(capsys, "sample", TINY, "--runs", run, *wrong)
        assert code == 2 and f"{wrong[0][2:]}={wrong[1]}" in err
    code, _, err = call(capsys, "sample", TINY, "--runs", run, "--index", 99)
    assert code == 2 and "index=99" in err and "0..1" in err


def test_proxy_tuning_at_its_ends(run, capsys):
    """M with alpha 0, M+ where M- is M; what is half given, or not there, is named."""
    spoken = lambda *more: call(capsys, "sample", TINY, "--runs", run, "--policy", "sft", "--after", 1, *more)
    steered = lambda tuned, alpha: spoken(
        "--proxy-run", run / "tiny", "--proxy-tuned", tuned, "--proxy-untuned", "sft", "--proxy-alpha", alpha
    )
    completions = lambda said: [line for line in said[1].splitlines() if line.startswith("──")]
    alone, tuned = spoken(), call(capsys, "sample", TINY, "--runs", run, "--policy", "rlvr", "--after", 1)
    assert completions(steered("rlvr", 0)) == completions(alone) != completions(tuned)
    assert completions(steered("rlvr", 1)) == completions(tuned)
    assert spoken("--proxy-run", run / "tiny")[0] == 2
    code, _, err = steered("lost", 1)
    assert code == 1 and "'lost'" in err and "rlvr:last" in err
    code, out, _ = call(
        capsys, "eval", TINY, "--runs", run, "--policy", "sft", "--problems", 2, "--proxy-run", run / "tiny",
        "--proxy-tuned", "srl", "--proxy-untuned", "sft",
    )  # fmt: skip
    assert code == 0 and "sft:last + 1 (srl:last - sft:last of tiny)" in out


def test_data_draws_a_tree(capsys):
    code, out, _ = call(capsys, "data", TINY, "--stage", "srl")
    assert code == 0 and "action 1 of 3" in out and "4 rollouts" in out and "times fewer" in out
    code, _, err = call(capsys, "data", TINY, "--stage", "slr")
    assert code == 2 and "srl" in err


def test_report_and_doctor_and_compare(run, capsys):
    code, out, _ = call(capsys, "report", run / "tiny")
    assert code == 0 and out.strip().endswith("report.html")
    code, out, _ = call(capsys, "doctor", run / "tiny")
    assert code == 0 and "stage: rlvr" in out and "state: " in out
    code, out, _ = call(capsys, "doctor")
    assert code == 0 and '"jax"' in out and '"devices"' in out
    code, out, _ = call(capsys, "compare", run / "tiny")
    assert code == 0 and "| rlvr |" in out and (run / "compare.html").is_file()
    code, _, err = call(capsys, "doctor", run / "nothing")
    assert code == 2 and "no run folder" in err and "nothing" in err and "has: tiny" in err


def test_a_changed_config_is_refused_by_its_key(run, capsys):
    code, _, err = call(capsys, "train", TINY, "--runs", run, "--set", "stages.srl.optimizer.lr=0.5")
    assert code == 2 and "srl.optimizer.lr" in err and "0.5" in err


def test_wrong_input_is_found_before_a_device_is_touched():
    """A platform that does not exist would fail at the first touch."""
    command = [sys.executable, "-m", "jaxsrl", "train", TINY, "--set", "stages.srl.stepz=1"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "nonsense"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 2 and "stages.srl.steps" in done.stderr and "Traceback" not in done.stderr


def test_demonstrations_that_do_not_fit_are_counted_before_the_first_step(tmp_path, capsys):
    code, _, err = call(capsys, "train", TINY, "--runs", tmp_path, "--set", "rows.prompt_tokens=10")
    assert code == 2 and "2 of 7 demonstrations do not fit rows.prompt_tokens=10" in err and "needs 24 tokens" in err
    assert not list(tmp_path.iterdir())


def test_a_branch_point_that_another_step_draws_is_counted_too(tmp_path, capsys):
    """Whatever subset of its branch points a demonstration happens to have at step 0."""
    deepest = ["--set", "rows.prompt_tokens=23", "--set", "stages.sft.validate.problems=1"]
    said = []
    for points in (1, 2):
        few = ["--set", f"stages.srl.objective.max_branch_points={points}", "--set", "rows.tokens=17"]
        code, _, err = call(capsys, "train", TINY, "--runs", tmp_path, *deepest, *few)
        assert code == 2
        said.append(err)
    assert said[0] == said[1] and "do not fit" in said[0]


def test_help_of_every_command_needs_no_jax():
    """Help is there at once: parsing imports neither jax nor anything that does."""
    commands = [
        "", "train", "eval", "data", "sample", "report", "compare", "doctor", "plan", "launch", "init", "data-build",
    ]  # fmt: skip
    script = (
        "import contextlib, sys\n"
        "from jaxsrl.__main__ import main\n"
        f"for command in {commands!r}:\n"
        "    with contextlib.suppress(SystemExit):\n"
        "        main([command, '--help'] if command else ['--help'])\n"
        "print('imported:', [name for name in ('jax', 'numpy', 'grain') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0 and done.stdout.strip().endswith("imported: []"), done.stdout[-200:] + done.stderr
    assert all(f"jaxsrl {command}" in done.stdout for command in commands)


def test_an_interrupted_run_says_how_to_go_on(tmp_path):
    script = (  # a process started by a background shell ignores the signal, and so would its children
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from jaxsrl.__main__ import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    endless = ["train", TINY, "--runs", str(tmp_path), "--set", "stages.sft.steps=100000"]
    said = ""
    with subprocess.Popen([sys.executable, "-c", script, *endless], cwd=ROOT, stderr=subprocess.PIPE, text=True) as run:
        for line in run.stderr:
            said += line
            if line.startswith("[sft] 1/"):
                run.send_signal(signal.SIGINT)
    assert run.returncode == 130 and "Traceback" not in said, said
    assert "interrupted; the same command goes on" in said
    assert re.search(r"\[sft\] interrupted after step \d+; the same command goes back to its start", said), said


def test_a_second_interrupt_ends_the_process_in_silence(monkeypatch, capsys):
    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr("jaxsrl.__main__.Report.__call__", interrupted)
    monkeypatch.setattr(sys, "argv", ["jaxsrl", "report", "runs/x"])
    before = signal.getsignal(signal.SIGINT)
    try:
        assert main(["report", "runs/x"]) == 130 and signal.getsignal(signal.SIGINT) is before  # another's process
        assert main() == 130 and signal.getsignal(signal.SIGINT) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err == "interrupted\n" * 2


def test_where_weights_fix_the_vocabulary_no_setting_of_it_is_advised(monkeypatch):
    tiny = load(TINY)
    monkeypatch.setattr("jaxsrl.stages.begin.read_config", lambda folder: replace(tiny.model, vocab=100))
    monkeypatch.setattr("jaxsrl.stages.begin.config_tokenizer", lambda config: ByteTokenizer())
    with pytest.raises(ConfigError, match="models/x has 100 rows .* not the tokenizer of these") as caught:
        load_data(replace(tiny, weights="models/x"))
    assert "model.vocab" not in str(caught.value)


def test_a_mirror_that_is_not_installed_is_refused_before_the_first_step(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("jaxsrl.mirrors.find_spec", lambda name: None)
    code, _, err = call(capsys, "train", TINY, "--runs", tmp_path, "--set", "mirrors=tensorboard")
    assert code == 2 and "pip install 'jaxsrl[tensorboard]'" in err and not list(tmp_path.iterdir())
    code, _, err = call(capsys, "train", TINY, "--runs", tmp_path, "--set", "mirrors=tensorbord")
    assert code == 2 and "mirrors must be some of tensorboard, wandb, trackio" in err


def test_the_version_and_a_mistyped_command(capsys):
    assert main(["--version"]) == 0
    assert re.fullmatch(r"jaxsrl \d+\.\d+\.\d+\n", capsys.readouterr().out)
    assert main(["trian", "configs/quickstart.py"]) == 2
    assert "no command 'trian'; did you mean train? There are: train, eval" in capsys.readouterr().err
    assert main(["zzz"]) == 2
    assert "no command 'zzz'; There are: train" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--help"], ["data", TINY, "--rows", "3"]])
def test_output_that_nobody_reads_on_ends_quietly(arguments):
    """As behind `| head -1`, with a pipe that is closed before anything is written."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "jaxsrl", *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True, timeout=PATIENCE)
    os.close(write)
    assert done.returncode == 141 and done.stderr == ""


def test_a_pipe_of_another_kind_that_breaks_is_an_error(monkeypatch, capsys):
    def broken(self):
        raise BrokenPipeError(32, "Broken pipe", "worker")

    monkeypatch.setattr("jaxsrl.__main__.Report.__call__", broken)
    assert main(["report", "runs/x"]) == 1
    assert "Broken pipe" in capsys.readouterr().err
