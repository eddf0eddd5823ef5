"""What TensorBoard shows of a training run step by step."""

from pathlib import Path

import tensorflow as tf


class StepMetrics(tf.keras.callbacks.Callback):
    """Writes the loss and the metrics every few steps, as `steps/<name>`.

    Keras's own callback writes them by epoch; on a small log that is a handful of points.

    Args:
        logs: folder of the run.
        every: steps between two points.
    """

    def __init__(self, logs: Path, every: int = 10) -> None:
        super().__init__()
        self._writer = tf.summary.create_file_writer(str(logs))
        self._every = every
        self._step = 0

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._step += 1
        if self._step % self._every == 0:
            with self._writer.as_default():
                for name, value in (logs or {}).items():
                    tf.summary.scalar(f"steps/{name}", value, step=self._step)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._writer.flush()

    def on_train_end(self, logs: dict | None = None) -> None:
        self._writer.close()
