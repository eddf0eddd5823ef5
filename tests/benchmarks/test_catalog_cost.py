"""The growth of cost is that of the figures, and the plots show them."""

import pytest

from benchmarks.catalog_cost import Scale, exponent, plots
from benchmarks.plot import Plot


@pytest.mark.parametrize(
    ("ms", "expected"),
    [
        ({1_000: 1.0, 1_000_000: 1_000.0}, 1.0),
        ({1_000: 2.0, 10_000: 9.0, 1_000_000: 2.0}, 0.0),
        ({1_000_000: 10.0, 10_000: 1.0}, 0.5),
    ],
)
def test_exponent_is_one_where_cost_grows_with_the_catalogue(ms, expected):
    assert exponent(ms) == pytest.approx(expected)


def test_plots_hold_each_catalogue_and_number_of_candidates():
    scale = Scale((10, 100), (50,), 100)
    names = ("ms_10", "ms_100", "ms_exact_10", "ms_exact_100", "ms_c50", "ms_c200")
    figures = {name: float(place) for place, name in enumerate(names, start=1)}
    by_items, by_candidates = (Plot.model_validate(x) for x in plots(figures, scale))
    assert by_items.series["recommender"] == [(10, 1), (100, 2)]
    assert by_items.series["recommender_exact"] == [(10, 3), (100, 4)]
    assert by_candidates.series["recommender"] == [(50, 5), (200, 6)]
