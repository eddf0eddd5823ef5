"""The log-record contract: canonical tables, their columns, types and ranges.

A service's own column names are mapped onto these by the config; everything behind the
parser sees only what is declared here.
"""

import pyarrow as pa

from schemas.features import (
    EVENT_ID,
    EVENT_TYPE,
    HISTORY,
    ITEM_ID,
    POSITION,
    PROPENSITY,
    SEEN,
    TIMESTAMP,
    USER_ID,
    VALUE,
    Feature,
    FeatureCatalog,
    FeatureKind,
    Side,
)

REQUEST_ID = "request_id"  # joins a response to the impression it answers

REQUIRED_EVENT_COLUMNS = (EVENT_ID, TIMESTAMP, USER_ID, ITEM_ID, EVENT_TYPE)
OPTIONAL_EVENT_COLUMNS = (VALUE, POSITION, PROPENSITY, REQUEST_ID)

SPLITS = ("train", "eval", "test")  # in the order of time

MINUTE_MS = 60 * 1000
DAY_MS = 24 * 60 * MINUTE_MS  # a UTC day
MAX_ID_BYTES = 1024  # longer ids are damage, not names
MIN_TIMESTAMP = 0  # ms since the epoch, UTC
MAX_TIMESTAMP = 253_402_300_799_999  # the last ms of the year 9999

EVENTS = pa.schema(
    [
        (EVENT_ID, pa.string()),
        (TIMESTAMP, pa.int64()),
        (USER_ID, pa.string()),
        (ITEM_ID, pa.string()),
        (EVENT_TYPE, pa.string()),
        (VALUE, pa.float64()),
        (POSITION, pa.int64()),
        (PROPENSITY, pa.float64()),
        (REQUEST_ID, pa.string()),
    ]
)
ITEMS = pa.schema([(ITEM_ID, pa.string())])  # and a column for each item feature
USERS = pa.schema([(USER_ID, pa.string())])  # and a column for each user feature

DEAD_LETTERS = pa.schema(
    [
        ("source", pa.string()),  # events, items or users
        ("span", pa.string()),  # of the file, "" outside of spans
        ("file", pa.string()),
        ("position", pa.int64()),  # from 1: the line of a text file, else the record
        ("reason", pa.string()),
        ("raw", pa.string()),
    ]
)


def column_type(feature: Feature) -> pa.DataType:
    """Returns the Arrow type that holds `feature` in a canonical table."""
    if feature.kind is FeatureKind.NUMERIC:
        return pa.float64()
    if feature.kind is FeatureKind.MULTI_CATEGORICAL:
        return pa.list_(pa.string())
    return pa.string()


def _with_features(base: pa.Schema, features: tuple[Feature, ...]) -> pa.Schema:
    declared = [pa.field(feature.name, column_type(feature)) for feature in features]
    return pa.schema([*base, *declared])


def events_schema(catalog: FeatureCatalog) -> pa.Schema:
    """Returns the events table with a column for each declared context feature."""
    return _with_features(EVENTS, catalog.context)


def items_schema(catalog: FeatureCatalog) -> pa.Schema:
    """Returns the items table with a column for each declared item feature."""
    return _with_features(ITEMS, catalog.item)


def users_schema(catalog: FeatureCatalog) -> pa.Schema:
    """Returns the users table with a column for each declared user feature."""
    return _with_features(USERS, catalog.user)


def profiles_schema(catalog: FeatureCatalog) -> pa.Schema:
    """Returns the profiles table: the users table and what each user's past comes to.

    `history_item_ids` is the model's input; `seen_item_ids` reaches further back, and is
    what a client passes on as items not to recommend again.
    """
    statistics = [
        pa.field(statistic.value, pa.float64()) for statistic in catalog.user_statistics
    ]
    items = pa.list_(pa.string())
    past = [*statistics, pa.field(HISTORY, items), pa.field(SEEN, items)]
    return pa.schema([*users_schema(catalog), *past])


def check_names(catalog: FeatureCatalog) -> None:
    """Raises ValueError where a feature's name is already that of a canonical column."""
    for side, schema in (
        (Side.CONTEXT, EVENTS),
        (Side.ITEM, ITEMS),
        (Side.USER, USERS),
    ):
        for feature in catalog.declared(side):
            if feature.name in schema.names:
                raise ValueError(
                    f"features.{side.value}: `{feature.name}` is a column of the log "
                    "contract and cannot be declared as a feature; rename the feature "
                    "and map its column under `columns`."
                )
