"""What stands in a model between epochs is the average that its steps had."""

import numpy as np
import pytest
import tensorflow as tf

from models.weight_average import WeightAverage

EPOCHS, STEPS = 3, 45  # a snapshot every third step, fifteen an epoch


class Weights(tf.keras.callbacks.Callback):
    """Keeps the weights after each step, at each epoch's end and at its beginning."""

    def __init__(self):
        super().__init__()
        self.steps, self.ends, self.begins = [], [], []

    def now(self):
        return np.concatenate([np.ravel(w) for w in self.model.get_weights()])

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append(self.now())

    def on_epoch_end(self, epoch, logs=None):
        self.ends.append(self.now())

    def on_train_batch_begin(self, batch, logs=None):
        if batch == 0:
            self.begins.append(self.now())


def trained(average, epochs=EPOCHS, steps=STEPS):
    tf.keras.utils.set_random_seed(0)
    layers = [tf.keras.layers.Dense(units) for units in (2, 1)]
    model = tf.keras.Sequential(layers)
    model.build([None, 3])
    model.compile(tf.keras.optimizers.SGD(0.1), "mse")
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(steps * 4, 3)).astype(np.float32)
    labels = inputs.sum(axis=1) + rng.normal(size=len(inputs)).astype(np.float32)
    seen = Weights()
    callbacks = [seen] if average is None else [average(0.5, steps), seen]
    model.fit(inputs, labels, 4, epochs, shuffle=False, callbacks=callbacks, verbose=0)
    return seen


def check_average(average):
    plain, seen = trained(None), trained(average)
    # Training is not disturbed: it goes on from the weights that the steps had.
    np.testing.assert_array_equal(seen.steps, plain.steps)
    np.testing.assert_array_equal(seen.begins, plain.begins)
    snapshots = plain.steps[2::3]
    decay = np.exp(-3 / (0.5 * STEPS))
    for epoch, found in enumerate(seen.ends):
        known = snapshots[: (epoch + 1) * STEPS // 3]
        # The first snapshot has the weight of all that would have been before it.
        ages = np.arange(len(known))[::-1]
        weights = (1 - decay) * decay**ages
        weights[0] = decay ** ages[0]
        assert weights.sum() == pytest.approx(1)
        np.testing.assert_allclose(found, weights @ known, rtol=1e-4, atol=1e-6)


class Latest(WeightAverage):
    def on_epoch_end(self, epoch, logs=None):
        pass


class TrainsFromTheAverage(WeightAverage):
    def on_epoch_begin(self, epoch, logs=None):
        pass


class StartsAtZero(WeightAverage):
    def on_train_begin(self, logs=None):
        shapes = [(3, 2), (2,), (2, 1), (1,)]
        self._average = [np.zeros(shape, np.float32) for shape in shapes]


class OfTheEpochAlone(WeightAverage):
    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_begin(epoch, logs)
        self._average = []


def test_average():
    check_average(WeightAverage)


@pytest.mark.parametrize(
    "wrong", [Latest, TrainsFromTheAverage, StartsAtZero, OfTheEpochAlone]
)
def test_checker_rejects_wrong_averages(wrong):
    with pytest.raises(AssertionError):
        check_average(wrong)


def test_an_epoch_of_one_step_has_a_snapshot_too():
    seen = trained(WeightAverage, epochs=4, steps=1)
    decay = np.exp(-2)
    expected = seen.steps[0]
    for step, end in zip(seen.steps[1:], seen.ends[1:], strict=True):
        expected = decay * expected + (1 - decay) * step
        np.testing.assert_allclose(end, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("epochs", "steps", "message"),
    [(0.0, 3, "`epochs` should be > 0"), (0.5, 0, "`steps` should be >= 1")],
)
def test_bad_arguments_are_refused(epochs, steps, message):
    with pytest.raises(ValueError, match=message):
        WeightAverage(epochs, steps)
