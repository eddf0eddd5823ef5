"""What is watched while the two towers train: recall, and the estimated frequencies."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from models.feature_space import FeatureSpace
from models.retrieval.two_tower import Tensors
from models.training_input import transformed_batches

_VALIDATION_CUTOFF = 100
_VALIDATION_BATCH = 1024


class EvalRecall(tf.keras.callbacks.Callback):
    """Measures recall@100 on the eval split after each epoch, and stops in time.

    An eval event is ranked as in `evaluation.ranks_of_positives`, among the items of the
    train split but the others in its history; an item that the train split does not hold
    is a miss.
    """

    def __init__(self, settings, transform, train_files, eval_files, logs) -> None:
        super().__init__()
        self.best_epoch = 0
        self._best = -1.0
        self._patience = settings.patience
        self._space = transform.space
        self._items = distinct_items(
            self._space, transformed_batches(train_files, transform, _VALIDATION_BATCH)
        )
        self._batches = transformed_batches(eval_files, transform, _VALIDATION_BATCH)
        self._writer = tf.summary.create_file_writer(str(logs))

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        recall = self._recall()
        with self._writer.as_default():
            tf.summary.scalar(f"eval/recall@{_VALIDATION_CUTOFF}", recall, step=epoch)
        self._writer.flush()  # or a run that ends keeps its last points to itself
        if logs is not None:
            logs["eval_recall"] = recall
        if recall > self._best:
            self._best, self.best_epoch = recall, epoch
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


def distinct_items(space: FeatureSpace, batches: tf.data.Dataset) -> Tensors:
    """Collects the transformed features of each item of a dataset once.

    Returns:
        tensors of `space.candidate_names`, [items, ...], ascending by item id.
    """
    names = space.candidate_names
    found: dict[int, list[np.ndarray]] = {}
    for features, _ in batches.as_numpy_iterator():
        ids, first = np.unique(features[space.item_id.name], return_index=True)
        for item, row in zip(ids.tolist(), first, strict=True):
            if item not in found:
                found[item] = [features[name][row] for name in names]
    rows = [found[item] for item in sorted(found)]
    return {
        name: tf.constant(_stack_padded([row[column] for row in rows]))
        for column, name in enumerate(names)
    }


def _stack_padded(values: list[np.ndarray]) -> np.ndarray:
    """Stacks scalars, or vectors of unequal length padded with 0 on the right."""
    if np.ndim(values[0]) == 0:
        return np.stack(values)
    width = max(len(value) for value in values)
    return np.stack([np.pad(value, (0, width - len(value))) for value in values])


class FrequencyHistogram(tf.keras.callbacks.Callback):
    """Writes the estimated sampling probabilities of the buckets hit so far."""

    def __init__(self, logs: Path) -> None:
        super().__init__()
        self._writer = tf.summary.create_file_writer(str(logs))

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        frequency = self.model.frequency
        gaps = tf.boolean_mask(frequency.gap, frequency.last_step > 0)
        with self._writer.as_default():
            tf.summary.histogram(
                "sampling_probability/log10",
                -tf.math.log(gaps) / np.log(10),
                step=epoch,
            )
            tf.summary.histogram("sampling_probability", 1.0 / gaps, step=epoch)
        self._writer.flush()
