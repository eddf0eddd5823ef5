"""Nothing is lost and nothing invented: the accounts of whole runs over hostile logs.

`check_run` compares the summary, the Beam counters, the dead letters and the rows of a
run with what the oracle counts by hand, one record at a time.
"""

import collections
import dataclasses
import json
import math
import pathlib
import random
import tempfile

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings

from components.ingestion.errors import IngestionError
from tests.components import ingestion_hostile as hostile
from tests.components import ingestion_logs as logs
from tests.components import ingestion_losses as losses
from tests.components import ingestion_oracle as oracle
from tests.components import ingestion_runs as runs
from tests.components import ingestion_world as world
from tests.components.ingestion_account import LogFile, account

pytestmark = pytest.mark.component
KINDS = ("read", "accepted", "duplicates", "dead_letters")


def check_run(log, files):
    """The checker: every account of a run is the oracle's."""
    with tempfile.TemporaryDirectory() as folder:
        check_run_in(pathlib.Path(folder), log, files)


def check_run_in(folder, log, files):
    settings, written = hostile.settings(folder, log, files)
    summary, counters = runs.run(folder, settings)
    done = account(log.files, log.declared)
    replayed = oracle.replay(done.accepted, log.declared, done.closed_at)
    check_sources(summary, done, len(files))
    check_events(summary, done, replayed)
    found = runs.written_rows(folder / "out")
    check_impressions(summary, found, replayed)
    oracle.check_rows(found, replayed)
    letters = pq.read_table(folder / "out/dead_letters").to_pylist()
    check_letters(letters, done, written, folder)
    check_reasons(summary, letters)
    check_counters(summary, counters)


def check_sources(summary, done, num_files):
    events = summary.sources["events"]
    total = sum(done.by_span.values(), collections.Counter())
    assert {kind: getattr(events, kind) for kind in KINDS} == {
        kind: total[kind] for kind in KINDS
    }
    assert {span: counts_of(counts) for span, counts in events.spans.items()} == {
        span: {kind: counts[kind] for kind in KINDS}
        for span, counts in done.by_span.items()
    }
    assert events.files == num_files
    for table, counts in (
        ("items", hostile.ITEM_COUNTS),
        ("users", hostile.USER_COUNTS),
    ):
        source = summary.sources[table]
        assert counts_of(source) == counts_of(source.spans[""]) == counts


def counts_of(counts):
    assert counts.read == counts.accepted + counts.duplicates + counts.dead_letters
    return {kind: getattr(counts, kind) for kind in KINDS}


def check_events(summary, done, replayed):
    accepted = done.accepted
    owners = {event["event_id"]: event["user_id"] for event in accepted}
    assert summary.events == replayed.events
    assert sum(summary.events.values()) + summary.capped_events == len(accepted)
    assert summary.capped_events == len(replayed.capped)
    assert summary.capped_users == len({owners[name] for name in replayed.capped})
    assert summary.sessions == len(replayed.sessions)
    assert summary.users == len(set(owners.values()))
    assert summary.items == len(world.FULL_ITEMS)
    kept = [event for event in accepted if event["event_id"] not in replayed.capped]
    assert summary.unknown_item_events == sum(
        event["item_id"] not in world.FULL_ITEMS for event in kept
    )
    assert summary.unknown_user_events == sum(
        event["user_id"] not in world.USERS for event in kept
    )
    fates = collections.Counter(replayed.fates.values())
    assert summary.responses.model_dump() == {
        "joined": fates["joined"],
        "late": fates["late"],
        "early": fates["early"],
        "orphans": fates["orphan"],
        "answered_impressions": len(replayed.answered),
        "open_impressions": len(replayed.open),
    }


def check_impressions(summary, found, replayed):
    """The labelled rows, their number and what they come to, as they were written."""
    numbers = collections.Counter()
    for (examples, split), rows in found.items():
        assert summary.rows[examples][split] == len(rows)
        numbers[examples] += len(rows)
    labelled = numbers["impressions"] + len(replayed.open)
    sampled = sum(sampled.number for sampled in replayed.sampled.values())
    assert labelled == replayed.num_labelled + sampled
    for split, facts in summary.impressions.items():
        rows = found["impressions", split]
        labels = [row["label"][0] for row in rows.values()]
        chances = [row["propensity"][0] for row in rows.values() if "propensity" in row]
        assert facts.rows == len(rows)
        assert facts.sampled == sum("~" in name for name in rows)
        assert facts.label_min == min(labels, default=0)
        assert facts.label_max == max(labels, default=0)
        assert facts.label_mean == pytest.approx(sum(labels) / max(len(labels), 1))
        assert facts.propensities == len(chances)
        assert facts.propensity_min == pytest.approx(min(chances, default=0))
        weights = [1 / chance for chance in chances]
        squares = sum(weight**2 for weight in weights)
        size = sum(weights) ** 2 / squares if weights else 0
        assert facts.effective_sample_size == pytest.approx(size)


def check_letters(letters, done, written, folder):
    """Each dead letter is there once, with all that a person needs to mend it."""
    events = [letter for letter in letters if letter["source"] == "events"]
    by_place = {(letter["file"], letter["position"]): letter for letter in events}
    assert len(by_place) == len(events)
    paths = list(written)
    expected = {}
    for place, number in done.dead:
        file, placed = written[paths[place]]
        where = paths[place], placed[number].position
        expected[where] = file, file.entries[number], placed[number]
    assert by_place.keys() == expected.keys()
    for where, (file, entry, placed) in expected.items():
        letter = by_place[where]
        assert letter["span"] == file.span
        assert is_raw(letter["raw"], placed.raw)
        # The first rule broken is named, and the time comes before the other fields.
        fields = {entry.field or "timestamp", "timestamp"}
        is_whole = entry.field == ""
        assert is_whole or any(
            f"`{field}` should" in letter["reason"] for field in fields
        )
        assert "Received: " in letter["reason"]
    side = collections.Counter(
        (letter["source"], letter["file"], letter["position"], letter["raw"])
        for letter in letters
        if letter["source"] != "events"
    )
    assert side == {
        ("users", f"{folder}/users.csv", 5, hostile.USER_LINES[3]): 1,
        ("users", f"{folder}/users.csv", 7, hostile.USER_LINES[5]): 1,
        ("items", f"{folder}/items.jsonl", 7, hostile.ITEM_FAULTS[0]): 1,
        ("items", f"{folder}/items.jsonl", 9, hostile.ITEM_FAULTS[1]): 1,
    }


def is_raw(found, expected):
    if isinstance(expected, str):
        return found == expected
    # A row of Parquet has no text of its own; NaN is not equal to itself.
    try:
        row = json.loads(found)
    except json.JSONDecodeError:
        return False
    return row.keys() == expected.keys() and all(
        row[key] == value
        or (value is not None and math.isnan(value) and row[key] != row[key])
        for key, value in expected.items()
    )


def check_reasons(summary, letters):
    """The reasons that the summary counts are those that the letters give."""
    for table, source in summary.sources.items():
        reasons = [x["reason"] for x in letters if x["source"] == table]
        assert len(reasons) == sum(reason.count for reason in source.reasons)
        for reason in source.reasons:
            rule = f"`{reason.field}` {reason.rule}" if reason.field else reason.rule
            given = sum(text.startswith(f"{rule}. Received: ") for text in reasons)
            assert given == reason.count


def check_counters(summary, counters):
    """The Beam counters are those that say the same as the summary, zeros left out."""
    expected = {
        "users": summary.users,
        "catalog": summary.items,
        "sessions": summary.sessions,
        "capped_events": summary.capped_events,
        "capped_users": summary.capped_users,
        "unknown_items": summary.unknown_item_events,
        "unknown_users": summary.unknown_user_events,
        "responses_joined": summary.responses.joined,
        "responses_late": summary.responses.late,
        "responses_early": summary.responses.early,
        "responses_orphan": summary.responses.orphans,
        "responses_answered": summary.responses.answered_impressions,
        "responses_open": summary.responses.open_impressions,
    }
    expected |= {f"split_{split}": number for split, number in summary.events.items()}
    for examples, by_split in summary.rows.items():
        expected |= {
            f"{examples}_{split}": number for split, number in by_split.items()
        }
    for table, source in summary.sources.items():
        for kind in KINDS:
            expected[f"{table}_{kind}"] = getattr(source, kind)
            for span, counts in source.spans.items():
                expected[f"{table}_{kind}[{span}]"] = getattr(counts, kind)
    assert counters == {name: n for name, n in expected.items() if n}


@hypothesis_settings(
    max_examples=8,
    phases=[Phase.generate],
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(case=hostile.hostile_logs())
def test_accounts_of_hostile_logs_are_the_oracles(case):
    check_run(*case)


# --- Accounts that are wrong ------------------------------------------------------------


@pytest.fixture(scope="module")
def case():
    """A log of three days with all sorts of faults, and a cap."""
    chance = random.Random(20)
    files = [LogFile([], day) for day in (*logs.DAYS[:3], "")]
    for number in range(90):
        record = logs.record(chance) | {"event_id": f"e{chance.randrange(75)}"}
        day = 1 + (record["timestamp"] >= logs.MIDNIGHT)
        files[chance.choice((day, day, day, 0, 3))].records.append(record)
        if number % 3 == 0 and record["event_type"] in logs.RESPONSES:
            answers = logs.RESPONSES[record["event_type"]]
            response = record | {"event_type": answers[0], "event_id": f"a{number}"}
            files[day].records.append(response)
    declared = dataclasses.replace(
        world.FULL,
        daily_cap=9,
        session_gap_ms=world.MINUTE,
        max_late_days=0,
        closed_at=logs.MIDNIGHT + 6 * world.MINUTE,
    )
    return hostile.spoilt(logs.Log(declared, files, 2), chance)


def test_the_case_holds_all_that_the_wrong_accounts_get_wrong(case):
    log, files = case
    done = account(log.files, log.declared)
    replayed = oracle.replay(done.accepted, log.declared, done.closed_at)
    late = [(i, j) for i, j in done.dead if files[i].entries[j].field is None]
    total = sum(done.by_span.values(), collections.Counter())
    assert min(total["duplicates"], len(late), len(done.dead) - len(late)) >= 5
    assert min(map(len, (replayed.capped, replayed.open, replayed.answered))) >= 1
    kinds = {file.format.removesuffix(".gz") for file in files if file.entries}
    assert kinds == {"jsonl", "csv", "parquet", "tfrecord"}
    check_run(log, files)


@pytest.mark.parametrize(
    ("wrong", "caught_by"),
    [
        (losses.dropped_record, "check_sources"),
        (losses.repeated_record, "check_sources"),
        (losses.duplicates_counted_twice, "ingest"),
        (losses.duplicates_kept, "check_sources"),
        (losses.latest_copy_stays, "check_sources"),
        (losses.late_events_accepted, "check_sources"),
        (losses.letters_written_twice, "check_letters"),
        (losses.letters_lost, "check_letters"),
        (losses.letters_without_their_end, "check_letters"),
        (losses.letters_of_no_span, "check_letters"),
        (losses.capped_events_forgotten, "ingest"),
        (losses.responses_counted_as_orphans, "check_events"),
        (losses.impressions_lost, "check_impressions"),
        (losses.counters_without_dead_letters, "check_counters"),
    ],
)
def test_wrong_accounts_are_rejected(monkeypatch, case, wrong, caught_by):
    wrong(monkeypatch)
    with pytest.raises((AssertionError, IngestionError)) as caught:
        check_run(*case)
    last_of_ours = [
        entry.name
        for entry in caught.traceback
        if entry.name.startswith("check_") or entry.name == "ingest"
    ][-1]
    assert last_of_ours == caught_by
