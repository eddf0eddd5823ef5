"""The items that negatives are drawn from: those of the rows a model is trained on."""

import dataclasses

import numpy as np
import tensorflow as tf

from models.feature_space import FeatureSpace
from models.losses.replicas import fingerprints
from schemas.features import ITEM_ID

Tensors = dict[str, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class ItemPool:
    """Distinct items with what the item tower reads of them.

    Attributes:
        item_ids: [N] string, as the log has them.
        features: transformed tensors of `space.candidate_names`, [N, ...], same order.
    """

    item_ids: tf.Tensor
    features: Tensors

    def __len__(self) -> int:
        return int(self.item_ids.shape[0])

    def rows(self, places: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, Tensors]:
        """Returns ids, fingerprints of the ids, and features of the rows at `places`."""
        ids = tf.gather(self.item_ids, places)
        features = {
            name: tf.gather(values, places) for name, values in self.features.items()
        }
        return ids, fingerprints(ids), features


def collect_items(space: FeatureSpace, batches: tf.data.Dataset) -> ItemPool:
    """Collects each item of a dataset once, in the order of their ids.

    By the id that the log has: items outside the vocabulary share transformed ids.

    Args:
        space: the transformed features.
        batches: as `training_input.transformed_batches` gives them.

    Raises:
        ValueError: if the dataset is empty.
    """
    names = space.candidate_names
    found: dict[bytes, list[np.ndarray]] = {}
    for features, row in batches.as_numpy_iterator():
        ids, first = np.unique(row[ITEM_ID], return_index=True)
        for item, place in zip(ids.tolist(), first, strict=True):
            if item not in found:
                found[item] = [features[name][place] for name in names]
    if not found:
        raise ValueError(
            "`batches` should hold one row or more. Received: none; is the split empty?"
        )
    items = sorted(found)
    columns = zip(*(found[item] for item in items), strict=True)
    return ItemPool(
        tf.constant(items),
        {
            name: tf.constant(_stack_padded(column))
            for name, column in zip(names, columns, strict=True)
        },
    )


def _stack_padded(values: tuple[np.ndarray, ...]) -> np.ndarray:
    """Stacks scalars, or vectors of unequal length padded with 0 on the right."""
    if np.ndim(values[0]) == 0:
        return np.stack(values)
    width = max(len(value) for value in values)
    return np.stack([np.pad(value, (0, width - len(value))) for value in values])
