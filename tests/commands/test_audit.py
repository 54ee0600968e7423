"""`jaxsrl audit`: which policies are meant, what is kept and shown, and what is refused."""

import json
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from jaxsrl.__main__ import main
from jaxsrl.commands.audit import chosen_probes
from jaxsrl.commands.audited import Target, base_of, run_questions, targets_of
from jaxsrl.config import ArithmeticTask
from jaxsrl.config.generated import Generated
from jaxsrl.config.overrides import load, override
from jaxsrl.config.run import ConfigError
from jaxsrl.evals.audits.information_gain import InformationGain
from jaxsrl.evals.evaluate import Evaluation
from jaxsrl.evals.find import find_probe
from jaxsrl.evals.probe import DoesNotApply
from jaxsrl.report import write_report
from jaxsrl.tasks.arithmetic import Arithmetic
from jaxsrl.tasks.facts import Facts
from tests.commands.random_model import SMOLLM2, TINY, weights
from tests.evals.test_probe import OWN
from tests.sharing import COMPILED, train


@pytest.fixture(autouse=True)
def compiled_once(monkeypatch):
    """Commands of this file share what they compile."""
    for module in ("audit", "published"):
        monkeypatch.setattr(f"jaxsrl.commands.{module}.Compiled", lambda: COMPILED)


@dataclass(frozen=True, kw_only=True)
class Refusing:
    """Has nothing to say of any problem."""

    name: str = "refusing"
    measures: ClassVar = ()
    calls: ClassVar = ()
    needs_answer: ClassVar[bool] = False

    def __call__(self, policy, demonstrations, key):
        raise DoesNotApply("there is nothing to refuse")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two stages, of which neither takes a step; its test asks probes beside a mode."""
    path = tmp_path_factory.mktemp("probes") / "shouting.py"
    path.write_text(OWN)
    probes = (find_probe(str(path)), InformationGain(), Refusing())
    config, task = load(TINY), ArithmeticTask(settings=Arithmetic(run=(2, 2)), train=4, validation=2, test=3)
    rows = replace(config.rows, prompt_tokens=160, tokens=320)
    first = replace(config.stages[0], data=task, steps=0, rows=rows, test=None)
    test = Evaluation(modes=("actions",), probes=probes)
    stages = (replace(first, name="base"), replace(first, name="sft", start_from="base", test=test))
    return train(replace(config, name="sums", stages=stages, runs=str(tmp_path_factory.mktemp("runs"))))


@pytest.fixture
def own_file(tmp_path):
    path = tmp_path / "shouting.py"
    path.write_text(OWN)
    return path


def test_a_runs_own_evaluation_may_hold_probes(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").open()]
    (line,) = [one for one in lines if one.get("split") == "test"]
    assert line["shouting/problems"] == 2 and line["shouting/upper"] >= 0 and line["actions/problems"] == 2
    assert line["information_gain/nats_question"] > 0 and line["refusing/problems"] == 0
    records = [json.loads(one) for one in (run / "evals" / "sft.jsonl").open()]
    assert {"actions", "shouting", "information_gain"} <= {one["mode"] for one in records}
    page = write_report(run).read_text()
    assert "information_gain/gain_nats" in page and "shouting/upper" in page


def call(capsys, *arguments):
    code = main([str(a) for a in arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_a_runs_policies_are_set_side_by_side_kept_and_shown(run, own_file, tmp_path, capsys):
    code, out, err = call(
        capsys, "audit", run, "--probes", own_file, "information_gain", "--problems", 2, "--json", tmp_path / "all.json"
    )
    assert code == 0, err
    assert "2 test problems of sums, stage sft; scored under sums:base" in out and "gain_nats" in out
    kept = json.loads((run / "audits" / "audit.json").read_text())
    assert kept["policies"] == ["sums:base", "sums:sft"] and json.loads((tmp_path / "all.json").read_text())["probes"]
    own, gain = kept["probes"]
    assert (own["name"], gain["name"]) == ("shouting", "information_gain") and gain["settings"]["released"] is True
    # the second stage took no step, so both policies are one
    assert own["results"][0] == own["results"][1] and own["differences"][1]["upper"] == [0.0, 0.0, 0.0]
    assert own["differences"][0] == {}
    records = [json.loads(line) for line in (run / "audits" / "audit.jsonl").open()]
    assert {(r["policy"], r["mode"]) for r in records} == {
        (policy, probe) for policy in kept["policies"] for probe in ("shouting", "information_gain")
    }  # fmt: skip
    mine = [r["values"]["upper"] for r in records if r["policy"] == "sums:sft" and r["mode"] == "shouting"]
    assert sum(mine) / len(mine) == own["results"][1]["upper"]
    for page in (run / "audits" / "audit.html", run / "report.html"):
        text = page.read_text()
        assert "gain nats" in text and "characters in upper case" in text and f"problem {records[0]['problem']}" in text
    assert write_report(run).read_text() == text  # the same files, the same bytes
    code, out, err = call(capsys, "audit", f"{run}:sft", "--probes", own_file, "--problems", 1, "--seed", 1)
    assert code == 0 and (run / "audits" / "audit.2.json").exists()
    assert "Earlier ones are kept beside it: audit.json" in (run / "report.html").read_text()


def test_stages_are_asked_together(run, own_file, tmp_path, capsys):
    given = ["audit", f"{run}:sft", "--problems", 2, "--probes", own_file, "--to", tmp_path]
    code, out, err = call(capsys, *given, "--stages", "base", "sft")
    assert code == 0 and "4 test problems of sums, stages base, sft" in out, err
    assert run_questions(Target(folder=run, config=saved(run)), "test", 1, None).about.endswith("stage sft")
    code, _, err = call(capsys, *given, "--stages", "nowhere")
    assert code == 2 and "sums has no stage nowhere; it has base, sft" in err
    mixed = saved(run)
    other = replace(mixed.stages[0], data=Generated(task=Facts(), train=1, validation=1, test=1))
    mixed = replace(mixed, stages=(other, mixed.stages[1]))
    with pytest.raises(ConfigError, match="of one task, as they are judged alike; base: Facts, sft: Arithmetic"):
        run_questions(Target(folder=run, config=mixed), "test", 1, None, ("base", "sft"))


OWN_DATA = """
from dataclasses import dataclass, replace
from pathlib import Path

from jaxsrl.config import ArithmeticTask
from jaxsrl.config.overrides import load, override
from jaxsrl.tasks.arithmetic import Arithmetic

@dataclass(frozen=True, kw_only=True)
class Sums:
    count: int = 3
    def load(self, data_dir):
        return ArithmeticTask(settings=Arithmetic(run=(2, 2)), train=4, validation=2, test=self.count).load(data_dir)

def config():
    tiny = load(Path("TINY"))
    rows = replace(tiny.rows, prompt_tokens=160, tokens=320)
    stage = replace(tiny.stages[0], data=Sums(), steps=0, rows=rows, test=None)
    return replace(tiny, name="owned", stages=(stage,))
"""


def test_a_run_on_data_of_its_config_file_is_audited_with_that_file(own_file, tmp_path, capsys):
    path = tmp_path / "owned.py"
    path.write_text(OWN_DATA.replace("TINY", str(TINY)))
    run = train(override(load(path), ["stages.sft.data.count=1", f"runs={tmp_path / 'runs'}"]))
    given = ["audit", run, "--probes", own_file, "--problems", 2]
    code, _, err = call(capsys, *given)
    assert code == 2 and "stages.sft.data is a Sums, a class of the config file's own" in err and "--config FILE" in err
    code, out, err = call(capsys, *given, "--config", path)
    assert code == 0 and "1 test problems of owned, stage sft" in out, err  # as it was started, not as the file says
    code, _, err = call(capsys, *given, "--config", tmp_path / "owned2.py")
    assert code == 2 and f"did you mean {path}" in err
    code, _, err = call(capsys, "audit", "--weights", tmp_path, "--config", path)
    assert code == 2 and "is of a run's folder: name one" in err


def saved(run):
    return targets_of([f"{run}:sft"], [])[0].config


def test_a_published_model_is_audited_on_a_benchmark(own_file, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = weights(tmp_path / "small", "smollm2", chat_template=SMOLLM2)
    (tmp_path / "data" / "gsm8k").mkdir(parents=True)
    row = json.dumps({"question": "1+1?", "answer": "so\n#### 2"})
    (tmp_path / "data" / "gsm8k" / "test.jsonl").write_text(f"{row}\n")
    given = ["audit", "--weights", model, "--probes", own_file, "--data-dir", tmp_path / "data", "--max-tokens", 6]
    code, out, err = call(capsys, *given, "--benchmark", "gsm8k", "--batch", 2)
    assert code == 0, err
    assert out.startswith("the first 1 problems of gsm8k") and (tmp_path / "audits" / "audit.html").exists()
    code, _, err = call(capsys, *given)
    assert code == 2 and "--weights alone needs --benchmark" in err
    code, _, err = call(capsys, *given, "--benchmark", "gsm8k", "--stages", "base")
    assert code == 2 and "--stages are those of a run" in err


def test_what_a_user_may_write_for_policies(run):
    stages = targets_of([str(run)], [])
    assert [one.name for one in stages] == ["sums:base", "sums:sft"]
    (one,) = targets_of([f"{run}:sft:last"], [])
    assert one.policy == "sft:last" and base_of(one).policy == "base"
    assert len(targets_of([str(run), f"{run}:sft"], [])) == 2  # each once
    assert base_of(Target(folder=run)) == Target(folder=run)


@pytest.mark.parametrize("arguments, said", [
    (["audit"], "name a run, as runs/NAME"), (["audit", "nowhere"], "nowhere"),
    (["audit", "RUN", "--probes", "faithfullness"], "did you mean faithfulness"),
    (["audit", "RUN", "--set", "faithfulness.sample=2"], "nearest is faithfulness.samples"),
    (["audit", "RUN", "--problems", "0"], "--problems must be >= 1"),
    (["audit", "RUN:best", "--probes", "information_gain"], "no policy 'best'"),
    (["audit", "RUN", "--scorer", "RUN"], "is 2 policies: name one"),
])  # fmt: skip
def test_what_is_wrong_is_named(run, capsys, arguments, said):
    code, _, err = call(capsys, *(str(a).replace("RUN", str(run)) for a in arguments))
    assert code != 0 and said in err


def test_settings_of_probes_are_set_by_name(own_file):
    gain, own = chosen_probes(["information_gain", str(own_file)], ["information_gain.style=sentences"])
    assert gain.style == "sentences" and own.least == 1
    traces, length = chosen_probes(("traces", "length"), ("traces.away=wilson, kruskal", "length.per_action=2"))
    assert traces.away == ("wilson", "kruskal") and length.per_action == (2,)
    with pytest.raises(ConfigError, match=r"--set traces.away=\[wilson\]: write values .* no brackets: wilson"):
        chosen_probes(("traces",), ("traces.away=[wilson]",))
    with pytest.raises(ValueError, match="each probe once: shouting"):
        chosen_probes([str(own_file), str(own_file)], [])
