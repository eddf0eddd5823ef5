import numpy as np
import pytest
import tensorflow as tf

from models.ranking.inputs import RankerInputs, flat
from tests.models import ranker_contract
from tests.models.ranker_contract import rows_of
from tests.models.ranking.embedded_rows import embed_rows

SPACE = ranker_contract.space()
ITEM_FIELDS = 1 + len(SPACE.item)
# The order in which `RankerInputs` lays its tables out.
ORDER = [SPACE.item_id, *SPACE.item, SPACE.user_id, *SPACE.user, *SPACE.context]


def _rows():
    return rows_of(np.arange(12), np.arange(12)[::-1].copy(), seed=4)


def _with_random_weights(inputs_class, items=None):
    inputs = inputs_class(SPACE, 3, items)
    rng = np.random.default_rng(0)
    for variable in inputs.trainable_variables:
        variable.assign(rng.normal(size=variable.shape))
    return inputs


def _expected(inputs, rows):
    """Returns the query's [B, Fq, K] and the candidate's [B, Fc, K], in plain loops."""
    weights = [variable.numpy() for variable in inputs.trainable_variables]
    vectors = embed_rows(rows, SPACE, *weights, features=ORDER)
    return vectors[:, ITEM_FIELDS:], vectors[:, :ITEM_FIELDS]


def check_rows(inputs_class):
    """Holds the embedded rows, whatever their axes, to the reference."""
    inputs, rows = _with_random_weights(inputs_class), _rows()
    query, candidate = _expected(inputs, rows)
    np.testing.assert_allclose(inputs.query(rows), query, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(inputs.candidates(rows), candidate, rtol=1e-5, atol=1e-6)
    grid = {
        name: tf.reshape(rows[name], [4, 3, *rows[name].shape[1:]])
        for name in SPACE.candidate_names
    }
    np.testing.assert_allclose(
        tf.reshape(inputs.candidates(grid), [12, ITEM_FIELDS, 3]),
        candidate,
        rtol=1e-5,
        atol=1e-6,
    )


def check_events(inputs_class):
    """Holds an event to the candidate of the same item; one unknown has its id alone."""
    items = ranker_contract.items()
    inputs, rows = _with_random_weights(inputs_class, items), _rows()
    _, of_items = _expected(inputs, {**_rows_of_items(items)})
    events, is_event = inputs.events(rows)
    history = rows["history_item_ids_xf"].numpy()
    table = inputs.trainable_variables[0].numpy()
    assert events.shape == (*history.shape, inputs.event_dim)
    known = {
        int(id_): row.ravel()
        for id_, row in zip(items["item_id_xf"], of_items, strict=True)
    }
    for row, column in np.ndindex(*history.shape):
        id_ = history[row, column]
        assert bool(is_event[row, column]) == (id_ != 0)
        by_id = np.zeros(inputs.event_dim)
        if id_:
            by_id[:3] = table[id_]
        expected = known.get(id_, by_id)
        np.testing.assert_allclose(events[row, column], expected, rtol=1e-5, atol=1e-6)
    # The last item has no row in `items`; the others have.
    assert (history == ranker_contract.WORLD.size + 1).any()


def _rows_of_items(items):
    num_items = len(items["item_id_xf"])
    rows = rows_of(np.zeros(num_items, int), np.arange(num_items))
    return rows | items


class SwapsTheSides(RankerInputs):
    def query(self, features):
        return super().query(features)[:, ::-1]


class SeedHasATableOfItsOwn(RankerInputs):
    def query(self, features):
        return super().query(features | {"context_seed_xf": features["user_id_xf"]})


class SumsLists(RankerInputs):
    def candidates(self, features):
        return 2 * super().candidates(features)


class PadsWithALearntVector(RankerInputs):
    def events(self, features):
        events, is_event = super().events(features)
        return events + tf.cast(~is_event, tf.float32)[..., tf.newaxis], is_event


class ReadsIdsAlone(RankerInputs):
    def events(self, features):
        events, is_event = super().events(features)
        only_id = tf.one_hot([0, 1, 2], self.event_dim)
        return events * tf.reduce_sum(only_id, axis=0), is_event


class CountsPaddingAsEvents(RankerInputs):
    def events(self, features):
        events, is_event = super().events(features)
        return events, tf.ones_like(is_event)


def test_ranker_inputs_rows_equal_the_reference():
    check_rows(RankerInputs)


@pytest.mark.parametrize("wrong", [SwapsTheSides, SeedHasATableOfItsOwn, SumsLists])
def test_rows_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_rows(wrong)


def test_ranker_inputs_events_equal_candidates_of_the_same_items():
    check_events(RankerInputs)


@pytest.mark.parametrize(
    "wrong", [PadsWithALearntVector, ReadsIdsAlone, CountsPaddingAsEvents, SumsLists]
)
def test_events_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_events(wrong)


@pytest.mark.parametrize("items", [None, ranker_contract.items()])
def test_ranker_inputs_event_is_comparable_with_a_candidate(items):
    inputs = _with_random_weights(RankerInputs, items)
    if items is None:
        items = ranker_contract.items()
        assert inputs.event_dim == 3
    else:
        assert inputs.event_dim == 3 * ITEM_FIELDS
    candidates = inputs.as_event(inputs.candidates(items))
    history = {"history_item_ids_xf": items["item_id_xf"][tf.newaxis]}
    np.testing.assert_allclose(inputs.events(history)[0][0], candidates, rtol=1e-6)


def test_ranker_inputs_without_events_have_a_shape():
    empty = {"history_item_ids_xf": tf.zeros([2, 0], tf.int64)}
    for items in (None, ranker_contract.items()):
        inputs = RankerInputs(SPACE, 3, items)
        events, is_event = inputs.events(empty)
        assert events.shape == (2, 0, inputs.event_dim) and is_event.shape == (2, 0)


def test_ranker_inputs_embed_a_repeated_item_once():
    """The gradient of a table has a row for each distinct id, however often it occurs."""
    inputs = RankerInputs(SPACE, 3)
    history = {"history_item_ids_xf": tf.constant([[2, 2, 3, 2]])}
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(inputs.events(history)[0])
    gradient = tape.gradient(loss, inputs.trainable_variables[0])
    assert sorted(gradient.indices.numpy()) == [2, 3]


def test_flat_joins_fields_in_order():
    vectors = tf.reshape(tf.range(24), [2, 2, 3, 2])
    np.testing.assert_array_equal(flat(vectors)[1, 0], np.arange(12, 18))
