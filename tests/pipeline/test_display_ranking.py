"""What `tandem run` says of ranking: the ranker beside what it must be better than."""

import io

import pytest
from rich.console import Console

from pipeline.display import show_figures

ROW = {
    "auc": 0.75,
    "auc_interval": [0.7, 0.8],
    "gauc": 0.625,
    "logloss": 0.5,
    "calibration": 1.25,
    "rows_without_prediction": 0,
}
RANKING = {
    "test": {"rows": 12_345, "users": 90},
    "hpmn": ROW,
    "constant": ROW | {"auc": 0.5},
    "popularity": ROW | {"auc": 0.625},
    "last_release": {"rows_without_prediction": 0, "logloss": 0.375},
    "gain": {"constant": {"auc": [0.1, 0.2]}},
    "tfma": {"auc": 0.75, "logloss": 0.5, "slices": {}},
}


def shown(figures: dict) -> list[str]:
    """Returns the lines printed, each with single spaces and without the frame."""
    console = Console(file=io.StringIO(), width=160)
    show_figures(console, figures)
    lines = console.file.getvalue().translate(str.maketrans("│┃", "  ")).splitlines()
    return [" ".join(line.split()) for line in lines]


def check_lines(figures: dict) -> None:
    lines = shown({"ranking": figures})
    assert lines[0] == "Ranking: 12,345 test rows of 90 users (95 % intervals)"
    models = [line for line in lines if line.split(" ")[0] in RANKING]
    assert models == [
        "hpmn 0.750 (0.700 to 0.800) 0.625 0.500 1.250",
        "last_release 0.375",  # of one class, say: what is not known is not shown
        "popularity 0.625 (0.700 to 0.800) 0.625 0.500 1.250",
        "constant 0.500 (0.700 to 0.800) 0.625 0.500 1.250",
    ]
    assert any("auc" in line and "gauc" in line for line in lines)


def test_ranker_of_any_name_stands_before_the_baselines():
    check_lines(RANKING)
    check_lines(RANKING | ROW)  # as a run's report has them, the ranker's on top


@pytest.mark.parametrize(
    "wrong",
    [
        {"hpmn": ROW | {"auc": 0.7}},
        {"tfma": ROW},
        {"last_release": ROW},
        {"test": {"rows": 1, "users": 1}},
    ],
)
def test_line_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_lines(RANKING | wrong)


def test_run_without_test_rows_shows_no_table():
    assert shown({"ranking": {"test": {"rows": 0, "users": 0}}}) == []
