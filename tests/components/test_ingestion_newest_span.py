"""The test split that is the newest span: where spans begin, and what a run then holds."""

import numpy as np
import pytest

from components.ingestion.errors import IngestionError
from components.ingestion.spans import newest_span_start, span_starts
from components.ingestion.splits import split_cuts
from schemas.events import DAY_MS
from tests.components import ingestion_runs as runs
from tests.components import ingestion_world as world


def check_starts(starts_of):
    """The checker: days by the calendar, numbers by their events, by hand."""
    # An event of the second day was exported late, with the third.
    days = ["1970-01-03", "1970-01-02", "1970-01-02", ""]
    assert starts_of(days, {"1970-01-03": DAY_MS + 5, "": 0}) == {
        "1970-01-02": DAY_MS,
        "1970-01-03": 2 * DAY_MS,
    }
    numbers = ["9", "10", "11", "12"]
    starts = starts_of(numbers, {"9": 100, "10": 200, "11": 300, "12": 400, "": 0})
    assert list(starts.items()) == [("9", 100), ("10", 200), ("11", 300), ("12", 400)]
    # Span 11 holds an event of 150, and 10 none at all.
    assert starts_of(numbers, {"9": 100, "11": 150, "12": 400}) == {
        "9": 100,
        "11": 150,
        "12": 400,
    }
    # Span 12 reaches back before 11: nothing of either may count as before 12.
    assert starts_of(numbers, {"9": 100, "11": 300, "12": 250}) == {
        "9": 100,
        "11": 250,
        "12": 250,
    }


def test_span_starts():
    check_starts(span_starts)


def days_by_their_events(spans, earliest):
    return {
        span: earliest[span]
        for span in span_starts(spans, earliest)
        if span in earliest
    }


def as_they_come(spans, earliest):
    """Leaves an overlap as it is."""
    starts = span_starts(spans, earliest)
    return {k: v if "-" in k else earliest[k] for k, v in starts.items()}


def newest_first(spans, earliest):
    return dict(reversed(span_starts(spans, earliest).items()))


@pytest.mark.parametrize("wrong", [days_by_their_events, as_they_come, newest_first])
def test_span_starts_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_starts(wrong)


def test_newest_span_needs_events_and_a_span_before():
    assert newest_span_start(["9", "10", ""], {"9": 1, "10": 4}) == 4
    for spans, starts in (
        ([""], {}),
        (["9"], {"9": 1}),
        (["9", "10", "11"], {"9": 1, "10": 4}),
    ):
        with pytest.raises(IngestionError, match=r"data.split.newest_span: .* events"):
            newest_span_start(spans, starts)


def test_test_begins_where_it_is_told():
    settings = world.settings().split  # eval is a quarter
    cuts = split_cuts(np.arange(1, 21), settings, 13)
    assert (cuts.eval_from, cuts.test_from, cuts.last) == (10, 13, 20)
    # Nothing is before it, or all of it.
    assert split_cuts(np.arange(5, 9), settings, 3).eval_from == 3
    assert split_cuts(np.arange(1, 5), settings, 30).test_from == 30


@pytest.mark.component
def test_run_tests_on_the_newest_span_alone(tmp_path):
    def day(number, *hours):
        return [
            world.event(
                f"{number}-{hour}", timestamp=(number - 1) * DAY_MS + hour * 3_600_000
            )
            for hour in hours
        ]

    (tmp_path / "out").mkdir()
    # The third day's export brings an event of the evening before.
    world.write(tmp_path, day(1, *range(10)), "events-1970-01-01.jsonl")
    world.write(tmp_path, day(2, *range(6)), "events-1970-01-02.jsonl")
    world.write(tmp_path, [*day(2, 23), *day(3, 0, 5)], "events-1970-01-03.jsonl")
    world.write(tmp_path, day(4, 1), "events-1970-01-04.jsonl")
    settings = world.settings(
        tmp_path,
        events={"path": f"{tmp_path}/events-{{YYYY-MM-DD}}.jsonl"},
        spans={"until": "1970-01-03"},
        split={"newest_span": True, "eval_fraction": 0.25},
    )
    summary, _ = runs.run(tmp_path, settings)
    assert summary.split_times.test_from == 2 * DAY_MS
    assert summary.split_times.span_starts == {
        "1970-01-01": 0,
        "1970-01-02": DAY_MS,
        "1970-01-03": 2 * DAY_MS,
    }
    rows = runs.written_rows(tmp_path / "out")
    assert set(rows["interactions", "test"]) == {"3-0", "3-5"}
    learnt = {split: len(rows["interactions", split]) for split in ("train", "eval")}
    assert learnt == {"train": 13, "eval": 4}
    assert "2-23" in rows["interactions", "eval"]
