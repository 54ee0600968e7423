import pytest

from jaxsrl.report.scale import Axis, evenly, smooth, thin, tick_labels, ticks, value_domain


def test_axis_maps_ends_and_clamps():
    axis = Axis(0, 10, 100, 0)
    assert [axis(0), axis(2.5), axis(10), axis(99)] == [100, 75, 0, 0]
    assert axis.holds(10) and not axis.holds(10.1)


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [(0.0, 1.0, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]), (-0.04, 0.05, ["−0.04", "−0.02", "0.00", "0.02", "0.04"]),
     (0.0, 600.0, ["0", "200", "400", "600"]), (0.0, 3e-5, ["0", "1e-5", "2e-5", "3e-5"]),
     (0.0, 4e6, ["0", "1e6", "2e6", "3e6", "4e6"])],
)  # fmt: skip
def test_ticks_are_round_and_told_apart(low, high, labels):
    assert tick_labels(ticks(low, high, 4)) == labels


def test_step_ticks_are_whole():
    assert ticks(0, 2, 4, whole=True) == [0, 1, 2]


def test_shares_are_told_in_percent():
    assert tick_labels([0.0, 0.25, 0.5], percent=True) == ["0", "25", "50"]


def test_a_straight_line_stays_itself_under_smoothing_to_its_ends():
    points = [(i, 3.0 * i - 2) for i in range(50)]
    assert [v for _, v in smooth(points, 11, 1000)] == pytest.approx([v for _, v in points])
    mean_at_end = sum(v for _, v in points[-6:]) / 6
    assert abs(mean_at_end - points[-1][1]) > 1  # a plain mean would lag


def test_in_the_middle_smoothing_is_the_mean_of_neighbours():
    points = [(i, float(i % 2)) for i in range(9)]
    assert smooth(points, 5, 1000)[4] == pytest.approx((4, 0.4))
    assert len(smooth(points, 5, 4)) == 4


def test_thinning_keeps_spikes():
    points = [(i, 0.0) for i in range(5000)]
    points[1234], points[4321] = (1234, 9.0), (4321, -9.0)
    kept = thin(points, 100)
    assert len(kept) <= 100 and points[1234] in kept and points[4321] in kept
    assert kept == sorted(kept)


def test_evenly_keeps_the_ends():
    assert evenly(range(100), 3) == [0, 50, 99]
    assert evenly([1, 2], 3) == [1, 2]
    assert evenly(range(5), 1) == [0]


def test_a_few_outliers_do_not_flatten_the_rest():
    values = [1 + 0.01 * (i % 10) for i in range(200)]
    assert value_domain([*values, 1e6], share=False)[1] < 2
    assert value_domain([*values[:10], 1e6], share=False)[1] > 1e6  # of few values, none is an outlier


@pytest.mark.parametrize("value", [0.0, 1.0, -3.0, 1e-12, 1e140])
@pytest.mark.parametrize("share", [True, False])
def test_a_constant_has_an_axis_around_it(value, share):
    low, high = value_domain([value] * 3, share=share)
    assert low < high and low <= value <= high
    assert ticks(low, high, 4)


def test_shares_stay_within_0_and_1():
    assert value_domain([0.01, 0.99], share=True) == (0.0, 1.0)
