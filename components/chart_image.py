"""Charts as images: TensorBoard shows no SVG.

Drawn by Pillow, which TensorBoard brings along, so that one set of figures always gives
the same picture.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# Okabe and Ito's colours, which the colour-blind tell apart.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
SIDE = 480  # of the square that the lines are in
LEFT, TOP = 64, 64
_RIGHT, _BOTTOM = 200, 56  # the legend stands on the right
_TEXT, _GRID = "#333333", "#e4e4e4"
_CELL_WIDTH, _CELL_HEIGHT = 64, 28
_DARKEST = np.array([0, 114, 178])


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        label: in the legend.
        points: [n, 2] x and y, both 0 or more.
        bars: [n, 2] the lowest and highest y of each point; none are drawn without.
    """

    label: str
    points: np.ndarray
    bars: np.ndarray | None = None


def square_chart(
    title: str, x_label: str, y_label: str, lines: Sequence[Line]
) -> np.ndarray:
    """Draws lines over a square whose two axes are alike, and its diagonal.

    Args:
        title: above the chart.
        x_label: below it.
        y_label: above the vertical axis.
        lines: in the order of the legend; axes go from 0 to the largest of all.

    Returns:
        [height, width, 3] uint8.
    """
    ticks = axis_ticks(lines)
    size = (LEFT + SIDE + _RIGHT, TOP + SIDE + _BOTTOM)
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(13)

    def place(x: float, y: float) -> tuple[float, float]:
        return LEFT + x / ticks[-1] * SIDE, TOP + SIDE - y / ticks[-1] * SIDE

    for tick in ticks:
        draw.line([place(tick, 0), place(tick, ticks[-1])], _GRID)
        draw.line([place(0, tick), place(ticks[-1], tick)], _GRID)
        x, y = place(tick, 0)
        draw.text((x, y + 6), f"{tick:g}", _TEXT, font, "ma")
        x, y = place(0, tick)
        draw.text((x - 8, y), f"{tick:g}", _TEXT, font, "rm")
    draw.line([place(0, 0), place(ticks[-1], ticks[-1])], "#999999")
    draw.text((LEFT, 6), title, _TEXT, ImageFont.load_default(15))
    draw.text((8, TOP - 32), y_label, _TEXT, font)
    draw.text((LEFT + SIDE / 2, TOP + SIDE + 30), x_label, _TEXT, font, "ma")
    for number, line in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        _draw_line(draw, line, place, colour)
        x, y = LEFT + SIDE + 14, TOP + 8 + 20 * number
        draw.line([(x, y), (x + 22, y)], colour, 2)
        draw.text((x + 28, y), line.label, _TEXT, font, "lm")
    return np.asarray(image)


def _draw_line(draw: ImageDraw.ImageDraw, line: Line, place, colour: str) -> None:
    places = [place(x, y) for x, y in line.points.tolist()]
    draw.line(places, colour, 2)
    if line.bars is None:
        return
    for (x, y), (low, high) in zip(
        line.points.tolist(), line.bars.tolist(), strict=True
    ):
        draw.line([place(x, low), place(x, high)], colour)
        centre = place(x, y)
        draw.circle(centre, 3, colour)


def axis_ticks(lines: Sequence[Line]) -> list[float]:
    """Returns round numbers from 0 to the first at or above all values of the lines."""
    values = [line.points for line in lines]
    values += [line.bars for line in lines if line.bars is not None]
    high = max((float(part.max()) for part in values if part.size), default=1.0)
    if not high > 0:
        high = 1.0
    unit = 10.0 ** math.floor(math.log10(high / 5))
    step = next(unit * f for f in (1, 2, 5, 10) if unit * f * 5 >= high * (1 - 1e-9))
    count = math.ceil(high / step - 1e-9)
    return [round(step * number, 12) for number in range(count + 1)]


def heat_map(
    title: str, rows: Sequence[str], columns: Sequence[str], values: np.ndarray
) -> np.ndarray:
    """Draws a table of shares, the darker the larger.

    Args:
        title: above the table.
        rows: R labels.
        columns: C labels.
        values: [R, C] in [0, 1].

    Returns:
        [height, width, 3] uint8.
    """
    font = ImageFont.load_default(13)
    left = 16 + max(int(font.getlength(row)) for row in rows)
    title_font = ImageFont.load_default(15)
    width = max(left + _CELL_WIDTH * len(columns), int(title_font.getlength(title)))
    size = (width + 16, TOP + _CELL_HEIGHT * len(rows) + 8)
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    draw.text((8, 8), title, _TEXT, title_font)
    for number, column in enumerate(columns):
        centre = left + (number + 0.5) * _CELL_WIDTH
        draw.text((centre, TOP - 12), column, _TEXT, font, "mm")
    for number, row in enumerate(rows):
        top = TOP + number * _CELL_HEIGHT
        draw.text((8, top + _CELL_HEIGHT / 2), row, _TEXT, font, "lm")
        for place, value in enumerate(values[number].tolist()):
            x = left + place * _CELL_WIDTH
            colour = 255 - (255 - _DARKEST) * min(max(value, 0.0), 1.0)
            box = [x, top, x + _CELL_WIDTH - 2, top + _CELL_HEIGHT - 2]
            draw.rectangle(box, tuple(int(part) for part in colour))
            ink = "white" if value > 0.5 else _TEXT
            centre = (x + _CELL_WIDTH / 2, top + _CELL_HEIGHT / 2)
            draw.text(centre, f"{value:.2f}", ink, font, "mm")
    return np.asarray(image)
