"""Weights out of a run and into another, and the check against another implementation."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxsrl.__main__ import main
from jaxsrl.checkpoint import Checkpoints, PolicyName
from jaxsrl.commands.weights import model_from
from jaxsrl.config.overrides import load, override, to_dict
from jaxsrl.data.byte_tokenizer import ByteTokenizer
from jaxsrl.data.tokenizer import load_tokenizer
from jaxsrl.data.tokenizer_files import write_files
from jaxsrl.models.config import PRESETS, preset
from jaxsrl.models.families import read_config
from jaxsrl.models.load import load_weights
from jaxsrl.models.transformer import forward, head_matrix, init_params
from tests.sharing import train

TINY = Path(__file__).parents[1] / "tiny_config.py"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    config = override(load(TINY), ["stages.sft.steps=2", "stages.srl.steps=1", "stages.rlvr.steps=2"])
    return train(replace(config, runs=str(tmp_path_factory.mktemp("runs"))))


def policy(run: Path, stage: str):
    config = load(TINY).model
    checkpoints = Checkpoints(run / "checkpoints")
    found = checkpoints.restore_policy(
        PolicyName(stage, "last"), jax.eval_shape(lambda: init_params(config, jax.random.key(0)))
    )
    checkpoints.close()
    return config, found


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
    to = tmp_path_factory.mktemp("out") / "model"
    assert main(["convert", str(run), "--to", str(to), "--policy", "sft", "--dtype", "float32"]) == 0
    return to


def logits_file(path: Path, config, params, shift=0.0) -> Path:
    ids = np.random.default_rng(0).integers(0, config.vocab, (2, 9)).astype(np.int32)
    position = np.tile(np.arange(9, dtype=np.int32), (2, 1))
    hidden = jax.jit(partial(forward, config))(params, ids, position, position * 0, position * 0 + 1)
    np.savez(path, ids=ids, logits=np.asarray(hidden @ head_matrix(config, params)) + np.float32(shift))
    return path


def test_what_is_written_is_the_policy(run, folder, tmp_path, capsys):
    config, params = policy(run, "sft")
    jax.tree.map(np.testing.assert_array_equal, load_weights(folder, read_config(folder)), params)
    right, wrong = (logits_file(tmp_path / f"{shift}.npz", config, params, shift) for shift in (0.0, 0.01))
    check = ["doctor", "--weights", str(folder), "--reference"]
    assert main([*check, str(right)]) == 0
    assert "max abs error" in capsys.readouterr().out
    assert main([*check, str(wrong)]) == 1
    assert "does not give the logits" in capsys.readouterr().err
    assert main([*check, str(wrong), "--tolerance", "0.5"]) == 0
    assert main([*check, str(TINY)]) == 2
    assert main(["doctor", "--weights", str(folder)]) == 2


def test_references_with_padding_and_none_at_all(run, folder, tmp_path, capsys):
    """Rows padded on the left and on the right; logits at padding are not compared. Then files of another kind."""
    config, params = policy(run, "sft")
    with np.load(logits_file(tmp_path / "whole.npz", config, params)) as file:
        ids, logits = file["ids"], file["logits"]
    mask = np.ones((2, 12), int)
    mask[0, :3] = mask[1, 9:] = 0
    padded = np.zeros((2, 12), np.int32), np.full((2, 12, config.vocab), np.nan, np.float32)
    for into, values in zip(padded, (ids, logits), strict=True):
        into[0, 3:], into[1, :9] = values[0], values[1]
    reference = tmp_path / "padded.npz"
    check = ["doctor", "--weights", str(folder), "--reference", str(reference)]
    np.savez(reference, ids=padded[0], logits=padded[1], mask=mask)
    assert main(check) == 0
    wrong = ({"mask": mask[:, 1:]}, {"mask": mask * 0}, {"mask": mask + 1}, {"logits": padded[1] * 0, "mask": mask})
    for changed in wrong:
        np.savez(reference, **{"ids": padded[0], "logits": padded[1]} | changed)
        assert main(check) == 2
    for content in (b"", b"PK\x03\x04" + b"x" * 40, b"x" * 40):
        reference.write_bytes(content)
        assert main(check) == 2 and "is no NPZ file" in capsys.readouterr().err


def test_a_run_starts_from_published_weights(run, folder, tmp_path):
    """Another model in the config gives way to the folder's; its tokenizer is the folder's."""
    config = override(load(TINY), ["stages.sft.steps=0", "stages.srl.steps=0", "stages.rlvr.steps=0"])
    config = replace(config, runs=str(tmp_path), model=preset("0.1M"), weights=str(folder))
    again = train(config)
    _, params = policy(run, "sft")
    _, found = policy(again, "sft")
    jax.tree.map(np.testing.assert_array_equal, found, params)
    assert (again / "weights_config.json").read_bytes() == (folder / "config.json").read_bytes()
    assert main(["convert", str(again), "--to", str(tmp_path / "bf16")]) == 0
    kept = load_weights(tmp_path / "bf16", read_config(tmp_path / "bf16"))
    rounded = jax.tree.map(lambda x: x.astype(jnp.bfloat16).astype(jnp.float32), params)
    jax.tree.map(np.testing.assert_array_equal, kept, rounded)


def test_folders_are_not_overwritten_and_policies_are_named(run, folder, capsys):
    assert main(["convert", str(run), "--to", str(folder)]) == 1
    assert "exists; name a new folder" in capsys.readouterr().err
    assert main(["convert", str(run), "--to", str(folder) + "2", "--policy", "x"]) == 1
    assert "there are: " in capsys.readouterr().err and not Path(str(folder) + "2").exists()


def test_every_preset_survives_its_run_folder():
    for name in PRESETS:
        assert model_from(to_dict(preset(name))) == preset(name)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    to = tmp_path_factory.mktemp("bytes")
    write_files("bytes", to)
    return load_tokenizer(to)


@given(st.text(max_size=40))
def test_the_byte_tokenizer_as_files(written, text):
    own = ByteTokenizer()
    assert written.encode(text) == own.encode(text) and written.decode(own.encode(text)) == text
    assert written.specials == own.specials and written.end == own.end and written.byte_ids == own.byte_ids
