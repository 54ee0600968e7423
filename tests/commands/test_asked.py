"""`eval` and `sample` on a run's folder and on a published model's: what they print, keep and refuse."""

import json
import shutil
from dataclasses import replace

import pytest

from jaxsrl.__main__ import main
from jaxsrl.commands.benchmark import Asking, at_once, table
from jaxsrl.commands.results import keep
from jaxsrl.config import ArithmeticTask
from jaxsrl.config.overrides import load
from jaxsrl.config.run import ConfigError
from jaxsrl.evals.evaluate import Evaluation
from jaxsrl.models.config import preset
from jaxsrl.tasks.arithmetic import Arithmetic
from tests.commands.random_model import SMOLLM2, TINY, weights
from tests.sharing import COMPILED, train

SMALL = ["--max-tokens", 6, "--batch", 2]


@pytest.fixture(autouse=True)
def compiled_once(monkeypatch):
    """Commands of this file share what they compile."""
    for module in ("policy", "published"):
        monkeypatch.setattr(f"jaxsrl.commands.{module}.Compiled", lambda: COMPILED)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose data are the package's own, so that its folder says all of it."""
    config, task = load(TINY), ArithmeticTask(settings=Arithmetic(run=(2, 2)), train=4, validation=2, test=3)
    rows = replace(config.rows, prompt_tokens=160, tokens=320)
    stage = replace(config.stages[0], data=task, steps=0, rows=rows, test=Evaluation(modes=("actions",)))
    runs = tmp_path_factory.mktemp("runs")
    return train(replace(config, name="sums", stages=(stage,), runs=str(runs)))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return weights(tmp_path_factory.mktemp("published") / "small", "smollm2", chat_template=SMOLLM2)


@pytest.fixture
def data(tmp_path):
    """A data folder of two benchmarks of three problems."""
    gsm8k = [{"question": f"{i}+1?", "answer": f"so\n#### {i + 1}"} for i in range(3)]
    aime = [{"problem": f"{i}+2?", "answer": i + 2} for i in range(3)]
    for name, rows in (("gsm8k/test.jsonl", gsm8k), ("eval/aime25.jsonl", aime)):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "data"


def call(capsys, *arguments):
    code = main([str(a) for a in arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_a_published_model_is_asked_without_a_config(model, data, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = call(
        capsys, "eval", "--weights", model, "--benchmark", "gsm8k", "aime25", "--data-dir", data, "--problems", 2,
        "--samples", 3, "--json", "all.json", *SMALL,
    )  # fmt: skip
    assert code == 0, err
    assert "small (smollm2 template, float32)" in err and "gsm8k sampled: " in err and "% right" in err
    title, gsm8k, aime25, *_ = out.splitlines()
    assert title.split()[:5] == ["benchmark", "problems", "greedy", "and", "ended"] and "maj@3" in title
    assert gsm8k.startswith("gsm8k      2 of 1319") and aime25.startswith("aime25     2 of 30")
    every = json.loads((tmp_path / "all.json").read_text())
    assert [one["benchmark"] for one in every["results"]] == ["gsm8k", "aime25"]
    kept = json.loads((tmp_path / "evaluations" / "small.gsm8k.json").read_text())
    assert {**kept, "completions": None} == {**every["results"][0], "completions": None}
    wanted = {"answer", "answer_low", "answer_ended", "avg@3", "pass@2", "pass@3", "pass@3_high", "maj@3", "truncated"}
    assert wanted <= set(kept["metrics"]) and kept["settings"]["system"].endswith("\\boxed{}.")
    lines = [json.loads(line) for line in (tmp_path / "evaluations" / kept["completions"]).open()]
    assert [line["decoding"] for line in lines] == ["greedy"] * 2 + ["sampled"] * 6
    assert {line["expert_action"] for line in lines} == {"1", "2"} and all("completion" in line for line in lines)


def test_numbers_do_not_depend_on_how_many_are_asked_at_a_time(model, data, tmp_path, capsys):
    found = []
    for batch in (2, 6):
        more = ["--samples", 3, "--max-tokens", 6, "--batch", batch, "--to", tmp_path / str(batch)]
        assert call(capsys, "eval", "--weights", model, "--benchmark", "gsm8k", "--data-dir", data, *more)[0] == 0
        lines = (tmp_path / str(batch) / "small.gsm8k.jsonl").read_text().splitlines()
        found.append([json.loads(line)["completion"] for line in lines])
    assert found[0] == found[1] and len(set(found[0])) > 3


def test_a_published_model_answers_in_its_template(model, capsys):
    code, out, _ = call(capsys, "sample", "--weights", model, "--problem", "1+1?", "--max-tokens", 6)
    assert code == 0 and out.startswith(f"{model} (smollm2 template") and out.count("──") == 1
    again = call(capsys, "sample", "--weights", model, "--problem", "1+1?", "--max-tokens", 6, "--seed", 3)[1]
    assert again == out  # the most likely tokens need no seed
    more = ["--samples", 2, "--temperature", 1, "--template", "chatml", "--system", "Be brief."]
    code, out, _ = call(capsys, "sample", "--weights", model, "--problem", "1+1?", "--max-tokens", 6, *more)
    assert code == 0 and "(chatml template" in out and out.count("──") == 2
    for kind, said in (("llama4", "template.kind must be one of"), ("llama3", "writes <|begin_of_text|>")):
        code, _, err = call(capsys, "sample", "--weights", model, "--problem", "?", "--template", kind)
        assert code == 2 and said in err, err


def test_a_run_is_named_by_its_folder(run, data, capsys):
    code, out, err = call(capsys, "eval", run, "--problems", 2)
    assert code == 0 and "policy sft:last of sums: 2 test problems" in out and "actions/exact" in out, err
    kept = json.loads((run / "evaluations" / "sft-last.test.json").read_text())
    assert kept["metrics"]["actions/problems"] == 2 and (run / "evaluations" / kept["completions"]).is_file()
    code, out, _ = call(capsys, "sample", run, "--index", 1, "--samples", 2)
    assert code == 0 and out.count("──") == 2 and "expert:" in out
    code, out, err = call(capsys, "eval", run, "--benchmark", "gsm8k", "--data-dir", data, *SMALL)
    assert code == 0 and "gsm8k      3 of 1319" in out, err
    kept = json.loads((run / "evaluations" / "sft-last.gsm8k.json").read_text())
    assert kept["policy"] == "policy sft:last of sums" and kept["settings"]["samples"] == 0


def test_of_a_run_that_is_read_back_only_what_may_change_is_set(run, capsys):
    code, out, _ = call(capsys, "eval", run, "--problems", 1, "--set", "stages.sft.test.modes=actions")
    assert code == 0
    code, _, err = call(capsys, "eval", run, "--set", "seed=5")
    assert code == 2 and "seed was 0, is 5" in err
    code, _, err = call(capsys, "eval", run, "--runs", "elsewhere")
    assert code == 2 and "--runs is where a config file's run is looked for" in err


def test_data_of_ones_own_need_their_config_file_only_where_they_are_read(tmp_path, data, capsys):
    config = load(TINY)
    run = train(replace(config, stages=(replace(config.stages[0], steps=0),), runs=str(tmp_path / "runs")))
    code, out, err = call(capsys, "sample", run, "--problem", "9:xyx", "--samples", 2)
    assert code == 0 and "9:xyx" in out, err
    assert call(capsys, "eval", run, "--benchmark", "gsm8k", "--data-dir", data, "--problems", 1, *SMALL)[0] == 0
    code, _, err = call(capsys, "eval", run)
    assert code == 2 and "stages.sft.data is a Spelling" in err and "take the config file" in err


def test_only_a_run_with_the_same_ids_steers(run, model, tmp_path, capsys):
    copy = shutil.copytree(run, tmp_path / "copy")
    proxies = ["--proxy-run", copy, "--proxy-tuned", "sft", "--proxy-untuned", "sft", "--samples", 1]
    own = call(capsys, "sample", run, "--problem", "1+1?", *proxies[-2:])[1].splitlines()
    code, out, err = call(capsys, "sample", run, "--problem", "1+1?", *proxies)
    assert code == 0 and "sft:last + 1 (sft:last - sft:last of copy)" in out, err
    assert out.splitlines()[1:] == own[1:]  # a difference of nothing steers nowhere
    code, _, err = call(capsys, "sample", "--weights", model, "--problem", "1+1?", *proxies)
    assert code == 1 and "ids must mean the same to both: 0 spells" in err, err


@pytest.mark.parametrize("command", ["eval", "sample", "convert"])
def test_a_missing_run_names_the_folder_and_those_beside_it(command, run, tmp_path, capsys):
    more = ["--to", tmp_path / "out"] if command == "convert" else []
    code, _, err = call(capsys, command, run.parent / "nothing", *more)
    assert code == 2 and f"there is no run folder {run.parent / 'nothing'}; {run.parent} has: sums" in err
    (tmp_path / "empty").mkdir()
    code, _, err = call(capsys, command, tmp_path / "empty", *more)
    assert code == 2 and f"{tmp_path / 'empty'} is no run folder" in err


@pytest.mark.parametrize(("arguments", "said"), [
    (["eval"], "name a run folder, a config file or --weights"), (["sample", "x", "--weights", "y"], "one of them"),
    (["eval", "--weights", "nowhere"], "--weights needs --benchmark"), (["sample", "--weights", "w"], "--problem"),
    (["eval", "--weights", "nowhere", "--benchmark", "gsm8k"], "no data folder"),
    (["eval", "--weights", "w", "--policy", "sft", "--benchmark", "gsm8k"], "--policy and --runs belong to a run"),
    (["eval", "x", "--system", ""], "--system, --dtype"), (["eval", "x", "--samples", "2"], "are of --benchmark"),
    (["eval", "x", "--benchmark", "gsm8k", "--temperature", "0"], "temperature=0"),
    (["eval", "x", "--benchmark", "gsm8k", "gsm8k"], "each benchmark once"),
    (["eval", "x", "--benchmark", "gsm8k", "--problems", "0"], "problems must be >= 1"),
    (["sample", "--weights", "nowhere", "--problem", "?"], "--weights nowhere: no such folder"),
])  # fmt: skip
def test_what_does_not_go_together_exits_2(arguments, said, capsys, monkeypatch):
    monkeypatch.delenv("JAXSRL_DATA", raising=False)
    code, _, err = call(capsys, *arguments)
    assert code == 2 and said in err, err


def test_earlier_results_stay(tmp_path):
    paths = [keep(tmp_path, "srl:last + 1 (a)", {"n": n, "nan": float("nan")}, [{"row": n}]) for n in range(3)]
    assert [path.name for path in paths] == ["srl-last-1-a.json", "srl-last-1-a.2.json", "srl-last-1-a.3.json"]
    assert [json.loads(path.read_text())["n"] for path in paths] == [0, 1, 2]
    assert json.loads(paths[1].read_text()) == {"n": 1, "nan": None, "completions": "srl-last-1-a.2.jsonl"}
    assert json.loads((tmp_path / "srl-last-1-a.2.jsonl").read_text()) == {"row": 1}


def test_the_table_shows_percent_with_intervals():
    metrics = {"answer": 0.04, "answer_low": 0.0157, "answer_high": 0.0984, "malformed": 0.0, "truncated": None}
    one = {"benchmark": "aime24", "problems": 30, "problems_published": 30, "metrics": metrics | {"tokens_mean": 7.4}}
    title, row = table([one], Asking(benchmarks=("aime24",))).splitlines()
    assert row.split() == ["aime24", "30", "4.0", "[1.6,", "9.8]", "–", "0.0", "–", "7"] and "avg@" not in title


def test_how_many_are_asked_at_a_time_follows_the_memory(monkeypatch):
    class Device:
        def __init__(self, **told):
            self.told = told

        def memory_stats(self):
            return self.told

    model, tokens = preset("qwen2.5-0.5b"), 1024
    for told, count in (({}, 16), ({"bytes_limit": 2**34, "bytes_in_use": 2**33}, 256), ({"bytes_limit": 2**21}, 1)):
        monkeypatch.setattr("jax.local_devices", lambda told=told: [Device(**told)])
        assert at_once(model, tokens) == count
    with pytest.raises(ConfigError, match="batch must be >= 1"):
        Asking(benchmarks=("gsm8k",), batch=0)
