"""Chosen demonstrations are those that the bands, buckets and ranks name; profiles go where their rollouts were."""

import json

import numpy as np
import pytest

from jaxsrl.data.actions import Splitter
from jaxsrl.data.curation import Curation, bucket, curate, pass_rate, profiled
from jaxsrl.data.demonstrations import Fields, read
from jaxsrl.objectives.pivot import PivotRL
from jaxsrl.types import Demonstration

MANY = tuple(
    Demonstration(problem_id=str(i), problem=f"p{i}", actions=("ab",) * (1 + i % 4), quality=float((i * 7) % 10))
    for i in range(40)
)


def lines(rates, samples=8, branch=0):
    """Rollout lines in which problem i is right in rates[i] of 8."""
    return [
        {"problem": str(i), "branch": branch, "reward": float(s < right)}
        for i, right in enumerate(rates)
        for s in range(samples)
    ]


def names(chosen):
    return [int(d.problem_id) for d in chosen]


def test_bands_and_counts():
    assert names(curate(MANY, Curation(actions=(2, 3)))) == [i for i in range(40) if 2 <= 1 + i % 4 <= 3]
    assert names(curate(MANY, Curation(characters=(8, 99)))) == [i for i in range(40) if i % 4 == 3]
    best = curate(MANY, Curation(count=8, by="quality"))
    assert len(best) == 8 and {d.quality for d in best} == {8.0, 9.0} and names(best) == sorted(names(best))
    some = curate(MANY, Curation(count=10))
    assert names(some) == names(curate(MANY, Curation(count=10))) != names(curate(MANY, Curation(count=10, seed=1)))
    assert set(names(some)) <= set(names(curate(MANY, Curation(count=20))))  # more of the same draw
    assert curate(MANY, Curation()) == MANY


def test_pass_rates_of_the_start_policy():
    rates = [0, 1, 2, 6, 7, 8] + [0] * 34
    known = profiled(MANY, lines(rates))
    assert [pass_rate(d) for d in known[:6]] == [0, 1 / 8, 2 / 8, 6 / 8, 7 / 8, 1]
    kept = lambda **settings: names(curate(known[:6], Curation(profile="before", **settings)))
    assert kept(pass_rate=(0.125, 0.75)) == [1, 2, 3]
    assert [kept(bucket=b) for b in ("hard", "medium", "easy")] == [[0], [1, 2], [3, 4, 5]]
    later = profiled(known[:6], lines([8, 0, 0, 0, 0, 0]))  # bucketed again by what a later stage found
    assert [bucket(pass_rate(d)) for d in later] == ["easy"] + ["hard"] * 5
    assert curate(profiled(MANY, lines([1] * 3)), Curation(profile="x", bucket="medium"))[0].profile is not None
    assert pass_rate(profiled(MANY, lines([1] * 3))[39]) is None  # never drawn, in no bucket


def test_an_empty_choice_says_where_it_went():
    known = profiled(MANY, lines([8] * 40))
    with pytest.raises(ValueError, match="given 40, actions 10, bucket 0"):
        curate(known, Curation(profile="x", actions=(2, 2), bucket="hard"))
    with pytest.raises(ValueError, match="quality"):
        curate((Demonstration(problem_id="p", problem="x", actions=("a",)),), Curation(count=1, by="quality"))
    with pytest.raises(ValueError, match="same data"):
        profiled(MANY, [{"problem": "other", "branch": 0, "reward": 1.0}])
    with pytest.raises(ValueError, match="tell them apart"):
        profiled((MANY[0], MANY[0]), lines([1]))
    with pytest.raises(ValueError, match="need profile"):
        Curation(pass_rate=(0, 0.5))


def test_pivots_are_where_rewards_differ():
    six = Demonstration(problem_id="0", problem="x", actions=tuple("abcdef"))
    table = {0: [1, 1, 1, 1], 1: [0, 1, 0, 1], 2: [0, 0, 0, 0], 3: [1, 0, 0, 0], 4: [1, 1, 0, 0]}
    rows = [{"problem": "0", "branch": k, "reward": r} for k, some in table.items() for r in some]
    (known,) = profiled((six,), rows)
    after = lambda d, **settings: [p.after for p in PivotRL(reward=None, **settings).branch_points(d, 0)]
    assert after(known) == [1, 4] and after(known, max_pivots=9) == [1, 3, 4] and after(known, max_pivots=1) == [1]
    assert after(known, max_pivots=9, min_std=float(np.std([1, 0, 0, 0]))) == [1, 4]
    flat = profiled((six,), [{"problem": "0", "branch": k, "reward": 1.0} for k in range(5)])
    assert after(flat[0]) == [] and after(six) == [0, 1, 2, 3, 4]


def test_quality_comes_from_a_field(tmp_path):
    path = tmp_path / "x.jsonl"
    rows = [{"problem": f"p{i}", "solution": "a\nb", "score": s} for i, s in enumerate([0.5, 2, "7", "good", None])]
    path.write_text("\n".join(map(json.dumps, rows)))
    loaded = read(path, Fields(quality="score"), Splitter(style="lines"), max_bad_share=0.5)
    assert [d.quality for d in loaded.demonstrations] == [0.5, 2.0, 7.0] and len(loaded.quarantine) == 2
    assert "score" in str(loaded.quarantine[0])
