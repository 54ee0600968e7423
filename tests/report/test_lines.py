import re
from xml.etree import ElementTree

from jaxsrl.report.lines import Series, describe, line_chart


def series(name="srl", index=0, values=(0.0, 1.0), steps=None, **bounds):
    return Series(name=name, index=index, step=steps or tuple(range(len(values))), value=tuple(values), **bounds)


def test_points_lie_where_the_axes_say():
    svg = ElementTree.fromstring(line_chart("some/score", [series(values=(2.0, 4.0, 3.0))]))
    path = next(p for p in svg.iter("path") if p.get("class") == "line").get("d")
    (x0, y0), (x1, y1), (x2, y2) = (map(float, p.split()) for p in path[1:].split("L"))
    left, right, low_x, high_x = map(float, svg.get("data-x").split(","))
    bottom, top, low, high = map(float, svg.get("data-y").split(","))
    value = lambda y: low + (y - bottom) / (top - bottom) * (high - low)
    assert (x0, x2, low_x, high_x) == (left, right, 0, 2) and abs(x1 - (left + right) / 2) < 0.1
    assert [round(value(y), 2) for y in (y0, y1, y2)] == [2.0, 4.0, 3.0]
    assert y1 < y2 < y0  # up is more


def test_names_at_line_ends_do_not_lie_on_each_other():
    lines = [series(name=f"stage{i}", index=i, values=(0.0, 0.5 + 1e-4 * i)) for i in range(5)]
    svg = ElementTree.fromstring(line_chart("actions/exact", lines))
    places = sorted(float(t.get("y")) for t in svg.iter("text") if "name" in t.get("class", ""))
    assert len(places) == 5 and all(b - a >= 11.9 for a, b in zip(places, places[1:], strict=False))
    assert places[-1] <= 170


def test_many_values_are_smoothed_and_few_are_not():
    assert series(values=(1.0,) * 29).window == 1 and series(values=(1.0,) * 400).window == 23
    noisy = line_chart("x/y", [series(values=[i % 2 for i in range(400)])])
    assert 'class="raw"' in noisy and 'class="raw"' not in line_chart("x/y", [series()])


def test_values_beyond_the_axis_are_counted():
    values = [1.0 + 0.01 * (i % 7) for i in range(100)] + [500.0, 600.0]
    assert "2 beyond the axis" in line_chart("grad/norm", [series(values=values)])
    assert "beyond" not in line_chart("grad/norm", [series(values=values[:100])])


def test_a_band_is_drawn_where_bounds_are():
    svg = line_chart("actions/exact", [series(low=(0.0, 0.8), high=(0.1, 1.0))])
    assert svg.count('class="band"') == 1 and len(re.findall("L", re.search(r'd="([^"]*)Z"', svg)[1])) == 3


def test_one_point_is_a_chart():
    ElementTree.fromstring(line_chart("loss", [series(values=(3.0,), steps=(1,))]))


def test_the_description_says_it_in_words():
    said = describe("actions/exact", [series(values=(0.1, 0.5), steps=(0, 20))])
    assert said == "actions/exact over optimizer steps: srl from 10.0 % at step 0 to 50.0 % at step 20"
