"""What `tandem run` says of retrieval: each measured model, and what may be shown."""

import io
import json

import pytest
from rich.console import Console

from pipeline.display import show_figures

ROW = {
    "recall@10": 0.125,
    "recall@10_interval": [0.1, 0.15],
    "recall@50": 0.25,
    "recall@100": 0.5,
    "ndcg@10": 0.0625,
    "mrr": 0.375,
    "coverage@10": 0.5625,
    "coverage@100": 0.75,
    "gini@10": 0.625,
    "popularity_percentile@10": 0.875,
}
SELECTION = {
    "items": 1000,
    "selected": 991,
    "removed": 9,
    "not_yet_available": 4,
    "no_longer_available": 3,
    "denied": 2,
    "empty_windows": 0,
    "first_empty_window": None,
    "unknown_denied": 0,
    "unknown_denied_ids": [],
}


def shown(width: int = 160, /, **figures) -> list[str]:
    """Returns the lines printed, each with single spaces and without the frame."""
    console = Console(file=io.StringIO(), width=width)
    show_figures(console, figures)
    lines = console.file.getvalue().translate(str.maketrans("│┃", "  ")).splitlines()
    return [" ".join(line.split()) for line in lines]


def test_every_measured_model_has_its_rows():
    test = {"events": 2000, "users": 90, "events_outside_index": 1234}
    lines = shown(
        retrieval={
            "two_tower": ROW,
            "item_knn_decay": ROW | {"recall@10": 0.25},
            "test": test,
        }
    )
    assert "two_tower 0.125 (0.100 to 0.150) 0.250 0.500 0.062" in lines
    assert "item_knn_decay 0.250 (0.100 to 0.150) 0.250 0.500 0.062" in lines
    assert lines.count("two_tower 0.375 0.562 0.750 0.625 0.875") == 1
    assert any(line.startswith("Retrieval: 2,000 test events") for line in lines)
    assert any(line.startswith("1,234 of the test events") for line in lines)
    assert not any(line.startswith(("popularity ", "last_release")) for line in lines)


def test_names_of_models_are_whole_on_a_narrow_terminal():
    test = {"events": 1, "users": 1}
    lines = shown(80, retrieval={"recent_popularity": ROW, "test": test})
    assert sum(line.startswith("recent_popularity ") for line in lines) == 2


def test_model_that_recommends_nothing_has_an_empty_cell():
    row = {key: value for key, value in ROW.items() if "percentile" not in key}
    lines = shown(retrieval={"two_tower": row, "test": {"events": 1, "users": 1}})
    assert "two_tower 0.375 0.562 0.750 0.625" in lines


def test_log_without_test_events_prints_no_figures():
    lines = shown(retrieval={"test": {"events": 0, "users": 0}})
    assert any("0 test events" in line for line in lines)
    assert not any("Gini" in line for line in lines)


def test_rules_that_removed_items_are_told_and_others_not():
    assert shown(candidates=SELECTION) == [
        "Index: 991 of 1,000 items (4 not yet available, 3 no longer available, 2 "
        "denied)."
    ]
    assert shown(candidates=SELECTION | {"removed": 0}) == []


def test_mistakes_in_the_rules_are_named_whatever_is_in_an_id():
    lines = shown(
        candidates=SELECTION
        | {
            "removed": 0,
            "empty_windows": 2,
            "first_empty_window": "[bold]",
            "unknown_denied": 11,
            "unknown_denied_ids": ["[/x]", "y"],
        }
    )
    assert lines == [
        "2 item(s) become unavailable before they are available, the first '[bold]': "
        "look at the items table.",
        "11 id(s) of the deny list are of no item of the catalogue, such as '[/x]', 'y'.",
    ]


@pytest.mark.component  # the report imports TFDV
def test_selection_stands_among_the_figures(tmp_path):
    from pipeline.report import collect_figures
    from pipeline.run_state import StageRun, StageState

    (tmp_path / "selection.json").write_text(json.dumps(SELECTION))
    stage = StageRun(StageState.DONE, {"selection": str(tmp_path)}, {})
    figures = collect_figures({"SelectCandidates": stage}, "deepfm")
    assert figures["candidates"] == SELECTION
    assert "candidates" not in collect_figures({}, "deepfm")
