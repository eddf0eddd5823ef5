"""Rows by span: what is new, the oldest span first, each span as often as asked."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from models.training_input import batches_by_span, count_rows, row_timestamps
from tests.models import training_world

# (item, timestamp); two files whose times overlap, as shards' do.
FILES = [
    [(1, 10), (2, 40), (3, 21), (4, 30)],
    [(5, 20), (6, 29), (7, 19), (8, 45), (9, 31)],
]
BEGINS = [20, 30, 40]
SPANS = [{3, 5, 6}, {4, 9}, {2, 8}]  # items between the begins; 1 and 7 are before


def serialized(item: int, timestamp: int) -> bytes:
    example = tf.train.Example()
    features = example.features.feature
    features["user_id"].bytes_list.value.append(b"1")
    features["item_id"].bytes_list.value.append(str(item).encode())
    features["timestamp"].int64_list.value.append(timestamp)
    for key in ("reward", "label"):
        features[key].float_list.value.append(1.0)
    return example.SerializeToString()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    for number, rows in enumerate(FILES):
        options = tf.io.TFRecordOptions(compression_type="GZIP")
        path = str(folder / f"rows-{number}.gz")
        with tf.io.TFRecordWriter(path, options) as writer:
            for row in rows:
                writer.write(serialized(*row))
    return [str(folder / "rows-*.gz")]


def items_of(dataset):
    """Returns the items of each batch."""
    batches = dataset.as_numpy_iterator()
    return [row["item_id"].astype(int).tolist() for _, row in batches]


def all_items(dataset):
    return list(itertools.chain(*items_of(dataset)))


def check_spans(batches_by_span, files):
    """The checker: the rows of each span, by hand."""
    transform = training_world.Transform()
    once = items_of(batches_by_span(files, transform, 3, BEGINS, 1, 5))
    assert [len(batch) for batch in once] == [3, 3, 1]  # 7 rows, over spans' ends
    flat = list(itertools.chain(*once))
    assert [set(flat[:3]), set(flat[3:5]), set(flat[5:])] == SPANS
    twice = all_items(batches_by_span(files, transform, 4, BEGINS, 2, 5))
    assert sorted(twice[:6]) == [3, 3, 5, 5, 6, 6]
    assert set(twice[:3]) == set(twice[3:6]) == SPANS[0]
    assert sorted(twice[6:10]) == [4, 4, 9, 9]
    # Shuffled within a span, and otherwise by another seed.
    orders = {
        tuple(all_items(batches_by_span(files, transform, 4, [20], 1, seed)))
        for seed in range(3)
    }
    assert len(orders) == 3
    again = all_items(batches_by_span(files, transform, 3, BEGINS, 1, 5))
    assert again == flat


def test_rows_come_by_span(files):
    check_spans(batches_by_span, files)


def all_at_once(files, transform, batch_size, begins, epochs, seed):
    return batches_by_span(files, transform, batch_size, begins[:1], epochs, seed)


def newest_first(files, transform, batch_size, begins, epochs, seed):
    parts = [
        batches_by_span(files, transform, batch_size, [begin], epochs, seed)
        for begin in begins[::-1]
    ]
    return parts[0].concatenate(parts[1])


def from_the_next_moment(files, transform, batch_size, begins, epochs, seed):
    later = [begin + 1 for begin in begins]
    return batches_by_span(files, transform, batch_size, later, epochs, seed)


def epochs_over_all(files, transform, batch_size, begins, epochs, seed):
    return batches_by_span(files, transform, batch_size, begins, 1, seed).repeat(epochs)


@pytest.mark.parametrize(
    "wrong", [all_at_once, newest_first, from_the_next_moment, epochs_over_all]
)
def test_span_checker_rejects(wrong, files):
    with pytest.raises(AssertionError):
        check_spans(wrong, files)


def test_timestamps_are_those_of_all_rows(files):
    expected = [timestamp for rows in FILES for _, timestamp in rows]
    np.testing.assert_array_equal(row_timestamps(files), expected)
    assert count_rows(files) == 9


def test_timestamps_of_no_rows_are_none(tmp_path):
    path = str(tmp_path / "empty.gz")
    tf.io.TFRecordWriter(path, tf.io.TFRecordOptions(compression_type="GZIP")).close()
    assert row_timestamps([path]).shape == (0,)
    assert count_rows([path]) == 0
    with pytest.raises(FileNotFoundError):
        row_timestamps([str(tmp_path / "none-*.gz")])
