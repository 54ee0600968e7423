"""The learner runs when nothing of the sampler is left: neither keys and values nor its copy of the weights."""

from dataclasses import replace

import jax

from jaxsrl import train as loop
from jaxsrl.rollout.slots import cache_bytes
from jaxsrl.types import Prompts
from tests.sharing import train
from tests.tiny_config import config


def copies() -> int:
    """Matrices in bfloat16 that are alive: parameters that are trained are float32."""
    return sum(x.dtype == jax.numpy.bfloat16 and x.ndim >= 2 for x in jax.live_arrays())


def test_nothing_of_the_sampler_lives_while_the_learner_runs(tmp_path, monkeypatch, capsys):
    while_sampling, while_learning, large = [], [], []
    collect, learn = loop.collect, loop.learn

    def watched_collect(collector, position, step, params, *rest, **settings):
        def asked():
            given = params()
            while_sampling.append(copies())
            return given

        return collect(collector, position, step, asked, *rest, **settings)

    def watched_learn(*given):
        while_learning.append(copies())
        large.append([x.shape for x in jax.live_arrays() if x.ndim >= 5])  # caches have five axes and more
        return learn(*given)

    monkeypatch.setattr(loop, "collect", watched_collect)
    monkeypatch.setattr(loop, "learn", watched_learn)
    whole = config()
    stage = replace(whole.stages[2], start_from=None, steps=2, updates_per_rollout=1)
    stage = replace(stage, validate=replace(stage.validate, every=0), test=None)
    model = replace(whole.model, dtype="bfloat16")
    train(replace(whole, model=model, stages=(stage,), runs=str(tmp_path)))
    assert min(while_sampling) > 0  # the control: it is there while it is sampled from
    assert while_learning == [0, 0] and large == [[], []]
    lines = [x for x in capsys.readouterr().err.splitlines() if "released before the gradient" in x]
    assert len(lines) == 1 and "[rlvr] sampler: " in lines[0]


def test_cache_bytes_by_hand():
    """2 rows of 100 prompt tokens and 4 jobs of 10: 40 own columns a row; if jobs wait, a page and a block a slot."""
    zeros = jax.numpy.zeros
    prompts = Prompts(
        **{name: zeros((2, 100), int) for name in ("token", "position", "enter", "leave")},
        **{name: zeros((2, 4), int) for name in ("slot_parent", "slot_enter", "slot_active")},
        slot_address=zeros((2, 4, 6), int),
    )  # fmt: skip
    model = config().model  # one layer, one key head of 12, float32
    assert cache_bytes(model, 10, None, prompts, 4) == 2 * 12 * 4 * 2 * (100 + 40)
    assert cache_bytes(model, 10, None, prompts, 2) == 2 * 12 * 4 * 2 * (100 + 2 * 8 + 2 * 8)
