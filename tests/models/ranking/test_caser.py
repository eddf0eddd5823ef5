import numpy as np
import pytest
import tensorflow as tf

from models.ranking.caser import Caser
from models.ranking.caser_settings import CaserSettings
from tests import reference_sequence as reference
from tests.models import ranker_contract
from tests.models.ranker_contract import RankerContract
from tests.models.ranking import sequence_rows
from tests.models.ranking.sequence_rows import weights

EVENTS = 4  # fewer than the longest history has, and more than the shortest
SETTINGS = CaserSettings(
    embedding_dim=4,
    num_events=EVENTS,
    horizontal_filters=3,
    vertical_filters=2,
    units=5,
    hidden=(16, 8),
    dropout=0.0,
)


class TestCaser(RankerContract):
    def make(self, space):
        return Caser(space, SETTINGS, ranker_contract.items())


def check_forward(model_class):
    model = sequence_rows.made(model_class, SETTINGS)
    filters = {
        height: (kernel.numpy(), bias.numpy())
        for height, (kernel, bias) in enumerate(model.convolutions.horizontal, start=1)
    }
    vertical = model.convolutions.vertical.numpy()
    (user,), (item_weights,), (item_bias,) = map(
        weights, (model.user, model.item_weights, model.item_bias)
    )

    def expected(row):
        window = np.zeros((EVENTS, model.inputs_layer.event_dim))
        newest = row.events[-EVENTS:]
        window[EVENTS - len(newest) :] = newest
        found = reference.caser_features(window, filters, vertical)
        z = reference.dense(found, weights(model.pattern), reference.relu)
        joined = np.concatenate([z, row.user @ user])
        score = (row.item @ item_weights) @ joined + float((row.item @ item_bias)[0])
        return score + sequence_rows.head(model, [row.user, z], [row.item])

    sequence_rows.check_logits(model, expected)


class OldestEvents(Caser):
    def read_history(self, features, user, training):
        name = self.space.history_name
        history = tf.reverse(features[name], [1])
        return super().read_history({**features, name: history}, user, training)


class NoUser(Caser):
    """Scores [z; 0]."""

    def read_history(self, features, user, training):
        pattern, joined = super().read_history(features, user, training)
        return pattern, tf.concat([pattern, 0 * joined[:, 5:]], axis=-1)


class NoItemBias(Caser):
    def compare(self, state, fields, training):
        _, score = super().compare(state, fields, training)
        _, bias = super().compare(0 * state, fields, training)
        return None, score - bias


def test_caser_forward_equals_the_formula():
    check_forward(Caser)


@pytest.mark.parametrize("wrong", [OldestEvents, NoUser, NoItemBias])
def test_forward_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_forward(wrong)


def test_caser_looks_at_the_newest_events_alone():
    model = sequence_rows.made(Caser, SETTINGS)
    name = sequence_rows.SPACE.history_name
    history = sequence_rows.ROWS[name]
    cut = tf.concat([0 * history[:, :-EVENTS], history[:, -EVENTS:]], axis=1)
    assert np.any(cut != history)
    np.testing.assert_allclose(
        model({**sequence_rows.ROWS, name: cut}), model(sequence_rows.ROWS), rtol=1e-5
    )


def test_caser_drops_units_in_training_only():
    settings = SETTINGS.model_copy(update={"dropout": 0.5})
    model = sequence_rows.made(Caser, settings)
    rows = sequence_rows.ROWS
    np.testing.assert_array_equal(model(rows), model(rows))
    assert not np.allclose(model(rows, training=True), model(rows, training=True))
