"""The accounting identity, and what breaks it."""

import pytest

from components.ingestion.errors import IngestionError
from components.ingestion.splits import SplitCuts
from components.ingestion.summary import Summary, counter, summarise

COUNTS = {
    counter("events", "read"): 10,
    counter("events", "accepted"): 6,
    counter("events", "duplicates"): 1,
    counter("events", "dead_letters"): 3,
    counter("events", "read", "span", "2026-01-02"): 4,
    counter("events", "accepted", "span", "2026-01-02"): 4,
    counter("events", "read", "span", ""): 6,
    counter("events", "accepted", "span", ""): 2,
    counter("events", "duplicates", "span", ""): 1,
    counter("events", "dead_letters", "span", ""): 3,
    counter("events", "reason", "propensity", "should lie in (0, 1]"): 1,
    counter("events", "reason", "", "should be one object"): 2,
    counter("split", "train"): 3,
    counter("split", "eval"): 1,
    counter("split", "test"): 1,
    counter("interactions", "train"): 4,
    counter("users"): 2,
    counter("capped_events"): 1,
    counter("catalog"): 5,
}
CUTS = SplitCuts(1, 5, 7, 9)


def check_accounts_are_guarded(account):
    """The checker: a right account passes, and no wrong one does."""
    summary = account(COUNTS, {"events": 1}, CUTS, {})
    assert summary.sources["events"].read == 10
    for key, change in (
        (counter("events", "read"), 1),  # lost
        (counter("events", "accepted"), 1),  # invented
        (counter("events", "duplicates"), -1),
        (counter("events", "dead_letters"), 1),
        (counter("events", "reason", "", "should be one object"), 1),
        (counter("split", "test"), 1),
        (counter("capped_events"), 1),
        (counter("events", "read", "span", ""), 1),
        (counter("events", "read", "span", "2026-01-02"), -4),
        (counter("events", "duplicates", "span", ""), -1),
    ):
        with pytest.raises(IngestionError):
            account(COUNTS | {key: COUNTS[key] + change}, {"events": 1}, CUTS, {})


def test_accounts_are_guarded():
    check_accounts_are_guarded(summarise)


def unchecked(counts, files, cuts, impressions):
    try:
        return summarise(counts, files, cuts, impressions)
    except IngestionError:
        return None


def derived(counts, files, cuts, impressions):
    """Takes for read what it can account for."""
    known = ("accepted", "duplicates", "dead_letters")
    total = sum(counts[counter("events", kind)] for kind in known)
    return summarise(counts | {counter("events", "read"): total}, files, cuts, {})


@pytest.mark.parametrize("wrong", [unchecked, derived])
def test_account_checker_rejects(wrong):
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check_accounts_are_guarded(wrong)


def test_summary_survives_its_file():
    summary = summarise(COUNTS, {"events": 1}, CUTS, {})
    assert Summary.model_validate_json(summary.model_dump_json()) == summary
    reasons = summary.sources["events"].reasons
    assert [(r.field, r.count) for r in reasons] == [("", 2), ("propensity", 1)]


def test_spans_are_accounted_oldest_first():
    summary = summarise(COUNTS, {"events": 1}, CUTS, {})
    assert list(summary.sources["events"].spans) == ["", "2026-01-02"]
    assert summary.sources["events"].spans[""].dead_letters == 3


def test_log_without_records_is_an_error():
    with pytest.raises(IngestionError, match="the event log is empty"):
        summarise({}, {"events": 3}, SplitCuts(0, 0, 0, 0), {})
