"""Studies as values: grids, arms, what makes a run the same run, and errors that name what is wrong."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from jaxsrl.config.run import ConfigError
from jaxsrl.studies.grid import chain, label, product, together
from jaxsrl.studies.identity import code_version, data_fingerprint, run_id
from jaxsrl.studies.study import Arm, Estimator, Study, arm_config, arms, load_study
from tests.studies.tiny_study import study

TINY = Path(__file__).parent / "tiny_study.py"
LR = "stages.faster.optimizer.lr"


def test_a_product_has_every_combination():
    assert product({"a": (1, 2), "b": "xy".split()}) == ({"a": 1, "b": "xy"}, {"a": 2, "b": "xy"})
    assert len(product({"a": range(3), "b": range(4)})) == 12
    with pytest.raises(ValueError, match="b='xy'"):
        product({"b": "xy"})


def test_together_goes_in_step_and_names_what_does_not():
    assert together({"a": (1, 2), "b": (3, 4)}) == ({"a": 1, "b": 3}, {"a": 2, "b": 4})
    with pytest.raises(ValueError, match="a has 2, b has 1"):
        together({"a": (1, 2), "b": (3,)})


def test_a_chain_keeps_settings_once():
    assert chain(product({"a": (1, 2)}), [{"a": 2}, {"b": 1}]) == ({"a": 1}, {"a": 2}, {"b": 1})


def test_a_label_tells_keys_with_one_last_part_apart():
    assert label({"stages.srl.optimizer.lr": 0.1}) == "lr=0.1"
    assert label({"stages.srl.steps": 1, "stages.sft.steps": 2, "seed": 3}) == "srl.steps=1,sft.steps=2,seed=3"


def test_seeds_of_a_grid_are_seeds_of_its_arms():
    made = arms(chain(product({"lr": (1, 2), "seed": (0, 1)}), [{"lr": 1, "seed": 7}]))
    assert [(arm.name, arm.seeds) for arm in made] == [("lr=1", (0, 1, 7)), ("lr=2", (0, 1))]
    assert [(arm.name, arm.seeds) for arm in arms(({},))] == [("base", None)]


def test_an_arm_is_the_base_with_its_settings_and_seed():
    made = study()
    config = arm_config(made, made.arms[2], 5)
    assert config.seed == 5 and config.stages[3].optimizer.lr == 0.2 and config.stages[1].optimizer.lr != 0.2


@pytest.mark.parametrize("change, said", [
    (dict(settings={"stages.faster.optimizer.lrr": 1}), "arm 'faster'.*lrr.*optimizer.lr"),
    (dict(stage="fastest"), "arm 'faster': no stage 'fastest'; there are: sft, anchor, again, faster"),
])  # fmt: skip
def test_a_wrong_arm_is_named(change, said):
    made = study()
    arm = replace(made.arms[2], **change)
    with pytest.raises(ConfigError, match=said):
        arm_config(made, arm, 0)


def test_a_metric_that_no_evaluation_has_is_named():
    made = replace(study(), estimator=Estimator(metric="direct/answer"))
    with pytest.raises(ConfigError, match="stage anchor has no validation evaluation with the metric direct/answer"):
        arm_config(made, made.arms[0], 0)


@pytest.mark.parametrize("change, said", [
    (dict(anchor="none"), "no arm 'none'"),
    (dict(arms=(*study().arms, Arm(name="x", against="y"))), "against='y'; other arms are: anchor, again"),
    (dict(arms=(Arm(name="anchor", against="again"), Arm(name="again"))), "is the anchor or its repeat"),
    (dict(repeats=("anchor",)), "anchor itself"),
    (dict(smallest_effect=0.0), "smallest_effect"), (dict(seeds=()), "arm 'anchor' has no seed"),
    (dict(interval="bootstrap"), "6 seeds"), (dict(name="a/b"), "a/b"),
])  # fmt: skip
def test_a_wrong_study_is_refused(change, said):
    with pytest.raises(ValueError, match=said):
        replace(study(), **change)


def test_the_best_step_is_no_estimate():
    with pytest.raises(ValueError, match="last=0"):
        Estimator(metric="actions/exact", last=0)
    with pytest.raises(ValueError, match="split=test"):
        Estimator(metric="actions/exact", split="test", last=2)


def test_a_study_is_read_from_its_file(tmp_path):
    assert isinstance(load_study(TINY, {"runs": "there"}), Study) and load_study(TINY, {"runs": "x"}).base.runs == "x"
    with pytest.raises(ConfigError, match="tiny_study.py"):
        load_study(TINY.with_name("none.py"))
    wrong = tmp_path / "wrong.py"
    wrong.write_text("def study():\n    return 1\n")
    with pytest.raises(ConfigError, match="got int"):
        load_study(wrong)


@dataclass(frozen=True, kw_only=True)
class Mine:
    factor: float = 1.0


def test_a_run_has_one_identity_wherever_it_is_made():
    """What changes a number changes it; where it is written down does not."""
    config = study().base
    own = run_id(config, "code", "data")
    assert own == run_id(replace(config, name="other", runs="x", data_dir="y", log_every=5), "code", "data")
    faster = replace(config.stages[3], optimizer=replace(config.stages[3].optimizer, lr=0.3))
    for other in (replace(config, seed=1), replace(config, stages=(*config.stages[:3], faster))):
        assert run_id(other, "code", "data") != own
    assert run_id(config, "other", "data") != own != run_id(config, "code", "other")


def test_the_code_version_follows_what_a_run_is_made_of(tmp_path):
    for name in ("train.py", "studies/run.py", "ops/one.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1")
    before = code_version(tmp_path)
    (tmp_path / "studies" / "run.py").write_text("2")
    assert code_version(tmp_path) == before
    (tmp_path / "ops" / "one.py").write_text("2")
    assert code_version(tmp_path) != before


def test_a_function_of_the_studys_file_is_part_of_the_identity(tmp_path):
    """Two files define a class of one name that does something else."""
    text = Path(TINY).read_text() + (
        "\n\nfrom dataclasses import dataclass\nfrom tests.tiny_config import Spelling\n\n"
        "@dataclass(frozen=True, kw_only=True)\nclass Mine(Spelling):\n"
        "    def load(self, data_dir):\n        return replace(super().load(data_dir), counts={'x': 1})\n\n"
        "def study(made=study()):\n    stages = tuple(replace(s, data=Mine()) for s in made.base.stages)\n"
        "    return replace(made, base=replace(made.base, stages=stages))\n"
    )
    found = []
    for i, source in enumerate((text, text.replace("'x': 1", "'x': 2"), "# a comment\n" + text)):
        path = tmp_path / f"one{i}.py"
        path.write_text(source)
        found.append(run_id(load_study(path).base, "code", "data"))
    assert found[0] != found[1] and found[0] == found[2]


def test_an_arm_may_bring_its_own_config():
    made = study()
    other = replace(made.base, model=replace(made.base.model, layers=2))
    assert arm_config(made, Arm(name="deep", config=other), 0).model.layers == 2


def test_data_that_were_read_are_known_by_the_hashes_of_their_files():
    """As in `data.json`, wherever the folder is; data that are generated by what they are."""
    config = study().base
    made = config.stages[0].data.load(None)
    known = lambda part: data_fingerprint(config, {"sft": part})
    fewer = replace(made, train=made.train[:-1])
    assert known(made) != known(fewer)
    read = lambda part, found, place="/a": replace(part, files={f"{place}/rows.jsonl": found})
    assert known(read(made, "x")) == known(read(made, "x", "/b")) != known(read(made, "y"))
    assert known(read(made, "x")) != known(made)
