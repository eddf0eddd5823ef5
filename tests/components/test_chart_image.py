"""Charts as images: lines and cells stand where their numbers say."""

import numpy as np
import pytest

from components import chart_image
from components.chart_image import LEFT, SIDE, TOP, Line, axis_ticks, heat_map

BLUE, ORANGE = (0, 114, 178), (213, 94, 0)


def pixels_of(image: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Returns [n, 2] x and y, in the square, of the pixels of a colour."""
    y, x = np.nonzero((image == colour).all(axis=-1))
    inside = (x >= LEFT) & (x <= LEFT + SIDE) & (y >= TOP) & (y <= TOP + SIDE)
    return np.stack([x[inside] - LEFT, TOP + SIDE - y[inside]], axis=1)


FLAT = Line("flat", np.array([[0.0, 0.25], [1.0, 0.25]]))
STEEP = Line("steep", np.array([[0.5, 0.0], [0.5, 1.0]]))


def check_chart(draw) -> None:
    image = draw("title", "x", "y", [FLAT, STEEP])
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    flat, steep = pixels_of(image, BLUE), pixels_of(image, ORANGE)
    assert np.abs(flat[:, 1] - SIDE / 4).max() <= 2
    assert flat[:, 0].min() <= 2 and flat[:, 0].max() >= SIDE - 2
    assert np.abs(steep[:, 0] - SIDE / 2).max() <= 2
    assert steep[:, 1].min() <= 2 and steep[:, 1].max() >= SIDE - 2
    # Half as large: the axes end at 0.5, and both lines are where they were.
    halved = [Line(line.label, line.points / 2) for line in (FLAT, STEEP)]
    assert np.array_equal(pixels_of(draw("title", "x", "y", halved), BLUE), flat)
    bars = np.array([[0.125, 0.5], [0.25, 0.25]])
    points = np.array([[0.25, 0.25], [1.0, 0.25]])
    barred = pixels_of(draw("t", "x", "y", [Line("l", points, bars), STEEP]), BLUE)
    column = barred[np.abs(barred[:, 0] - SIDE / 4) <= 1]
    assert abs(column[:, 1].min() - SIDE / 8) <= 2
    assert abs(column[:, 1].max() - SIDE / 2) <= 2


def _changed(change):
    def wrong(title, x_label, y_label, lines):
        moved = [
            Line(
                line.label,
                change(line.points),
                None if line.bars is None else line.bars,
            )
            for line in lines
        ]
        return chart_image.square_chart(title, x_label, y_label, moved)

    return wrong


def _no_bars(title, x_label, y_label, lines):
    bare = [Line(line.label, line.points) for line in lines]
    return chart_image.square_chart(title, x_label, y_label, bare)


def _upside_down(title, x_label, y_label, lines):
    image = chart_image.square_chart(title, x_label, y_label, lines).copy()
    square = image[TOP : TOP + SIDE + 1].copy()
    image[TOP : TOP + SIDE + 1] = square[::-1]
    return image


def _colours_swapped(title, x_label, y_label, lines):
    return chart_image.square_chart(title, x_label, y_label, lines[::-1])


def test_lines_and_bars_stand_where_their_numbers_say():
    check_chart(chart_image.square_chart)


@pytest.mark.parametrize(
    "wrong",
    [
        _changed(lambda points: points[:, ::-1]),
        _changed(lambda points: points**2),
        *(_no_bars, _upside_down, _colours_swapped),
    ],
)
def test_chart_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_chart(wrong)


def test_the_same_figures_are_the_same_picture():
    one, other = (
        chart_image.square_chart("title", "x", "y", [FLAT, STEEP]) for _ in range(2)
    )
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("high", "ticks"),
    [
        (1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.083, [0, 0.02, 0.04, 0.06, 0.08, 0.1]),
        (0.3, [0, 0.1, 0.2, 0.3]),
        (0.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
    ],
)
def test_axes_have_round_numbers(high, ticks):
    line = Line("line", np.array([[0.0, high]]))
    assert axis_ticks([line]) == pytest.approx(ticks)
    bars = Line("line", np.zeros([1, 2]), np.array([[0.0, high]]))
    assert axis_ticks([bars]) == pytest.approx(ticks)


def test_chart_without_a_point_has_its_axes():
    assert axis_ticks([]) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    empty = Line("nothing", np.zeros([0, 2]))
    image = chart_image.square_chart("title", "x", "y", [empty])
    assert len(pixels_of(image, BLUE)) == 0


VALUES = np.array([[0.0, 1.0, 0.25], [0.5, 0.0, 0.125]])


def cells_of(image: np.ndarray) -> np.ndarray:
    """Returns [R, C] the blue that each cell lacks, left and below of its number."""
    corner = image[TOP + 3 :: 28, :, 0].astype(int)[:2]
    left = image.shape[1] - 16 - 3 * 64
    return 255 - corner[:, left + 3 :: 64][:, :3]


def check_heat_map(draw) -> None:
    """The darkness of a cell is proportional to its value; rows and columns in order."""
    image = draw("t", ["one row of them", "two"], ["a", "b", "c"], VALUES)
    np.testing.assert_allclose(cells_of(image), 255 * VALUES, atol=1)


def test_cells_are_as_dark_as_their_values():
    check_heat_map(heat_map)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda t, rows, columns, values: heat_map(t, rows, columns, values[::-1]),
        lambda t, rows, columns, values: heat_map(t, rows, columns, values[:, ::-1]),
        lambda t, rows, columns, values: heat_map(t, rows, columns, values**2),
        lambda t, rows, columns, values: heat_map(t, rows, columns, 1 - values),
    ],
    ids=["rows swapped", "columns swapped", "squared", "inverse"],
)
def test_heat_map_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_heat_map(wrong)


def test_wide_title_and_values_out_of_range_are_drawn_all_the_same():
    image = heat_map("m" * 200, ["row"], ["a"], np.array([[1.5]]))
    assert image.shape[1] > 1000
    assert (image == BLUE).all(axis=-1).any()
