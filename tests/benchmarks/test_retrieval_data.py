"""The split, the samples and the histories of a contest, on logs counted by hand."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.retrieval_data import Contest, Sizes, first_of_latest, read_contest
from components.ingestion.settings import SplitSettings
from components.ingestion.splits import split_cuts

DAY = 86_400_000


def check_first_of_latest(first_of):
    assert first_of(np.arange(10), 0.2) == 8
    assert first_of(np.arange(10), 0.1) == 9
    # Three events share the moment of the cut: all belong to the latest.
    assert first_of(np.array([0, 1, 2, 3, 4, 5, 6, 6, 6, 9]), 0.2) == 6
    assert first_of(np.array([3, 3, 3, 3, 3]), 0.2) == 0


def test_first_of_latest():
    check_first_of_latest(first_of_latest)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda times, share: len(times) - round(len(times) * share),  # parts a moment
        lambda times, share: int(np.searchsorted(times, times[-1] * (1 - share))),
        lambda times, share: round(len(times) * share),
    ],
)
def test_checker_rejects_wrong_cuts(wrong):
    with pytest.raises(AssertionError):
        check_first_of_latest(wrong)


def write_tables(folder, times):
    """Events 0, 1, ... with user n % 3 and item n % 4; rows stand in no order."""
    number = np.arange(len(times))
    rng = np.random.default_rng(0)
    order = rng.permutation(len(times))
    events = {
        "event_id": [f"e{n:04d}" for n in number[order]],
        "timestamp": np.asarray(times, np.int64)[order],
        "user_id": [f"u{n % 3}" for n in number[order]],
        "item_id": [f"i{n % 4}" for n in number[order]],
    }
    items = {"item_id": ["i9", "i2", "i0", "i1", "i3"], "title": list("JCABD")}
    pq.write_table(pa.table(events), folder / "events.parquet")
    pq.write_table(pa.table(items), folder / "items.parquet")


def test_contest_is_in_order_of_time_and_names_items_by_their_row(tmp_path):
    write_tables(tmp_path, np.arange(50) * DAY)
    contest = read_contest(tmp_path, Sizes(100, 100), seed=0)
    assert contest.event_ids.tolist() == [f"e{n:04d}" for n in range(50)]
    assert contest.item_ids[contest.items].tolist() == [f"i{n % 4}" for n in range(50)]
    assert contest.titles[contest.items[:4]].tolist() == list("ABCD")
    assert (contest.num_fit, contest.num_train) == (36, 40)
    assert contest.validation_rows.tolist() == list(range(36, 40))
    assert contest.test_rows.tolist() == list(range(40, 50))
    assert contest.tuning.num_train == 36
    assert contest.tuning.train.items.tolist() == contest.items[:36].tolist()
    assert contest.final.num_train == 40
    assert contest.final.positives.tolist() == contest.items[40:].tolist()


def test_histories_hold_the_users_strictly_earlier_items(tmp_path):
    times = np.arange(50) * DAY
    times[47] = times[44]  # user 2's events 44 and 47 share a moment
    write_tables(tmp_path, times)
    contest = read_contest(tmp_path, Sizes(100, 100), seed=0)
    row = {event: row for row, event in enumerate(contest.event_ids.tolist())}
    place = contest.test_rows.tolist().index(row["e0047"])
    expected = [f"i{n % 4}" for n in range(2, 44, 3)]
    assert contest.item_ids[contest.final.histories[place]].tolist() == expected


def test_samples_are_of_their_split_and_repeatable(tmp_path):
    write_tables(tmp_path, np.arange(200))
    one = read_contest(tmp_path, Sizes(5, 10), seed=3)
    same = read_contest(tmp_path, Sizes(5, 10), seed=3)
    other = read_contest(tmp_path, Sizes(5, 10), seed=4)
    assert one.test_rows.tolist() == same.test_rows.tolist()
    assert one.test_rows.tolist() != other.test_rows.tolist()
    assert len(one.test_rows) == len(set(one.test_rows.tolist())) == 10
    assert one.test_rows.min() >= 160
    assert len(one.validation_rows) == 5
    assert one.validation_rows.min() >= 144
    assert one.validation_rows.max() < 160


def test_split_is_that_of_tandems_ingestion(tmp_path):
    rng = np.random.default_rng(1)
    times = np.sort(rng.integers(0, 60, size=500))  # many share a moment
    write_tables(tmp_path, times)
    contest = read_contest(tmp_path, Sizes(1, 1), seed=0)
    cuts = split_cuts(times, SplitSettings())
    assert contest.timestamps[contest.num_fit] == cuts.eval_from
    assert contest.timestamps[contest.num_fit - 1] < cuts.eval_from
    assert contest.timestamps[contest.num_train] == cuts.test_from
    assert contest.timestamps[contest.num_train - 1] < cuts.test_from


def test_item_that_the_catalogue_lacks_is_an_error(tmp_path):
    write_tables(tmp_path, np.arange(10))
    pq.write_table(
        pa.table({"item_id": ["i0"], "title": ["A"]}), tmp_path / "items.parquet"
    )
    with pytest.raises(ValueError, match="should be in items.parquet"):
        read_contest(tmp_path, Sizes(1, 1), seed=0)


def test_contest_survives_its_file(tmp_path):
    write_tables(tmp_path, np.arange(50))
    contest = read_contest(tmp_path, Sizes(3, 4), seed=0)
    contest.save(tmp_path / "contest.npz")
    again = Contest.load(tmp_path / "contest.npz")
    assert again.final.positives.tolist() == contest.final.positives.tolist()
    assert again.tuning.num_train == contest.tuning.num_train
    assert again.titles.tolist() == contest.titles.tolist()
