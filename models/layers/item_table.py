"""What is known of items beside their ids, to be looked up where only an id is given."""

import numpy as np
import tensorflow as tf

from models.feature_space import TransformedFeature

Tensors = dict[str, tf.Tensor]


@tf.keras.utils.register_keras_serializable("tandem")
class ItemTable(tf.keras.layers.Layer):
    """Items' transformed features by item id; constants, saved with the model.

    An event of a history names an item and nothing more. With the table, a tower reads
    it as it reads a candidate.

    Memory: 4 bytes for each value of each item id; a list takes as many values as the
    longest in `items`.

    Args:
        item_id: the transformed item id.
        items: tensors of `FeatureSpace.candidate_names`, [N, ...], a row for each item.
            An id without a row has no features: zeros, which pad or mean missing.
    """

    def __init__(self, item_id: TransformedFeature, items: Tensors, **kwargs) -> None:
        super().__init__(**kwargs)
        self._id_name = item_id.name
        ids = np.asarray(items[item_id.name])
        if len(ids) and not 0 < ids.min() <= ids.max() < item_id.num_ids:
            raise ValueError(
                f"`items` should have ids in [1, {item_id.num_ids}). Received: "
                f"{ids.min()} to {ids.max()} in {item_id.name}"
            )
        self.columns = {
            name: _column(name, ids, np.asarray(values), item_id.num_ids)
            for name, values in items.items()
            if name != item_id.name
        }

    def call(self, ids: tf.Tensor) -> Tensors:
        """Returns the tensors of `FeatureSpace.candidate_names`, [N, ...], of [N] ids."""
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
