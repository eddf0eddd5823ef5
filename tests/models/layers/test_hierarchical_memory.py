"""The memory, from whole histories and by single events, beside the rule in loops."""

import numpy as np
import pytest
import tensorflow as tf

from models.layers.hierarchical_memory import HierarchicalMemory
from tests import reference_memory

DIM, UNITS = 3, 4
DOUBLING = (1, 2, 4, 8, 16)
PERIODS = (DOUBLING, (1,), (1, 1, 5), (2, 3), (3, 2), (1, 2, 4, 12), (4, 6, 9))
LENGTHS = range(36)


def randomised(layer_class, periods=DOUBLING):
    layer = layer_class(DIM, UNITS, periods)
    rng = np.random.default_rng(1)
    for weight in layer.weights:
        weight.assign(rng.normal(scale=0.7, size=weight.shape))
    return layer


def histories(where="left", lengths=LENGTHS, width=None):
    """Returns events [B, T, E], noise where nothing is, and is_event [B, T]."""
    rng = np.random.default_rng(3)
    width = max(lengths) if width is None else width
    is_event = np.zeros([len(lengths), width], bool)
    for row, length in enumerate(lengths):
        if where == "scattered":
            is_event[row, rng.permutation(width)[:length]] = True
        elif length:
            columns = slice(-length, None) if where == "left" else slice(length)
            is_event[row, columns] = True
    events = rng.normal(size=(*is_event.shape, DIM)).astype(np.float32)
    return tf.constant(events), tf.constant(is_event)


def weights_of(layer):
    return [
        {w.name.split(":")[0].split("/")[-1]: w.numpy() for w in part.weights}
        for part in layer.layers
    ]


def slow_memory(layer, events, is_event):
    weights = weights_of(layer)
    return np.stack(
        [
            reference_memory.hierarchical_memory(
                list(row[taken]), weights, layer.periods
            )
            for row, taken in zip(events.numpy(), is_event.numpy(), strict=True)
        ]
    )


def by_updates(layer, events, is_event):
    """Returns memory and step after one `update` a column."""
    memory, step = layer.empty(events.shape[0])
    for column in range(events.shape[1]):
        memory, step = layer.update(
            memory, step, events[:, column], is_event[:, column]
        )
    return memory, step


# ---------------------------------------------------------------- values


def check_batch(layer_class):
    """The checker of whole histories."""
    for periods in PERIODS:
        layer = randomised(layer_class, periods)
        for where in ("left", "right", "scattered"):
            events, is_event = histories(where, (0, 1, 2, 3, 5, 12, 13, 27))
            expected = slow_memory(layer, events, is_event)
            np.testing.assert_allclose(layer(events, is_event), expected, atol=1e-5)


def check_update(layer_class):
    """The checker of single events."""
    for periods in PERIODS:
        layer = randomised(layer_class, periods)
        events, is_event = histories("scattered", (0, 1, 2, 5, 12, 13, 27))
        memory, step = by_updates(layer, events, is_event)
        np.testing.assert_array_equal(
            step, tf.reduce_sum(tf.cast(is_event, tf.int64), 1)
        )
        expected = slow_memory(layer, events, is_event)
        np.testing.assert_allclose(memory, expected, atol=1e-5)


class CountsColumns(HierarchicalMemory):
    """Padding runs through the layers as zeros, as in the authors' code."""

    def call(self, events, is_event):
        events = tf.where(is_event[..., tf.newaxis], events, 0.0)
        return super().call(events, tf.ones_like(is_event))

    def update(self, memory, step, events, is_event=None):
        events = tf.where(is_event[:, tf.newaxis], events, 0.0)
        return super().update(memory, step, events)


class CountsFromTheEnd(HierarchicalMemory):
    """Periods end at the newest event: the memory of an event moves with later ones."""

    def call(self, events, is_event):
        last = self.periods[-1]
        missing = -tf.reduce_sum(tf.cast(is_event, tf.int32), 1) % last
        front = tf.range(last) >= last - missing[:, tf.newaxis]
        events = tf.concat([tf.zeros([len(events), last, DIM]), events], axis=1)
        return super().call(events, tf.concat([front, is_event], axis=1))


class MovesAtEveryEvent(HierarchicalMemory):
    def call(self, events, is_event):
        told, self.periods = self.periods, (1,) * len(self.periods)
        memory = super().call(events, is_event)
        self.periods = told
        return memory


class SkipsTheFirst(HierarchicalMemory):
    """Layers move at events 0, t, 2 t: one early."""

    def update(self, memory, step, events, is_event=None):
        memory, moved = super().update(memory, step - 1, events, is_event)
        return memory, moved + 1


class ReadsTheOldStateBelow(HierarchicalMemory):
    def update(self, memory, step, events, is_event=None):
        new, moved = super().update(memory, step, events, is_event)
        slots = [new[:, 0]]
        for place in range(1, len(self.periods)):
            slot = memory[:, place]
            is_due = is_event & (moved % self.periods[place] == 0)
            told = self.layers[place].step(memory[:, place - 1], slot)
            slots.append(tf.where(is_due[:, tf.newaxis], told, slot))
        return tf.stack(slots, axis=1), moved


class StopsWhereTheLayerBelowRests(HierarchicalMemory):
    """The authors' `while`: right only where each period divides the next."""

    def update(self, memory, step, events, is_event=None):
        new, moved = super().update(memory, step, events, is_event)
        is_due, slots = is_event, []
        for place, period in enumerate(self.periods):
            is_due &= moved % period == 0
            slots.append(
                tf.where(is_due[:, tf.newaxis], new[:, place], memory[:, place])
            )
        return tf.stack(slots, axis=1), moved


def test_memory_of_histories_equals_the_rule():
    check_batch(HierarchicalMemory)


@pytest.mark.parametrize("wrong", [CountsColumns, CountsFromTheEnd, MovesAtEveryEvent])
def test_batch_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_batch(wrong)


def test_memory_by_events_equals_the_rule():
    check_update(HierarchicalMemory)


@pytest.mark.parametrize(
    "wrong",
    [
        CountsColumns,
        SkipsTheFirst,
        ReadsTheOldStateBelow,
        StopsWhereTheLayerBelowRests,
    ],
)
def test_update_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_update(wrong)


# ---------------------------------------------------------------- both forms


def check_both_forms(layer_class, where):
    """The checker: every length up to 35, in one batch and one by one."""
    layer = randomised(layer_class)
    events, is_event = histories(where)
    memory, _ = by_updates(layer, events, is_event)
    np.testing.assert_allclose(layer(events, is_event), memory, atol=1e-5)
    for length in (1, 7, 16, 31):
        alone = tf.boolean_mask(events[length], is_event[length])[tf.newaxis]
        found = layer(alone, tf.ones(alone.shape[:2], tf.bool))
        np.testing.assert_allclose(found[0], memory[length], atol=1e-5)


@pytest.mark.parametrize("where", ["left", "right", "scattered"])
def test_both_forms_agree_for_every_length_and_padding(where):
    check_both_forms(HierarchicalMemory, where)


@pytest.mark.parametrize("wrong", [CountsFromTheEnd, SkipsTheFirst])
def test_both_forms_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_both_forms(wrong, "left")


def test_each_layer_moves_at_its_own_period_only():
    layer = randomised(HierarchicalMemory)
    events, _ = histories(lengths=(33,))
    memory, step = layer.empty(1)
    for number in range(1, 34):
        before = memory
        memory, step = layer.update(memory, step, events[:, number - 1])
        moved = np.any(memory != before, axis=-1)[0]
        assert moved.tolist() == [number % period == 0 for period in DOUBLING]


def test_gradients_of_both_forms_agree():
    layer = randomised(HierarchicalMemory)
    events, is_event = histories("scattered", (0, 3, 8, 21))
    mix = np.random.default_rng(2).normal(size=(4, len(DOUBLING), UNITS))
    found = []
    for memory_of in (layer, lambda *history: by_updates(layer, *history)[0]):
        with tf.GradientTape() as tape:
            tape.watch(events)
            loss = tf.reduce_sum(
                memory_of(events, is_event) * tf.constant(mix, tf.float32)
            )
        gradients = tape.gradient(loss, [events, *layer.trainable_variables])
        found.append([tf.convert_to_tensor(gradient) for gradient in gradients])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert not np.any(tf.boolean_mask(found[0][0], ~is_event))


@pytest.mark.parametrize("periods", [DOUBLING, (2, 3, 5)])
def test_short_histories_leave_upper_layers_empty(periods):
    layer = randomised(HierarchicalMemory, periods)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, DIM]),
            tf.TensorSpec([None, None], tf.bool),
        ]
    )
    def memory_of(events, is_event):
        return layer(events, is_event)

    for batch, length in ((0, 5), (3, 0), (2, 3)):
        is_event = tf.ones([batch, length], tf.bool)
        memory = memory_of(tf.ones([batch, length, DIM]), is_event)
        assert memory.shape == (batch, len(periods), UNITS)
        for place, period in enumerate(periods):
            assert np.any(memory[:, place]) == (batch > 0 and length >= period)


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize("periods", [(), (1, 0), (-2,)])
def test_bad_periods_are_named(periods):
    with pytest.raises(ValueError, match="`periods`.*Received: periods="):
        HierarchicalMemory(DIM, UNITS, periods)


def test_memory_from_its_config_gives_the_same():
    layer = randomised(HierarchicalMemory, (2, 3))
    again = HierarchicalMemory.from_config(layer.get_config())
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(again(*histories()), layer(*histories()))
    assert len({weight.name for weight in layer.weights}) == len(layer.weights)
