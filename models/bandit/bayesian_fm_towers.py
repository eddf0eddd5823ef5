"""The two towers' vectors as features of a ranker: dense fields of user and item.

Rows get them behind the transform graph, at training and in the served `ranking` alike,
so a served score depends on raw features as ever. The fused recommender has both vectors
at hand already and gives them to the ranker: see `components.export_recommender`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from models.feature_space import FeatureSpace, TransformedFeature
from models.preprocessing import TransformGraph
from schemas.features import FeatureKind

BASE_TOWERS = "towers"  # in a base model's folder, the retrieval model of this run
QUERY_VECTOR = "two_tower_query_xf"
ITEM_VECTOR = "two_tower_item_xf"


def with_vectors(space: FeatureSpace, size: int) -> FeatureSpace:
    """Returns the space with both vectors, of so many numbers, as its last features."""
    query, item = (
        TransformedFeature(name, FeatureKind.VECTOR, 0, size)
        for name in (QUERY_VECTOR, ITEM_VECTOR)
    )
    return dataclasses.replace(
        space, context=(*space.context, query), item=(*space.item, item)
    )


class TowerTransform(tf.Module):
    """A transform graph that returns the vectors too; used like a `TransformGraph`.

    Args:
        transform: what the towers read.
        towers: the loaded SavedModel of `models.retrieval.trainer.RetrievalModule`.

    Attributes:
        space, raw_spec: as of `TransformGraph`.
        towers: as given.
    """

    def __init__(self, transform: TransformGraph, towers: Any) -> None:
        super().__init__(name="tower_transform")
        vectors = towers.signatures["candidate_examples"].structured_outputs
        self.space = with_vectors(transform.space, vectors["embeddings"].shape[-1])
        self.raw_spec = transform.raw_spec
        self.towers = towers
        self._transform = transform

    def __call__(
        self, raw: Mapping[str, tf.Tensor | tf.SparseTensor]
    ) -> dict[str, tf.Tensor]:
        """Transforms whole rows; as of `TransformGraph`, but both sides are needed."""
        tensors = self._transform(raw)
        space = self._transform.space
        query = {name: tensors[name] for name in space.query_names}
        item = {name: tensors[name] for name in space.candidate_names}
        return tensors | {
            QUERY_VECTOR: self.towers.embed_query(query),
            ITEM_VECTOR: self.towers.embed_candidates(item),
        }
