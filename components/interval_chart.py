"""A chart of estimates with their intervals, one below the other."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from components.chart_image import COLOURS

_TEXT, _GRID, _REFERENCE = "#333333", "#e4e4e4", "#999999"
_WIDTH, _ROW, _TOP, _BOTTOM, _RIGHT = 460, 26, 44, 48, 24


@dataclasses.dataclass(frozen=True)
class Bar:
    """One estimate.

    Attributes:
        label: on its left.
        value: a dot.
        low, high: the ends of its line.
        group: estimates of one group have one colour.
    """

    label: str
    value: float
    low: float
    high: float
    group: int = 0


def interval_chart(
    title: str, x_label: str, bars: Sequence[Bar], reference: float | None = None
) -> np.ndarray:
    """Draws estimates as dots on the lines of their intervals.

    Args:
        title: above the chart.
        x_label: below it.
        bars: from the top down, at least one.
        reference: a value to hold them against, as a line from top to bottom.

    Returns:
        [height, width, 3] uint8.
    """
    ends = [end for bar in bars for end in (bar.low, bar.high)]
    ticks = round_ticks(ends + ([] if reference is None else [reference]))
    font, title_font = ImageFont.load_default(13), ImageFont.load_default(15)
    left = 24 + max(int(font.getlength(bar.label)) for bar in bars)
    width = max(left + _WIDTH + _RIGHT, int(title_font.getlength(title)) + 16)
    image = Image.new("RGB", (width, _TOP + _ROW * len(bars) + _BOTTOM), "white")
    draw = ImageDraw.Draw(image)
    bottom = _TOP + _ROW * len(bars)

    def place(value: float) -> float:
        return left + (value - ticks[0]) / (ticks[-1] - ticks[0]) * _WIDTH

    for tick in ticks:
        draw.line([(place(tick), _TOP), (place(tick), bottom)], _GRID)
        draw.text((place(tick), bottom + 6), f"{tick:g}", _TEXT, font, "ma")
    if reference is not None:
        draw.line([(place(reference), _TOP), (place(reference), bottom)], _REFERENCE, 2)
    for number, bar in enumerate(bars):
        y = _TOP + (number + 0.5) * _ROW
        colour = COLOURS[bar.group % len(COLOURS)]
        draw.text((left - 12, y), bar.label, _TEXT, font, "rm")
        draw.line([(place(bar.low), y), (place(bar.high), y)], colour, 2)
        draw.circle((place(bar.value), y), 4, colour)
    draw.text((8, 8), title, _TEXT, title_font)
    draw.text((left + _WIDTH / 2, bottom + 24), x_label, _TEXT, font, "ma")
    return np.asarray(image)


def round_ticks(values: Sequence[float]) -> list[float]:
    """Returns two or more round numbers, the first and last around all values."""
    low, high = min(values), max(values)
    rough = (high - low or abs(high) or 1.0) / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return [round(step * number, 12) for number in range(first, last + 1)]
