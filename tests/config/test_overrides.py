"""Overrides: values by type, keys by nearness, and which changes a resumed run allows."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from jaxsrl.config.overrides import check_unchanged, coerce, keys, load, nearest_key, override, to_dict
from jaxsrl.config.run import ConfigError
from jaxsrl.models.lora import LoRA

pytestmark = pytest.mark.fast
TINY = Path(__file__).parents[1] / "tiny_config.py"


@dataclass(frozen=True, kw_only=True)
class Inner:
    lr: float = 0.1
    kind: Literal["one", "two"] = "one"
    forms: tuple[Literal["action", "solve"], ...] = ("action",)
    named: tuple[str, int] = ("a", 1)
    loose: tuple = ()
    pairs: tuple[tuple[str, int], ...] = ()

    def __post_init__(self):
        if self.lr < 0:
            raise ValueError(f"lr must be >= 0, got {self.lr}")


@dataclass(frozen=True, kw_only=True)
class Part:
    name: str
    count: int = 3
    inner: Inner = field(default_factory=Inner)
    limit: int | None = None


@dataclass(frozen=True, kw_only=True)
class Whole:
    name: str = "whole"
    flag: bool = False
    parts: tuple[Part, ...] = (Part(name="a"), Part(name="b"))


@given(st.integers())
def test_every_int_is_read_back(number):
    assert coerce(str(number), int, 0) == number


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_float_is_read_back(number):
    assert coerce(repr(number), float, 0.0) == number


@given(st.text())
def test_any_text_stays_itself(text):
    assert override(Whole(), [f"name={text}"]).name == text  # an equals sign in the value included


@given(st.lists(st.sampled_from(["action", "solve"])))
def test_a_list_is_read_by_its_commas(forms):
    made = override(Whole(), ["parts.b.inner.forms=" + ", ".join(forms)])
    assert made.parts[1].inner.forms == tuple(forms)


def test_each_value_of_a_tuple_has_its_own_type():
    assert override(Whole(), ["parts.b.inner.named= b, 2"]).parts[1].inner.named == ("b", 2)


@given(st.sampled_from(keys(Whole())), st.text(max_size=6))
def test_an_override_changes_its_key_alone_or_names_it(key, text):
    assume("." not in text or not key.endswith(".name"))  # `_leaves` finds parts by names that it splits at dots
    before = _leaves(Whole())
    try:
        after = _leaves(override(Whole(), [f"{key}={text}"]))
    except ConfigError as error:
        assert key in str(error)
        return
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert changed <= {key} or key.endswith(".name")  # a renamed part is found under its new name


def _leaves(config):
    def value(key):
        found = config
        for part in key.split("."):
            by_name = {item.name: item for item in found} if isinstance(found, tuple) else None
            found = by_name[part] if by_name else getattr(found, part)
        return found

    return {key: value(key) for key in keys(config)}


@pytest.mark.parametrize("assignment, expected", [
    ("parts.a.inner.lr=nan", "finite number"),
    ("parts.a.inner.lr=inf", "finite number"),
    ("parts.a.inner.lr=fast", "finite number"),
    ("parts.a.count=1.5", "whole number"),
    ("parts.a.count=", "whole number"),
    ("flag=1", "true or false"),
    ("parts.a.inner.kind=three", "one, two"),
    ("parts.a.inner.forms=action,jump", "action, solve"),
    ("parts.a.inner.lr=-1", "lr must be >= 0"),
    ("parts.a.inner=3", "one of its fields"),
    ("parts.a=3", "one of its fields"),
    ("parts=3", "list of Part"),
    ("parts.a.inner.named=b", "must be 2 values with commas between them, got 1"),
    ("parts.a.inner.named=b,2,3", "must be 2 values with commas between them, got 3"),
    ("parts.a.inner.named=b,c", "whole number, got 'c'"),
    ("parts.a.inner.named=(b,2)", "no brackets: b,2"),
    ("parts.a.inner.forms=[action]", "no brackets: action"),
    ("parts.a.inner.loose=1,2", "declare it as tuple[int, ...] or the like"),
    ("parts.a.inner.pairs=a,1", "list of lists; write it in a config file"),
    ("parts.a.limit=few", "whole number"),
])  # fmt: skip
def test_a_wrong_value_names_key_value_and_what_would_do(assignment, expected):
    with pytest.raises(ConfigError) as caught:
        override(Whole(), [assignment])
    key, _, text = assignment.partition("=")
    assert key in str(caught.value) and text in str(caught.value) and expected in str(caught.value)


def test_none_only_where_it_may_stand():
    assert override(Whole(), ["parts.a.limit=4", "parts.a.limit=None"]).parts[0].limit is None
    with pytest.raises(ConfigError, match="whole number"):
        override(Whole(), ["parts.a.count=None"])


def test_setting_a_field_of_what_is_off_switches_it_on():
    """Only where the field says what it begins with."""
    config = load(TINY)
    assert config.lora is None and override(config, ["lora=None"]).lora is None
    made = override(config, ["lora.rank=4", "lora.matrices=query,value"])
    assert made.lora == LoRA(rank=4, matrices=("query", "value"))
    assert override(made, ["lora=None"]) == config
    with pytest.raises(ConfigError, match="lora.rank must be >= 1"):
        override(config, ["lora.rank=0"])
    with pytest.raises(ConfigError, match="nearest is lora.rank; lora has: rank, alpha, matrices"):
        override(config, ["lora.rnak=4"])
    with pytest.raises(ConfigError, match="no key 'tokens'.*stages.srl.rows is None and has no fields"):
        override(config, ["stages.srl.rows.tokens=4"])


@pytest.mark.parametrize("order", [1, -1])
def test_what_is_only_valid_together_is_set_in_any_order(order):
    """Rows must divide among devices: neither change alone leads from one pair that fits to the other."""
    fits = override(load(TINY), ["mesh.data=2", "rows.evaluate_rows=2"])
    changes = ["mesh.data=3", "rows.tokens=96", "rows.rows=3", "rows.prompt_rows=3", "rows.evaluate_rows=3"][::order]
    made = override(fits, changes)
    assert (made.mesh.data, made.rows.rows, made.rows.evaluate_rows) == (3, 3, 3)
    with pytest.raises(ConfigError, match="--set mesh.data=3: .* must be a multiple of 3"):
        override(fits, ["mesh.data=3"])
    with pytest.raises(ConfigError) as caught:
        override(fits, ["mesh.data=3", "rows.rows=4"])
    assert "--set mesh.data=3 --set rows.rows=4: " in str(caught.value)


def test_of_two_changes_the_later_counts():
    off, on = "lora=None", "lora.rank=4"
    assert override(load(TINY), [on, off]).lora is None
    assert override(load(TINY), [off, on]).lora == LoRA(rank=4)
    assert override(load(TINY), ["lora.alpha=3", on, "lora.rank=5"]).lora == LoRA(rank=5, alpha=3.0)


@pytest.mark.parametrize("wrong, nearest", [
    ("stages.srl.learning_rate", "stages.srl.optimizer.lr"),
    ("stages.srl.optimizer.learning_rate", "stages.srl.optimizer.lr"),
    ("stages.srl.num_generations", "stages.srl.objective.group_size"),
    ("stages.srl.lr", "stages.srl.optimizer.lr"),
    ("stages.srl.optimzer.lr", "stages.srl.optimizer.lr"),
    ("stages.srl.optimizer.rl", "stages.srl.optimizer.lr"),
    ("stages.slr.steps", "stages.srl.steps"),
    ("stage.rlvr.steps", "stages.rlvr.steps"),
    ("rlvr.steps", "stages.rlvr.steps"),
    ("stages.srl.group_size", "stages.srl.objective.group_size"),
    ("stages.srl.temperature", "stages.srl.sampling.temperature"),
    ("stages.srl.objective.clip_high", "stages.srl.objective.policy.clip_high"),
    ("stages.srl.policy.clip_hihg", "stages.srl.objective.policy.clip_high"),
    ("stages.rlvr.demonstrations", "stages.rlvr.collect.demonstrations"),
    ("model.widht", "model.width"),
    ("width", "model.width"),
    ("rows.token", "rows.tokens"),
    ("seeed", "seed"),
    ("data-dir", "data_dir"),
    ("seed.x", "seed"),
])  # fmt: skip
def test_the_nearest_key_is_looked_for_in_the_whole_config(wrong, nearest):
    config = load(TINY)
    assert nearest_key(config, wrong) == nearest
    with pytest.raises(ConfigError) as caught:
        override(config, [f"{wrong}=5"])
    assert f"--set {wrong}=5: no key" in str(caught.value) and f"nearest is {nearest};" in str(caught.value)


@given(st.text(max_size=12))
def test_any_key_has_a_nearest_one_that_exists(wrong):
    config = Whole()
    assert nearest_key(config, wrong) in keys(config)


def test_a_key_that_exists_is_nearest_to_itself():
    config = load(TINY)
    assert len(keys(config)) > 100
    for key in keys(config):
        assert nearest_key(config, key) == key


def saved(config):
    return json.loads(json.dumps(to_dict(config)))


def test_the_same_config_is_unchanged():
    check_unchanged(saved(load(TINY)), to_dict(load(TINY)), Path("runs/tiny"))


@pytest.mark.parametrize("assignment", ["stages.rlvr.steps=8", "checkpoint_every=5", "log_every=3", "runs=elsewhere"])
def test_what_a_resumed_run_may_change(assignment):
    config = load(TINY)
    check_unchanged(saved(config), to_dict(override(config, [assignment])), Path("runs/tiny"))


@pytest.mark.parametrize("assignment", [
    "seed=1", "stages.srl.optimizer.lr=0.5", "stages.srl.objective.policy.filter_std=0.5", "rows.tokens=170",
    "stages.srl.data.train=4", "model.width=48", "template.trunk_in=user",
])  # fmt: skip
def test_what_it_may_not_is_named_with_both_values(assignment):
    config = load(TINY)
    key, _, text = assignment.partition("=")
    with pytest.raises(ConfigError) as caught:
        check_unchanged(saved(config), to_dict(override(config, [assignment])), Path("runs/tiny"))
    said = str(caught.value)
    assert key in said and text in said and "runs/tiny" in said and "name=" in said


def test_a_stage_more_or_less_is_a_change():
    config = load(TINY)
    fewer = replace(config, stages=config.stages[:2])
    with pytest.raises(ConfigError, match="stages.len was 3, is 2"):
        check_unchanged(saved(config), to_dict(fewer), Path("runs/tiny"))


@pytest.mark.parametrize("text, said", [
    ("x = 1", "has no function config"),
    ("def config(): return 3", "got int"),
    ("def config(:", "invalid syntax"),
    ("import nothing_of_that_name", "nothing_of_that_name"),
    ("def config(): return 1 / 0", "division by zero"),
    ("def config(): return {}['lr']", "lr"),
    ("def config(): return missing", "missing"),
])  # fmt: skip
def test_a_file_that_is_no_config_is_named(text, said, tmp_path):
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(path) in str(caught.value) and said in str(caught.value)


HEAD = """from jaxsrl.config import *
from jaxsrl.objectives.sft import SFT
from jaxsrl.models.config import preset
from jaxsrl.update import AdamW

def config():
    return Config(name="x", model=preset("0.1M"), stages=(Stage(
        name="a", objective=SFT(), data=ArithmeticTask(train=8),
"""


@pytest.mark.parametrize("text, line, said", [
    (HEAD + '        steps=2, optimizer=AdamW(lr="3e-3")),))', 9,
     "AdamW.lr must be a number, got '3e-3': write 3e-3 without quotes"),
    (HEAD + "        steps=2, optimizer=AdamW(learning_rate=1e-3)),))", 9,
     "AdamW has no setting 'learning_rate'; did you mean lr? It has: lr, "),
    (HEAD + "        steps=2, optimizer=AdamW(lrr=1e-3)),))", 9, "no setting 'lrr'; did you mean lr?"),
    (HEAD + "        steps=-2),))", 7, "steps must be >= 0, got -2"),
    ("import math\n\n\ndef config():\n    return math.sqrt(-1)", 5, "math domain error"),
    ("x = 1\ndef config(:", 2, "invalid syntax"),
])  # fmt: skip
def test_an_error_in_a_config_names_the_line(text, line, said, tmp_path):
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}:{line}: ") and said in str(caught.value), caught.value


@pytest.mark.parametrize("extra, said", [
    ('tokenizer=3', "tokenizer must be text, got 3"), ('log_every=2.0', "log_every must be a whole number, got 2.0"),
    ('used_ids_only="yes"', "used_ids_only must be True or False, got 'yes'"),
    ('log_every=True', "log_every must be a whole number, got True"),
])  # fmt: skip
def test_a_value_of_another_type_is_named_by_its_key(extra, said, tmp_path):
    """Those that no check of the setting's own compares with anything."""
    path = tmp_path / "typed.py"
    path.write_text(HEAD + f"        steps=2),), {extra})")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value) == f"{path}: {said}"


def test_a_config_may_postpone_its_annotations(tmp_path):
    path = tmp_path / "postponed.py"
    own = "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Own:\n    sizes: tuple[int, ...] = (1,)\n"
    end = "        steps=2),), log_every=Own().sizes[0])"
    path.write_text("from __future__ import annotations\n" + own + HEAD + end)
    assert load(path).log_every == 1


def test_every_shipped_config_has_values_of_the_declared_types():
    for path in sorted((Path(__file__).parents[2] / "configs").glob("*.py")):
        load(path)


def test_configs_that_are_not_installed_are_said_to_be_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"did you mean .*/configs/quickstart.py\?"):
        load("configs/quickstart.py")
    monkeypatch.setattr("jaxsrl.config.load.ROOT", tmp_path / "site-packages")
    with pytest.raises(ConfigError, match="configs/ comes with a checkout of the repository, not with the installed"):
        load("configs/quickstart.py")


def test_a_missing_file_names_the_nearest(tmp_path):
    (tmp_path / "gsm8k_srl.py").write_text("")
    with pytest.raises(ConfigError, match="gsm8k_srl.py"):
        load(tmp_path / "gsm8k_slr.py")
    with pytest.raises(ConfigError, match="a folder"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["runs", "data_dir", "weights"])
def test_a_store_of_another_kind_is_refused(name):
    """With the config, before a device is touched."""
    with pytest.raises(ConfigError, match=f"{name}=s3://bucket/x is an object store that is not known.*gs://.*mount"):
        override(load("tests/tiny_config.py"), [f"{name}=s3://bucket/x"])
    for place in ("/mnt/bucket", "gs://bucket/x"):
        assert override(load("tests/tiny_config.py"), [f"{name}={place}"])
