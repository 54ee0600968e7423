"""What users do wrong: each mistake ends with 2, a line that names cause and place, and nothing made or lost.

`MISTAKES` are tried here, in a folder of a user's. `ELSEWHERE` are those that need a run, a disk or a signal, and the
beginnings of the names of the tests that hold them.
"""

import ast
import gzip
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from jaxsrl.__main__ import main
from jaxsrl.config.load import load
from jaxsrl.config.overrides import override
from jaxsrl.policy import Compiled
from jaxsrl.stages.begin import prepare

ROOT = Path(__file__).parents[1]
TINY = str(ROOT / "tests" / "tiny_config.py")
RECIPE = str(ROOT / "configs" / "recipes" / "qwen3_8b_8xh200.py")
GSM8K = str(ROOT / "configs" / "gsm8k_sft.py")
ARITHMETIC = str(ROOT / "configs" / "arithmetic_sft.py")
HEAD = "from jaxsrl.config import Config\n"
FILES = {
    "syntax.py": "def config(:\n", "nothing.py": "x = 1\n", "none.py": "def config():\n    return None\n",
    "raises.py": "def config():\n    return 1 / 0\n", "imports.py": "import jaxsrll\n",
    "typo.py": HEAD + "def config():\n    return Config(nam='x')\n", "run.yaml": "name: x\n", "file": "text",
    "empty.jsonl": "", "text.jsonl": "not json\n", "list.jsonl": "[1, 2]\n", "other.jsonl": '{"a": 1}\n',
    "numbers.jsonl": '{"problem": 1, "solution": 2}\n', "comma.jsonl": '{"problem": "a", "solution": "b"},\n',
    "table.csv": "a,b\n", "one.jsonl": '{"problem": "1+1?", "solution": "One.\\n\\nTwo."}\n',
}  # fmt: skip


def setting(text: str, *said: str) -> tuple:
    return f"--set {text}", ["train", TINY, "--set", text], said or (text.split("=")[0],)


# What it is, the command, and what is said of it.
MISTAKES = [
    # files of configs
    ("a path that is not there", ["train", "configs/none.py"], ["configs/none.py"]),
    ("a letter of a path", ["train", "typ.py"], ["no config file typ.py; did you mean typo.py?"]),
    ("a folder", ["train", "."], [". is a folder", "typo.py"]),
    ("another kind of file", ["train", "run.yaml"], ["run.yaml is no Python file"]),
    ("no function config", ["train", "nothing.py"], ["nothing.py has no function config()"]),
    ("a config that is none", ["train", "none.py"], ["none.py must define config() -> Config, got NoneType"]),
    ("no Python", ["train", "syntax.py"], ["syntax.py:1: SyntaxError"]),
    ("an error in it", ["train", "raises.py"], ["raises.py:2: ZeroDivisionError"]),
    ("an import in it", ["train", "imports.py"], ["imports.py:1: ModuleNotFoundError: No module named 'jaxsrll'"]),
    ("a setting's name in it", ["train", "typo.py"], ["typo.py:3: Config has no setting 'nam'; did you mean name?"]),
    # settings
    setting("stages.srl.optimizer.rl=1", "rl", "stages.srl.optimizer.lr"),
    setting("stages.srl.lr=1", "stages.srl.lr=1", "stages.srl.optimizer.lr"),
    setting("stages.srl.optimizer.lr = 1e-3", "no key 'lr '; nearest is stages.srl.optimizer.lr"),
    setting("stages.srl.optimizer.lr=nan", "stages.srl.optimizer.lr=nan", "finite"),
    setting("stages.srl.optimizer.lr=-1", "must be >= 0"),
    setting("stages.slr.steps=1", "slr", "stages.srl"),
    setting("stages.srl.steps=many", "stages.srl.steps", "many"),
    setting("stages.srl.steps=-5", "stage srl: steps must be >= 0, got -5"),
    setting("stages.srl=3", "is a whole Stage; set one of its fields"),
    ("more to validate on than is made", ["train", ARITHMETIC, "--set", "stages.sft.validate.problems=65"],
     ["stages.sft.validate.problems=65, but its data make 64", "set stages.sft.data.validation=65"]),
    ("more to test on than is made", ["train", ARITHMETIC, "--set", "stages.sft.test_problems=201"],
     ["stages.sft.test_problems=201, but its data make 200", "set stages.sft.data.test=201"]),
    setting("stages.srl.sampling.top_k=5", "top_k"),
    setting("stages.srl.sampling.temperature=0", "temperature"),
    setting("stages.srl.sampling.max_new_tokens=0", "max_new_tokens must be >= 1"),
    setting("stages.srl.objective.group_size=1", "group_size must be >= 2"),
    setting("stages.srl.objective.group_size=4.0", "must be a whole number, got '4.0'"),
    setting("stages.srl.start_from=rlvr", "start_from='rlvr'", "sft"),
    setting("stages.srl.start_from=srl", "must be an earlier stage (sft)"),
    setting("stages.srl.compact=maybe", "must be true or false, got 'maybe'"),
    setting("stages.rlvr.updates_per_rollout=4", "steps=6", "updates_per_rollout=4"),
    setting("stages.sft.validate.metric=acc", "metric='acc'"),
    setting("stages.sft.validate.every=-1", "every must be >= 0"),
    setting("rows.tokens=5", "rows.tokens=5"),
    setting("rows.rows=0", "rows.rows must be >= 1"),
    setting("template.trunk_in=system", "trunk_in", "assistant"),
    setting("model.vocab=10", "model.vocab=10", "model.vocab=272"),
    setting("model.dtype=fp8", "must be one of float32, bfloat16"),
    setting("tokenizer=qwen", "qwen", "JAXSRL_DATA"),
    setting("weights=/nowhere", "no tokenizer at /nowhere"),
    setting("weights=.", ".: expected tokenizer.json"),
    setting("lora.rank=0", "lora.rank must be >= 1"),
    setting("mesh.fsdp=3", "rows.rows=2 must be a multiple of 3"),
    setting("mesh.fsdp=-1", "mesh.fsdp must be >= 1"),
    setting("name=a/b", "name must be a folder's name"),
    setting("name=", "name must be a folder's name"),
    setting("seed=-1", "seed must be in 0..2**31-1"),
    setting("checkpoint_every=0", "must be >= 1, got checkpoint_every=0"),
    setting("survive.warn_after=400", "warn_after <= hang_after"),
    setting("runs=s3://bucket/x", "object store that is not known: give gs://BUCKET/FOLDER"),
    setting("nonsense", "nonsense", "key=value"),
    # places and flags
    ("a file for the runs", ["train", TINY, "--runs", "file"], ["cannot be written to file/tiny", "--runs FOLDER"]),
    ("no data folder", ["train", GSM8K, "--data-dir", "/nowhere"], ["/nowhere", "JAXSRL_DATA"]),
    ("a data folder without the file", ["train", GSM8K, "--data-dir", "."], ["gsm8k/train.jsonl.gz is missing"]),
    ("a heartbeat of nothing", ["train", TINY, "--heartbeat", "0"], ["must be >= 1 s, got heartbeat=0"]),
    ("steps to trace", ["train", TINY, "--trace", "5:2"], ["--trace takes FROM:TO", "'5:2'"]),
    ("no config", ["train"], ["required"]),
    ("a letter of a flag", ["train", TINY, "--dat-dir", "x"], ["--dat-dir"]),
    ("a number as a word", ["sample", TINY, "--samples", "two"], ["two"]),
    ("a split that is trained on", ["eval", TINY, "--split", "train"], ["train", "validation"]),
    ("a letter of a command", ["trian", TINY], ["no command 'trian'; did you mean train?"]),
    *((f"a key given to {name}", [name, TINY, "--set", "rows.token=5"], ["rows.tokens"])
      for name in ("eval", "sample", "data")),
    # runs that are not there
    ("a run that is not there", ["eval", TINY, "--runs", "runs"], ["there is no run folder runs/tiny"]),
    ("no run's name", ["eval"], ["name a run folder, a config file or --weights FOLDER"]),
    ("a folder that is no run", ["report", "."], [". is no run folder"]),
    ("nothing to compare", ["compare"], ["name the run folders to compare"]),
    ("weights without a benchmark", ["eval", "--weights", "."], ["--weights needs --benchmark"]),
    *((f"{flag} of a benchmark", ["eval", TINY, flag, value], ["are of --benchmark; a stage has its settings"])
      for flag, value in (("--batch", "0"), ("--max-tokens", "0"), ("--temperature", "-1"))),
    ("a mesh of published weights", ["eval", TINY, "--data", "0"], ["are of --weights; a run has its own"]),
    ("a page's folder", ["compare", "runs/x", "--page", "no/x.html"], ["no/x.html cannot be written", "no folder no"]),
    ("a file of results", ["eval", TINY, "--json", "no/x.json"], ["no/x.json cannot be written", "no folder no"]),
    ("a file of audits", ["audit", "runs/x", "--json", "no/x.json"], ["no/x.json cannot be written"]),
    ("a file of a plan", ["plan", RECIPE, "--json", "no/x.json"], ["no/x.json cannot be written"]),
    ("a run twice", ["compare", "runs/x", "runs/x"], ["runs/x is given twice"]),
    ("a context of nothing", ["convert", "runs/x", "--to", "y", "--length", "0"], ["--length must be >= 1 token"]),
    ("a probe's name", ["audit", "runs/x", "--probes", "nope"], ["no probe 'nope'", "declining"]),
    ("a run to convert", ["convert", "runs/x", "--to", "y"], ["there is no run folder runs/x"]),
    # data
    ("an empty file", ["init", "empty.jsonl"], ["empty.jsonl has no rows"]),
    ("text for JSON", ["init", "text.jsonl"], ["text.jsonl:1: not JSON"]),
    ("a list for an object", ["init", "list.jsonl"], ["list.jsonl:1: expected a JSON object, got list"]),
    ("a comma behind a row", ["init", "comma.jsonl"], ["comma.jsonl:1: not JSON"]),
    ("other fields", ["init", "other.jsonl"], ["no field looks like a problem; there are a (int)"]),
    ("numbers for texts", ["init", "numbers.jsonl"], ["there are problem (int), solution (int)"]),
    ("another kind of table", ["init", "table.csv"], ["table.csv", ".jsonl"]),
    ("no file", ["init", "lost.jsonl"], ["lost.jsonl is missing"]),
    ("rows to show", ["data", TINY, "--rows", "-2"], ["--rows must be >= 0, got -2"]),
    ("a stage's name", ["data", TINY, "--stage", "slr"], ["no stage 'slr'", "srl"]),
    ("generated data to build", ["data", "build", TINY, "--to", "b"], ["nothing to build"]),
    # clusters and studies
    ("an accelerator's name", ["plan", RECIPE, "--target", "h1000"], ["no accelerator 'h1000'; nearest is h100"]),
    ("a size that is not sold", ["plan", RECIPE, "--target", "v5p-17"], ["'v5p-17' is no slice of v5p"]),
    ("fewer devices than the mesh", ["plan", RECIPE, "--target", "h100"], ["takes 8 devices", "--set mesh.fsdp=1"]),
    ("no accelerator", ["plan", TINY], ["names no ACCELERATOR"]),
    ("more memory than there is", ["plan", RECIPE, "--share", "2"], ["--share must be in 0..1"]),
    ("a target's name", ["launch", RECIPE, "--target", "slrm"], ["no target 'slrm'; there are: local, slurm"]),
    ("a config that is not sent", ["launch", RECIPE, "--target", "slurm"], ["lies outside of", "copy it to configs/"]),
    ("a variable without a value", ["launch", RECIPE, "--target", "slurm", "--env", "X"], ["write NAME=VALUE"]),
    ("restarts", ["launch", RECIPE, "--target", "slurm", "--restarts", "-1"], ["--restarts >= 0, got"]),
    ("a preset's name", ["bench", "training", "--model", "9B"], ["no preset '9B'"]),
    ("a flag of another", ["bench", "step", "--shapes", "srl"], ["--shapes is of --against"]),
    ("no study", ["study", "run", TINY], ["tiny_config.py"]),
]  # fmt: skip
ELSEWHERE = {
    "Ctrl-C": "test_cli.py::test_an_interrupted_run_says_how_to_go_on",
    "Ctrl-C twice": "test_cli.py::test_a_second_interrupt_ends_the_process_in_silence",
    "a run that runs already": "test_runs.py::test_one_process_at_a_time_and_the_lock_goes_with_it",
    "another config under the same name": "test_resume.py::test_another_config_is_refused_and_named",
    "the command of a run that is complete": "test_resume.py::test_a_complete_run_stays_as_it_is",
    "a config.json that was edited": "test_runs.py::test_damaged_config_is_named",
    "checkpoints that were removed": "test_resumable.py::test_a_run_whose_checkpoints_were_removed_is_refused",
    "a file of a checkpoint that was removed": "test_resumable.py::test_what_is_missing_of_the_newest_checkpoint",
    "a full disk": "test_resumable.py::test_a_disk_that_stays_full_ends_the_run_and_leaves_what_was_good",
    "data that changed under a run": "config/test_same_data.py",
    "demonstrations that are too long": "test_cli.py::test_demonstrations_that_do_not_fit",
    "rows without an answer": "config/test_keys.py::test_no_key_at_all_is_refused_with_the_field",
    "a policy's name": "commands/test_policy.py::test_what_is_not_there_is_named_with_what_is",
    "weights as pickles": "models/test_families.py::test_pickles_are_not_opened",
    "a tokenizer of other weights": "test_cli.py::test_where_weights_fix_the_vocabulary_no_setting_of_it_is_advised",
    "a package that is not installed": "test_cli.py::test_a_mirror_that_is_not_installed",
    "too little memory": "test_exit_codes.py::test_a_device_without_room_is_one_message",
    "a config that does not fit": "clusters/test_plan.py::test_what_does_not_fit_says_what_is_missing",
    "a coordinator's wrong address": "test_processes.py::test_a_coordinator_that_never_answers_is_said",
    "variables of processes that disagree": "test_processes.py::test_who_is_there_is_read_from_the_environment",
    "an old Python": "test_setup.py::test_without_python_it_says_how_to_get_one",
    "a secret in a config": "test_redact.py::test_a_config_is_saved_without_its_secrets",
}  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of a user's, where commands are given."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JAXSRL_DATA", raising=False)
    return tmp_path


def held(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


@pytest.mark.parametrize("arguments, said", [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES])
def test_a_mistake_is_named_and_nothing_is_made(arguments, said, here, capsys):
    before = held(here)
    try:
        code = main(list(arguments))
    except SystemExit as error:  # of the flags' parser
        code = error.code
    err = " ".join(capsys.readouterr().err.split())
    assert code == 2 and "Traceback" not in err and all(text in err for text in said), err
    assert held(here) == before


def test_a_file_of_one_row_has_nothing_to_validate_on(here, capsys):
    """Found when the data are read, not by the first validation."""
    assert main(["init", "one.jsonl"]) == 0
    before = held(here)
    assert main(["train", "one.py"]) == 2
    assert "stage sft: its data have no validation problems, and 1 to train on" in capsys.readouterr().err
    assert held(here) == before


def test_a_file_with_fewer_problems_than_are_asked_for_is_said_to_have_fewer():
    """Two each of `tiny_config`; the number was not always given, so that the run goes on."""
    (note,) = prepare(override(load(TINY), ["stages.rlvr.validate.problems=3"]), Compiled()).notes
    assert note == "[rlvr] validate.problems=3, and its data have 2 validation problems: all of them are asked"


def test_a_table_that_is_compressed_or_written_over_is_no_mistake_that_loses_it(here, capsys):
    (here / "packed.jsonl").write_bytes(gzip.compress((here / "one.jsonl").read_bytes()))
    assert main(["init", "packed.jsonl"]) == 0 and "1 of 1 rows" in capsys.readouterr().out
    (here / "packed.py").write_text("mine")
    assert main(["init", "packed.jsonl"]) == 1
    assert "packed.py is there already" in capsys.readouterr().err and (here / "packed.py").read_text() == "mine"


def test_damaged_metrics_are_named(here, capsys):
    run = here / "runs" / "x"
    run.mkdir(parents=True)
    (run / "config.json").write_text("{}")
    (run / "metrics.jsonl").write_text('{"stage": "sft"}\ngarbage\n')
    assert main(["compare", "runs/x"]) == 2 and "runs/x/metrics.jsonl:2: " in capsys.readouterr().err


def test_a_platform_without_its_package_is_named(here):
    environment = os.environ | {"JAX_PLATFORMS": "cuda", "PYTHONPATH": str(ROOT)}
    if find_spec("jax_cuda13_plugin") or find_spec("jax_cuda12_plugin"):
        pytest.skip("the package is installed")
    before = held(here)
    command = [sys.executable, "-m", "jaxsrl", "train", TINY]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("error: JAX has no device of JAX_PLATFORMS=cuda: install")
    assert done.stderr.count("\n") == 1 and held(here) == before


@pytest.mark.parametrize("mistake", ELSEWHERE)
def test_what_is_tested_elsewhere_is_tested(mistake):
    file, _, name = ELSEWHERE[mistake].partition("::")
    tree = ast.parse((ROOT / "tests" / file).read_text())
    assert any(isinstance(node, ast.FunctionDef) and node.name.startswith(name or "test_") for node in tree.body)
