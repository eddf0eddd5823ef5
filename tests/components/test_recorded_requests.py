"""Requests made of test rows: which row, and how what is missing is sent."""

import numpy as np
import pytest
import tensorflow as tf

from components.recorded_requests import requests_of_test_users
from schemas.features import Feature, FeatureCatalog, FeatureKind
from serving import tensor_codec

CATALOG = FeatureCatalog(
    user=(
        Feature(name="age", kind=FeatureKind.NUMERIC),
        Feature(name="job", kind=FeatureKind.CATEGORICAL),
        Feature(name="taste", kind=FeatureKind.VECTOR, size=2),
    ),
    item=(Feature(name="price", kind=FeatureKind.NUMERIC),),
    context=(
        Feature(name="tags", kind=FeatureKind.MULTI_CATEGORICAL, weights="counts"),
        Feature(name="seed", kind=FeatureKind.ITEM_ID),
    ),
)
SPEC = {
    "user_id": tf.io.FixedLenFeature([], tf.string),
    "item_id": tf.io.FixedLenFeature([], tf.string),
    "history_item_ids": tf.io.VarLenFeature(tf.string),
    "user_age": tf.io.VarLenFeature(tf.float32),
    "user_job": tf.io.VarLenFeature(tf.string),
    "item_price": tf.io.VarLenFeature(tf.float32),
    "context_tags": tf.io.VarLenFeature(tf.string),
    "user_taste": tf.io.VarLenFeature(tf.float32),
    "context_counts": tf.io.VarLenFeature(tf.float32),
    "context_seed": tf.io.VarLenFeature(tf.string),
}


def row(
    user, item, history=(), age=None, job=None, tags=(), counts=(), taste=(), seed=None
) -> bytes:
    out = tf.train.Example()
    feature = out.features.feature
    strings = {
        "user_id": [user],
        "item_id": [item],
        "history_item_ids": history,
        "user_job": [job] if job else [],
        "context_tags": tags,
        "context_seed": [seed] if seed else [],
    }
    for key, values in strings.items():
        if values:
            feature[key].bytes_list.value.extend(value.encode() for value in values)
    numbers = {
        "user_age": [] if age is None else [age],
        "user_taste": taste,
        "context_counts": counts,
    }
    for key, values in numbers.items():
        if values:
            feature[key].float_list.value.extend(values)
    return out.SerializeToString(deterministic=True)


EARLY = row("u", "a", age=30.0)
LATE = row(
    *("u", "b", ["a", "c"], 31.0, "baker", ["x", "y"], [0.5, 2.0], [1.0, -1.0], "c")
)
BARE = row("new", "c")
OTHER = row("zoe", "a", ["b"], job="smith")


@pytest.fixture
def interactions(tmp_path):
    folder = tmp_path / "Split-test"
    folder.mkdir()
    # A user's events lie in one file, in the order of time.
    for number, rows in enumerate(([OTHER], [EARLY, LATE, BARE])):
        path = str(folder / f"data_tfrecord-{number:05d}-of-00002.gz")
        with tf.io.TFRecordWriter(path, "GZIP") as writer:
            for serialized in rows:
                writer.write(serialized)
    return str(tmp_path)


def check_requests(make, uri: str) -> None:
    """The checker: one request a user, of the latest row, in the order of ids."""
    requests = make(uri, SPEC, CATALOG, 10)
    assert [request.example for request in requests] == [BARE, LATE, OTHER]
    assert [request.inputs["user_id"].tolist() for request in requests] == [
        [b"new"],
        [b"u"],
        [b"zoe"],
    ]
    assert [request.history for request in requests] == [[], ["a", "c"], ["b"]]


def test_request_is_of_a_users_latest_row(interactions):
    check_requests(requests_of_test_users, interactions)


def _unordered(uri, spec, catalog, limit):
    return requests_of_test_users(uri, spec, catalog, limit)[::-1]


def _one_too_few(uri, spec, catalog, limit):
    return requests_of_test_users(uri, spec, catalog, 2)


@pytest.mark.parametrize("wrong", [_unordered, _one_too_few])
def test_request_checker_rejects(wrong, interactions):
    with pytest.raises(AssertionError):
        check_requests(wrong, interactions)


def test_limit_keeps_the_first_users(interactions):
    requests = requests_of_test_users(interactions, SPEC, CATALOG, 2)
    assert [request.example for request in requests] == [BARE, LATE]


def test_inputs_are_those_of_the_serving_signature(interactions):
    _, late, _ = requests_of_test_users(interactions, SPEC, CATALOG, 3)
    assert set(late.inputs) == {
        "user_id",
        "history_item_ids",
        "user_age",
        "user_job",
        "user_taste",
        "context_tags",
        "context_counts",
        "context_seed",
    }  # no input of the item's side
    assert late.inputs["user_age"].dtype == np.float32
    assert late.inputs["user_age"].tolist() == [31.0]
    assert late.inputs["user_job"].tolist() == [b"baker"]
    assert late.inputs["context_tags"].tolist() == [[b"x", b"y"]]
    assert late.inputs["history_item_ids"].tolist() == [[b"a", b"c"]]
    assert late.inputs["user_taste"].tolist() == [[1.0, -1.0]]
    assert late.inputs["context_counts"].tolist() == [[0.5, 2.0]]
    for name in ("user_taste", "context_counts"):
        assert late.inputs[name].dtype == np.float32
    assert late.inputs["context_seed"].tolist() == [b"c"]


def test_missing_values_are_sent_as_nan_and_empty_text(interactions):
    bare, _, _ = requests_of_test_users(interactions, SPEC, CATALOG, 3)
    assert np.isnan(bare.inputs["user_age"]).tolist() == [True]
    assert bare.inputs["user_age"].dtype == np.float32
    assert tf.constant(bare.inputs["user_job"], tf.string).numpy().tolist() == [b""]
    assert bare.inputs["context_tags"].shape == (1, 0)
    assert bare.inputs["context_counts"].shape == (1, 0)
    assert bare.inputs["context_counts"].dtype == np.float32
    assert np.isnan(bare.inputs["user_taste"]).tolist() == [[True, True]]
    assert bare.inputs["user_taste"].dtype == np.float32
    assert tf.constant(bare.inputs["context_seed"], tf.string).numpy() == [b""]
    assert bare.inputs["history_item_ids"].shape == (1, 0)


def test_recommend_takes_the_same_inputs_and_three_more(interactions):
    request = requests_of_test_users(interactions, SPEC, CATALOG, 1)[0]
    plain = request.to_recommend(k=7, seed=3)
    assert plain["exclude_item_ids"].shape == (1, 0)
    assert plain["k"].dtype == np.int32
    assert plain["k"].shape == ()
    assert plain["seed"].dtype == np.int64
    assert plain["seed"].tolist() == [3]
    excluding = request.to_recommend(k=7, seed=3, exclude=("a", "ö"))
    assert excluding["exclude_item_ids"].tolist() == [[b"a", "ö".encode()]]
    assert set(plain) - set(request.inputs) == {"exclude_item_ids", "k", "seed"}
    assert "k" not in request.inputs


def test_every_input_can_go_over_the_wire(interactions):
    for request in requests_of_test_users(interactions, SPEC, CATALOG, 3):
        for array in request.to_recommend(k=2, seed=1).values():
            again = tensor_codec.decode(tensor_codec.encode(array))
            assert again.shape == array.shape
