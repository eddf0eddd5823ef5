"""Results as files and as tables, and their targets."""

import json
import re

import pytest
from pydantic import ValidationError

from benchmarks.document import PAGE, PLOTS, drawn_plots, with_tables
from benchmarks.result import (
    RESULTS,
    Result,
    markdown_table,
    read_result,
    rows,
    text_table,
    write_result,
)
from benchmarks.targets import TARGETS, Target


def a_result(**changes):
    values = {
        "name": "ingest",
        "figures": {"other": 0.1234, "growth_10x": 12.0, "events_per_cpu_s": 65432.1},
        "intervals": {"growth_10x": (11.5, 12.5)},
        "versions": {"numpy": "2"},
        "data": {"records": 7},
        "seconds": 1.5,
    }
    return Result.model_validate(values | changes)


def test_written_result_reads_back_with_the_agreed_keys(tmp_path):
    result = a_result()
    path = write_result(result, tmp_path / "results")
    assert path.name == "ingest.json"
    assert read_result("ingest", tmp_path / "results") == result
    assert list(json.loads(path.read_text())) == [
        *("name", "figures", "intervals", "versions", "data", "seconds")
    ]


@pytest.mark.parametrize(
    "intervals",
    [{"growth_10x": (13, 14)}, {"unknown": (0, 1)}, {"growth_10x": (13, 1)}],
)
def test_interval_must_hold_its_figure(intervals):
    with pytest.raises(ValidationError, match="should be an interval around a figure"):
        a_result(intervals=intervals)


@pytest.mark.parametrize("figure", [float("nan"), float("inf")])
def test_figure_must_be_a_number(figure):
    with pytest.raises(ValidationError):
        a_result(figures={"growth_10x": figure}, intervals={})


def test_rows_stand_in_the_order_of_targets_and_say_which_were_missed():
    assert rows(a_result()) == [
        ("events_per_cpu_s", "65,432", "", ">= 25,000", "met"),
        ("growth_10x", "12", "11.5 to 12.5", "<= 11", "missed"),
        ("other", "0.123", "", "", ""),
    ]


def test_tables_hold_every_figure():
    result = a_result()
    assert "| `growth_10x` | 12 | 11.5 to 12.5 | <= 11 | missed |" in (
        markdown_table(result).splitlines()
    )
    assert len(text_table(result).splitlines()) == 4


@pytest.mark.parametrize(
    ("target", "met", "missed"),
    [
        (Target(at_least=3), 3, 2.99),
        (Target(at_most=11), 11, 11.01),
        (Target(above=1), 1.01, 1),
        (Target(below=0), -0.01, 0),
        (Target(near=0.2), 0.219, 0.221),
        (Target(near=0.2), 0.181, 0.179),
    ],
)
def test_target_says_what_meets_it(target, met, missed):
    assert target.is_met(met)
    assert not target.is_met(missed)


def test_every_target_names_a_bound():
    for targets in TARGETS.values():
        for target in targets.values():
            assert str(target)


PAGE_TEXT = "a\n\n<!-- results: ingest -->\nold\n<!-- end -->\n\nb\n"


def test_page_gets_the_table_between_its_marks(tmp_path):
    result = a_result()
    write_result(result, tmp_path)
    text = with_tables(PAGE_TEXT, tmp_path)
    assert text == (
        "a\n\n<!-- results: ingest -->\n\n"
        f"{markdown_table(result)}\n<!-- end -->\n\nb\n"
    )
    assert with_tables(text, tmp_path) == text


A_PLOT = {
    "name": "speed",
    "title": "Speed by size",
    "x_label": "size",
    "y_label": "speed",
    "series": {"ours": [[1, 2], [2, 3]]},
}


def test_page_links_to_the_plots_that_a_result_brings(tmp_path):
    write_result(a_result(data={"plots": [A_PLOT]}), tmp_path)
    text = with_tables(PAGE_TEXT, tmp_path)
    assert "\n\n![Speed by size](plots/ingest_speed.svg)\n\n<!-- end -->" in text
    assert with_tables(text, tmp_path) == text
    plots = drawn_plots(text, tmp_path)
    assert list(plots) == ["ingest_speed.svg"]
    assert "Speed by size" in plots["ingest_speed.svg"]


@pytest.mark.parametrize("show", [with_tables, drawn_plots])
def test_quick_results_do_not_get_on_the_page(show, tmp_path):
    write_result(a_result(data={"quick": True}), tmp_path)
    with pytest.raises(ValueError, match="without it first"):
        show(PAGE_TEXT, tmp_path)


@pytest.mark.parametrize("show", [with_tables, drawn_plots])
def test_page_says_where_no_full_run_is_on_file(show, tmp_path):
    text = with_tables(PAGE_TEXT, tmp_path)
    assert "<!-- results: ingest -->\nNo full run is on file.\n<!-- end -->" in text
    assert show(text, tmp_path) == (text if show is with_tables else {})


def test_page_shows_every_result_on_file():
    text = PAGE.read_text()
    shown = set(re.findall(r"<!-- results: (\w+) -->", text))
    assert {path.stem for path in RESULTS.glob("*.json")} <= shown
    is_up_to_date = with_tables(text) == text  # the difference would be the page
    assert is_up_to_date, "run `python -m benchmarks.document`"
    plots = {path.name: path.read_text() for path in PLOTS.glob("*.svg")}
    is_up_to_date = plots == drawn_plots(text)
    assert is_up_to_date, "run `python -m benchmarks.document`"
