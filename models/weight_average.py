"""The average of a model's weights over its last training steps, in their place."""

import math

import numpy as np
import tensorflow as tf

_SNAPSHOTS_AN_EPOCH = 20


class WeightAverage(tf.keras.callbacks.Callback):
    """Replaces the weights between epochs, and at the end, by their moving average.

        average <- d average + (1 - d) weights,    d = exp(-n / (epochs * steps))

    after every n-th step of an epoch of `steps` steps, n = steps / 20 rounded up; the
    first snapshot is the first average. Training goes on from the weights themselves.

    At a constant step size the weights keep moving around where they are drawn to; their
    average is closer, as at the end of a decaying schedule, and needs no end to be
    planned: every epoch can be the last. Snapshots, unlike an average that every step
    moves, keep a step's cost free of the size of the embedding tables.

    What Keras measures on validation rows is the average too. To be listed before
    callbacks that measure the model at an epoch's end.

    Args:
        epochs: time constant of the average, > 0.
        steps: of an epoch, >= 1.

    References:
        [1] Izmailov et al. Averaging Weights Leads to Wider Optima and Better
            Generalization. UAI 2018.
        [2] Morales-Brotons, Vogels, Hendrikx. Exponential Moving Average of Weights in
            Deep Learning: Dynamics and Benefits. TMLR 2024.
    """

    def __init__(self, epochs: float, steps: int) -> None:
        super().__init__()
        if epochs <= 0:
            raise ValueError(f"`epochs` should be > 0. Received: epochs={epochs}")
        if steps < 1:
            raise ValueError(f"`steps` should be >= 1. Received: steps={steps}")
        self._every = math.ceil(steps / _SNAPSHOTS_AN_EPOCH)
        self._decay = math.exp(-self._every / (epochs * steps))
        self._step = 0
        self._average: list[np.ndarray] = []
        self._latest: list[np.ndarray] = []  # what training goes on from
        self._kept: list[tf.Variable] = []

    def variables(self, model: tf.keras.Model) -> list[tf.Variable]:
        """Makes what a checkpoint of the model must hold beside it, between epochs.

        Args:
            model: with all of its weights.

        Returns:
            Variables, written at each epoch's end; once they are restored, `resume`.
        """
        copies = [
            [
                tf.Variable(weight, trainable=False)
                for weight in model.trainable_variables
            ]
            for _ in range(2)
        ]
        self._kept = [tf.Variable(0, dtype=tf.int64), *copies[0], *copies[1]]
        return self._kept

    def resume(self) -> None:
        """Goes on from the values that `variables` now have."""
        self._step = int(self._kept[0])
        values = [np.array(variable.numpy()) for variable in self._kept[1:]]
        half = len(values) // 2
        self._average, self._latest = values[:half], values[half:]

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._step += 1
        if self._step % self._every:
            return
        weights = self._weights()
        if not self._average:
            self._average = weights
            return
        for average, weight in zip(self._average, weights, strict=True):
            average += (1 - self._decay) * (weight - average)

    def on_test_begin(self, logs: dict | None = None) -> None:
        self._put_in()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._put_in()
        if self._kept and self._average:
            values = [self._step, *self._average, *self._latest]
            for variable, value in zip(self._kept, values, strict=True):
                variable.assign(value)

    def _put_in(self) -> None:
        if self._average and not self._latest:
            self._latest = self._weights()
            self._assign(self._average)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        if self._latest:
            self._assign(self._latest)
            self._latest = []

    def _weights(self) -> list[np.ndarray]:
        # Arrays of our own: a variable's may be the memory that the next step writes to.
        return [np.array(v.numpy()) for v in self.model.trainable_variables]

    def _assign(self, values: list[np.ndarray]) -> None:
        variables = self.model.trainable_variables
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
