import numpy as np
import pytest
import tensorflow as tf

from models.ranking.dnn import DNN
from models.ranking.wide_deep import WideDeep
from models.ranking.wide_deep_settings import WideDeepSettings
from tests import reference_ranking
from tests.models import ranker_contract
from tests.models.ranker_contract import RankerContract, rows_of
from tests.models.ranking.embedded_rows import random_weights

SPACE = ranker_contract.space()
CROSSES = (
    ("user_id", "item_genres"),
    ("history_item_ids", "item_id"),
    ("context_hour", "item_tags", "user_group"),
)
SETTINGS = WideDeepSettings(
    crosses=CROSSES, cross_buckets=64, embedding_dim=4, hidden=(16, 8)
)


class TestWideDeep(RankerContract):
    def make(self, space):
        return WideDeep(space, SETTINGS, ranker_contract.items())


class TestWideDeepWithoutCrosses(RankerContract):
    def make(self, space):
        return WideDeep(space, SETTINGS.model_copy(update={"crosses": ()}))


def _rows():
    return rows_of(np.arange(12), np.arange(12)[::-1].copy(), seed=4)


def _crossed(rows, key, row):
    """Returns the (id, value) of a feature of a row, in plain loops."""
    ids = np.atleast_1d(rows[f"{key}_xf"].numpy()[row])
    counts = np.ones(len(ids))
    if key == "item_tags":
        counts = rows["item_counts_xf"].numpy()[row]
    return [
        (id_, float(count) if id_ else 0.0)
        for id_, count in zip(ids, counts, strict=True)
    ]


def check_wide(model_class):
    """Holds what a model adds to its deep part to the linear model, in plain loops."""
    rows = _rows()
    model = model_class(SPACE, SETTINGS, ranker_contract.items())
    random_weights(model, rows)
    weights = [variable.numpy() for variable in model.first_order.trainable_variables]
    # No table is shared here: the history's is apart from the item's and the seed's.
    linear = _first_order(rows, weights)
    deep = DNN.logits(model, DNN.read_query(model, rows, False), _at_one(rows), False)
    expected = deep[:, 0].numpy() + linear
    for row in range(12):
        crosses = [[_crossed(rows, key, row) for key in cross] for cross in CROSSES]
        expected[row] += reference_ranking.crosses_sum(
            crosses, model.crosses.weight.numpy(), 64
        )
    np.testing.assert_allclose(model(rows), expected, rtol=1e-4, atol=1e-5)


def _at_one(rows):
    return {name: rows[name][:, tf.newaxis] for name in SPACE.candidate_names}


def _first_order(rows, weights):
    features = [*SPACE.query_features, *SPACE.candidate_features]
    table, numeric, projection = weights
    total, start = np.zeros(12), 0
    for feature in features:
        of_feature = table[start : start + feature.num_ids]
        start += feature.num_ids
        if feature.num_ids == 0:
            continue
        values = rows[feature.name].numpy()
        for row in range(12):
            pairs = _crossed(rows, feature.name.removesuffix("_xf"), row)
            found = [value * of_feature[id_, 0] for id_, value in pairs if id_]
            is_mean = found and values.ndim > 1 and feature.weights_name is None
            total[row] += np.mean(found) if is_mean else sum(found)
    assert start == len(table)
    total += rows["user_age_xf"].numpy() * numeric[0, 0]
    total += rows["item_price_xf"].numpy() * numeric[1, 0]
    return total + rows["user_taste_xf"].numpy() @ projection[:, 0]


class NoCrosses(WideDeep):
    def logits(self, query, candidates, training):
        self.crosses.weight.assign(tf.zeros_like(self.crosses.weight))
        return super().logits(query, candidates, training)


class NoLinearPart(WideDeep):
    def _linear(self, features, fields, first):
        return 0 * super()._linear(features, fields, first)


class HalfOfEach(WideDeep):
    """An ensemble of two models instead of one logit."""

    def logits(self, query, candidates, training):
        return super().logits(query, candidates, training) / 2


def test_wide_deep_wide_part_equals_the_loops():
    check_wide(WideDeep)


@pytest.mark.parametrize("wrong", [NoCrosses, NoLinearPart, HalfOfEach])
def test_wide_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_wide(wrong)


def _ftrl(weight, gradients, rate, l1):
    """FTRL-Proximal of one weight that starts at 0, as McMahan et al. 2013 have it."""
    z, n = 0.0, 0.1
    for gradient in gradients:
        sigma = (np.sqrt(n + gradient**2) - np.sqrt(n)) / rate
        z += gradient - sigma * weight
        n += gradient**2
        weight = 0.0 if abs(z) <= l1 else -(z - np.sign(z) * l1) * rate / np.sqrt(n)
    return weight


def check_training(make_optimizer):
    """Holds two steps to FTRL for the wide part, Adagrad for the deep one."""
    settings = SETTINGS.model_copy(
        update={"wide_learning_rate": 0.3, "wide_l1": 0.02, "deep_learning_rate": 0.2}
    )
    model = WideDeep(SPACE, settings)
    rows = _rows()
    model(rows)
    optimizer = make_optimizer(model)
    optimizer.build(model.trainable_variables)
    deep = model.head.out.kernel
    expected, seen = deep.numpy(), np.full(deep.shape, 0.1)
    of_bias = []
    for _ in range(2):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(
                tf.nn.sigmoid_cross_entropy_with_logits(
                    tf.constant([1.0, 0.0, 1.0] * 4), model(rows, training=True)
                )
            )
        gradients = tape.gradient(loss, model.trainable_variables)
        by_name = dict(
            zip((v.ref() for v in model.trainable_variables), gradients, strict=True)
        )
        of_bias.append(float(by_name[model.bias.ref()]))
        gradient = by_name[deep.ref()].numpy()
        seen = seen + gradient**2
        expected = expected - 0.2 * gradient / np.sqrt(seen + 1e-7)
        optimizer.apply_gradients(
            zip(gradients, model.trainable_variables, strict=True)
        )
    np.testing.assert_allclose(deep, expected, rtol=1e-4, atol=1e-6)
    bias = _ftrl(0.0, of_bias, 0.3, 0.02)
    np.testing.assert_allclose(model.bias, bias, rtol=1e-3, atol=1e-6)
    # The L1 penalty leaves weights of rare combinations at 0; the others moved.
    weights = model.crosses.weight.numpy()
    assert (weights == 0).any() and (weights != 0).any()


def test_wide_deep_is_trained_by_ftrl_and_adagrad():
    check_training(lambda model: model.make_optimizer(lambda rate: rate))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda model: tf.keras.optimizers.Adagrad(0.2),
        lambda model: tf.keras.optimizers.Ftrl(0.3, l1_regularization_strength=0.02),
        lambda model: model.make_optimizer(lambda rate: rate / 2),
    ],
)
def test_training_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_training(wrong)


@pytest.mark.parametrize("key", ["user_age", "item_colour", "item_counts", "label"])
def test_cross_of_what_has_no_categories_is_refused(key):
    settings = WideDeepSettings(crosses=[["user_id", key]])
    with pytest.raises(ValueError, match=rf"user_group.*item_id.*Received: '{key}'"):
        WideDeep(SPACE, settings)


@pytest.mark.parametrize(
    "cross", [["user_id"], ["user_id", "user_id"], ["a", "b", "c", "d"]]
)
def test_settings_refuse_a_cross_of(cross):
    with pytest.raises(ValueError, match="two or three features"):
        WideDeepSettings(crosses=[cross])
