"""Statistics of paired runs, each against a simulation or a table."""

import numpy as np
import pytest
from scipy import stats

from jaxsrl.studies.effects import (
    Interval,
    Noise,
    bootstrap_interval,
    compare_arms,
    coverage,
    crossed_interval,
    holm,
    judge,
    noise_floor,
    power,
    seeds_needed,
    smallest_effect,
    t_interval,
)


def normal(count, mean=0.3, deviation=1.0):
    return lambda rng: rng.normal(mean, deviation, count)


def test_a_t_interval_is_that_of_the_book():
    values = [0.1, 0.3, 0.2, 0.6]
    found, book = t_interval(values), stats.ttest_1samp(values, 0.0)
    low, high = book.confidence_interval(0.95)
    assert (found.low, found.high, found.p) == pytest.approx((low, high, book.pvalue))
    with pytest.raises(ValueError, match="needs 2 values, got 1"):
        t_interval([1.0])
    assert t_interval([0.5, 0.5]) == Interval(value=0.5, low=0.5, high=0.5, p=0.0)


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_t_intervals_cover_what_they_say_where_normal_quantiles_do_not(seeds):
    """The control: 1.96 standard errors of three seeds hold the truth in four cases of five."""
    found = coverage(t_interval, normal(seeds), 0.3, 1500)
    assert abs(found - 0.95) < 0.02

    def plain(values):
        half = 1.96 * np.std(values, ddof=1) / len(values) ** 0.5
        return Interval(value=0, low=np.mean(values) - half, high=np.mean(values) + half, p=1)

    if seeds == 3:
        assert coverage(plain, normal(seeds), 0.3, 1500) < 0.87


def test_bootstrap_intervals_cover_of_skewed_values():
    """Ten values of an exponential: t misses the mean more often than the studentised bootstrap."""
    skewed = lambda rng: rng.exponential(1.0, 10)
    boot = coverage(lambda v: bootstrap_interval(v, draws=400), skewed, 1.0, 400)
    assert boot > 0.91 and boot >= coverage(t_interval, skewed, 1.0, 400)
    assert coverage(lambda v: bootstrap_interval(v, draws=400), normal(8), 0.3, 300) > 0.91
    with pytest.raises(ValueError, match="needs 6 values"):
        bootstrap_interval([1, 2, 3, 4, 5])


def test_pairing_by_problem_covers_other_problems_which_pairing_by_seed_does_not():
    """Problems differ in what a change does to them; the control treats those at hand as all there are."""
    seeds, problems = 6, 10

    def draw(rng):
        effect = 0.3 + rng.normal(0, 0.5, problems)
        return effect[None] + rng.normal(0, 0.2, (seeds, 1)) + rng.normal(0, 0.3, (seeds, problems))

    assert coverage(crossed_interval, draw, 0.3, 600) > 0.94
    assert coverage(lambda d: t_interval(d.mean(axis=1)), draw, 0.3, 600) < 0.9
    with pytest.raises(ValueError, match="1 and 3"):
        crossed_interval(np.zeros((1, 3)))


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([]) == []


def test_holm_keeps_the_share_of_studies_with_a_wrong_verdict():
    rng = np.random.default_rng(0)
    studies = [[t_interval(rng.normal(0, 1, 5)).p for _ in range(5)] for _ in range(600)]
    assert np.mean([min(holm(p)) < 0.05 for p in studies]) < 0.075
    assert np.mean([min(p) < 0.05 for p in studies]) > 0.15  # without it


def test_power_is_what_a_simulation_finds():
    rng = np.random.default_rng(0)
    found = np.mean([t_interval(rng.normal(1.0, 0.8, 5)).p < 0.05 for _ in range(1500)])
    assert power(1.0, 0.8, 5) == pytest.approx(found, abs=0.04)
    assert power(0.0, 1.0, 5) == pytest.approx(0.05, abs=1e-3)


def test_the_smallest_effect_and_the_seeds_it_needs_are_one_another():
    effect = smallest_effect(0.05, 4)
    assert power(effect, 0.05, 4) == pytest.approx(0.8, abs=1e-3)
    assert seeds_needed(effect * 1.001, 0.05) == 4 and seeds_needed(effect * 0.9, 0.05) == 5
    assert smallest_effect(0.05, 1) == float("inf") and seeds_needed(1e-4, 1.0) is None
    assert smallest_effect(0.05, 3) > 0.1  # three seeds see twice their deviation, not once


def test_the_noise_floor_of_repeats_is_paired_and_that_of_seeds_is_not():
    """Bases differ much, repeats on one base little."""
    rng = np.random.default_rng(0)
    base = rng.normal(0.5, 0.2, 200)
    anchor = dict(enumerate(base + rng.normal(0, 0.02, 200)))
    again = dict(enumerate(base + rng.normal(0, 0.02, 200)))
    assert noise_floor(anchor, [again]).deviation == pytest.approx(0.02 * 2**0.5, rel=0.1)
    assert noise_floor(anchor, []).deviation == pytest.approx(2**0.5 * np.hypot(0.2, 0.02), rel=0.15)
    assert noise_floor({0: 1.0}, []) is None and noise_floor({0: 1.0}, [{0: 1.1}]) is None


def study(effect, noise=0.02, seeds=6, seed=0):
    """Arms on bases that differ much more than the effect."""
    rng = np.random.default_rng(seed)
    base = rng.normal(0.5, 0.2, seeds)
    make = lambda shift: dict(enumerate(base + shift + rng.normal(0, noise, seeds)))
    return {"anchor": make(0.0), "change": make(effect), "none": make(0.0)}, make(0.0)


def all_of(values) -> dict[str, str]:
    """Every arm against one anchor."""
    return {arm: "anchor" for arm in values if arm != "anchor"}


def test_an_arm_is_compared_with_its_own_anchor():
    """Two sizes, each with a treatment: the difference of sizes is in none of the comparisons, and Holm counts both."""
    rng = np.random.default_rng(0)
    values = {
        f"{kind}_{size}": {seed: level + gain + rng.normal(0, 0.01) for seed in range(5)}
        for size, level in (("small", 0.2), ("large", 0.7)) for kind, gain in (("sft", 0.0), ("srl", 0.1))
    }  # fmt: skip
    noise = Noise(deviation=0.01, count=5, source="made")
    own = compare_arms(values, {f"srl_{size}": f"sft_{size}" for size in ("small", "large")}, noise, smallest=0.05)
    assert [(c.arm, c.against, c.verdict) for c in own] == [
        ("srl_small", "sft_small", "better"), ("srl_large", "sft_large", "better")
    ]  # fmt: skip
    assert all(c.difference.value == pytest.approx(0.1, abs=0.02) for c in own)
    assert max(c.corrected for c in own) <= 2 * max(c.difference.p for c in own)
    wrong = compare_arms(values, {"srl_small": "sft_large"}, noise, smallest=0.05)
    assert wrong[0].verdict == "worse"


def test_swapped_labels_flip_the_verdict():
    values, again = study(0.15)
    noise = noise_floor(values["anchor"], [again])
    verdicts = lambda of: {c.arm: c for c in compare_arms(of, all_of(of), noise, smallest=0.1)}
    found = verdicts(values)
    assert found["change"].verdict == "better" and found["none"].verdict == "same"
    swapped = verdicts(values | {"anchor": values["change"], "change": values["anchor"]})
    assert swapped["change"].verdict == "worse"
    assert swapped["change"].difference.value == pytest.approx(-found["change"].difference.value)


def test_pairing_sees_what_unpaired_seeds_would_not():
    values, again = study(0.15)
    unpaired = stats.ttest_ind(list(values["change"].values()), list(values["anchor"].values())).pvalue
    (change, _) = compare_arms(values, all_of(values), noise_floor(values["anchor"], [again]), smallest=0.1)
    assert change.corrected < 0.01 < unpaired


def test_verdicts_below_the_noise_floor_are_refused():
    """By luck three differences agree to a hair; the anchor's repeats say that chance does more than that."""
    values = {"anchor": {0: 0.5, 1: 0.6, 2: 0.7}, "lucky": {0: 0.53, 1: 0.631, 2: 0.7305}}
    again = {0: 0.55, 1: 0.55, 2: 0.74}
    (found,) = compare_arms(values, all_of(values), noise_floor(values["anchor"], [again]), smallest=0.1)
    assert found.corrected < 0.05 and found.verdict == "refused" and "least that so many seeds" in found.reason
    (found,) = compare_arms(values, all_of(values), None, smallest=0.1)
    assert found.verdict == "refused" and "no noise floor" in found.reason


def test_a_study_too_small_says_how_many_seeds_it_needs():
    values, again = study(0.05, noise=0.08, seeds=3, seed=3)
    noise = noise_floor(values["anchor"], [again])
    found = {c.arm: c for c in compare_arms(values, all_of(values), noise, smallest=0.05)}
    assert found["change"].verdict in ("undecided", "refused") and found["change"].seeds_needed > 10
    one = compare_arms({"anchor": {0: 1.0}, "change": {0: 2.0}}, {"change": "anchor"}, noise, smallest=0.05)
    assert one[0].verdict == "refused" and "two paired seeds" in one[0].reason


def test_a_small_but_certain_effect_is_said_to_be_small():
    sure = Interval(value=0.05, low=0.04, high=0.12, p=1e-6)
    kind, reason = judge(sure, 1e-6, 0.03, 0.1)
    assert kind == "better" and "less than the 0.1" in reason


def test_only_seeds_that_both_have_are_compared():
    (found,) = compare_arms(
        {"anchor": {0: 0.1, 1: 0.2, 2: 0.3}, "b": {1: 0.3, 2: 0.4, 9: 9.0}}, {"b": "anchor"}, None, smallest=0.1
    )
    assert found.seeds == (1, 2) and found.difference.value == pytest.approx(0.1)
