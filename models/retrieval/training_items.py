"""Which items do training rows hold, and what are the features of each?"""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from models.feature_space import FeatureSpace
from models.losses.replicas import fingerprints
from schemas.features import ITEM_ID

Tensors = dict[str, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class ItemPool:
    """Items that negatives are drawn from, with what the item tower reads of them.

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
    found = _first_rows(space, batches, lambda features, row: row[ITEM_ID])
    if not found:
        raise ValueError(
            "`batches` should hold one row or more. Received: none; is the split empty?"
        )
    return ItemPool(tf.constant(sorted(found)), _columns(space, found))


def distinct_items(space: FeatureSpace, batches: tf.data.Dataset) -> Tensors:
    """Collects the transformed features of each transformed item id once.

    Args:
        space: the transformed features.
        batches: as `training_input.transformed_batches` gives them.

    Returns:
        tensors of `space.candidate_names`, [items, ...], ascending by item id.
    """
    return _columns(
        space,
        _first_rows(space, batches, lambda features, _: features[space.item_id.name]),
    )


def _first_rows(
    space: FeatureSpace, batches: tf.data.Dataset, item_of: Callable
) -> dict[int | bytes, list[np.ndarray]]:
    """Returns each item's values of `space.candidate_names` where it is met first."""
    found: dict[int | bytes, list[np.ndarray]] = {}
    for features, row in batches.as_numpy_iterator():
        items, first = np.unique(item_of(features, row), return_index=True)
        for item, place in zip(items.tolist(), first, strict=True):
            if item not in found:
                found[item] = [features[name][place] for name in space.candidate_names]
    return found


def _columns(
    space: FeatureSpace, found: dict[int | bytes, list[np.ndarray]]
) -> Tensors:
    rows = [found[item] for item in sorted(found)]
    return {
        name: tf.constant(_stack_padded([row[column] for row in rows]))
        for column, name in enumerate(space.candidate_names)
    }


def _stack_padded(values: list[np.ndarray]) -> np.ndarray:
    """Stacks scalars, or vectors of unequal length padded with 0 on the right."""
    if np.ndim(values[0]) == 0:
        return np.stack(values)
    width = max(len(value) for value in values)
    return np.stack([np.pad(value, (0, width - len(value))) for value in values])
