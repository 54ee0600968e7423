"""The probe of single actions: exact values for policies that are known."""

from difflib import SequenceMatcher

import numpy as np
import pytest

from jaxsrl.evals.baselines import other_problem_actions, previous_action
from jaxsrl.types import Demonstration

from .conftest import DEMONSTRATIONS, expert_of, perfect, sums

TARGETS = [(m, k) for m, d in enumerate(DEMONSTRATIONS) for k in range(len(d.actions) - 1)]
EXPERT = [DEMONSTRATIONS[m].actions[k] for m, k in TARGETS]


def ratio(a, b):
    return SequenceMatcher(None, a, b, autojunk=False).ratio()


def steps(run, policy, demonstrations=DEMONSTRATIONS, **settings):
    metrics, records = run(policy, demonstrations, modes=("actions",), **settings)
    assert all(name.startswith("actions/") for name in metrics)
    return {name.removeprefix("actions/"): value for name, value in metrics.items()}, records


def test_the_expert_scores_1_on_the_n_minus_1_targets(run):
    metrics, records = steps(run, perfect)
    assert metrics["count"] == len(TARGETS) == 9 and metrics["problems"] == 5
    assert metrics["exact"] == metrics["similarity"] == metrics["thinks"] == 1
    assert metrics["malformed"] == metrics["truncated"] == 0
    assert metrics["exact_low"] == pytest.approx(5 / (5 + 1.96**2), abs=1e-4)  # five problems prove no more than that
    lengths = [len(a) + len("a thought") + 3 for a in EXPERT]  # two marks and the end token
    assert metrics["tokens_mean"] == pytest.approx(np.mean(lengths))
    assert [(r["problem"], r["branch"]) for r in records] == [(DEMONSTRATIONS[m].problem_id, k) for m, k in TARGETS]
    assert [r["action"] for r in records] == [r["expert_action"] for r in records] == EXPERT


def test_the_last_action_is_asked_for_on_request(run):
    metrics, records = steps(run, perfect, last_action=True)
    assert metrics["count"] == 14 and records[1]["expert_action"] == "answer: 3"


def test_a_policy_that_copies_equals_the_baseline_of_copying(run):
    def copies(prompt, *_):
        return prompt.strip().splitlines()[-1]

    metrics, records = steps(run, copies)
    wanted = [ratio(previous_action(DEMONSTRATIONS[m], k), e) for (m, k), e in zip(TARGETS, EXPERT, strict=True)]
    assert metrics["similarity"] == metrics["similarity_previous"] == pytest.approx(np.mean(wanted))
    assert (metrics["similarity_low"], metrics["similarity_high"]) == (
        metrics["similarity_previous_low"], metrics["similarity_previous_high"])  # fmt: skip
    assert metrics["above_previous"] == metrics["above_previous_low"] == metrics["above_previous_high"] == 0
    assert metrics["exact"] == metrics["thinks"] == 0 and records[0]["action"] == "1 2"
    # Negative control: the expert is above it, and the other baseline is another number.
    assert steps(run, perfect)[0]["above_previous_low"] > 0
    assert metrics["similarity_other_problem"] != metrics["similarity_previous"]


def test_a_policy_that_answers_another_problem_equals_the_shuffled_baseline(run):
    donors = dict(zip(TARGETS, other_problem_actions(DEMONSTRATIONS, TARGETS), strict=True))

    def mistaken(prompt, *_):
        demonstration, given = expert_of(prompt)
        return donors[DEMONSTRATIONS.index(demonstration), given]

    metrics, _ = steps(run, mistaken)
    assert metrics["similarity"] == metrics["similarity_other_problem"] < 1
    assert metrics["above_other_problem"] == 0 and metrics["exact"] == 0


def test_boilerplate_shows_as_a_high_shuffled_baseline(run):
    """The control the baseline is there for: everyone writes the same, so similarity 1 means nothing."""
    boilerplate = [
        Demonstration(problem_id=p, problem=f"sum:\n{p}", actions=("Let us think.", f"answer: {i}"))
        for i, p in enumerate("xyz")
    ]
    metrics, _ = steps(run, lambda *_: "Let us think.", boilerplate)
    assert metrics["similarity"] == metrics["similarity_other_problem"] == metrics["exact"] == 1
    assert metrics["above_other_problem"] == 0 and metrics["similarity_previous"] < 1


def test_malformed_rows_are_counted_and_left_out_of_the_similarity(run):
    def odd(prompt, *_):
        demonstration, given = expert_of(prompt)
        good = demonstration.actions[given]
        said = {"a": "<think>", "c": "<think>x</think>", "d": good + "<|cut|>"}
        return said.get(demonstration.problem_id, good)

    metrics, records = steps(run, odd)
    formed = [i for i, (m, _) in enumerate(TARGETS) if DEMONSTRATIONS[m].problem_id in "be"]
    assert metrics["malformed"] == 1 - len(formed) / len(TARGETS) and metrics["exact"] == len(formed) / len(TARGETS)
    assert metrics["similarity"] == 1 and metrics["truncated"] == 1 / len(TARGETS)
    copied = [ratio(previous_action(DEMONSTRATIONS[m], k), e) for (m, k), e in zip(TARGETS, EXPERT, strict=True)]
    assert metrics["similarity_previous"] == pytest.approx(np.mean([copied[i] for i in formed]))  # of the same rows
    assert metrics["similarity_previous"] != pytest.approx(np.mean(copied))
    assert [r["similarity"] is None for r in records] == [i not in formed for i in range(len(TARGETS))]
    nothing, _ = steps(run, lambda *_: "<think>")
    assert nothing["malformed"] == 1 and nothing["exact"] == 0
    assert nothing["similarity"] is nothing["similarity_previous"] is None and "similarity_low" not in nothing


def test_the_model_comes_first_in_the_similarity(run):
    word = Demonstration(problem_id="w", problem="x\ny", actions=("diet", "answer: 1"))
    assert steps(run, lambda *_: "tide", [word])[0]["similarity"] == 0.25  # 0.5 the other way round


def test_a_missing_thought_is_malformed_only_where_one_is_required(run):
    def silent(prompt, *_):
        return perfect(prompt, 0, 0, 0).partition("</think>")[2]

    assert steps(run, silent)[0]["exact"] == 1
    strict, _ = steps(run, silent, think="required")
    assert strict["malformed"] == 1 and strict["exact"] == 0


def test_samples_at_a_temperature(run):
    def sometimes(prompt, temperature, sample, noise):
        return perfect(prompt, 0, 0, 0) if not temperature or sample % 4 == 0 else "no"

    metrics, records = steps(run, sometimes, samples=8, temperature=1.0)
    assert metrics["exact"] == 1 and metrics["avg@8"] == 0.25 and metrics["count"] == 9
    assert metrics["pass@2"] == pytest.approx(1 - (6 * 5) / (8 * 7))
    assert metrics["pass@8"] == 1 and metrics["pass^8"] == 0
    assert metrics["sampled_thinks"] == 0.25 and metrics["thinks"] == 1 and "maj@8" not in metrics
    sampled = [r for r in records if r["decoding"] == "sampled"]
    assert len(sampled) == 72 and [r["sample"] for r in sampled[:8]] == list(range(8))


def test_demonstrations_without_a_target_leave_nothing_to_ask(run):
    metrics, records = steps(run, perfect, [Demonstration(problem_id="p", problem="?", actions=("answer: 1",))])
    assert metrics["count"] == 0 and metrics["exact"] is None and not records


def test_previous_action_at_the_problem_is_its_last_line():
    d = Demonstration(problem_id="p", problem="Given:\n 1 2 \n\n", actions=(" a ", "b"))
    assert previous_action(d, 0) == "1 2" and previous_action(d, 1) == "a"
    assert previous_action(Demonstration(problem_id="p", problem=" ", actions=("a",)), 0) == ""


def test_shuffled_actions_are_a_derangement_between_problems():
    same_place = [sums(i, i + 1, i + 2, name=str(i)) for i in range(1, 9)]
    places = [(m, 1) for m in range(8)]
    donors = other_problem_actions(same_place, places)
    assert sorted(donors) == sorted(d.actions[1] for d in same_place)
    assert all(donor != d.actions[1] for donor, d in zip(donors, same_place, strict=True))
    back = other_problem_actions(same_place[::-1], places)[::-1]
    assert back == donors


def test_shuffled_actions_where_places_or_problems_run_out():
    two, four = sums(1, 2, name="x"), sums(3, 4, 5, 6, name="y")
    assert other_problem_actions([two, four], [(1, 3), (0, 0)]) == ["answer: 3", "3 + 4 = 7"]
    twice = [four, sums(4, 3, 5, 6, name="y")]  # another solution of the same problem gives nothing away
    assert other_problem_actions(twice, [(0, 0), (1, 1)]) == [None, None]
