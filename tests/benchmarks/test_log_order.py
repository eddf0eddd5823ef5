"""Events of one moment are parted in the order of the log, and nothing else moves."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks.log_order import fetched_in_log_order, parted
from tests.benchmarks.test_retrieval_data import write_tables


def slow(users, timestamps):
    seen, out = {}, []
    for user, moment in zip(users.tolist(), timestamps.tolist(), strict=True):
        later = seen.get((user, moment), 0)
        seen[user, moment] = later + 1
        out.append(moment + later)
    return np.array(out)


def check_parted(implementation):
    rng = np.random.default_rng(0)
    for _ in range(20):
        users, seconds = rng.integers(0, 4, 60), rng.integers(0, 5, 60)
        timestamps = seconds * 1_000
        before = timestamps.copy()
        found = implementation(users, timestamps)
        np.testing.assert_array_equal(found, slow(users, timestamps))
        np.testing.assert_array_equal(timestamps, before)


def across_users(users, timestamps):
    return parted(np.zeros_like(users), timestamps)


def backwards(users, timestamps):
    return parted(users[::-1], timestamps[::-1])[::-1]


def test_parted():
    check_parted(parted)


@pytest.mark.parametrize("wrong", [across_users, backwards, lambda users, times: times])
def test_checker_rejects_wrong_orders(wrong):
    with pytest.raises(AssertionError):
        check_parted(wrong)


def test_more_events_than_a_second_has_places_are_refused():
    parted(np.zeros(1_000, int), np.zeros(1_000, int))
    with pytest.raises(ValueError, match="at most 1,000 events in a second.*1001"):
        parted(np.zeros(1_001, int), np.zeros(1_001, int))


def test_copy_differs_in_timestamps_alone(tmp_path):
    fetched = tmp_path / "fetched" / "small"
    fetched.mkdir(parents=True)
    write_tables(fetched, np.arange(40) // 8 * 1_000)
    folder = tmp_path / "copies"
    folder.mkdir()
    copy = fetched_in_log_order(fetched, folder)
    assert copy == folder / "small"
    ours, theirs = (pq.read_table(at / "events.parquet") for at in (copy, fetched))
    assert ours.drop(["timestamp"]).equals(theirs.drop(["timestamp"]))
    assert ours.schema == theirs.schema
    keys = {
        *zip(ours["user_id"].to_pylist(), ours["timestamp"].to_pylist(), strict=True)
    }
    assert len(keys) == 40
    assert pq.read_table(copy / "items.parquet").equals(
        pq.read_table(fetched / "items.parquet")
    )
    before = (copy / "events.parquet").stat().st_mtime_ns
    assert fetched_in_log_order(fetched, folder) == copy
    assert (copy / "events.parquet").stat().st_mtime_ns == before
