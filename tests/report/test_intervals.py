from xml.etree import ElementTree

from jaxsrl.report.intervals import Estimate, interval_chart, ticks_apart
from jaxsrl.report.scale import Axis, ticks
from jaxsrl.report.svg import LETTER


def test_rows_show_value_interval_and_baselines():
    rows = [Estimate(name="sft", index=0, value=0.3, low=0.2, high=0.4), Estimate(name="srl", index=1, value=0.6)]
    svg = ElementTree.fromstring(interval_chart("actions/exact", rows, [("other problem", 0.1)]))
    classes = [e.get("class") for e in svg.iter("path")]
    assert classes.count("whisker") == 1 and classes.count("baseline") == 1
    assert [t.text for t in svg.iter("text") if t.get("class") == "figure"] == ["30.0 %", "60.0 %"]
    assert "sft 30.0 % (20.0 % to 40.0 %); srl 60.0 %; baseline other problem 10.0 %" in svg.get("aria-label")


def test_more_is_further_right_and_zero_is_on_the_axis():
    svg = ElementTree.fromstring(interval_chart("actions/similarity", [
        Estimate(name=str(i), index=0, value=v) for i, v in enumerate((0.0, 0.4, 0.9))]))  # fmt: skip
    dots = [float(c.get("cx")) for c in svg.iter("circle") if c.get("r") == "4.4"]
    assert dots == sorted(dots) and dots[0] > 20
    assert any(t.text == "0.0" for t in svg.iter("text"))


def test_all_zero_is_a_chart():
    ElementTree.fromstring(interval_chart("direct/answer", [Estimate(name="x", index=-1, value=0.0)]))


def test_labels_of_the_axis_leave_room_between_them():
    """As in a chart whose intervals reach from 0 to a half: six labels in percent would touch."""
    for high, share in ((0.53, True), (1.0, True), (0.071, True), (0.86, False), (12345.0, False), (3e-7, False)):
        x = Axis(0.0, high, 34 + 13 * LETTER, 222.0)
        labelled = ticks_apart(x, share=share)
        assert len(labelled) >= 2
        for (a, left), (b, right) in zip(labelled, labelled[1:], strict=False):
            assert x(b) - x(a) >= LETTER * (len(left) + len(right)) / 2
    crowded = Axis(0.0, 0.53, 34 + 4 * LETTER, 222.0)  # the control: what 4 ticks asked for would be
    places = ticks(0.0, 0.53, 4)
    assert crowded(places[1]) - crowded(places[0]) < LETTER * len("20 %") + LETTER
