"""States and policies come back to the bit, and a save that was cut off is none."""

import gc
import shutil
from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsrl.checkpoint import Checkpoints, PolicyName, array_hash, check_format, parse_old, state_hash
from jaxsrl.types import TrainState
from jaxsrl.update import AdamW, init_state, optimizer


def make_state(value: float = 1.0, step: int = 3) -> TrainState:
    params = {"layer": {"w": jnp.full((2, 3), value), "a_norm": jnp.array([np.pi, -0.0, 1e-42], jnp.float32)}}
    return replace(init_state(params, optimizer(AdamW()), jax.random.key(5)), step=jnp.int32(step))


@pytest.fixture
def checkpoints(tmp_path):
    made = Checkpoints(tmp_path / "checkpoints")
    yield made
    made.close()


@pytest.mark.fast
def test_state_and_record_come_back(checkpoints):
    record = {"step": 3, "stats": {"loss": 0.1, "none": None}, "best": None, "offsets": {"metrics.jsonl": 7}}
    state = make_state()
    checkpoints.save(1, state, record)
    checkpoints.wait()
    assert checkpoints.latest() == 1 and checkpoints.record(1) == record
    back = checkpoints.restore(1, make_state(0.0, 0))
    assert state_hash(back) == state_hash(state)
    chex.assert_trees_all_equal(back, state)
    with pytest.raises(AssertionError):  # bits, not closeness
        chex.assert_trees_all_equal(back.params, jax.tree.map(lambda x: x * (1 + 2**-23), state.params))
    assert jax.random.uniform(back.key) == jax.random.uniform(state.key)
    assert jax.tree.structure(back) == jax.tree.structure(state)


@pytest.mark.fast
def test_hash_sees_every_bit_and_name():
    base = make_state()
    params = base.params
    others = [
        replace(base, step=base.step + 1),
        replace(base, skipped=base.skipped + 1),
        replace(base, key=jax.random.key(6)),
        replace(base, params={"layer": params["layer"] | {"w": params["layer"]["w"].at[0, 0].set(1 + 2**-23)}}),
        replace(base, params={"layer": params["layer"] | {"a_norm": params["layer"]["a_norm"].at[1].set(0.0)}}),
        replace(base, params={"other": params["layer"]}),
    ]
    hashes = [state_hash(state) for state in (base, *others)]
    assert len(set(hashes)) == len(hashes)
    assert array_hash({"a": np.zeros(2)}) != array_hash({"a": np.zeros((2, 1))})


@pytest.mark.fast
def test_keeps_the_newest_two(checkpoints, tmp_path):
    for count in range(1, 5):
        checkpoints.save(count, make_state(float(count)), {"step": count})
    checkpoints.wait()
    assert sorted(p.name for p in (tmp_path / "checkpoints" / "resume").iterdir()) == ["3", "4"]
    assert state_hash(checkpoints.restore(3, make_state())) == state_hash(make_state(3.0))


def test_half_written_save_is_none(tmp_path):
    first = Checkpoints(tmp_path)
    for count in (1, 2):
        first.save(count, make_state(count), {"step": count})
    first.save_policy(PolicyName("srl", "last"), make_state().params)
    first.close()
    half = ".orbax-checkpoint-tmp-1"
    shutil.copytree(tmp_path / "resume" / "2", tmp_path / "resume" / f"3{half}")
    for stage in ("srl", "sft"):
        shutil.copytree(tmp_path / "policy" / "srl" / "last", tmp_path / f"policy/{stage}/best-000000001{half}")
    second = Checkpoints(tmp_path)
    assert second.latest() == 2 and second.policies() == [PolicyName("srl", "last")]
    second.sweep()
    assert not list(tmp_path.rglob("*tmp*"))
    second.save(3, make_state(3), {"step": 3})
    second.close()
    third = Checkpoints(tmp_path)
    assert third.latest() == 3 and third.record(3) == {"step": 3}
    third.close()


def test_policies_by_name(checkpoints):
    """Stages `a` and `a-last` do not collide, nor does one named like a folder of another."""
    like = make_state().params
    last, best = (lambda stage: PolicyName(stage, "last")), (lambda stage, step: PolicyName(stage, "best", step))
    names = [best("a", 1), best("a", 12), last("a"), best("a-best", 3), last("a-last"), last("last")]
    for value, name in enumerate(names):
        checkpoints.save_policy(name, make_state(float(value)).params)
    checkpoints.save_policy(last("a"), make_state(60.0).params)
    checkpoints.wait()
    assert checkpoints.policies() == names
    for value, name in enumerate(names):
        want = make_state(60.0 if name == last("a") else float(value)).params
        chex.assert_trees_all_equal(checkpoints.restore_policy(name, like), want)
    assert checkpoints.find(PolicyName("a", "best")) == best("a", 12)
    checkpoints.drop_best("a", best("a", 1))
    assert checkpoints.policies() == [name for name in names if name != best("a", 12)]
    assert checkpoints.find(PolicyName("a", "best")) == best("a", 1)
    with pytest.raises(FileNotFoundError, match="'b:last'.*there are: a:best-1, a:last, a-best:best-3, a-last:last"):
        checkpoints.restore_policy(last("b"), like)


@pytest.mark.fast
@pytest.mark.parametrize("text, name", [
    ("a", PolicyName("a", "last")), ("a:last", PolicyName("a", "last")), ("a:best", PolicyName("a", "best")),
    ("a:best-12", PolicyName("a", "best", 12)), ("a-last", PolicyName("a-last", "last")),
    ("a-best-000000012:best-7", PolicyName("a-best-000000012", "best", 7)),
])  # fmt: skip
def test_a_name_is_read_in_one_way(text, name):
    assert PolicyName.parse(text) == PolicyName.parse(str(name)) == name
    if name.which == "last" or name.step is not None:
        assert PolicyName.of_folder(name.folder) == name
    else:
        with pytest.raises(ValueError, match="a:best names no folder"):
            name.folder  # noqa: B018


@pytest.mark.fast
@pytest.mark.parametrize("text", ["", "a:", "a:worst", "a:last-3", "a:best-", "a/last", ":best", "a:best:3"])
def test_what_is_no_name_is_refused(text):
    with pytest.raises(ValueError, match="STAGE:best-STEP, got"):
        PolicyName.parse(text)


@pytest.mark.fast
def test_the_spelling_of_before():
    """Only for stages that there are: `a-last` of a run without a stage `a` is none."""
    assert parse_old("a-last", ["a"]) == PolicyName("a", "last")
    assert parse_old("a-last-last", ["a", "a-last"]) == PolicyName("a-last", "last")
    assert parse_old("a-best-000000012", ["a"]) == PolicyName("a", "best", 12)
    assert parse_old("a-last", ["a-last"]) is None and parse_old("a", ["a"]) is None


@pytest.mark.fast
@pytest.mark.parametrize("left", ["resume/3", "policy/srl-last"])
def test_checkpoints_of_the_first_format_are_refused(tmp_path, left):
    """Before anything is read or written; an empty folder is any format's."""
    (tmp_path / "resume").mkdir()
    check_format(tmp_path)
    (tmp_path / left).mkdir(parents=True)
    with pytest.raises(ValueError, match="format 1, this version has 2.*under another name"):
        Checkpoints(tmp_path)
    assert not (tmp_path / "format.json").exists()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Orbax leaves its other reads behind
def test_parameters_of_another_shape_are_refused(checkpoints):
    name = PolicyName("p", "last")
    checkpoints.save_policy(name, make_state().params)
    checkpoints.wait()
    wrong = {"layer": {"w": jnp.zeros((2, 4)), "a_norm": jnp.zeros(3)}}
    with pytest.raises(ValueError, match=r"\(2, ?4\)|shape"):
        checkpoints.restore_policy(name, wrong)
    gc.collect()  # of the reads left behind, so that no later test is told of them
