import numpy as np
import pytest
import tensorflow as tf

from models.layers.recurrent import left_aligned
from models.ranking.gru4rec import GRU4Rec
from models.ranking.gru4rec_settings import GRU4RecSettings
from tests import reference_sequence as reference
from tests.models import ranker_contract
from tests.models.ranker_contract import RankerContract
from tests.models.ranking import sequence_rows
from tests.models.ranking.sequence_rows import weights

SETTINGS = GRU4RecSettings(embedding_dim=4, units=(6,), hidden=(16, 8), dropout=0.0)
TWO_LAYERS = SETTINGS.model_copy(update={"units": (6, 5)})


class TestGRU4Rec(RankerContract):
    def make(self, space):
        return GRU4Rec(space, SETTINGS, ranker_contract.items())


class TestGRU4RecOfIds(RankerContract):
    def make(self, space):
        return GRU4Rec(space, TWO_LAYERS)


def _gates(gru):
    """Returns the weights by what they do; the layer's second gate keeps."""
    kernel, recurrent_gates, recurrent, gate_bias, bias = weights(gru)
    reset, keep, new = np.split(kernel, 3, axis=1)
    of_reset, of_keep = np.split(recurrent_gates, 2, axis=1)
    reset_bias, keep_bias = np.split(gate_bias, 2)
    return {
        "reset": (reset, of_reset, reset_bias),
        "update": (-keep, -of_keep, -keep_bias),  # 1 - sigmoid(x) = sigmoid(-x)
        "new": (new, recurrent, bias),
    }


def check_forward(model_class, settings):
    model = sequence_rows.made(model_class, settings)
    (out,) = weights(model.out)

    def expected(row):
        states = row.events
        for gru in model.grus:
            states = reference.gru_states(states, _gates(gru))
        state = states[-1] if len(states) else np.zeros(settings.units[-1])
        score = float(state @ out @ row.target)
        return score + sequence_rows.head(model, [row.user, state], [row.item])

    sequence_rows.check_logits(model, expected)


class NewestFirst(GRU4Rec):
    def read_history(self, features, user, training):
        name = self.space.history_name
        turned = {**features, name: tf.reverse(features[name], [1])}
        return super().read_history(turned, user, training)


class LastColumn(GRU4Rec):
    """Reads the state after the padding behind the events."""

    def read_events(self, features, history_ids, training):
        events, is_event = super().read_events(features, history_ids, training)
        return events, tf.ones_like(is_event)


class NoScore(GRU4Rec):
    def compare(self, state, fields, training):
        return None, None


class ScoresTheUpperLayerTwice(GRU4Rec):
    def compare(self, state, fields, training):
        return None, 2 * super().compare(state, fields, training)[1]


@pytest.mark.parametrize("settings", [SETTINGS, TWO_LAYERS], ids=["one", "two"])
def test_gru4rec_forward_equals_the_formula(settings):
    check_forward(GRU4Rec, settings)


@pytest.mark.parametrize(
    "wrong", [NewestFirst, LastColumn, NoScore, ScoresTheUpperLayerTwice]
)
def test_forward_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_forward(wrong, SETTINGS)


def test_gru4rec_state_does_not_see_where_padding_stands():
    model = sequence_rows.made(GRU4Rec, SETTINGS)
    name = sequence_rows.SPACE.history_name
    moved = {**sequence_rows.ROWS, name: left_aligned(sequence_rows.ROWS[name])}
    np.testing.assert_allclose(
        model(moved), model(sequence_rows.ROWS), rtol=1e-4, atol=1e-5
    )
