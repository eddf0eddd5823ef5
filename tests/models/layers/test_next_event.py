import numpy as np
import pytest
import tensorflow as tf

from models.layers import next_event
from models.layers.next_event import NextEventLoss, events_of_other_rows
from tests import reference_sequence as reference
from tests.models.layers import sequences
from tests.models.layers.sequences import IDS, IS_EVENT, vectors

HIDDEN = (4, 3)

# events_of_other_rows


def _places(row):
    return {row * IDS.shape[1] + column for column in np.flatnonzero(IS_EVENT[row])}


def check_draws(draw):
    """Each row draws every event of the other rows equally often, and no other."""
    num_draws = 120
    counts = np.zeros((len(IDS), IDS.size))
    for _ in range(num_draws):
        place, is_drawn = draw(tf.constant(IS_EVENT))
        assert np.all(is_drawn)
        for row, drawn in enumerate(np.asarray(place)):
            np.add.at(counts[row], drawn, 1)
    num_drawn = num_draws * IDS.shape[1]
    for row in range(len(IDS)):
        others = sorted(set().union(*map(_places, range(len(IDS)))) - _places(row))
        assert set(np.flatnonzero(counts[row])) == set(others)
        share = 1 / len(others)
        # 5 standard errors of a share.
        bound = 5 * np.sqrt(share * (1 - share) / num_drawn)
        np.testing.assert_allclose(counts[row, others] / num_drawn, share, atol=bound)


def _next_row_only(is_event):
    place, is_drawn = events_of_other_rows(is_event)
    width = is_event.shape[1]
    return (place % width) + width * ((place // width + 1) % 4), is_drawn


def _any_row(is_event):
    places = np.flatnonzero(is_event.numpy())
    return np.random.choice(places, is_event.shape), np.ones((4, 1), bool)


def _any_place(is_event):
    draws = np.random.randint(0, is_event.shape[0] * 5, is_event.shape)
    return draws, np.ones((4, 1), bool)


def _older(is_event):
    """Older events are drawn more often."""
    (first, is_drawn), (second, _) = (events_of_other_rows(is_event) for _ in range(2))
    return tf.minimum(first, second), is_drawn


def test_events_of_other_rows_are_drawn_equally_often():
    check_draws(tf.function(events_of_other_rows))


@pytest.mark.parametrize("wrong", [_next_row_only, _any_row, _any_place, _older])
def test_draw_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_draws(wrong)


def test_draws_begin_anew_with_the_seed():
    """As an epoch does, so that a fit that was killed goes on as it would have."""
    draw = tf.function(events_of_other_rows)
    is_event = tf.ones([4, 9], tf.bool)
    tf.random.set_seed(3)
    first, second = draw(is_event)[0], draw(is_event)[0]
    assert np.any(first != second)
    tf.random.set_seed(3)
    np.testing.assert_array_equal(draw(is_event)[0], first)


def test_nothing_is_drawn_where_other_rows_are_empty():
    is_event = tf.constant([[False, True, True], [False, False, False]])
    place, is_drawn = events_of_other_rows(is_event)
    np.testing.assert_array_equal(is_drawn, [[False], [True]])
    assert set(np.asarray(place)[1]) <= {1, 2}
    for shape in ([2, 0], [0, 3], [2, 2]):
        _, is_drawn = events_of_other_rows(tf.zeros(shape, tf.bool))
        assert not np.any(is_drawn)


# NextEventLoss

# What is drawn against each event: places (row, column), some with the event's own id.
# None: the other rows have no event.
DRAWN_IDS = np.array(
    [[0, 0, 5, 4, 4], [3, 9, 7, 1, 2], [3, 3, 3, 3, 3], [4, 4, 3, 9, 7]]
)
COLUMNS = {7: (0, 2), 3: (0, 3), 9: (0, 4), 4: (1, 1), 5: (1, 3), 1: (3, 0), 2: (3, 1)}
TWIN = (3, 3)  # row 3's id 4 in column 3, drawn against row 1's 4 in column 1


def _drawn():
    drawn = [[COLUMNS.get(i) for i in row] for row in DRAWN_IDS]
    drawn[1][1] = TWIN
    return drawn


def _states():
    return vectors(*IDS.shape, seed=5)


def _inputs():
    return tf.constant(_states()), tf.constant(vectors()), tf.constant(IDS)


@pytest.fixture
def fixed_draws(monkeypatch):
    place = np.array(
        [[0 if at is None else at[0] * 5 + at[1] for at in row] for row in _drawn()],
        np.int32,
    )
    is_drawn = tf.constant([[True]] * 4)
    monkeypatch.setattr(
        next_event, "events_of_other_rows", lambda _: (tf.constant(place), is_drawn)
    )


def _made(layer_class=NextEventLoss):
    return sequences.randomised(layer_class(HIDDEN), *_inputs())


def check_loss(layer_class):
    layer = _made(layer_class)
    layers = [
        (dense.kernel.numpy().astype(float), dense.bias.numpy())
        for dense in (*layer.dense, layer.logit)
    ]
    expected = reference.next_event_loss(
        _states(), vectors(), IDS, _drawn(), (layers[:-1], layers[-1])
    )
    np.testing.assert_allclose(layer(*_inputs()), expected, rtol=1e-5)


class SeesPadding(NextEventLoss):
    """The published mistake: the loss is not masked."""

    def call(self, states, events, ids):
        return super().call(states, events, tf.where(ids == 0, -1, ids))


class ThisEvent(NextEventLoss):
    """Asks a state for the event it has just read."""

    def call(self, states, events, ids):
        return super().call(tf.roll(states, -1, axis=1), events, ids)


class AlsoItself(NextEventLoss):
    """A drawn event with the next one's id counts as a negative."""

    def call(self, states, events, ids):
        column = tf.range(1, ids.shape[1] + 1, dtype=ids.dtype)
        row = tf.range(1, ids.shape[0] + 1, dtype=ids.dtype)[:, tf.newaxis]
        distinct = tf.where(ids == 0, 0, column + 100 * row)
        return super().call(states, events, distinct)


class NoNegatives(NextEventLoss):
    def call(self, states, events, ids):
        return super().call(states, events, tf.minimum(ids, 1))


class MeanOverPadding(NextEventLoss):
    """Divides by all places, so that short histories count less."""

    def call(self, states, events, ids):
        return super().call(states, events, ids) * 7 / 16


def test_next_event_loss(fixed_draws):
    check_loss(NextEventLoss)


@pytest.mark.parametrize(
    "wrong", [SeesPadding, ThisEvent, AlsoItself, NoNegatives, MeanOverPadding]
)
def test_next_event_loss_checker_rejects(wrong, fixed_draws):
    with pytest.raises(AssertionError):
        check_loss(wrong)


def test_next_event_loss_gradients_reach_every_weight_and_no_padding():
    layer, states = _made(), tf.Variable(_states())
    events, ids = tf.Variable(vectors()), tf.constant(IDS)
    *_, of_states, of_events = sequences.check_gradients(
        layer, lambda: layer(states, events, ids), states, events
    )
    assert not np.any(of_states.numpy()[~IS_EVENT])
    assert not np.any(of_events.numpy()[~IS_EVENT])


@pytest.mark.parametrize("shape", [(3, 0), (3, 1), (3, 4), (1, 4)])
def test_next_event_loss_without_a_pair_is_zero(shape):
    ids = tf.zeros(shape, tf.int64)
    states = tf.zeros([*shape, 3])
    assert NextEventLoss(HIDDEN)(states, states, ids) == 0.0


def test_next_event_loss_tells_what_follows_from_what_does_not():
    """Each id follows another in a ring: the loss falls towards 0 by training."""
    rng = np.random.default_rng(0)
    ids = (rng.integers(0, 8, [64, 1]) + np.arange(5)) % 8 + 1
    table = tf.constant(2.0 * rng.normal(size=(9, 6)), tf.float32)
    layer, optimizer = NextEventLoss((32, 16)), tf.keras.optimizers.Adam(0.02)
    events = tf.gather(table, ids)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = layer(events, events, tf.constant(ids))
        variables = layer.trainable_variables
        optimizer.apply_gradients(
            zip(tape.gradient(loss, variables), variables, strict=True)
        )
        return loss

    layer(events, events, tf.constant(ids))
    first, *_, last = (float(step()) for _ in range(150))
    assert last < 0.1 < 1.0 < first


def test_next_event_loss_config_makes_the_same_layer():
    layer = NextEventLoss(HIDDEN)
    second = NextEventLoss.from_config(layer.get_config())
    assert second.get_config() == layer.get_config()
