"""The feature catalogue: which features exist, what kind they are, what they are called.

One fact, one place: the names in the ingested tf.Examples, the transform's outputs, the
models' inputs and the serving signatures all derive from a `FeatureCatalog`, which the
config declares once.
"""

import dataclasses
import enum

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

# Keys of every ingested tf.Example, whatever the catalogue declares.
EVENT_ID = "event_id"
USER_ID = "user_id"
ITEM_ID = "item_id"
TIMESTAMP = "timestamp"  # int64, ms since the epoch, UTC
EVENT_TYPE = "event_type"
HISTORY = (
    "history_item_ids"  # bytes list, oldest first, strictly earlier than TIMESTAMP
)
SEEN = "seen_item_ids"  # of a profile: the latest MAX_SEEN items met, oldest first
LABEL = "label"  # float in [0, 1], what the ranker learns
REWARD = "reward"  # float >= 0, r_i of the retrieval loss
POSITION = "position"  # int64 >= 0, absent where the log has none
PROPENSITY = "propensity"  # float in (0, 1], absent where the log has none
VALUE = "value"  # float, absent where the log has none
REQUEST_ID = (
    "request_id"  # of the request that showed it, absent where the log has none
)
SESSION_START = "session_start"  # int64, ms; absent where sessions are not asked for


MAX_SEEN = 2000


class Side(enum.Enum):
    """Which table a feature comes from, and which part of a request carries it."""

    USER = "user"
    ITEM = "item"
    CONTEXT = "context"


class FeatureKind(enum.Enum):
    """How a feature is stored, transformed and embedded."""

    CATEGORICAL = "categorical"  # one string per row
    MULTI_CATEGORICAL = "multi_categorical"  # a list of strings per row
    TEXT = "text"  # one free text per row; words and word pairs are hashed
    NUMERIC = "numeric"  # one float per row; scaled to zero mean and unit variance
    VECTOR = "vector"  # `size` floats per row, each scaled as a number is
    ITEM_ID = "item_id"  # the id of an item, read as the items' own ids are


@dataclasses.dataclass(frozen=True)
class RawColumn:
    """One column of a feature, as tables, rows and requests hold it."""

    key: str  # in a tf.Example and a request: "<side>_<name>"
    name: str  # in its side's table
    is_number: bool  # float32, else a string
    shape: tuple[int | None, ...]  # of a row: (), (None,) for a list, (D,) for a vector

    @property
    def is_list(self) -> bool:
        """Whether a row holds any number of values."""
        return self.shape == (None,)


_NAME = r"[a-z][a-z0-9_]*"


class Feature(BaseModel):
    """One declared feature of a user, an item or the context."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=rf"^{_NAME}$", description="Column in its table.")
    kind: FeatureKind
    size: int = Field(
        default=0,
        ge=0,
        le=65_536,
        validate_default=True,  # a vector's may not be left out
        description="Numbers of a `vector`, the same in every row; required for it and "
        "for no other kind.",
    )
    weights: str | None = Field(
        default=None,
        pattern=rf"^{_NAME}$",
        description="Column with a weight for each value of a `multi_categorical` "
        "feature, in their order, >= 0. The feature is then embedded as the weighted "
        "mean of its values; without it, as the mean.",
    )
    hash_buckets: int = Field(
        default=0,
        ge=0,
        description="Ids reserved for values outside the vocabulary (categorical kinds), "
        "or for hashed n-grams (text). 0 takes the kind's default: 8, or 4096 for text.",
    )

    @field_validator("size")
    @classmethod
    def _vectors_have_a_size(cls, size: int, info: ValidationInfo) -> int:
        kind = info.data.get("kind")
        if kind is FeatureKind.VECTOR and not size:
            raise ValueError(
                "a feature of the kind `vector` needs its `size`, how many numbers each "
                "row has"
            )
        if size and kind not in (FeatureKind.VECTOR, None):
            raise ValueError(
                "`size` belongs to the kind `vector`. "
                f"Received: size={size} with kind {kind.value}"
            )
        return size

    @field_validator("weights")
    @classmethod
    def _lists_have_weights(
        cls, weights: str | None, info: ValidationInfo
    ) -> str | None:
        kind = info.data.get("kind")
        if weights and kind not in (FeatureKind.MULTI_CATEGORICAL, None):
            raise ValueError(
                "`weights` belongs to the kind `multi_categorical`. "
                f"Received: weights={weights} with kind {kind.value}"
            )
        return weights

    @field_validator("hash_buckets")
    @classmethod
    def _items_have_their_buckets(cls, hash_buckets: int, info: ValidationInfo) -> int:
        if hash_buckets and info.data.get("kind") is FeatureKind.ITEM_ID:
            raise ValueError(
                "items that are not known share the `id_hash_buckets` of the catalogue "
                "of features; take `hash_buckets` out"
            )
        return hash_buckets

    @property
    def num_hash_buckets(self) -> int:
        """Number of ids for hashed values, never 0."""
        default = 4096 if self.kind is FeatureKind.TEXT else 8
        return self.hash_buckets or default

    def columns(self, side: Side) -> list[RawColumn]:
        """Returns the feature's column, and behind it that of its weights, if any."""
        shapes: dict[FeatureKind, tuple[int | None, ...]] = {
            FeatureKind.MULTI_CATEGORICAL: (None,),
            FeatureKind.VECTOR: (self.size,),
        }
        is_number = self.kind in (FeatureKind.NUMERIC, FeatureKind.VECTOR)
        columns = [(self.name, is_number, shapes.get(self.kind, ()))]
        if self.weights:
            columns.append((self.weights, True, (None,)))
        return [
            RawColumn(f"{side.value}_{name}", name, is_number, shape)
            for name, is_number, shape in columns
        ]


class UserStatistic(enum.Enum):
    """A number that ingestion works out of a user's own past, point in time.

    Each is a numeric user feature: `user_<value>` in rows, requests and profiles.
    """

    MEAN_LABEL = "mean_label"  # of the strictly earlier labelled events, smoothed


class FeatureCatalog(BaseModel):
    """Every feature of a service, declared once."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    user: tuple[Feature, ...] = ()
    item: tuple[Feature, ...] = ()
    context: tuple[Feature, ...] = ()
    user_statistics: tuple[UserStatistic, ...] = Field(
        default=(),
        description="Numbers worked out of the user's own past: `mean_label`. They need "
        "no column and are features like the declared ones.",
    )
    history_length: int = Field(
        default=50, ge=1, le=2000, description="Most recent events kept in a history."
    )
    id_hash_buckets: int = Field(
        default=64, ge=1, description="Ids reserved for user and item ids never seen."
    )

    @field_validator("user", "item", "context")
    @classmethod
    def _names_are_unique(cls, features: tuple[Feature, ...]) -> tuple[Feature, ...]:
        names = [feature.name for feature in features]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"each feature is declared once; declared twice: {twice}")
        for feature in features:
            others = [other.weights for other in features if other is not feature]
            if feature.weights in [*names, *filter(None, others)]:
                raise ValueError(
                    f"`{feature.name}`: the column `{feature.weights}` holds its "
                    "`weights` and is no feature of its own, nor another one's weights; "
                    "give each its own column"
                )
        return features

    @field_validator("item")
    @classmethod
    def _items_name_no_items(cls, features: tuple[Feature, ...]) -> tuple[Feature, ...]:
        names = [x.name for x in features if x.kind is FeatureKind.ITEM_ID]
        if names:
            raise ValueError(
                f"the kind `item_id` is for features of users and of the context. "
                f"Received for items: {names}; declare them as `categorical`"
            )
        return features

    @model_validator(mode="after")
    def _keys_are_free(self) -> "FeatureCatalog":
        keys = [column.key for column in self.columns()]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise ValueError(
                f"a user statistic and a declared feature share the keys {twice}; "
                "rename the feature"
            )
        taken = [key for key in keys if key in (USER_ID, ITEM_ID)]
        if taken:
            raise ValueError(
                "a feature may not be named `id`, whose example key is the row's own. "
                f"Received features with the keys {taken}; the ids need no declaration"
            )
        return self

    def features(self, *sides: Side) -> list[tuple[str, Feature]]:
        """Returns (example key, feature) of the given sides, or of all of them.

        The key is "<side>_<name>": `user_age`, `item_genres`, `context_hour`.
        """
        return [
            (f"{side.value}_{feature.name}", feature)
            for side in (sides or tuple(Side))
            for feature in (*self.declared(side), *self._derived(side))
        ]

    def columns(self, *sides: Side) -> list[RawColumn]:
        """Returns the raw columns of the given sides' features, or of all of them."""
        return [
            column
            for side in (sides or tuple(Side))
            for feature in (*self.declared(side), *self._derived(side))
            for column in feature.columns(side)
        ]

    def declared_columns(self, side: Side) -> list[RawColumn]:
        """Returns the columns that the features take in the side's table."""
        return [
            column
            for feature in self.declared(side)
            for column in feature.columns(side)
        ]

    def seed_keys(self) -> list[str]:
        """Returns the keys of items that a request asks for more of.

        They are the `item_id` features of the context; what such a feature names is on
        the user's screen, and no answer holds it.
        """
        return [
            key
            for key, feature in self.features(Side.CONTEXT)
            if feature.kind is FeatureKind.ITEM_ID
        ]

    def declared(self, side: Side) -> tuple[Feature, ...]:
        """Returns the features that are columns of the side's table."""
        return getattr(self, side.value)

    def _derived(self, side: Side) -> tuple[Feature, ...]:
        """Returns the features that ingestion works out."""
        if side is not Side.USER:
            return ()
        return tuple(
            Feature(name=statistic.value, kind=FeatureKind.NUMERIC)
            for statistic in self.user_statistics
        )


def transformed_name(key: str) -> str:
    """Returns the name of `key` after the Transform stage."""
    return f"{key}_xf"
