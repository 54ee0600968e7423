"""What all modes share: names, variants, keys, and what nothing may depend on."""

import random

import pytest

from jaxsrl.data.chat import Template
from jaxsrl.evals.evaluate import Evaluation
from jaxsrl.evals.names import metric_names
from jaxsrl.metrics import encode

from .conftest import DEMONSTRATIONS, perfect, sums


def uncertain(prompt, temperature, sample, noise):
    return perfect(prompt, 0, 0, 0) if not temperature or noise < 0.6 else "answer: 12" if noise < 0.8 else "<think>"


SAMPLED = {"samples": 4, "temperature": 1.0, "last_action": True}


def by_place(records):
    keys = ("mode", "decoding", "problem", "branch", "sample")
    return sorted(records, key=lambda r: tuple(str(r[k]) for k in keys))


def test_every_mode_reports_under_its_name_and_bounds_hold_the_value(run):
    metrics, records = run(uncertain, **SAMPLED)
    modes = {"actions", "direct", "chained"}
    assert {name.partition("/")[0] for name in metrics} == modes == {r["mode"] for r in records}
    for headline in ("actions/exact", "actions/similarity", "direct/answer", "chained/answer", "direct/avg@4"):
        assert metrics[f"{headline}_low"] <= metrics[headline] <= metrics[f"{headline}_high"]
    assert 0 < metrics["direct/avg@4"] < metrics["direct/pass@2"] < metrics["direct/pass@4"] <= 1
    for name in metrics:
        if name.endswith("_low"):
            assert metrics[name] <= metrics[name.removesuffix("_low") + "_high"], name
    assert all(encode(record) for record in records) and encode(metrics)
    known = metric_names(Evaluation(**SAMPLED))
    means = {name for name in metrics if not name.endswith(("_low", "_high"))}
    assert len(known) == len(set(known)) and means == {name for name in known if "timeout_share" not in name}


def test_order_of_problems_changes_nothing(run):
    metrics, records = run(uncertain, **SAMPLED)
    shuffled = list(DEMONSTRATIONS)
    for seed in range(3):
        random.Random(seed).shuffle(shuffled)
        again, other = run(uncertain, shuffled, **SAMPLED)
        assert again == metrics  # bit for bit, intervals included
        assert by_place(other) == by_place(records)


NARROW, WIDE = ({"rows": 1, "row_tokens": 64, "slots": 1}, {"rows": 8, "row_tokens": 500, "slots": 40})


@pytest.mark.parametrize("rows", [NARROW, WIDE])
def test_packing_changes_nothing(run, rows):
    assert run(uncertain, rows=rows, **SAMPLED) == run(uncertain, **SAMPLED)


def test_what_else_is_evaluated_changes_no_completion(run):
    _, alone = run(uncertain, DEMONSTRATIONS[1:2], **SAMPLED)
    _, together = run(uncertain, **SAMPLED)
    assert by_place(alone) == by_place([r for r in together if r["problem"] == "b"])
    only, _ = run(uncertain, modes=("chained",), **SAMPLED)
    everything, _ = run(uncertain, **SAMPLED)
    assert only.items() <= everything.items()


def test_the_key_reaches_the_samples_and_greedy_does_not_use_it(run):
    def of(decoding, records):
        return [r for r in records if r["decoding"] == decoding]

    first, second = (run(uncertain, seed=seed, **SAMPLED)[1] for seed in (0, 1))
    assert of("greedy", first) == of("greedy", second) and of("sampled", first) != of("sampled", second)
    assert run(uncertain, seed=0, **SAMPLED)[1] == first


def test_steps_and_chains_do_not_share_noise(run):
    def coin(prompt, temperature, sample, noise):
        return perfect(prompt, 0, 0, 0) if noise < 0.5 else "answer: 0"

    _, records = run(coin, samples=16, temperature=1.0)
    first = {
        mode: [r["action"] for r in records if r["mode"] == mode and r["branch"] == 0 and r["decoding"] == "sampled"]
        for mode in ("actions", "chained")
    }
    assert len(first["actions"]) == len(first["chained"]) == 80 and first["actions"] != first["chained"]


def test_forced_thinking_writes_the_mark_and_has_its_own_names(run):
    def reluctant(prompt, *noise):
        """Thinks only where it has to, and is right only then."""
        return perfect(prompt, *noise) if prompt.endswith("<think>") else "answer: 0"

    metrics, records = run(reluctant, forced_think=(False, True))
    for name in ("actions/thinks", "actions/exact", "direct/answer", "chained/answer"):
        assert metrics[name] == 0
    for name in (
        "actions/exact",
        "actions/thinks",
        "direct/answer",
        "direct/thinks",
        "chained/answer",
        "chained/whole",
    ):
        assert metrics[f"forced_{name}"] == 1
    known = metric_names(Evaluation(forced_think=(False, True)))
    assert {n for n in metrics if not n.endswith(("_low", "_high"))} == {n for n in known if "timeout_share" not in n}
    forced = [r for r in records if r["mode"].startswith("forced_")]
    assert all(r["completion"].startswith("<think>") for r in forced) and len(forced) > 5
    with pytest.raises(ValueError, match="prefill_think"):
        run(reluctant, forced_think=(True,), template=Template(prefill_think=True))


def test_all_calls_have_one_shape_and_a_round_of_chains_is_one_batch(run):
    calls = []
    run(uncertain, calls=calls, forced_think=(False, True), **SAMPLED)
    assert len(set(calls)) == 1
    calls.clear()
    run(perfect, calls=calls, modes=("chained",), rows=WIDE)
    assert len(calls) == max(len(d.actions) for d in DEMONSTRATIONS)


def test_problems_takes_the_first(run):
    _, records = run(perfect, problems=2)
    assert {r["problem"] for r in records} == {"a", "b"}


def test_long_problems_weigh_by_their_actions_and_stay_together(run):
    """`exact` is a share of actions; its interval knows that a problem's actions are not independent."""
    long, short = [sums(*range(i, i + 6), name=f"l{i}") for i in range(4)], [sums(i, i, name=f"s{i}") for i in range(4)]

    def only_long(prompt, *_):
        lines = prompt.strip().splitlines()
        d = next(d for d in (*long, *short) if d.problem.splitlines()[1] == lines[1])
        return d.actions[len(lines) - 2] if d in long else "no"

    metrics, _ = run(only_long, [*long, *short], modes=("actions",))
    assert metrics["actions/exact"] == pytest.approx(20 / 24)
    assert (
        metrics["actions/exact_high"] - metrics["actions/exact_low"] > 0.3
    )  # 24 independent trials would claim about 0.3


@pytest.mark.parametrize(
    ("field", "value"),
    [("modes", ()), ("modes", ("actions", "actions")), ("modes", ("step",)), ("problems", 0), ("samples", 0),
     ("samples", 4), ("temperature", -1.0), ("temperature", float("inf")), ("forced_think", ()),
     ("think", "always"), ("action_cap", 0), ("unit", "token")],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(field, value):
    with pytest.raises(ValueError, match=field):
        Evaluation(**{field: value})


def test_no_demonstrations_are_refused(run):
    with pytest.raises(ValueError, match="no demonstrations"):
        run(perfect, [])
