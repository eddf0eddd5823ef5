"""Line charts as SVG, drawn by hand so that one result always gives the same file."""

import math
from collections.abc import Callable
from xml.sax.saxutils import escape

from pydantic import BaseModel, ConfigDict, Field

_WIDTH, _HEIGHT = 800, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 230, 40, 52  # the legend stands on the right
# Okabe and Ito's, which the colour-blind tell apart, without their yellow.
_COLOURS = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000"),
)
_TEXT = 'font-family="sans-serif" font-size="12" fill="#333"'


class Plot(BaseModel):
    """A chart of a result, as it stands in the result's `data["plots"]`."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    name: str = Field(pattern=r"^[a-z0-9_]+$")  # of its file
    title: str
    x_label: str
    y_label: str
    series: dict[str, list[tuple[float, float]]] = Field(min_length=1)  # by label
    log_x: bool = False
    log_y: bool = False


def drawn(plot: Plot) -> str:
    """Returns the chart as the text of an SVG file."""
    points = [point for line in plot.series.values() for point in line]
    x_ticks = _ticks([x for x, _ in points], plot.log_x)
    y_ticks = _ticks([y for _, y in points] + [0.0] * (not plot.log_y), plot.log_y)
    x_of = _scale(x_ticks, _LEFT, _WIDTH - _RIGHT, plot.log_x)
    y_of = _scale(y_ticks, _HEIGHT - _BOTTOM, _TOP, plot.log_y)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'width="{_WIDTH}" height="{_HEIGHT}" role="img">',
        f"<title>{escape(plot.title)}</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        _label(_LEFT, 24, plot.title, "start", 'font-weight="bold"'),
        *_grid(x_ticks, y_ticks, x_of, y_of),
        _label((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 12, plot.x_label, "middle"),
        _label(
            *(16, (_TOP + _HEIGHT - _BOTTOM) / 2, plot.y_label, "middle"),
            f'transform="rotate(-90 16 {(_TOP + _HEIGHT - _BOTTOM) / 2:g})"',
        ),
    ]
    for number, (label, line) in enumerate(plot.series.items()):
        parts += _line(number, label, [(x_of(x), y_of(y)) for x, y in line])
    return "\n".join([*parts, "</svg>"]) + "\n"


def _grid(x_ticks, y_ticks, x_of, y_of) -> list[str]:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = []
    for tick in x_ticks:
        parts.append(_stroke([(x_of(tick), _TOP), (x_of(tick), bottom)], "#e4e4e4"))
        parts.append(_label(x_of(tick), bottom + 18, f"{tick:,g}", "middle"))
    for tick in y_ticks:
        parts.append(_stroke([(_LEFT, y_of(tick)), (right, y_of(tick))], "#e4e4e4"))
        parts.append(_label(_LEFT - 8, y_of(tick) + 4, f"{tick:,g}", "end"))
    return parts


def _line(number: int, label: str, places: list[tuple[float, float]]) -> list[str]:
    colour = _COLOURS[number % len(_COLOURS)]
    dash = "" if number < len(_COLOURS) else ' stroke-dasharray="6 4"'
    dots = [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>'
        for x, y in places
    ]
    left, height = _WIDTH - _RIGHT + 14, _TOP + 8 + 20 * number
    return [
        _stroke(places, colour, f' stroke-width="2"{dash}'),
        *dots,
        _stroke(
            [(left, height), (left + 22, height)], colour, f' stroke-width="2"{dash}'
        ),
        _label(left + 28, height + 4, label, "start"),
    ]


def _stroke(places: list[tuple[float, float]], colour: str, more: str = "") -> str:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return f'<polyline points="{points}" fill="none" stroke="{colour}"{more}/>'


def _label(x: float, y: float, text: str, anchor: str, more: str = "") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f"<text {place} {_TEXT}{more and ' ' + more}>{escape(text)}</text>"


def _scale(
    ticks: list[float], begin: float, end: float, log: bool
) -> Callable[[float], float]:
    measure = math.log10 if log else float
    low, high = measure(ticks[0]), measure(ticks[-1])
    return lambda value: begin + (measure(value) - low) / (high - low) * (end - begin)


def _ticks(values: list[float], log: bool) -> list[float]:
    """Returns two or more round numbers, the first and last around all values."""
    if log:
        low = math.floor(math.log10(min(values)))
        high = max(math.ceil(math.log10(max(values))), low + 1)
        return [10.0**power for power in range(low, high + 1)]
    low, high = min(values), max(values)
    rough = (high - low or abs(high) or 1.0) / 5
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return [round(step * number, 12) for number in range(first, last + 1)]
