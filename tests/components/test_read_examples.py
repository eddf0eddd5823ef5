"""Ingested rows as arrays: order, masks and histories that line up."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from components.read_examples import (
    read_labelled,
    read_serialized,
    read_test_log,
    split_files,
)


def row(user, item, time, history=(), label=0.0) -> bytes:
    out = tf.train.Example()
    feature = out.features.feature
    feature["user_id"].bytes_list.value.append(user.encode())
    feature["item_id"].bytes_list.value.append(item.encode())
    feature["timestamp"].int64_list.value.append(time)
    feature["label"].float_list.value.append(label)
    feature["history_item_ids"].bytes_list.value.extend(i.encode() for i in history)
    return out.SerializeToString(deterministic=True)


def write_split(root: Path, split: str, *shards: list[bytes]) -> None:
    folder = root / f"Split-{split}"
    folder.mkdir()
    for number, rows in enumerate(shards):
        name = f"data_tfrecord-{number:05d}-of-{len(shards):05d}.gz"
        with tf.io.TFRecordWriter(str(folder / name), "GZIP") as writer:
            for serialized in rows:
                writer.write(serialized)


TRAIN = [row("u", "a", 1), row("v", "b", 2, ["a"])]
TRAIN_2 = [row("w", "gone", 3, ["b", "gone", "a", "b"])]
EVAL = [row("u", "b", 4, ["a"], label=1.0)]
TEST = [row("u", "c", 5, ["gone", "b", "a", "b"]), row("x", "a", 6)]


@pytest.fixture
def examples(tmp_path):
    write_split(tmp_path, "train", TRAIN, [], TRAIN_2)
    write_split(tmp_path, "eval", EVAL, [])
    write_split(tmp_path, "test", TEST)
    return tmp_path


def test_shards_are_read_in_their_order(examples):
    files = split_files(str(examples), "train")
    assert [Path(file).name[14:19] for file in files] == ["00000", "00001", "00002"]
    assert read_serialized(files).tolist() == TRAIN + TRAIN_2


def test_nothing_is_read_from_no_file_and_from_empty_files(examples):
    assert read_serialized([]).shape == (0,)
    empty = split_files(str(examples), "eval")[1:]
    assert read_serialized(empty).shape == (0,)


def test_reading_goes_on_over_the_end_of_a_batch(examples, monkeypatch):
    monkeypatch.setattr("components.read_examples._BATCH", 2)
    assert len(read_serialized(split_files(str(examples), "train"))) == 3


def labelled(user, item, time, position=None, **more) -> bytes:
    out = tf.train.Example.FromString(row(user, item, time, **more))
    if position is not None:
        out.features.feature["position"].int64_list.value.append(position)
    return out.SerializeToString(deterministic=True)


SHOWN = [
    labelled("v", "c", 5, position=0, history=["b", "a", "b"]),
    labelled("w", "b", 6, label=1.0),
]


def check_labelled(read, root: Path) -> None:
    """The checker: splits in the order asked for; a row can lack its position."""
    write_split(root, "train", SHOWN, [])
    write_split(root, "eval", EVAL, [])
    rows = read(str(root), "eval", "train")
    assert rows.users.tolist() == [b"u", b"v", b"w"]
    assert rows.items.tolist() == [b"b", b"c", b"b"]
    assert rows.labels.tolist() == [1.0, 0.0, 1.0]
    assert rows.timestamps.tolist() == [4, 5, 6]
    assert rows.positions.tolist() == [-1, 0, -1]
    assert rows.history_lengths.tolist() == [1, 3, 0]
    assert rows.serialized.tolist() == EVAL + SHOWN


def _reordered(uri, *splits):
    return read_labelled(uri, *sorted(splits, reverse=True))


def _one_split(uri, *splits):
    return read_labelled(uri, splits[0])


def _not_in_full(uri, *splits):
    return read_labelled(uri, *splits, in_full=False)


def _no_position_is_first(uri, *splits):
    rows = read_labelled(uri, *splits)
    return dataclasses.replace(rows, positions=np.maximum(rows.positions, 0))


def test_labelled_rows_are_columns_of_equal_length(tmp_path, monkeypatch):
    (tmp_path / "whole").mkdir()
    check_labelled(read_labelled, tmp_path / "whole")
    monkeypatch.setattr("components.read_examples._BATCH", 1)
    (tmp_path / "parts").mkdir()
    check_labelled(read_labelled, tmp_path / "parts")


@pytest.mark.parametrize(
    "wrong", [_reordered, _one_split, _not_in_full, _no_position_is_first]
)
def test_labelled_checker_rejects(wrong, tmp_path):
    with pytest.raises(AssertionError):
        check_labelled(wrong, tmp_path)


def test_rows_are_labelled_by_what_is_asked_for(tmp_path):
    example = tf.train.Example.FromString(SHOWN[0])
    example.features.feature["reward"].float_list.value.append(0.25)
    write_split(tmp_path, "test", [example.SerializeToString()])
    assert read_labelled(str(tmp_path), "test", target="reward").labels == [0.25]
    assert read_labelled(str(tmp_path), "test").labels == [0.0]


def test_labelled_rows_can_do_without_their_examples(examples):
    rows = read_labelled(str(examples), "train", "eval", in_full=False)
    assert len(rows.users) == 4
    assert len(rows.serialized) == len(rows.history_lengths) == 0


def test_split_without_a_labelled_row_is_empty_columns(tmp_path):
    write_split(tmp_path, "test", [])
    rows = read_labelled(str(tmp_path), "test")
    for column in dataclasses.fields(rows):
        assert len(getattr(rows, column.name)) == 0


def check_log(read, uri: str) -> None:
    """The checker, by hand: rows are train, eval, test; items are catalogue rows.

    Only the test rows have histories: nothing asks for the others'.
    """
    log, serialized = read(uri, ["c", "b", "a", "never"], history_decay=0.5)
    assert serialized.tolist() == TEST
    assert log.interactions.users.tolist() == [0, 1, 2, 0, 0, 3]
    assert log.interactions.items.tolist() == [2, 1, -1, 1, 0, 2]
    assert log.interactions.timestamps.tolist() == [1, 2, 3, 4, 5, 6]
    assert log.is_train.tolist() == [True] * 4 + [False] * 2
    assert log.is_test.tolist() == [False] * 4 + [True] * 2
    assert log.candidates.tolist() == [0, 1, 2, 3]
    nothing = [0, 0, 0, 0]
    assert log.histories.toarray().tolist() == [
        *(nothing, nothing, nothing, nothing),
        [0, 2, 1, 0],  # b twice; an item that is not in the catalogue is left out
        nothing,
    ]
    # Newest first: b weighs 1, a 1/2, b again 1/4, what is gone 1/8 to nobody.
    assert log.decayed_histories.toarray().tolist() == [
        *(nothing, nothing, nothing, nothing),
        [0, 1.25, 0.5, 0],
        nothing,
    ]
    assert log.item_times.tolist() == [5, 2, 1, -1]


def test_log_has_every_split_with_histories_beside_their_rows(examples):
    check_log(read_test_log, str(examples))


def _sorted_catalogue(uri, item_ids, **settings):
    return read_test_log(uri, sorted(item_ids), **settings)


def _test_rows_backwards(uri, item_ids, **settings):
    log, serialized = read_test_log(uri, item_ids, **settings)
    return log, serialized[::-1]


def _smaller_catalogue(uri, item_ids, **settings):
    return read_test_log(uri, item_ids[1:], **settings)


def _oldest_weighs_most(uri, item_ids, history_decay):
    return read_test_log(uri, item_ids, history_decay=1 / history_decay)


def _last_events(uri, item_ids, **settings):
    log, serialized = read_test_log(uri, item_ids, **settings)
    known = log.interactions.items >= 0
    times = np.full(len(item_ids), -1)
    np.maximum.at(
        times, log.interactions.items[known], log.interactions.timestamps[known]
    )
    return dataclasses.replace(log, item_times=times), serialized


@pytest.mark.parametrize(
    "wrong",
    [
        _sorted_catalogue,
        _test_rows_backwards,
        _smaller_catalogue,
        _oldest_weighs_most,
        _last_events,
    ],
)
def test_log_checker_rejects(wrong, examples):
    with pytest.raises(AssertionError):
        check_log(wrong, str(examples))


def test_log_without_test_rows_has_no_test_rows(tmp_path):
    for split, rows in (("train", TRAIN), ("eval", EVAL), ("test", [])):
        write_split(tmp_path, split, rows)
    log, serialized = read_test_log(str(tmp_path), ["a"])
    assert not log.is_test.any()
    assert log.is_train.all()
    assert len(serialized) == 0
    assert log.histories.shape == (3, 1) and log.histories.nnz == 0


def test_log_of_small_batches_is_the_same(examples, monkeypatch):
    monkeypatch.setattr("components.read_examples._BATCH", 1)
    check_log(read_test_log, str(examples))


def test_given_times_of_items_stand_for_their_first_events(examples):
    times = np.array([7, -1, 9])
    log, _ = read_test_log(str(examples), ["c", "b", "a"], item_times=times)
    assert log.item_times.tolist() == [7, 2, 9]  # b's is not known: its first event
