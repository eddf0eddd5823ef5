"""How far a fit has come: the best weights, when to stop, and where to resume."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from models.weight_average import WeightAverage


class Progress(tf.keras.callbacks.Callback):
    """Stops when the eval split gets no better, and resumes what was killed.

    After each epoch all that the next one depends on is written down: weights, the
    optimizer's slots, the best weights so far. Random numbers of an epoch start from the
    seed, so that the epochs after a kill end in the weights they would have ended in.

    Args:
        patience: epochs without a lower `val_log_loss` before stopping.
        seed: of dropout and whatever else a step draws.
        folder: receives the checkpoint; None keeps none. It should be of this model,
            data and settings only.
        average: what takes the place of the weights between epochs, if anything does; to
            be listed before this.
    """

    def __init__(
        self,
        patience: int,
        seed: int,
        folder: Path | None,
        average: WeightAverage | None = None,
    ) -> None:
        super().__init__()
        self._average = average
        self._patience = patience
        self._seed = seed
        self._folder = folder
        self._epochs = tf.Variable(0, name="epochs", dtype=tf.int64)
        self._waited = tf.Variable(0, name="waited", dtype=tf.int64)
        self._lowest = tf.Variable(np.inf, name="lowest", dtype=tf.float64)
        self._best: list[tf.Variable] = []

    def resume(self, model: tf.keras.Model) -> int:
        """Restores what a killed fit has left.

        Args:
            model: with all of its weights, compiled with an optimizer that is built.

        Returns:
            The epoch to go on with; 0 where nothing was left.
        """
        self._best = [tf.Variable(weight, trainable=False) for weight in model.weights]
        if self._folder is None:
            return 0
        average = self._average.variables(model) if self._average else []
        checkpoint = tf.train.Checkpoint(
            average=average,
            weights=model.weights,
            optimizer=model.optimizer,
            best=self._best,
            epochs=self._epochs,
            waited=self._waited,
            lowest=self._lowest,
        )
        self._manager = tf.train.CheckpointManager(
            checkpoint, str(self._folder), max_to_keep=1
        )
        if self._manager.latest_checkpoint:
            status = checkpoint.restore(self._manager.latest_checkpoint)
            status.assert_existing_objects_matched()
            if self._average:
                self._average.resume()
        return int(self._epochs)

    @property
    def is_over(self) -> bool:
        """Whether the patience is at its end."""
        return int(self._waited) > 0 and int(self._waited) >= self._patience

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        # Starts the random operations inside the traced step anew as well.
        tf.random.set_seed(self._seed)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        loss = (logs or {})["val_log_loss"]
        if loss < float(self._lowest):
            self._lowest.assign(loss)
            self._waited.assign(0)
            _copy(self.model.weights, self._best)
        else:
            self._waited.assign_add(1)
        self._epochs.assign(epoch + 1)
        if self._folder is not None:
            self._manager.save()
        if self.is_over:
            self.model.stop_training = True

    def keep_best(self, model: tf.keras.Model) -> None:
        """Gives the model the weights that were best on the eval split.

        Raises:
            ValueError: if no epoch had a log loss that is a number.
        """
        if not np.isfinite(float(self._lowest)):
            raise ValueError(
                "the log loss on the eval split was no number after each of "
                f"{int(self._epochs)} epochs: training diverged. Lower "
                "`ranking.learning_rate`, or try `ranking.schedule: warmup`"
            )
        _copy(self._best, model.weights)


def _copy(source: list[tf.Variable], target: list[tf.Variable]) -> None:
    for value, variable in zip(source, target, strict=True):
        variable.assign(value)
