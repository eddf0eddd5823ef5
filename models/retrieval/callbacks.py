"""What is watched while the two towers train: recall, and the estimated frequencies."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from models.retrieval.presence import StreamCounts, presence_error
from models.retrieval.two_tower import Tensors
from models.training_input import Batch, transformed_batches
from schemas.features import ITEM_ID

_VALIDATION_CUTOFF = 100
_VALIDATION_BATCH = 1024


class EvalRecall(tf.keras.callbacks.Callback):
    """Measures recall@100 on the eval split after each epoch, and stops in time.

    An eval event is ranked as in `evaluation.ranks_of_positives`, among the items of the
    train split but the others in its history; an item that the train split does not hold
    is a miss.

    Args:
        settings: for the patience.
        transform: the analysed transform.
        items: what `training_items.distinct_items` collects of the train split.
        eval_files: of the eval split.
        logs: folder of the run.
    """

    def __init__(self, settings, transform, items: Tensors, eval_files, logs) -> None:
        super().__init__()
        self.best_epoch = 0
        self.best = -1.0
        self._patience = settings.patience
        self._space = transform.space
        self._items = items
        self._batches = transformed_batches(eval_files, transform, _VALIDATION_BATCH)
        self._writer = tf.summary.create_file_writer(str(logs))

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        recall = self._recall()
        with self._writer.as_default():
            tf.summary.scalar(f"eval/recall@{_VALIDATION_CUTOFF}", recall, step=epoch)
        self._writer.flush()  # or a run that ends keeps its last points to itself
        if logs is not None:
            logs["eval_recall"] = recall
        if recall > self.best:
            self.best, self.best_epoch = recall, epoch
        elif epoch - self.best_epoch >= self._patience:
            self.model.stop_training = True

    def _recall(self) -> float:
        vectors = self.model.embed_candidates(self._items)
        ids = self._items[self._space.item_id.name]
        hits = [self._hits(features, ids, vectors) for features, _ in self._batches]
        return float(np.mean(np.concatenate(hits)))

    @tf.function(reduce_retracing=True)
    def _hits(self, features: Tensors, ids: tf.Tensor, vectors: tf.Tensor) -> tf.Tensor:
        scores = tf.matmul(self.model.embed_query(features), vectors, transpose_b=True)
        # NaN is neither above nor equal to anything: a diverged model would hit always.
        scores = tf.where(tf.math.is_nan(scores), float("-inf"), scores)
        own = features[self._space.item_id.name][:, tf.newaxis] == ids  # [B, items]
        score = tf.reduce_max(tf.where(own, scores, float("-inf")), axis=1)
        history = features[self._space.history_name]  # [B, T]
        place = tf.searchsorted(ids, tf.reshape(history, [-1]))
        place = tf.reshape(tf.minimum(place, tf.size(ids) - 1), tf.shape(history))
        is_item = tf.gather(ids, place) == history
        rows = tf.broadcast_to(
            tf.range(tf.shape(place)[0])[:, tf.newaxis], tf.shape(place)
        )
        seen = tf.boolean_mask(tf.stack([rows, place], axis=-1), is_item)  # [n, 2]
        scores = tf.tensor_scatter_nd_update(
            scores, seen, tf.fill([tf.shape(seen)[0]], float("nan"))
        )  # so that no comparison counts them
        above = scores > score[:, tf.newaxis]
        ties = (scores == score[:, tf.newaxis]) & ~own
        rank = tf.reduce_sum(tf.cast(above, tf.float32), axis=1)
        rank += tf.reduce_sum(tf.cast(ties, tf.float32), axis=1) / 2
        is_hit = (rank < _VALIDATION_CUTOFF) & tf.reduce_any(own, axis=1)
        return tf.cast(is_hit, tf.float32)


class TemperatureBoard(tf.keras.callbacks.Callback):
    """Writes the temperature after each epoch.

    Args:
        logs: folder of the run.
    """

    def __init__(self, logs: Path) -> None:
        super().__init__()
        self._writer = tf.summary.create_file_writer(str(logs))

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        with self._writer.as_default():
            tf.summary.scalar("temperature", self.model.temperature, step=epoch)
        self._writer.flush()


class FrequencyBoard(tf.keras.callbacks.Callback):
    """Writes the estimated sampling probabilities, and how far they are from exact ones.

    `sampling_probability` is of the buckets hit so far. `sampling_error/log10` is the
    histogram over the items of an epoch of log10(estimated / exact chance of being in a
    batch), and `sampling_error/mean_abs*` are the means of `PresenceError`.

    Args:
        logs: folder of the run.
        num_micro_batches: into how many batches a training step splits what it gets.
    """

    def __init__(self, logs: Path, num_micro_batches: int = 1) -> None:
        super().__init__()
        self._writer = tf.summary.create_file_writer(str(logs))
        self._num_micro_batches = num_micro_batches
        self._counts = StreamCounts()

    def watch(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """Returns the same batches, which are counted as they are read.

        To be given to `fit` in their stead, as Keras shows no batch to a callback;
        without, there are no errors to write.
        """

        def count(features: Tensors, row: Tensors) -> Batch:
            # Has a side effect, so it runs though nobody takes a result.
            tf.numpy_function(self._count, [row[ITEM_ID]], [])
            return features, row

        return batches.map(count)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        with self._writer.as_default(step=epoch):
            self._write_estimates()
            self._write_errors()
        self._writer.flush()
        self._counts = StreamCounts()

    def _write_estimates(self) -> None:
        frequency = self.model.frequency
        gaps = tf.boolean_mask(frequency.gap, frequency.last_step > 0)
        log10 = -tf.math.log(gaps) / np.log(10)
        tf.summary.histogram("sampling_probability/log10", log10)
        tf.summary.histogram("sampling_probability", 1.0 / gaps)

    def _write_errors(self) -> None:
        item_ids, hits = self._counts.hits()
        if not item_ids:
            return
        log_presence = self.model.frequency.log_presence(tf.constant(item_ids))
        error = presence_error(log_presence.numpy(), hits, self._counts.steps)
        means = {"mean_abs": error.mean_abs, "mean_abs_of_hits": error.mean_abs_of_hits}
        for decile, mean in error.mean_abs_by_decile.items():
            means[f"mean_abs_of_decile_{decile:02}"] = mean
        tf.summary.histogram("sampling_error/log10", error.log10)
        for name, mean in means.items():
            tf.summary.scalar(f"sampling_error/{name}", mean)

    def _count(self, item_ids: np.ndarray) -> None:
        for place in range(self._num_micro_batches):
            self._counts.add(item_ids[place :: self._num_micro_batches].tolist())
