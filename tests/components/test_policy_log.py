"""Which rows of a log were one request's: what tells slates apart."""

import numpy as np
import pytest
import tensorflow as tf

from components.policy_log import read_shown, requests_of

USERS = np.array([b"u1", b"u1", b"u1", b"u1", b"u2", b"u2"], object)


def _partition(requests) -> set[frozenset[int]]:
    """Returns which rows are together, whatever their request is called."""
    numbers = np.asarray(requests)
    return {
        frozenset(np.flatnonzero(numbers == n).tolist()) for n in set(numbers.tolist())
    }


def check_requests_within_a_millisecond(implementation):
    """Two requests of one user at one moment, and one id that two users have."""
    found = implementation(
        USERS, np.full(6, 7), np.array([b"a", b"b", b"a", b"b", b"a", b"a"], object)
    )
    assert _partition(found) == {
        frozenset({0, 2}),
        frozenset({1, 3}),
        frozenset({4, 5}),
    }
    later = implementation(
        USERS[:3], np.array([7, 7, 8]), np.array([b"a", b"b", b"a"], object)
    )
    assert _partition(later) == {frozenset({0, 2}), frozenset({1})}


def check_requests_without_ids(implementation):
    """A user and a moment, for the rows of a log, or of a part of it, without ids."""
    moments = np.array([7, 7, 8, 8, 7, 8])
    expected = {
        frozenset({0, 1}),
        frozenset({2, 3}),
        frozenset({4}),
        frozenset({5}),
    }
    assert _partition(implementation(USERS, moments, None)) == expected
    nothing = np.full(6, b"", object)
    assert _partition(implementation(USERS, moments, nothing)) == expected
    some = np.array([b"", b"", b"a", b"", b"", b""], object)
    apart = {frozenset({2}), frozenset({3})}
    assert (
        _partition(implementation(USERS, moments, some))
        == (expected - {frozenset({2, 3})}) | apart
    )


def _by_moment(users, moments, ids):
    return requests_of(users, moments)


def _by_id_alone(users, moments, ids):
    if ids is None:
        return requests_of(users, moments)
    return np.unique(ids, return_inverse=True)[1]


def _by_id_and_moment(users, moments, ids):
    if ids is None:
        return requests_of(users, moments)
    both = np.array(
        [b"%b %d" % (i, m) for i, m in zip(ids, moments, strict=True)], object
    )
    return requests_of(users, moments, both)


def test_two_requests_of_one_user_in_one_millisecond_are_two():
    check_requests_within_a_millisecond(requests_of)


def test_rows_without_an_id_are_told_apart_by_user_and_moment():
    check_requests_without_ids(requests_of)


@pytest.mark.parametrize("wrong", [_by_moment, _by_id_alone, _by_id_and_moment])
def test_request_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_requests_within_a_millisecond(wrong)


def test_request_checker_rejects_one_request_for_all_rows_without_an_id():
    with pytest.raises(AssertionError):
        check_requests_without_ids(_by_id_alone)


def _row(number: int, **more) -> bytes:
    values = {
        "user_id": b"u",
        "item_id": b"i%d" % number,
        "label": 1.0,
        "reward": 1.0,
        "propensity": 0.5,
        "position": number % 2,
        "timestamp": 7,
        **more,
    }
    kinds = {bytes: "bytes_list", float: "float_list", int: "int64_list"}
    feature = {
        key: tf.train.Feature(**{kinds[type(value)]: {"value": [value]}})
        for key, value in values.items()
    }
    return tf.train.Example(features={"feature": feature}).SerializeToString()


def test_log_is_read_back_by_request(tmp_path):
    rows = [_row(n, request_id=b"ab"[n // 2 : n // 2 + 1]) for n in range(4)]
    rows += [_row(4), _row(5)]
    folder = tmp_path / "Split-test"
    folder.mkdir()
    file = str(folder / "data_tfrecord-00000-of-00001.gz")
    with tf.io.TFRecordWriter(file, "GZIP") as writer:
        for row in rows:
            writer.write(row)
    shown = read_shown(str(tmp_path), "test")
    assert shown.items.tolist() == [b"i%d" % n for n in range(6)]
    assert _partition(shown.requests) == {
        frozenset({0, 1}),
        frozenset({2, 3}),
        frozenset({4, 5}),
    }
