import numpy as np
import pytest
import tensorflow as tf

from models.ranking.lstm import LSTM
from models.ranking.lstm_settings import LSTMSettings
from tests import reference_sequence as reference
from tests.models import ranker_contract
from tests.models.ranker_contract import RankerContract
from tests.models.ranking import sequence_rows
from tests.models.ranking.sequence_rows import weights

SETTINGS = LSTMSettings(embedding_dim=4, units=6, hidden=(16, 8), dropout=0.0)


class TestLSTM(RankerContract):
    def make(self, space):
        return LSTM(space, SETTINGS, ranker_contract.items())


def check_forward(model_class):
    model = sequence_rows.made(model_class, SETTINGS)
    parts = [np.split(weight, 4, axis=-1) for weight in weights(model.lstm)]
    names = ("write", "keep", "show", "new")
    gates = dict(zip(names, zip(*parts, strict=True), strict=True))

    def expected(row):
        state = reference.lstm_state(row.events, gates)
        return sequence_rows.head(model, [row.user, state], [row.item])

    sequence_rows.check_logits(model, expected)


class SeesPadding(LSTM):
    def read_events(self, features, history_ids, training):
        events, is_event = super().read_events(features, history_ids, training)
        return events, tf.ones_like(is_event)


class HiddenStateOnly(LSTM):
    def read_history(self, features, user, training):
        state, nothing = super().read_history(features, user, training)
        return tf.concat([0 * state[:, :6], state[:, 6:]], axis=1), nothing


class NoHistory(LSTM):
    def read_history(self, features, user, training):
        state, nothing = super().read_history(features, user, training)
        return 0 * state, nothing


def test_lstm_forward_equals_the_formula():
    check_forward(LSTM)


@pytest.mark.parametrize("wrong", [SeesPadding, HiddenStateOnly, NoHistory])
def test_forward_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_forward(wrong)


def test_penalty_covers_the_vectors_of_the_batch_only():
    """Of every sequence ranker: query fields, events and candidate fields."""
    settings = SETTINGS.model_copy(update={"l2": 0.5})
    model = sequence_rows.made(LSTM, settings)
    model(sequence_rows.ROWS, training=True)
    expected = 0.5 * np.mean(
        [
            sum(np.square(part).sum() for part in (row.user, row.events, row.item))
            for row in sequence_rows.rows_as_read(model)
        ]
    )
    np.testing.assert_allclose(sum(model.losses), expected, rtol=1e-5)
    model(sequence_rows.ROWS, training=False)
    assert model.losses == []


def test_vectors_spread_at_first_as_asked_for():
    for stddev in (0.05, 0.5):
        settings = SETTINGS.model_copy(update={"embedding_stddev": stddev})
        table = LSTM(sequence_rows.SPACE, settings).inputs_layer.vectors.table.numpy()
        # 5 standard errors of a normal sample's spread.
        bound = 5 * stddev / np.sqrt(2 * table.size)
        assert abs(table.std() - stddev) < bound
