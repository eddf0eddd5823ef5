"""The points that TensorBoard shows of a training run."""

import numpy as np
import tensorflow as tf

from models.training_log import StepMetrics


def read_points(folder) -> dict[str, dict[int, float]]:
    """Returns the scalars of a run by tag and step, as TensorBoard reads them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return {
        tag: {
            event.step: float(tf.make_ndarray(event.tensor_proto))
            for event in accumulator.Tensors(tag)
        }
        for tag in accumulator.Tags()["tensors"]
    }


def test_points_are_written_every_few_steps_across_epochs(tmp_path):
    # Keras's own callback with `update_freq=10` wrote none of them.
    model = tf.keras.Sequential([tf.keras.layers.Dense(1, input_shape=(2,))])
    model.compile("sgd", loss="mse", metrics=["mae"])
    x, y = np.ones((12, 2), np.float32), np.ones((12, 1), np.float32)
    model.fit(
        x,
        y,
        batch_size=2,
        epochs=3,
        verbose=0,
        callbacks=[StepMetrics(tmp_path, every=4)],
    )
    points = read_points(tmp_path)
    assert set(points) == {"steps/loss", "steps/mae"}
    assert list(points["steps/loss"]) == [4, 8, 12, 16]  # of 18 steps
    assert all(np.isfinite(list(values.values())).all() for values in points.values())


def test_points_are_on_disk_after_each_epoch(tmp_path):
    model = tf.keras.Sequential([tf.keras.layers.Dense(1, input_shape=(2,))])
    model.compile("sgd", loss="mse")
    seen = []

    class Look(tf.keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(len(read_points(tmp_path)["steps/loss"]))

    x, y = np.ones((4, 2), np.float32), np.ones((4, 1), np.float32)
    callbacks = [StepMetrics(tmp_path, every=1), Look()]
    model.fit(x, y, batch_size=2, epochs=2, verbose=0, callbacks=callbacks)
    assert seen == [2, 4]
