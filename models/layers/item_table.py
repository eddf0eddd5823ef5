"""What is known of items beside their ids, to be looked up where only an id is given."""

import numpy as np
import tensorflow as tf

Tensors = dict[str, tf.Tensor]


@tf.keras.utils.register_keras_serializable("tandem")
class ItemTable(tf.keras.layers.Layer):
    """Items' transformed features by item id; constants, saved with the model.

    An event of a history names an item and nothing more. With the table, a tower reads
    it as it reads a candidate.

    Memory: 4 bytes for each value of each item id; a list takes as many values as the
    longest in `items`.

    Args:
        id_name: key of the item's id among the tensors.
        num_ids: ids are below.
        items: tensors by key, [N, ...], a row for each item. An id without a row has no
            features: zeros, which pad or mean missing.
    """

    def __init__(self, id_name: str, num_ids: int, items: Tensors, **kwargs) -> None:
        super().__init__(**kwargs)
        self._id_name = id_name
        ids = np.asarray(items[id_name])
        if len(ids) and not 0 < ids.min() <= ids.max() < num_ids:
            raise ValueError(
                f"`items` should have ids in [1, {num_ids}). Received: "
                f"{ids.min()} to {ids.max()} in {id_name}"
            )
        self.columns = {
            name: _column(name, ids, np.asarray(values), num_ids)
            for name, values in items.items()
            if name != id_name
        }

    def call(self, ids: tf.Tensor) -> Tensors:
        """Returns the tensors of [N] ids, [N, ...], by the keys of `items`."""
        features = {self._id_name: ids}
        for name, column in self.columns.items():
            values = tf.gather(column, ids)
            features[name] = (
                values if values.dtype.is_floating else tf.cast(values, ids.dtype)
            )
        return features


def _column(name: str, ids: np.ndarray, values: np.ndarray, num_ids: int):
    dtype = np.float32 if np.issubdtype(values.dtype, np.floating) else np.int32
    by_id = np.zeros((num_ids, *values.shape[1:]), dtype)
    by_id[ids] = values
    return tf.Variable(by_id, trainable=False, name=name)
