"""What the transformed features look like: the ranges of ids that models embed."""

import dataclasses
from collections.abc import Mapping
from typing import TypeVar

from schemas.features import (
    HISTORY,
    ITEM_ID,
    USER_ID,
    Feature,
    FeatureCatalog,
    FeatureKind,
    Side,
    transformed_name,
)

Tensor = TypeVar("Tensor")


@dataclasses.dataclass(frozen=True)
class TransformedFeature:
    """One output of the Transform stage; of a weighted feature, two.

    Tensors by kind (B rows, L the longest list in the batch):
        CATEGORICAL        int64 [B]     in [0, num_ids); 0 means missing
        ITEM_ID            int64 [B]     ids of `item_id_xf`; 0 means missing
        MULTI_CATEGORICAL  int64 [B, L]  in [0, num_ids); 0 pads
        its weights        float32 [B, L]  of a row, 1 in total or all 0; 0 where padded
        TEXT               int64 [B, L]  in [0, num_ids); 0 pads
        NUMERIC            float32 [B]   standardised; 0 where missing
        VECTOR             float32 [B, size]  each component as a number is
    """

    name: str  # the tensor's key, e.g. "item_genres_xf"
    kind: FeatureKind
    num_ids: int  # 0 for NUMERIC and VECTOR
    size: int = 0  # components of a VECTOR
    weights_name: str | None = None  # the key of a weighted feature's second tensor

    @property
    def is_weighted(self) -> bool:
        return self.weights_name is not None

    @property
    def names(self) -> list[str]:
        """Keys of the feature's tensors."""
        return [self.name, *([self.weights_name] if self.weights_name else [])]

    def of(self, tensors: Mapping[str, Tensor]) -> Tensor | tuple[Tensor, Tensor]:
        """Returns what `FeatureEmbedding` reads: a tensor, or (ids, weights)."""
        if self.weights_name:
            return tensors[self.name], tensors[self.weights_name]
        return tensors[self.name]


@dataclasses.dataclass(frozen=True)
class FeatureSpace:
    """The transformed features by side; ids index embedding tables of `num_ids` rows.

    `history_xf` is int64 [B, T] of item ids, oldest first, the newest in the last
    column, 0 pads on the left. It shares the id space (and, in the models, the embedding
    table) of `item_id_xf`, and so does every seed item.
    """

    user_id: TransformedFeature
    item_id: TransformedFeature
    user: tuple[TransformedFeature, ...]
    item: tuple[TransformedFeature, ...]
    context: tuple[TransformedFeature, ...]
    history_length: int

    @property
    def history_name(self) -> str:
        return transformed_name(HISTORY)

    @property
    def history(self) -> TransformedFeature:
        return TransformedFeature(
            self.history_name, FeatureKind.MULTI_CATEGORICAL, self.item_id.num_ids
        )

    @property
    def seed_items(self) -> tuple[TransformedFeature, ...]:
        """Features of the user and the context that name an item: "more like this"."""
        return tuple(
            feature
            for feature in (*self.user, *self.context)
            if feature.kind is FeatureKind.ITEM_ID
        )

    @property
    def query_features(self) -> list[TransformedFeature]:
        """What is known from the request alone."""
        return [self.user_id, self.history, *self.user, *self.context]

    @property
    def candidate_features(self) -> list[TransformedFeature]:
        """What is known from the catalogue alone."""
        return [self.item_id, *self.item]

    @property
    def query_names(self) -> list[str]:
        """Names of the tensors known from the request alone."""
        return [name for feature in self.query_features for name in feature.names]

    @property
    def candidate_names(self) -> list[str]:
        """Names of the tensors known from the catalogue alone."""
        return [name for feature in self.candidate_features for name in feature.names]

    @classmethod
    def from_vocabulary_sizes(
        cls, catalog: FeatureCatalog, sizes: dict[str, int]
    ) -> "FeatureSpace":
        """Builds the space from the size of each vocabulary.

        Args:
            catalog: the declared features.
            sizes: number of known values by example key, for `user_id`, `item_id` and
                each categorical or multi-valued feature.

        Returns:
            The space; id 0 is padding, then come the hash buckets, then the vocabulary,
            so that a growing vocabulary never moves a known id.
        """

        def ids(key: str) -> TransformedFeature:
            num_ids = 1 + catalog.id_hash_buckets + sizes[key]
            return TransformedFeature(
                transformed_name(key), FeatureKind.CATEGORICAL, num_ids
            )

        item_id = ids(ITEM_ID)

        def num_ids(key: str, feature: Feature) -> int:
            if feature.kind in (FeatureKind.NUMERIC, FeatureKind.VECTOR):
                return 0
            if feature.kind is FeatureKind.ITEM_ID:
                return item_id.num_ids
            known = 0 if feature.kind is FeatureKind.TEXT else sizes[key]
            return 1 + feature.num_hash_buckets + known

        def side(which: Side) -> tuple[TransformedFeature, ...]:
            out = []
            for key, feature in catalog.features(which):
                _, *weights = feature.columns(which)
                out.append(
                    TransformedFeature(
                        transformed_name(key),
                        feature.kind,
                        num_ids(key, feature),
                        feature.size,
                        transformed_name(weights[0].key) if weights else None,
                    )
                )
            return tuple(out)

        return cls(
            user_id=ids(USER_ID),
            item_id=item_id,
            user=side(Side.USER),
            item=side(Side.ITEM),
            context=side(Side.CONTEXT),
            history_length=catalog.history_length,
        )
