"""The generator: the same for the same seed, with the shares that it states."""

import collections
import itertools
import json
import statistics

import numpy as np
import pyarrow as pa
import pytest

from benchmarks import event_log
from benchmarks.event_log import LogShape, event_tables, write_log
from tests.benchmarks import small_log

RECORDS = 20_000
SHAPE = LogShape(RECORDS)


@pytest.fixture(scope="module")
def tables():
    return list(event_tables(SHAPE, seed=1))


@pytest.fixture(scope="module")
def records(tables):
    return pa.concat_tables(tables).to_pylist()


def test_same_seed_gives_the_same_log(tables):
    again = list(event_tables(SHAPE, seed=1))
    # As text, where NaN equals NaN.
    assert [str(t.to_pylist()) for t in again] == [str(t.to_pylist()) for t in tables]


def test_other_seed_gives_another_log(tables):
    other = next(event_tables(SHAPE, seed=2))
    met = set(other["event_id"].to_pylist()) & set(tables[0]["event_id"].to_pylist())
    assert met == {""}  # of bad records


def check_shares(records):
    assert len(records) == RECORDS
    bad = sum(small_log.is_bad(record) for record in records)
    assert bad == round(RECORDS * 0.03)
    good = [record for record in records if not small_log.is_bad(record)]
    ids = {record["event_id"] for record in good}
    assert len(good) - len(ids) == round(RECORDS * 0.01)


def test_bad_records_and_copies_have_their_shares(records):
    check_shares(records)


def without_copies(records):
    return list({json.dumps(r): r for r in records}.values())


def with_one_more_copy(records):
    """Puts a copy in the place of a record that has none."""
    counts = collections.Counter(record["event_id"] for record in records)
    single = next(
        number
        for number, record in enumerate(records)
        if counts[record["event_id"]] == 1 and not small_log.is_bad(record)
    )
    return [*records[:single], records[single + 1], *records[single + 1 :]]


@pytest.mark.parametrize(
    "wrong",
    [
        without_copies,
        lambda records: records[:-1],
        with_one_more_copy,
        lambda records: [{**records[0], "position": -1}, *records[1:]],
    ],
    ids=["no copies", "one lost", "one more copy", "one more bad"],
)
def test_check_of_shares_rejects(records, wrong):
    with pytest.raises(AssertionError):
        check_shares(wrong(records))


def test_every_kind_of_bad_record_is_there(records):
    kinds = len(event_log.BAD_KINDS)
    per_file = round(RECORDS / 4 * 0.03)
    for table in event_tables(SHAPE, seed=1):
        bad = [r for r in table.to_pylist() if small_log.is_bad(r)]
        assert len(bad) == per_file
        assert sum(r["event_type"] == "hover" for r in bad) >= per_file // kinds
        assert sum(r["item_id"] is None for r in bad) >= per_file // kinds


def test_copies_stay_close_and_only_their_time_differs(records):
    by_id = collections.defaultdict(list)
    for record in records:
        if not small_log.is_bad(record):
            by_id[record["event_id"]].append(record)
    copied = [copies for copies in by_id.values() if len(copies) > 1]
    later = 0
    for copies in copied:
        times = [copy.pop("timestamp") for copy in copies]
        assert all(copy == copies[0] for copy in copies)
        assert max(times) - min(times) < 5000
        later += max(times) > min(times)
        for copy, time in zip(copies, times, strict=True):
            copy["timestamp"] = time
    assert 0.1 < later / len(copied) < 0.4  # a quarter; 5 deviations of 200 copies


def good_events(records):
    return list({r["event_id"]: r for r in records if not small_log.is_bad(r)}.values())


def test_requests_show_few_items_once_with_position_and_propensity(records):
    slates = collections.defaultdict(list)
    for event in good_events(records):
        if event["event_type"] == "impression":
            assert event["position"] is not None and 0 < event["propensity"] <= 1
            slates[event["request_id"]].append(event)
    for slate in slates.values():
        assert len({event["user_id"] for event in slate}) == 1
        assert len({event["item_id"] for event in slate}) == len(slate) <= 10
        assert len({event["timestamp"] for event in slate}) <= 2  # copies stamped anew
    assert 4 < statistics.mean(len(slate) for slate in slates.values()) < 7


def test_responses_fall_within_after_and_before_their_window(records):
    events = good_events(records)
    shown = {
        (e["user_id"], e["request_id"], e["item_id"]): e["timestamp"]
        for e in events
        if e["event_type"] == "impression"
    }
    fates = collections.Counter()
    for event in events:
        if event["event_type"] == "impression":
            continue
        assert event["position"] is None and event["propensity"] is None
        moment = shown.get((event["user_id"], event["request_id"], event["item_id"]))
        if event["request_id"] is None or moment is None:
            fates["orphan"] += 1
        elif event["timestamp"] < moment:
            fates["early"] += 1
        else:
            late = event["timestamp"] - moment > 600_000
            fates["late" if late else "joined"] += 1
    total = sum(fates.values())
    assert 0.85 < fates["joined"] / total < 0.93
    assert 0.05 < fates["late"] / total < 0.11
    assert fates["orphan"] > 0 and fates["early"] > 0


def test_a_tenth_of_users_and_items_has_far_more_than_a_tenth(records):
    for key, least in (("user_id", 0.25), ("item_id", 0.35)):
        counts = collections.Counter(e[key] for e in good_events(records))
        number = SHAPE.users if key == "user_id" else SHAPE.items
        top = sum(count for _, count in counts.most_common(number // 10))
        assert top / sum(counts.values()) > least


def test_log_is_about_in_the_order_of_time(records):
    times = [event["timestamp"] for event in good_events(records)]
    falls = sum(b < a for a, b in itertools.pairwise(times))
    assert falls < 0.02 * len(times)  # the copies


def test_files_hold_the_stated_records_and_tables(tmp_path):
    shape = write_log(tmp_path, 3000)
    per_file = [len(records) for records in small_log.records_of(tmp_path)]
    assert len(per_file) == shape.files == 4
    assert sum(per_file) == 3000
    items, users = (small_log.table_of(tmp_path, side) for side in ("item", "user"))
    assert (len(items), len(users)) == (shape.items, shape.users)
    events = [r for records in small_log.records_of(tmp_path) for r in records]
    good = good_events(events)
    assert {e["item_id"] for e in good} <= set(items)
    assert {e["user_id"] for e in good} <= set(users)


def test_json_lines_hold_the_same_records_but_for_cut_ones(tmp_path):
    write_log(tmp_path / "parquet", 3000)
    write_log(tmp_path / "jsonl", 3000, file_format="jsonl")
    cut = same = 0
    for file, records in enumerate(small_log.records_of(tmp_path / "parquet")):
        lines = (tmp_path / "jsonl" / f"events-{file:04d}.jsonl").read_text()
        for record, line in zip(records, lines.splitlines(), strict=True):
            try:
                seen = json.loads(line)
            except ValueError:
                cut += 1
                assert record["timestamp"] < 0
                continue
            same += 1
            filled = {k: v for k, v in record.items() if v is not None}
            assert json.dumps(seen) == json.dumps(filled)  # NaN equals NaN as text
    assert cut > 0
    assert cut + same == 3000


def test_ids_of_files_and_seeds_never_meet():
    seen = set()
    for file in range(3):
        for seed in range(3):
            seen |= set(event_log._ids("e", np.arange(500), file, seed).to_pylist())
    assert len(seen) == 3 * 3 * 500
