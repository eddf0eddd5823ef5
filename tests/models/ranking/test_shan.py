import numpy as np
import pytest
import tensorflow as tf

from models.ranking.shan import SHAN
from models.ranking.shan_settings import SHANSettings
from tests import reference_sequence as reference
from tests.models import ranker_contract
from tests.models.ranker_contract import RankerContract
from tests.models.ranking import sequence_rows
from tests.models.ranking.sequence_rows import weights

NEWEST = 2
SETTINGS = SHANSettings(embedding_dim=4, num_newest=NEWEST, hidden=(16, 8), dropout=0.0)


class TestSHAN(RankerContract):
    def make(self, space):
        return SHAN(space, SETTINGS, ranker_contract.items())


class TestSHANOfIds(RankerContract):
    def make(self, space):
        return SHAN(space, SETTINGS)


def check_forward(model_class):
    model = sequence_rows.made(model_class, SETTINGS)
    (user,) = weights(model.user)
    keys = [
        weights(key) for key in (model.attention.long_key, model.attention.hybrid_key)
    ]

    def expected(row):
        hybrid = reference.shan_user(row.user @ user, row.events, NEWEST, *keys)
        score = float(hybrid @ row.target)
        return score + sequence_rows.head(model, [row.user, hybrid], [row.item])

    sequence_rows.check_logits(model, expected)


class NoLongTerm(SHAN):
    """The published mistake: the newest events alone."""

    def read_history(self, features, user, training):
        name = self.space.history_name
        newest = {**features, name: features[name][:, -NEWEST:]}
        return super().read_history(newest, user, training)


class NoUser(SHAN):
    """Attends to what all users attend to."""

    def read_history(self, features, user, training):
        return super().read_history(features, 0 * user, training)


class NoScore(SHAN):
    def compare(self, state, fields, training):
        return None, None


def test_shan_forward_equals_the_formula():
    check_forward(SHAN)


@pytest.mark.parametrize("wrong", [NoLongTerm, NoUser, NoScore])
def test_forward_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_forward(wrong)


def test_shan_sees_no_order_among_older_events():
    """Attention without positions: the newest are a set, and so are the older ones."""
    model = sequence_rows.made(SHAN, SETTINGS)
    name = sequence_rows.SPACE.history_name
    history = sequence_rows.ROWS[name].numpy()
    full = np.all(history != 0, axis=1)
    rows = {key: value[full] for key, value in sequence_rows.ROWS.items()}
    within, across = history[full], history[full]
    within = within[:, [3, 2, 1, 0, 5, 4]]
    across = across[:, [5, 1, 2, 3, 4, 0]]
    logits = model(rows)
    np.testing.assert_allclose(
        model({**rows, name: tf.constant(within)}), logits, rtol=1e-4, atol=1e-5
    )
    assert not np.allclose(model({**rows, name: tf.constant(across)}), logits)
