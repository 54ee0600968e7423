"""Updates that are left out: bits stay, it is said what was in the batch, and a run in which it does not stop ends."""

import re
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsrl.config import Survive
from jaxsrl.config.overrides import load, override
from jaxsrl.exit_codes import code_of
from jaxsrl.metrics import read
from jaxsrl.processes import Stopped
from jaxsrl.stages.skipped import Diverged
from jaxsrl.update import AdamW, Spikes, init_state, learning_rate, make_apply, optimizer
from tests.sharing import train

TINY = Path(__file__).parent / "tiny_config.py"


def taken(settings: AdamW, steps: list[tuple[float, float]]):
    """States after steps with these gradients and losses, the first before them; as hosts see them."""
    tx = optimizer(settings)
    apply = make_apply(tx, learning_rate(settings, 40), settings.spikes)
    state = init_state({"w": jnp.zeros(3), "m": jnp.ones((2, 2))}, tx, jax.random.key(0), settings.spikes)
    states = [jax.tree.map(np.asarray, replace(state, key=None))]
    for gradient, loss in steps:
        grads = jax.tree.map(lambda x, g=gradient: jnp.full(x.shape, g, x.dtype), state.params)
        state, _ = apply(state, grads, jnp.float32(loss))
        states.append(jax.tree.map(np.asarray, replace(state, key=None)))
    return states


def same_bits(a, b) -> bool:
    return all(x.tobytes() == y.tobytes() for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("moments", ["float32", "bfloat16"])
def test_weights_and_moments_keep_their_bits(bad, moments):
    """And what comes after is as if that batch had not been, but for the step that counts."""
    settings = AdamW(lr=0.1, moments=moments)
    before, after, later = taken(settings, [(0.3, 1.0), (bad, np.nan), (-0.2, 1.0)])[1:]
    assert same_bits(before.params, after.params) and same_bits(before.opt_state, after.opt_state)
    assert (int(after.step), int(after.skipped), int(later.step), int(later.skipped)) == (2, 1, 3, 1)
    without = taken(settings, [(0.3, 1.0), (-0.2, 1.0)])[-1]
    assert same_bits(later.params, without.params) and same_bits(later.opt_state, without.opt_state)


def test_the_schedule_goes_on_with_the_step():
    """What comes after has the rate of its step, not that of the one that was left out."""
    settings = AdamW(lr=0.1, schedule="linear")
    rate = learning_rate(settings, 40)
    before, _, later = taken(settings, [(0.3, 1.0), (np.nan, np.nan), (-0.2, 1.0)])[1:]
    without = taken(settings, [(0.3, 1.0), (-0.2, 1.0)])[-1]
    moved = [(x.params["w"] - before.params["w"]) for x in (later, without)]
    np.testing.assert_allclose(moved[0] / moved[1], rate(2) / rate(1), rtol=1e-4)
    assert rate(2) / rate(1) < 0.99


SPIKES = Spikes(window=4, sigmas=3.0)


def test_a_spike_is_left_out_once_the_window_is_full():
    settings = AdamW(lr=0.1, clip_norm=0.0, spikes=SPIKES)
    quiet = [(0.3, 1.0), (0.31, 1.1), (0.29, 0.9), (0.3, 1.0)]
    for spike in ((0.3, 40.0), (9.0, 1.0)):  # of the loss, of the gradient
        states = taken(settings, [*quiet, spike, (0.3, 1.0)])
        assert [int(s.skipped) for s in states] == [0, 0, 0, 0, 0, 1, 1]
        assert same_bits(states[4].params, states[5].params) and not same_bits(states[5].params, states[6].params)
        early = taken(settings, [quiet[0], spike, *quiet[1:]])  # the window is not full: nothing is known yet
        assert int(early[-1].skipped) == 0
    assert taken(AdamW(lr=0.1), [*quiet, (9.0, 40.0)])[-1].window is None  # off by default, and nothing is left out
    assert int(taken(AdamW(lr=0.1), [*quiet, (9.0, 40.0)])[-1].skipped) == 0


def test_a_change_that_lasts_is_let_through_and_nan_is_not_entered():
    settings = AdamW(lr=0.1, clip_norm=0.0, spikes=SPIKES)
    states = taken(settings, [(0.3, 1.0)] * 4 + [(0.3, 5.0)] * 6)
    assert int(states[-1].skipped) == int(states[-3].skipped) and not same_bits(states[-1].params, states[-2].params)
    quiet, after = taken(settings, [(0.3, 1.0)] * 4 + [(np.nan, np.nan)])[-2:]
    assert same_bits(quiet.window, after.window) and int(after.skipped) == 1
    with pytest.raises(ValueError, match="window must be >= 2"):
        Spikes(window=1)


def test_a_run_that_does_nothing_but_skip_says_so_and_ends(tmp_path, capsys):
    """With a rate that no parameter survives; its problems are named, and the metrics have every step."""
    config = override(load(TINY), ["stages.sft.optimizer.lr=1e30", "stages.sft.validate.every=0"])
    config = replace(config, runs=str(tmp_path), stages=config.stages[:1], survive=Survive(skipped_updates=3))
    with pytest.raises(
        Diverged, match=r"3 updates in a row were left out.*survive.skipped_updates \(now 3\)"
    ) as caught:
        train(config)
    assert code_of(caught.value) == 3
    said = capsys.readouterr().err
    left_out = r"warning: \[sft\] step (\d+): update left out, its gradient was not finite \((.*)\); (\d) in"
    lines = re.findall(left_out, said)
    assert [row for _, _, row in lines] == ["1", "2", "3"] and "gradient norm not finite" in lines[0][1]
    steps = [x for x in read(tmp_path / "tiny" / "metrics.jsonl") if x["kind"] == "train"]
    named = [names.split(", ") for names in re.findall(r"its problems: (.*)", said)]
    assert all(len(names) == 2 and set(names) <= set("01234") for names in named)
    assert named[0] != named[1]  # the batch is spent
    assert [x["update/skipped"] for x in steps][-3:] == [1, 2, 3] and steps[-1]["step"] == int(lines[-1][0])
    with pytest.raises(Diverged):  # the count goes on over a resume, to the same end
        train(config)
    assert [x for x in read(tmp_path / "tiny" / "metrics.jsonl") if x["kind"] == "train"] == steps
    train(replace(config, survive=Survive(skipped_updates=0)))
    assert len(re.findall(left_out, capsys.readouterr().err)) > 3


def test_spikes_are_a_setting_of_a_run(tmp_path):
    """The window lies in the state: a run that is stopped and goes on is bit for bit one that is not."""
    config = override(
        load(TINY),
        [
            "stages.sft.optimizer.spikes.window=2",
            "stages.sft.optimizer.spikes.sigmas=0.5",
            "stages.sft.optimizer.lr=0.5",
        ],
    )
    config = replace(config, stages=config.stages[:1], survive=Survive(skipped_updates=0))
    whole = train(replace(config, runs=str(tmp_path / "whole")))
    asked = []
    stop = lambda: asked.append(1) or len(asked) == 7
    for _ in range(2):
        try:
            parted = train(replace(config, runs=str(tmp_path / "parted")), stop)
        except Stopped:
            pass
    assert (parted / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    skipped = [x["update/skipped"] for x in read(whole / "metrics.jsonl") if x["kind"] == "train"]
    assert skipped[:2] == [0, 0] and 0 < skipped[-1] < len(skipped)
