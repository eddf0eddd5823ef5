import numpy as np
import pytest
import tensorflow as tf

from models.layers.fm_interaction import fm_interaction
from models.ranking.deepfm import DeepFM
from models.ranking.fm import FM
from models.ranking.fm_settings import FMSettings
from tests import reference
from tests.models import ranker_contract
from tests.models.ranker_contract import RankerContract, rows_of
from tests.models.ranking.embedded_rows import embed_rows, random_weights

SETTINGS = FMSettings(embedding_dim=4, shrinkage=0, id_dropout=0, numeric_knots=())


class TestFM(RankerContract):
    def make(self, space):
        # Learns the withheld items from any seed; with ids left out, from some only.
        settings = FMSettings(embedding_dim=8, id_dropout=0, numeric_knots=())
        return FM(space, settings)


def check_forward(model_class):
    """Holds a model's logits to the formula, on given weights."""
    space = ranker_contract.space()
    rows = rows_of(np.arange(12), np.arange(12)[::-1].copy(), seed=4)
    model = model_class(space, SETTINGS)
    model(rows)
    rng = np.random.default_rng(0)
    model.set_weights([0.3 * rng.normal(size=w.shape) for w in model.get_weights()])
    terms = embed_rows(rows, space, *(v.numpy() for v in model.terms.variables))
    expected = (
        model.bias.numpy()
        + terms[..., -1].sum(axis=1)
        + reference.fm_pairs(terms[..., :-1])
    )
    np.testing.assert_allclose(model(rows), expected, rtol=1e-4, atol=1e-5)


class NothingAcross(FM):
    """Pairs within the query and within the candidate only."""

    def _joined(self, query, candidate, training):
        across = query[0].numpy().sum(-2) * candidate[0].numpy().sum(-2)
        return super()._joined(query, candidate, training) - across.sum(-1)


class PairsTwice(FM):
    """The double sum over i != j instead of i < j."""

    def _joined(self, query, candidate, training):
        within = fm_interaction(query[0]) + fm_interaction(candidate[0])
        return super()._joined(query, candidate, training) + within


class NoFirstOrder(FM):
    def _joined(self, query, candidate, training):
        zero = [(vectors, 0 * weights) for vectors, weights in (query, candidate)]
        return super()._joined(*zero, training)


def test_fm_forward_equals_the_formula():
    check_forward(FM)


def test_fm_begins_without_first_order_and_with_vectors_that_differ():
    model = FM(ranker_contract.space(), SETTINGS)
    for variable in model.terms.variables:
        values = variable.numpy()
        np.testing.assert_array_equal(values[..., -1], 0)
        assert 0.02 < values[..., :-1].std() < 0.1


@pytest.mark.parametrize("wrong", [NothingAcross, PairsTwice, NoFirstOrder])
def test_forward_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_forward(wrong)


def test_deepfm_without_its_network_is_an_fm():
    rows = rows_of(np.arange(12), np.arange(12)[::-1].copy(), seed=4)
    deep = DeepFM(ranker_contract.space())
    deep(rows)
    fm = FM(ranker_contract.space())
    fm(rows)
    fm.terms.set_weights(deep.terms.get_weights())
    deep.dnn.out.kernel.assign(0 * deep.dnn.out.kernel)
    np.testing.assert_allclose(fm(rows), deep(rows), rtol=1e-6)


# What is rare, and ids that are left out.


def _rows():
    return rows_of(np.arange(12), np.arange(12)[::-1].copy(), seed=4)


def check_counts(model_class):
    """Holds what each id's row counts to its number of rows, history aside."""
    space = ranker_contract.space()
    model = model_class(space, FMSettings(embedding_dim=4, shrinkage=2.0))
    rows = [_rows(), rows_of(np.array([3, 3, 5]), np.array([1, 1, 1]), seed=5)]
    model.prepare([(features, None) for features in rows])
    scale = model.terms.row_scale.numpy()
    begin = 0
    for feature in (space.user_id, space.history, *space.user):
        names = [feature.name]
        if feature.name == space.history_name:
            names = [space.item_id.name, "context_seed_xf"]
        if not feature.num_ids:
            continue
        for number in range(1, feature.num_ids):
            held = sum(
                int((r[name].numpy() == number).sum()) for name in names for r in rows
            )
            assert scale[begin + number] == pytest.approx(held / (held + 2.0)), feature
        begin += feature.num_ids


class CountsHistories(FM):
    def prepare(self, batches):
        item, history = self.space.item_id.name, self.space.history_name
        both = [
            features
            | {item: tf.concat([features[item][:, tf.newaxis], features[history]], 1)}
            for features, _ in batches
        ]
        super().prepare([(features, None) for features in both])


class CountsTheFirstBatch(FM):
    def prepare(self, batches):
        super().prepare(batches[:1])


def test_fm_counts_the_rows_that_hold_an_id():
    check_counts(FM)


@pytest.mark.parametrize("wrong", [CountsHistories, CountsTheFirstBatch])
def test_counts_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_counts(wrong)


def check_id_dropout(model_class):
    """Each training row is scored with or without either id, and by all four ways."""
    settings = SETTINGS.model_copy(update={"id_dropout": 0.5, "l2": 0.0})
    space = ranker_contract.space()
    model = model_class(space, settings)
    rows = _rows()
    random_weights(model, rows)
    ways = []
    for absent in ([], ["user_id_xf"], ["item_id_xf"], ["user_id_xf", "item_id_xf"]):
        some = rows | {name: tf.zeros_like(rows[name]) for name in absent}
        ways.append(model(some).numpy())
    tf.random.set_seed(0)
    seen = np.zeros(4)
    for _ in range(20):
        is_way = np.isclose(
            model(rows, training=True).numpy(), np.stack(ways), atol=1e-5
        )
        assert is_way.any(axis=0).all()
        seen += is_way.sum(axis=1)
    shares = seen / seen.sum()
    np.testing.assert_allclose(shares, 0.25, atol=4 * (0.25 * 0.75 / 240) ** 0.5)
    np.testing.assert_array_equal(model(rows), ways[0])


class DropsBothOrNone(FM):
    def _without_some(self, features, of):
        return features | {of.name: features[of.name] * self.coin}

    def call(self, features, training=False):
        stays = tf.random.uniform([]) < 0.5
        self.coin = tf.cast(stays or not training, tf.int64)
        return super().call(features, training)


class DropsNothing(FM):
    def _without_some(self, features, of):
        return features


def test_fm_leaves_out_ids_in_training_only():
    check_id_dropout(FM)


@pytest.mark.parametrize("wrong", [DropsBothOrNone, DropsNothing])
def test_id_dropout_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_id_dropout(wrong)


@pytest.mark.parametrize("knots", [(1.0,), (0.0, 0.0), (1.0, 0.0)])
def test_fm_settings_refuse_knots_that_do_not_ascend(knots):
    with pytest.raises(ValueError, match="none, or two or more that ascend"):
        FMSettings(numeric_knots=knots)
