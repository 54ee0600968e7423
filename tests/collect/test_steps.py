"""What an optimizer step asks of the device, and what it compiles: little, and nothing after warm-up."""

import traceback
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import chex
import jax
import jax._src.array
import numpy as np
import pytest

import jaxsrl
from jaxsrl.collect.device import make_draw, make_weigh
from jaxsrl.config.overrides import load
from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.srl import SRL
from jaxsrl.policy import Compiled
from jaxsrl.processes import counting
from jaxsrl.rewards.rooms import rooms_for
from jaxsrl.rewards.similarity import ActionSimilarity
from jaxsrl.sharding import MeshShape
from jaxsrl.train import optimizer_step
from jaxsrl.update import batch_logp, learning_rate, make_apply, make_gradient, make_loss, make_train_step, optimizer
from tests.parts import stage_parts

TINY = load(Path(__file__).parents[1] / "tiny_config.py")


def config(runs, where, *, stage=1, **changes):
    """SRL from random parameters: a different number of branch points in every step, one refill where that is short."""
    chosen = TINY.stages[stage]
    if stage == 1:
        similarity = ActionSimilarity(autojunk=False, think="optional", where=where)
        objective = SRL(reward=similarity, policy=GRPO(filter_std=0.01), group_size=4)
        chosen = replace(chosen, objective=objective)
        chosen = replace(chosen, collect=replace(chosen.collect, prompts=2))
    chosen = replace(chosen, start_from=None, test=None, steps=20, **changes)
    return replace(TINY, stages=(chosen,), runs=str(runs))


def ending(parts, state):
    """The state with an end token that is likely, so that rewards differ."""
    weight = state.params["embedding"].at[parts.tokenizer.end].mul(5.0)
    return replace(state, params=state.params | {"embedding": weight})


@contextmanager
def reading():
    """Yields a counter of places of this package that ask for the value of a device array, but for `fetch`.

    Of an array on one device of a CPU, NumPy takes the memory and nothing is seen: it must lie on more.
    """
    seen, kind, package = Counter(), jax._src.array.ArrayImpl, str(Path(jaxsrl.__file__).parent)
    real = kind._value

    def value(self):
        here = [f for f in traceback.extract_stack() if f.filename.startswith(package)]
        if here and here[-1].name != "fetch":
            seen[f"{here[-1].filename}:{here[-1].lineno}"] += 1
        return real.fget(self)

    kind._value = property(value)
    try:
        yield seen
    finally:
        kind._value = real


# What is fetched: flags; rollouts' tokens, for the host's reward or for the log of the device's; metrics.
@pytest.mark.parametrize("where, stage, want", [("host", 1, 3), ("device", 1, 3), (None, 0, 2)])
def test_a_steady_step_waits_three_times(tmp_path, where, stage, want):
    once = {} if stage == 0 else {"collect": replace(TINY.stages[1].collect, prompts=None)}
    made = replace(config(tmp_path, where, stage=stage, **once), mesh=MeshShape(fsdp=2))
    with stage_parts(made) as (parts, state, progress):
        for step in range(3):
            with counting() as fetched, reading() as seen:
                state, progress, _ = optimizer_step(parts, state, progress)
            assert len(fetched) == want and not seen, (step, fetched, seen)
            assert all(size > 0 for size in fetched)
        # The control: a function that looks at what it made is seen where it is called.
        weigh = lambda *args: (made := parts.collector.weigh(*args), np.asarray(made.flags))[0]
        with reading() as seen:
            optimizer_step(replace(parts, collector=replace(parts.collector, weigh=weigh)), state, progress)
        assert sum(seen.values()) == 1 and "collect.py" in next(iter(seen))


def test_a_refill_asks_again(tmp_path):
    """Two more fetches for a round more, where the host rewards: tokens and flags."""
    with stage_parts(config(tmp_path, "host")) as (parts, state, progress):
        state, rounds = ending(parts, state), set()
        for _ in range(8):
            with counting() as fetched:
                state, progress, _ = optimizer_step(parts, state, progress)
            rounds.add(progress.metrics["collect/rounds"])
            assert len(fetched) == 1 + 2 * progress.metrics["collect/rounds"]
        assert rounds == {1, 2}


@contextmanager
def compiling():
    """Yields a list to which every program that is compiled adds an item."""
    seen, on = [], [True]

    def listen(event, duration, **_):
        if on[0] and event == "/jax/core/compile/backend_compile_duration":
            seen.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seen
    finally:
        on[0] = False  # a listener cannot be taken away again


def shapes(tree):
    of = lambda x: (x.shape, str(x.dtype)) if hasattr(x, "dtype") else type(x)
    return jax.tree.structure(tree), tuple(map(of, jax.tree.leaves(tree)))


@pytest.mark.parametrize("where", ["host", "device"])
def test_nothing_is_compiled_after_the_first_use_of_a_shape(tmp_path, where):
    """Twelve steps with other branch points, other lengths and other refills each."""
    made = config(tmp_path, where)
    reward = made.stages[0].objective.reward
    stage = replace(
        made.stages[0], objective=SRL(reward=reward, policy=GRPO(filter_std=0.01), group_size=4, max_branch_points=1),
        collect=replace(made.stages[0].collect, prompts=1),
    )  # fmt: skip
    with stage_parts(replace(made, stages=(stage,)), compiled=Compiled()) as (parts, state, progress):
        asked: set = set()
        new: list[str] = []

        def noting(name, run):
            def call(*args, **named):
                key = name, shapes((args, named))
                new.extend([name] * (key not in asked))
                asked.add(key)
                return run(*args, **named)

            return call

        collector, learner = parts.collector, parts.learner
        watched = replace(
            parts,
            collector=replace(collector, **{n: noting(n, getattr(collector, n)) for n in ("draw", "weigh", "put")}),
            learner=replace(learner, **{n: noting(n, getattr(learner, n)) for n in ("fill", "train_step", "still")}),
        )
        rounds, quiet, state = set(), 0, ending(parts, state)
        for step in range(12):
            new.clear()
            with compiling() as seen:
                state, progress, _ = optimizer_step(watched, state, progress)
            rounds.add(progress.metrics["collect/rounds"])
            assert new or not seen, (step, len(seen))
            quiet += not new
            assert step or seen  # the control: the first one does compile
        assert rounds == {1, 2} and quiet >= 6
        counts = Counter(name for name, _ in asked)
        assert counts["draw"] == 1 and counts["weigh"] <= 2 and counts["put"] <= 2, counts
        assert counts["fill"] <= 2 * len(parts.learner.shapes.rows)


def test_programs_are_traced_once(tmp_path):
    """As `chex` counts, with the functions that are traced handed in: over six steps, and in another run after it."""
    made = config(tmp_path, "device", collect=replace(TINY.stages[1].collect, prompts=None))
    with stage_parts(made) as (parts, state, progress):
        objective, end = parts.stage.objective, parts.tokenizer.ends
        rooms = rooms_for(parts.splits.train, encode=parts.tokenizer.encode, max_new_tokens=6, given=b"")
        sample, table = parts.policy.sampler(parts.stage.sampling), parts.log.reader.token_bytes
        drawing = make_draw(sample, objective.reward, table, rooms)
        weighing = make_weigh(objective, end, None, objective.reward)
        collector = replace(
            parts.collector, draw=jax.jit(chex.assert_max_traces(drawing, n=1)),
            weigh=jax.jit(chex.assert_max_traces(weighing, n=1)),
        )  # fmt: skip
        model = parts.policy.model
        scoring = lambda params, batch: batch_logp(model, params, batch, 1.0)
        settings, sizes = parts.stage.optimizer, len(parts.learner.shapes.rows)
        gradient = make_gradient(chex.assert_max_traces(make_loss(model, objective, 1.0, None), n=sizes))
        transform = optimizer(settings)
        transform = transform._replace(update=chex.assert_max_traces(transform.update, n=1))
        learner = replace(
            parts.learner, behavior="recompute", score=jax.jit(chex.assert_max_traces(scoring, n=sizes)),
            train_step=make_train_step(gradient, make_apply(transform, learning_rate(settings, parts.stage.steps))),
        )  # fmt: skip
        watched, batches = replace(parts, collector=collector, learner=learner), set()
        for _ in range(6):
            state, progress, _ = optimizer_step(watched, state, progress)
            batches.add(progress.metrics["pack/tree_tokens"])
        assert len(batches) > 1  # not one batch six times


def test_a_layout_made_ahead_changes_no_bit(tmp_path):
    """Made when it is asked for, or in a thread before; over refills, after which what was made is for another step."""
    found = {}
    for workers in (0, 1):
        made = replace(config(tmp_path / str(workers), "host"), layout_workers=workers)
        with stage_parts(made) as (parts, state, progress):
            lines, rounds, state = [], [], ending(parts, state)
            for _ in range(6):
                state, progress, _ = optimizer_step(parts, state, progress)
                lines.append(dict(progress.metrics))
                rounds.append(lines[-1]["collect/rounds"])
            assert all(x["loss"] is not None for x in lines)
            parts.writer.drain()
            text = (parts.run.folder / "rollouts" / "srl.jsonl").read_bytes()
            found[workers] = lines, text, [np.asarray(x).tobytes() for x in jax.tree.leaves(state.params)]
    assert found[0] == found[1] and {1, 2} == set(rounds)
