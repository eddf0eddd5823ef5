"""What the transformed features look like: the ranges of ids that models embed."""

import dataclasses

from schemas.features import (
    HISTORY,
    ITEM_ID,
    USER_ID,
    FeatureCatalog,
    FeatureKind,
    Side,
    transformed_name,
)


@dataclasses.dataclass(frozen=True)
class TransformedFeature:
    """One output of the Transform stage.

    Tensors by kind (B rows, L the longest list in the batch):
        CATEGORICAL        int64 [B]     in [0, num_ids); 0 means missing
        MULTI_CATEGORICAL  int64 [B, L]  in [0, num_ids); 0 pads
        TEXT               int64 [B, L]  in [0, num_ids); 0 pads
        NUMERIC            float32 [B]   standardised; 0 where missing
    """

    name: str  # the tensor's key, e.g. "item_genres_xf"
    kind: FeatureKind
    num_ids: int  # 0 for NUMERIC


@dataclasses.dataclass(frozen=True)
class FeatureSpace:
    """The transformed features by side; ids index embedding tables of `num_ids` rows.

    `history_xf` is int64 [B, T] of item ids, oldest first, the newest in the last
    column, 0 pads on the left. It shares the id space (and, in the models, the embedding
    table) of `item_id_xf`.
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
    def query_names(self) -> list[str]:
        """Names of the tensors known from the request alone."""
        return [
            self.user_id.name,
            self.history_name,
            *(feature.name for feature in (*self.user, *self.context)),
        ]

    @property
    def candidate_names(self) -> list[str]:
        """Names of the tensors known from the catalogue alone."""
        return [self.item_id.name, *(feature.name for feature in self.item)]

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

        def side(which: Side) -> tuple[TransformedFeature, ...]:
            out = []
            for key, feature in catalog.features(which):
                num_ids = 0
                if feature.kind is FeatureKind.TEXT:
                    num_ids = 1 + feature.num_hash_buckets
                elif feature.kind is not FeatureKind.NUMERIC:
                    num_ids = 1 + feature.num_hash_buckets + sizes[key]
                out.append(
                    TransformedFeature(transformed_name(key), feature.kind, num_ids)
                )
            return tuple(out)

        return cls(
            user_id=ids(USER_ID),
            item_id=ids(ITEM_ID),
            user=side(Side.USER),
            item=side(Side.ITEM),
            context=side(Side.CONTEXT),
            history_length=catalog.history_length,
        )
