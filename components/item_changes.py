"""Which items came, went or have other features, between two catalogues."""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow.parquet as pq
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from components.catalog_files import ITEMS_EXAMPLES, ITEMS_TABLE
from components.read_examples import read_serialized
from schemas.features import ITEM_ID, FeatureCatalog, Side

_NAMED = 5  # items that a message names


@dataclasses.dataclass(frozen=True)
class Items:
    """The items of a catalogue, in its order.

    Attributes:
        ids: their ids.
        examples: id -> serialized tf.Example of the raw features.
    """

    ids: list[str]
    examples: Mapping[str, bytes]

    @classmethod
    def read(cls, catalog_uri: str) -> "Items":
        """Reads the items of a `Catalog`."""
        table = pq.read_table(Path(catalog_uri) / ITEMS_TABLE, columns=[ITEM_ID])
        ids = table.column(ITEM_ID).to_pylist()
        examples = read_serialized([str(Path(catalog_uri) / ITEMS_EXAMPLES)])
        return cls(ids, dict(zip(ids, examples.tolist(), strict=True)))


@dataclasses.dataclass(frozen=True)
class ItemChanges:
    """The ids of the items that differ, each in the order of its catalogue.

    Attributes:
        added: in the new catalogue alone.
        changed: in both, with other features.
        removed: in the old catalogue alone.
        unchanged: how many are the same in both.
    """

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    unchanged: int

    @property
    def removed_share(self) -> float:
        """Returns the share of the old catalogue that is gone."""
        before = self.unchanged + len(self.changed) + len(self.removed)
        return len(self.removed) / before if before else 0.0

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


def find_changes(before: Items, after: Items) -> ItemChanges:
    """Compares two catalogues; what counts of an item is what the models see of it."""
    common = [item for item in after.ids if item in before.examples]
    changed = tuple(
        item for item in common if before.examples[item] != after.examples[item]
    )
    return ItemChanges(
        added=tuple(item for item in after.ids if item not in before.examples),
        changed=changed,
        removed=tuple(item for item in before.ids if item not in after.examples),
        unchanged=len(common) - len(changed),
    )


def required_keys(schema_file: Path, catalog: FeatureCatalog) -> set[str]:
    """Returns the keys of item features that the curated schema wants in every row."""
    schema = text_format.Parse(schema_file.read_text(), schema_pb2.Schema())
    declared = {column.key for column in catalog.columns(Side.ITEM)}
    always = {f.name for f in schema.feature if f.presence.min_fraction >= 1}
    return declared & always


def incomplete_items(
    examples: Iterable[tuple[str, bytes]], catalog: FeatureCatalog, required: set[str]
) -> dict[str, str]:
    """Finds items that the models can tell too little of.

    An item that no event has named yet is known by its content alone; one without any
    gets the vector of a hash bucket of ids, which it shares with strangers.

    Args:
        examples: (id, serialized tf.Example) of the items to look at.
        catalog: the declared features.
        required: keys that none may lack; see `required_keys`.

    Returns:
        id -> what it lacks.
    """
    declared = [column.key for column in catalog.columns(Side.ITEM)]
    found = {}
    for item, example in examples:
        features = tf.train.Example.FromString(example).features.feature
        present = {key for key in declared if _has_value(features, key)}
        if declared and not present:
            found[item] = "any feature"
        elif missing := sorted(required - present):
            found[item] = ", ".join(f"`{key}`" for key in missing)
    return found


def _has_value(features, key: str) -> bool:
    if key not in features:
        return False
    kind = features[key].WhichOneof("kind")
    if kind is None:
        return False
    values = getattr(features[key], kind).value
    return any(value != b"" for value in values)


def named(item_ids: Iterable[str]) -> str:
    """Returns the first of some ids, and how many more there are."""
    ids = list(item_ids)
    more = f" and {len(ids) - _NAMED:,} more" if len(ids) > _NAMED else ""
    return ", ".join(repr(item) for item in ids[:_NAMED]) + more
