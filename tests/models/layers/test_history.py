import numpy as np
import pytest
import tensorflow as tf

from models.layers.history import (
    MaskedMean,
    RecencyWeightedMean,
    masked_mean,
    newest_vector,
    recency_rank,
)
from tests import reference

IDS = np.array([[0, 0, 7, 3, 9], [4, 4, 0, 5, 0], [0, 0, 0, 0, 0], [1, 2, 3, 4, 5]])
SCORES = np.array([2.0, 0.5, -1.0, 0.0, 3.0], np.float32)


def _embeddings(shape=(4, 5, 3)):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def _mean_of(layer_class):
    def mean(embeddings, ids):
        layer = layer_class(history_length=5)
        layer.scores.assign(SCORES)
        return layer(tf.constant(embeddings), tf.constant(ids))

    return mean


# recency_rank


def check_recency_rank(rank):
    expected = [[-1, -1, 2, 1, 0], [2, 1, -1, 0, -1], [-1] * 5, [4, 3, 2, 1, 0]]
    np.testing.assert_array_equal(rank(tf.constant(IDS)), expected)


WRONG_RANKS = {
    "by column": lambda ids: tf.where(
        ids != 0, tf.range(4, -1, -1)[tf.newaxis, :] * tf.ones_like(ids, tf.int32), -1
    ),
    "oldest first": lambda ids: tf.where(
        ids != 0,
        tf.cumsum(tf.cast(ids != 0, tf.int32), axis=1, exclusive=True),
        -1,
    ),
    "pads ranked": lambda ids: tf.cumsum(
        tf.cast(ids != 0, tf.int32), axis=1, exclusive=True, reverse=True
    ),
}


def test_recency_rank_value():
    check_recency_rank(recency_rank)


@pytest.mark.parametrize("wrong", WRONG_RANKS.values(), ids=WRONG_RANKS)
def test_recency_rank_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_recency_rank(wrong)


# RecencyWeightedMean


class ScoresByColumn(RecencyWeightedMean):
    def call(self, embeddings, history_ids):
        weight = tf.where(history_ids != 0, tf.exp(self.scores)[::-1], 0.0)
        total = tf.reduce_sum(weight[..., tf.newaxis] * embeddings, axis=1)
        return tf.math.divide_no_nan(total, tf.reduce_sum(weight, 1, keepdims=True))


class PadsWeighToo(RecencyWeightedMean):
    def call(self, embeddings, history_ids):
        return super().call(embeddings, tf.ones_like(history_ids))


class NotNormalised(RecencyWeightedMean):
    def call(self, embeddings, history_ids):
        count = tf.reduce_sum(tf.cast(history_ids != 0, tf.float32), 1, keepdims=True)
        return super().call(embeddings, history_ids) * count


class PlainMean(RecencyWeightedMean):
    def call(self, embeddings, history_ids):
        return masked_mean(embeddings, history_ids)


def check_recency_weighted_mean(mean):
    embeddings = _embeddings()
    np.testing.assert_allclose(
        mean(embeddings, IDS),
        reference.recency_weighted_mean(embeddings, IDS, SCORES),
        rtol=1e-5,
        atol=1e-6,
    )


def check_padding_is_irrelevant(mean):
    """Pads on the left, on the right or in between give one answer."""
    rng = np.random.default_rng(1)
    items = rng.normal(size=(3, 4)).astype(np.float32)
    answers = []
    for columns in ([0, 1, 2], [2, 3, 4], [0, 2, 4]):
        ids = np.zeros([1, 5], np.int64)
        embeddings = rng.normal(size=(1, 5, 4)).astype(np.float32)  # pads hold noise
        ids[0, columns], embeddings[0, columns] = [5, 6, 7], items
        answers.append(mean(embeddings, ids)[0])
    np.testing.assert_allclose(answers[1], answers[0], rtol=1e-6)
    np.testing.assert_allclose(answers[2], answers[0], rtol=1e-6)


@pytest.mark.parametrize(
    "check", [check_recency_weighted_mean, check_padding_is_irrelevant]
)
def test_recency_weighted_mean(check):
    check(_mean_of(RecencyWeightedMean))


@pytest.mark.parametrize(
    ("check", "wrong"),
    [
        (check_recency_weighted_mean, ScoresByColumn),
        (check_recency_weighted_mean, PadsWeighToo),
        (check_recency_weighted_mean, NotNormalised),
        (check_recency_weighted_mean, PlainMean),
        (check_padding_is_irrelevant, ScoresByColumn),
        (check_padding_is_irrelevant, PadsWeighToo),
    ],
)
def test_recency_weighted_mean_checkers_reject(check, wrong):
    with pytest.raises(AssertionError):
        check(_mean_of(wrong))


def test_recency_weighted_mean_starts_as_the_plain_mean():
    embeddings = _embeddings()
    np.testing.assert_allclose(
        RecencyWeightedMean(5)(tf.constant(embeddings), tf.constant(IDS)),
        reference.masked_mean(embeddings, IDS),
        rtol=1e-5,
        atol=1e-6,
    )


def test_recency_weighted_mean_shares_the_last_score_among_older_items():
    embeddings = _embeddings((1, 6, 3))
    layer = RecencyWeightedMean(2)
    layer.scores.assign([1.0, -0.5])
    expected = reference.recency_weighted_mean(
        embeddings, np.ones([1, 6], int), np.array([1.0] + [-0.5] * 5)
    )
    actual = layer(tf.constant(embeddings), tf.ones([1, 6], tf.int64))
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_recency_weighted_mean_has_finite_gradients_on_empty_histories():
    layer = RecencyWeightedMean(5)
    layer.scores.assign([80.0, -80.0, 0.0, 0.0, 0.0])
    embeddings = tf.constant(_embeddings())
    with tf.GradientTape() as tape:
        tape.watch(embeddings)
        loss = tf.reduce_sum(tf.square(layer(embeddings, tf.constant(IDS))))
    for gradient in tape.gradient(loss, [embeddings, layer.scores]):
        assert np.isfinite(tf.convert_to_tensor(gradient)).all()


def test_recency_weighted_mean_config_round_trip_behaves_alike():
    first = RecencyWeightedMean(3)
    second = RecencyWeightedMean.from_config(first.get_config())
    for layer in (first, second):
        layer.scores.assign(SCORES[:3])
    arguments = tf.constant(_embeddings()), tf.constant(IDS)
    np.testing.assert_array_equal(first(*arguments), second(*arguments))


def test_recency_weighted_mean_refuses_no_ranks():
    with pytest.raises(ValueError, match=r"`history_length` should be >= 1. Received"):
        RecencyWeightedMean(0)


# masked_mean and newest_vector


def check_masked_mean(mean):
    embeddings = _embeddings()
    np.testing.assert_allclose(
        mean(tf.constant(embeddings), tf.constant(IDS)),
        reference.masked_mean(embeddings, IDS),
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize("mean", [masked_mean, MaskedMean()])
def test_masked_mean_value(mean):
    check_masked_mean(mean)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda e, ids: tf.reduce_mean(e, axis=1),
        lambda e, ids: tf.reduce_mean(
            e * tf.cast(ids != 0, tf.float32)[..., tf.newaxis], axis=1
        ),
    ],
    ids=["pads count", "pads are zero but counted"],
)
def test_masked_mean_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_masked_mean(wrong)


def check_newest_vector(newest):
    """Rows of `IDS`, whose newest ids stand in several columns; the third is empty."""
    vectors = np.random.default_rng(5).normal(size=(*IDS.shape, 3)).astype(np.float32)
    expected = np.zeros((len(IDS), 3))
    for row, ids in enumerate(IDS):
        if ids.any():
            expected[row] = vectors[row, np.flatnonzero(ids)[-1]]
    found = newest(tf.constant(vectors), tf.constant(IDS))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_newest_vector_value():
    check_newest_vector(newest_vector)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda vectors, ids: vectors[:, -1],
        lambda vectors, ids: newest_vector(vectors[:, ::-1], ids),
        lambda vectors, ids: newest_vector(vectors, tf.ones_like(ids)),
    ],
    ids=["last column", "oldest first read as newest first", "padding is an item"],
)
def test_newest_vector_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_newest_vector(wrong)
