"""Charts, read back from their SVG."""

import re
from xml.etree import ElementTree

import pytest
from pydantic import ValidationError

from benchmarks import plot as module
from benchmarks.plot import Plot, drawn

SVG = "{http://www.w3.org/2000/svg}"


def a_plot(**changes):
    values = {
        "name": "error",
        "title": "Error & step",
        "x_label": "step",
        "y_label": "error <1>",
        "series": {"one": [(0, 0.1), (1000, 0.4)], "two": [(500, 0.2)]},
    }
    return Plot.model_validate(values | changes)


def _ticks(root, anchor):
    """Returns (place, value) of the labels that hold numbers."""
    found = []
    for text in root.iter(f"{SVG}text"):
        if text.get("text-anchor") == anchor and re.fullmatch(
            r"-?[\d.,e+-]+", text.text
        ):
            place = float(text.get("x" if anchor == "middle" else "y"))
            found.append((place, float(text.text.replace(",", ""))))
    return found


def check_dots_stand_where_the_axes_say(draw):
    root = ElementTree.fromstring(draw(a_plot()))
    (x0, a), (x1, b) = (_ticks(root, "middle")[i] for i in (0, -1))
    (y0, c), (y1, d) = (_ticks(root, "end")[i] for i in (0, -1))
    assert (a, b) == (0, 1000)
    assert c == 0 and d >= 0.4
    dots = [
        (float(dot.get("cx")), float(dot.get("cy")))
        for dot in root.iter(f"{SVG}circle")
    ]
    for place, (x, y) in zip(dots, [(0, 0.1), (1000, 0.4), (500, 0.2)], strict=True):
        expected_x = x0 + (x - a) / (b - a) * (x1 - x0)
        expected_y = (y0 - 4) + (y - c) / (d - c) * (y1 - y0)
        assert place == pytest.approx((expected_x, expected_y), abs=0.2)


def upside_down(plot):
    return re.sub(
        r'cy="([\d.]+)"', lambda m: f'cy="{408 - float(m[1]):.1f}"', drawn(plot)
    )


def by_number(plot):
    series = {
        label: [(1000 * i, y) for i, (_, y) in enumerate(line)]
        for label, line in plot.series.items()
    }
    return drawn(plot.model_copy(update={"series": series}))


def test_dots_stand_where_the_axes_say():
    check_dots_stand_where_the_axes_say(drawn)


@pytest.mark.parametrize("wrong", [upside_down, by_number])
def test_checker_of_dots_rejects(wrong):
    with pytest.raises(AssertionError):
        check_dots_stand_where_the_axes_say(wrong)


def test_texts_are_those_of_the_plot():
    root = ElementTree.fromstring(drawn(a_plot()))
    texts = {text.text for text in root.iter(f"{SVG}text")}
    assert {"Error & step", "step", "error <1>", "one", "two"} <= texts


def test_logarithmic_axes_have_powers_of_ten():
    series = {"pareto": [(3.0, 200.0), (40.0, 2000.0)]}
    root = ElementTree.fromstring(drawn(a_plot(series=series, log_x=True, log_y=True)))
    assert [value for _, value in _ticks(root, "middle")] == [1, 10, 100]
    assert [value for _, value in _ticks(root, "end")] == [100, 1000, 10000]


@pytest.mark.parametrize("values", [[0.0], [5.0, 5.0], [-3.0, 7.0], [1e-6, 2e-6]])
def test_ticks_lie_around_all_values(values):
    ticks = module._ticks(values, log=False)
    assert ticks[0] <= min(values) and max(values) <= ticks[-1]
    assert 2 <= len(ticks) <= 8


@pytest.mark.parametrize(
    "changes",
    [{"name": "../x"}, {"series": {}}, {"series": {"a": [(0, float("nan"))]}}],
)
def test_bad_plots_are_refused(changes):
    with pytest.raises(ValidationError):
        a_plot(**changes)
