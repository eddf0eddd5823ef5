import numpy as np
import pytest
import tensorflow as tf

from models.ranking.rum import RUM
from models.ranking.rum_settings import MemoryLevel, RUMSettings
from tests import reference_sequence as reference
from tests.models import ranker_contract
from tests.models.ranker_contract import RankerContract
from tests.models.ranking import sequence_rows
from tests.models.ranking.sequence_rows import weights

SLOTS, WEIGHT = 3, 0.7
FEATURE = RUMSettings(
    embedding_dim=4,
    num_slots=SLOTS,
    memory_weight=WEIGHT,
    hidden=(16, 8),
    dropout=0.0,
    level=MemoryLevel.FEATURE,
)
ITEM = FEATURE.model_copy(update={"level": MemoryLevel.ITEM})
LEVELS = pytest.mark.parametrize("settings", [FEATURE, ITEM], ids=["feature", "item"])


class TestRUMOfFeatures(RankerContract):
    def make(self, space):
        return RUM(space, FEATURE, ranker_contract.items())


class TestRUMOfItems(RankerContract):
    def make(self, space):
        return RUM(space, ITEM, ranker_contract.items())


def check_forward(model_class, settings):
    model = sequence_rows.made(model_class, settings)
    (user,) = weights(model.user)

    def read(row):
        if settings is ITEM:
            return reference.rum_items(row.target, row.events, SLOTS)
        keys = weights(model.features.address)[0].T
        erase, add = weights(model.features.erase), weights(model.features.add)
        memory = reference.rum_memory(row.events, keys, erase, add, len(row.target))
        return reference.rum_features(row.target, memory, keys)

    def expected(row):
        found = read(row)
        score = float((row.user @ user + WEIGHT * found) @ row.target)
        return score + sequence_rows.head(model, [row.user], [row.item, found])

    sequence_rows.check_logits(model, expected)


class WritesTheTarget(RUM):
    """The leak: the memory has seen what it is asked for."""

    def read_query(self, features, training):
        name = self.space.history_name
        target = sequence_rows.ROWS[self.space.item_id.name][:, tf.newaxis]
        history = tf.concat([features[name], target], axis=1)
        return super().read_query({**features, name: history}, training)


class NewestFirst(RUM):
    def read_query(self, features, training):
        name = self.space.history_name
        turned = {**features, name: tf.reverse(features[name], [1])}
        return super().read_query(turned, training)


class NoUser(RUM):
    """Scores by the memory alone."""

    def compare(self, state, fields, training):
        user, *memory = state
        return super().compare((0 * user, *memory), fields, training)


class NoMemory(RUM):
    def compare(self, state, fields, training):
        self.memory_weight = 0.0
        return super().compare(state, fields, training)


@LEVELS
def test_rum_forward_equals_the_formula(settings):
    check_forward(RUM, settings)


@LEVELS
@pytest.mark.parametrize("wrong", [WritesTheTarget, NewestFirst, NoUser, NoMemory])
def test_forward_checker_rejects(wrong, settings):
    with pytest.raises(AssertionError):
        check_forward(wrong, settings)


def test_rum_of_items_looks_at_the_newest_events_alone():
    name = sequence_rows.SPACE.history_name
    history = sequence_rows.ROWS[name]
    cut = {**sequence_rows.ROWS, name: history[:, -SLOTS:]}
    of_items, of_features = (
        sequence_rows.made(RUM, settings) for settings in (ITEM, FEATURE)
    )
    np.testing.assert_allclose(of_items(cut), of_items(sequence_rows.ROWS), rtol=1e-5)
    assert not np.allclose(of_features(cut), of_features(sequence_rows.ROWS))
