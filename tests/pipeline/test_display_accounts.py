"""What `tandem run` says of the records it read."""

import io
from pathlib import Path

from rich.console import Console

from pipeline.display import show_accounts

NUMBERS = {"read": 1100, "accepted": 1000, "duplicates": 40, "dead_letters": 60}
NO_RESPONSES = dict.fromkeys(
    ("joined", "late", "early", "orphans", "answered_impressions", "open_impressions"),
    0,
)


def shown(spans, width=80, **more):
    """Returns the lines printed for one source, without the table's spaces."""
    console = Console(file=io.StringIO(), width=width)
    events = NUMBERS | {"spans": spans, "files": 1, "reasons": []}
    show_accounts(console, {"sources": {"events": events}} | more, Path("r"))
    lines = console.file.getvalue().splitlines()
    return [" ".join(line.split()) for line in lines]


def spans(*names):
    return {
        name: dict.fromkeys(NUMBERS, number)
        for number, name in enumerate(names, start=1)
    }


def test_source_without_spans_takes_one_row():
    lines = shown({"": NUMBERS}, responses=NO_RESPONSES, capped_events=0)
    assert "events 1,100 1,000 40 60" in lines
    assert not any("replayed" in line for line in lines)
    assert not any("responses" in line or "capped" in line for line in lines)


def test_spans_have_rows_of_their_own_and_replayed_letters_too():
    lines = shown(spans("2026-11-20", "2026-11-21", ""))
    assert "2026-11-20 1 1 1 1" in lines
    assert "2026-11-21 2 2 2 2" in lines
    assert "replayed 3 3 3 3" in lines


def test_many_spans_are_summed_but_for_the_newest():
    days = [f"2026-11-{day:02d}" for day in range(1, 31)]
    lines = shown(spans(*days))
    older = sum(range(1, 24))
    assert f"23 older spans {older} {older} {older} {older}" in lines
    assert sum(line.startswith("2026-11-") for line in lines) == 7
    assert "2026-11-30 30 30 30 30" in lines


def test_responses_and_caps_are_told_where_there_are_any():
    responses = NO_RESPONSES | {
        "joined": 1234,
        "orphans": 5,
        "answered_impressions": 1200,
        "open_impressions": 7,
    }
    text = "\n".join(shown({}, responses=responses, capped_events=900, capped_users=2))
    assert "1,234 joined" in text and "5 orphans" in text
    assert "1,200 answered, 7 open" in text
    assert "capped: 900 events of 2 user(s)" in text


def test_dead_letters_say_how_to_see_them():
    assert any(
        "tandem data dead-letters --root r --table events" in line for line in shown({})
    )


def test_summary_of_an_older_ingestion_is_shown_too():
    console = Console(file=io.StringIO(), width=80)
    show_accounts(console, {"sources": {"items": NUMBERS}}, Path("r"))
    assert "1,100" in console.file.getvalue()


def test_large_log_fits_a_narrow_terminal():
    console = Console(file=io.StringIO(), width=80)
    counts = dict.fromkeys(NUMBERS, 1_234_567_890)
    source = counts | {"spans": {"2026-11-20": counts, "2026-11-21": counts}}
    show_accounts(console, {"sources": {"events": source}}, Path("r"))
    assert "1,234,567,890" in console.file.getvalue()
    assert "…" not in console.file.getvalue()
