"""The report over the spans of a log: recall and cost, continued and from scratch.

One file of HTML, complete in itself, without a script, as the data report is.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from components.data_report.page import environment

WIDTH, HEIGHT = 640, 240  # of a chart, in CSS pixels
LEFT, BOTTOM = 56, 26  # margins for what the axes say
_TEMPLATE = "spans.html.jinja"
_NUM_TICKS = 4
_LABELS = {"continued": "continued", "from_scratch": "retrained from scratch"}
_MAX_SPAN_LABELS = 12


@dataclasses.dataclass(frozen=True)
class Point:
    """One run: trained through the span before, tested on this one."""

    span: str
    passed: bool
    events: int
    recall: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    rows: int
    seconds: float
    cpu_seconds: float


@dataclasses.dataclass(frozen=True)
class Line:
    """The runs of one way of training, oldest first."""

    name: str
    points: Sequence[Point]

    @property
    def label(self) -> str:
        return _LABELS.get(self.name, self.name)


@dataclasses.dataclass(frozen=True)
class Mark:
    """A point on paper, and the ends of its interval."""

    x: float
    y: float
    low: float
    high: float
    title: str


@dataclasses.dataclass(frozen=True)
class Chart:
    """One figure of all lines over the spans.

    Attributes:
        title: what is drawn.
        marks: of each line, by its name.
        ticks: (y, text) of the vertical axis.
        spans: (x, text) of the horizontal one.
    """

    title: str
    marks: Mapping[str, Sequence[Mark]]
    ticks: Sequence[tuple[float, str]]
    spans: Sequence[tuple[float, str]]


def render(name: str, lines: Sequence[Line]) -> str:
    """Returns the page.

    Args:
        name: of the config.
        lines: at least one, each with at least one point.
    """
    names = list(lines[0].points[0].recall)
    charts = [recall_chart(lines, recall) for recall in names]
    return (
        environment()
        .get_template(_TEMPLATE)
        .render(
            name=name,
            lines=lines,
            charts=[*charts, cost_chart(lines)],
            recalls=names,
            total={line.name: total_cost(line) for line in lines},
            sizes={"width": WIDTH, "height": HEIGHT, "left": LEFT, "bottom": BOTTOM},
        )
    )


def recall_chart(lines: Sequence[Line], name: str) -> Chart:
    """Returns the chart of one recall, with its intervals."""
    values = {
        line.name: [
            (point.span, point.recall[name], *point.intervals[name])
            for point in line.points
        ]
        for line in lines
    }
    return _chart(name, values, "{:.3f}")


def cost_chart(lines: Sequence[Line]) -> Chart:
    """Returns the chart of the CPU seconds that each training took."""
    values = {
        line.name: [(point.span, *[point.cpu_seconds] * 3) for point in line.points]
        for line in lines
    }
    return _chart("CPU seconds of training", values, "{:.0f}")


def total_cost(line: Line) -> float:
    """Returns the CPU seconds of all runs of a line."""
    return sum(point.cpu_seconds for point in line.points)


def _chart(
    title: str,
    values: Mapping[str, Sequence[tuple[str, float, float, float]]],
    form: str,
) -> Chart:
    """Draws (span, value, low, high) of each line from 0 up, on one scale."""
    spans: list[str] = []
    for line in sorted(values.values(), key=len, reverse=True):
        spans += [span for span, *_ in line if span not in spans]
    top = max(high for line in values.values() for *_, high in line) * 1.05 or 1.0
    step = (WIDTH - LEFT) / len(spans)

    def x(span: str) -> float:
        return round(LEFT + step * (spans.index(span) + 0.5), 1)

    def y(value: float) -> float:
        return round((HEIGHT - BOTTOM) * (1 - value / top), 1)

    marks = {
        name: [
            Mark(
                x(span),
                y(value),
                y(low),
                y(high),
                f"{_LABELS.get(name, name)}, {span}: {form.format(value)}",
            )
            for span, value, low, high in line
        ]
        for name, line in values.items()
    }
    ticks = [top / 1.05 * tick / _NUM_TICKS for tick in range(_NUM_TICKS + 1)]
    every = -(-len(spans) // _MAX_SPAN_LABELS)
    return Chart(
        title,
        marks,
        [(y(tick), form.format(tick)) for tick in ticks],
        [(x(span), span) for span in spans[::every]],
    )
