"""Days and numbers are read from paths, and the right ones of them are chosen."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.ingestion import spans
from components.ingestion.errors import IngestionError
from components.ingestion.settings import Format, SpanSettings
from components.ingestion.sources import SourceFile
from components.ingestion.spans import SpanKind
from tests.components import ingestion_world as world

PLACE = "data.events.path"
PARSED = [
    # (pattern, path, (span, version) or None for a path that only looks similar)
    ("/x/{YYYY-MM-DD}/log.csv", "/x/2026-11-21/log.csv", ("2026-11-21", 0)),
    ("/x/log-{YYYY-MM-DD}.csv", "/x/log-2026-11-21.csv", ("2026-11-21", 0)),
    ("/x/{YYYY}/{MM}/{DD}/*", "/x/2026/11/21/part-0", ("2026-11-21", 0)),
    ("/x/{YYYY}{MM}{DD}.csv", "/x/20261121.csv", ("2026-11-21", 0)),
    ("s3://b/{DD}.{MM}.{YYYY}", "s3://b/21.11.2026", ("2026-11-21", 0)),
    ("/x/span-{SPAN}/*", "/x/span-17/part-0", ("17", 0)),
    ("/x/span-{SPAN:3}/*", "/x/span-017/part-0", ("17", 0)),
    ("/x/{SPAN}/v{VERSION}/*", "/x/3/v12/part-0", ("3", 12)),
    ("/x/{SPAN}/v{VERSION:2}/*", "/x/3/v02/part-0", ("3", 2)),
    ("/x/*{SPAN}*", "/x/log12b", ("12", 0)),
    ("/x/{SPAN}/", "/x/5/part-0", ("5", 0)),
    (
        "/x/{YYYY-MM-DD}/log-{YYYY-MM-DD}.csv",
        "/x/2026-11-21/log-2026-11-21.csv",
        ("2026-11-21", 0),
    ),
    ("/x/{YYYY-MM-DD}/log-{YYYY-MM-DD}.csv", "/x/2026-11-21/log-2026-11-20.csv", None),
    ("/x/log-{YYYY-MM-DD}.csv", "/x/log-2026-02-30.csv", None),
    ("/x/log-{YYYY-MM-DD}.csv", "/x/log-2026-11-21-old.csv", None),
    ("/x/log-{YYYY-MM-DD}.csv", "/x/log-latest.csv", None),
    ("/x/log-{YYYY-MM-DD}*", "/x/log-2026-11-211", None),
    ("/x/{YYYY-MM-DD}/*", "/x/2026-11-21/_old/part-0", None),
    ("/x/span-{SPAN}/*", "/x/span-x7/part-0", None),
    ("/x/span-{SPAN:3}/*", "/x/span-17/part-0", None),
    ("/x/span-{SPAN}/*", "/x/span-٣/part-0", None),
    ("/x.y/{SPAN}", "/xxy/3", None),
    ("/x/{SPAN}[ab]", "/x/3b", ("3", 0)),
    ("/x/{SPAN}[ab]", "/x/3c", None),
]
BAD_PATTERNS = [
    ("/x/{YYYY-MM-DD}/{SPAN}", "names its spans in two ways"),
    ("/x/{YYYY-MM-DD}/{MM}", "names its spans in two ways"),
    ("/x/{YYYY}/{SPAN}", "names its spans in two ways"),
    ("/x/{MM}-{DD}", "lacks `{YYYY}`"),
    ("/x/{YYYY}/{MM}", "lacks `{DD}`"),
    ("/x/v{VERSION}/*", "names no span"),
    ("/x/{SPAN:0}", "`{SPAN:0}` is no placeholder"),
    ("/x/{SPAN:}", "`{SPAN:}` is no placeholder"),
    ("/x/{YYYY:4}", "`{YYYY:4}` is no placeholder. Did you mean `{YYYY}`?"),
    ("/x/{yyyy-mm-dd}", "Did you mean `{YYYY-MM-DD}`?"),
    ("/x/{HOUR}", "`{HOUR}` is no placeholder"),
]


@pytest.mark.parametrize(("pattern", "path", "expected"), PARSED)
def test_path_gives_its_span_and_version(pattern, path, expected):
    assert spans.parse_pattern(pattern, PLACE).parse(path) == expected


@pytest.mark.parametrize(("pattern", "message"), BAD_PATTERNS)
def test_bad_pattern_is_an_error_that_names_the_place(pattern, message):
    with pytest.raises(IngestionError) as caught:
        spans.parse_pattern(pattern, PLACE)
    assert str(caught.value).startswith(f"{PLACE}: `")
    assert message in str(caught.value)


def test_path_without_placeholders_is_listed_as_it_stands():
    pattern = spans.parse_pattern("/x/a-*[0-9].csv", PLACE)
    assert (pattern.kind, pattern.glob) == (SpanKind.NONE, "/x/a-*[0-9].csv")
    assert pattern.parse("anything") == ("", 0)


@given(
    day=st.dates(datetime.date(1000, 1, 1)),
    version=st.integers(0, 10**6),
    prefix=st.text("abc0123-._", max_size=4),
)
def test_any_day_and_version_come_back(day, version, prefix):
    text = f"/logs/{prefix}/{{YYYY}}/{{MM}}-{{DD}}/v{{VERSION}}/*.csv"
    path = f"/logs/{prefix}/{day:%Y/%m-%d}/v{version}/part.csv"
    pattern = spans.parse_pattern(text, PLACE)
    assert pattern.parse(path) == (day.isoformat(), version)


def choose(available, kind=SpanKind.NUMBER, **settings):
    return spans.chosen_spans(available, SpanSettings(**settings), kind, PLACE)


def check_choice(choose):
    """The checker: which spans are read, worked out by hand."""
    numbers = {"8", "9", "10", "11"}
    assert choose(numbers) == ["8", "9", "10", "11"]
    assert choose(numbers, last=2) == ["10", "11"]
    assert choose(numbers, until="10", last=2) == ["9", "10"]
    assert choose(numbers, until="010", last=9) == ["8", "9", "10"]
    days = {"2026-02-28", "2026-03-01", "2026-03-03"}
    assert choose(days, SpanKind.DAY, allow_gaps=True) == sorted(days)
    # The gap lies outside of what is read.
    assert choose(days, SpanKind.DAY, until="2026-03-01") == [
        "2026-02-28",
        "2026-03-01",
    ]
    with pytest.raises(IngestionError, match="no file of span 2026-03-02, between"):
        choose(days, SpanKind.DAY)
    with pytest.raises(IngestionError, match="no file of span 2, 3, between 1 and 4"):
        choose({"1", "4"})


def test_choice():
    check_choice(choose)


def as_texts(available, kind=SpanKind.NUMBER, **settings):
    """Sorts numbers as texts."""
    chosen = sorted(choose(available, kind, **settings))
    return chosen[-settings["last"] :] if "last" in settings else chosen


def with_gaps(available, kind=SpanKind.NUMBER, **settings):
    return choose(available, kind, **settings | {"allow_gaps": True})


def oldest(available, kind=SpanKind.NUMBER, **settings):
    last = settings.pop("last", None)
    return choose(available, kind, **settings)[:last]


@pytest.mark.parametrize("wrong", [as_texts, with_gaps, oldest])
def test_choice_checker_rejects(wrong):
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check_choice(wrong)


@pytest.mark.parametrize(
    ("available", "kind", "until", "message"),
    [
        (
            {"2026-11-01", "2026-11-20"},
            SpanKind.DAY,
            "2026-11-13",
            "has no span 2026-11-13; the nearest is 2026-11-20",
        ),
        ({"3", "20"}, SpanKind.NUMBER, "11", "the nearest is 3"),
        ({"3"}, SpanKind.NUMBER, "2026-11-13", "should be a number"),
        ({"2026-11-01"}, SpanKind.DAY, "17", "should be a day such as"),
        ({""}, SpanKind.NONE, "17", "names none"),
    ],
)
def test_until_that_is_not_there_is_an_error(available, kind, until, message):
    with pytest.raises(IngestionError) as caught:
        choose(available, kind, until=until)
    assert "data.spans" in str(caught.value)
    assert PLACE in str(caught.value)
    assert message in str(caught.value)


def test_many_missing_spans_are_counted():
    with pytest.raises(IngestionError, match="2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 88 m"):
        choose({"1", "100"})


def test_snapshot_is_the_newest_that_the_log_saw():
    def snapshot(available, newest):
        return spans.snapshot_span(available, newest, "data.items.path")

    assert snapshot({"2026-11-01", "2026-11-20", "2026-11-22"}, "2026-11-21") == (
        "2026-11-20"
    )
    assert snapshot({"2026-11-21", "2026-11-20"}, "2026-11-21") == "2026-11-21"
    assert snapshot({"9", "10", "11"}, "10") == "10"
    assert snapshot({"9", "10"}, "") == "10"
    with pytest.raises(IngestionError, match=r"data.items.path: its oldest span is 11"):
        snapshot({"11"}, "10")
    with pytest.raises(IngestionError, match="Name both by days or both by numbers"):
        snapshot({"2026-11-21"}, "10")


def test_day_bounds_are_midnights_utc():
    assert spans.day_bounds("1970-01-02") == (86_400_000, 172_800_000)
    assert spans.day_bounds("17") is None
    assert spans.day_bounds("") is None


def test_log_is_closed_as_configured_or_at_the_end_of_its_newest_day():
    def file(span):
        return SourceFile("events", 0, "x", Format.JSONL, span)

    days = [file("1970-01-02"), file("1970-01-03"), file("")]
    assert spans.closed_at(world.settings(), days) == 3 * 86_400_000
    assert spans.closed_at(world.settings(), [file("17"), file("")]) is None
    closed = world.settings(closed_at="1970-01-01T00:00:01.0001Z")
    assert spans.closed_at(closed, days) == 1001  # rounded up
