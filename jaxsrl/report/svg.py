"""Pieces of the charts: coordinates, and the shape and colour of a stage.

Colours come from the page's style by the class `s0`, `s1`, … of a stage; every stage also has a shape of its own, so
no chart needs colour to be read.
"""

from jaxsrl.report.html import Html, tag

LETTER = 6.4  # pixels a letter takes at the charts' font size of 11, at most
COLOURS = 6


def at(value: float) -> str:
    """A coordinate, to a tenth of a pixel."""
    return f"{value:.1f}".removesuffix(".0")


def shape(index: int, x: float, y: float, size: float = 3.6) -> Html:
    """The mark of a stage: circle, square, triangle, diamond, and so on in turn."""
    kind = index % 4
    if kind == 0:
        return tag("circle", cx=at(x), cy=at(y), r=at(size), class_="mark")
    if kind == 1:
        return tag("rect", x=at(x - size + 0.4), y=at(y - size + 0.4), width=at(2 * size - 0.8),
                   height=at(2 * size - 0.8), class_="mark")  # fmt: skip
    corners = [(0, -1.2), (1.15, 0.9), (-1.15, 0.9)] if kind == 2 else [(0, -1.35), (1.35, 0), (0, 1.35), (-1.35, 0)]
    points = " ".join(f"{at(x + size * dx)},{at(y + size * dy)}" for dx, dy in corners)
    return tag("polygon", points=points, class_="mark")


def stage_class(index: int) -> str:
    """Class that colours a stage; -1 is the model before the first stage."""
    if index < 0:
        return "start"
    return f"s{index % COLOURS}" + (" dashed" if index >= COLOURS else "")


def short(name: str) -> str:
    """A stage's name as it fits into a chart."""
    return name if len(name) <= 13 else name[:12] + "…"


def svg(size: tuple[int, int], label: str, *body: Html, **attributes: object) -> Html:
    """A chart with its description for readers who do not see it; `size` in pixels at scale 1."""
    return tag("svg", *body, viewBox=f"0 0 {size[0]} {size[1]}", role="img", aria_label=label, **attributes)
