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
    REQUEST_ID,
    SEEN,
    TIMESTAMP,
    USER_ID,
    VALUE,
    FeatureCatalog,
    RawColumn,
    Side,
)

REQUIRED_EVENT_COLUMNS = (EVENT_ID, TIMESTAMP, USER_ID, ITEM_ID, EVENT_TYPE)
OPTIONAL_EVENT_COLUMNS = (VALUE, POSITION, PROPENSITY, REQUEST_ID)

# Of a profiles file, in its Parquet metadata: ms; it knows the events before that moment.
PROFILES_AS_OF = b"tandem.as_of"

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


def column_type(column: RawColumn) -> pa.DataType:
    """Returns the Arrow type that holds a feature's column in a canonical table."""
    if column.shape:
        # A tf.Example holds float32, and vectors are most of a catalogue's bytes.
        return pa.list_(pa.float32() if column.is_number else pa.string())
    return pa.float64() if column.is_number else pa.string()


def _with_features(base: pa.Schema, catalog: FeatureCatalog, side: Side) -> pa.Schema:
    columns = catalog.declared_columns(side)
    declared = [pa.field(column.name, column_type(column)) for column in columns]
    return pa.schema([*base, *declared])


def events_schema(catalog: FeatureCatalog) -> pa.Schema:
    """Returns the events table with the columns of the declared context features."""
    return _with_features(EVENTS, catalog, Side.CONTEXT)


def items_schema(catalog: FeatureCatalog) -> pa.Schema:
    """Returns the items table with the columns of the declared item features."""
    return _with_features(ITEMS, catalog, Side.ITEM)


def users_schema(catalog: FeatureCatalog) -> pa.Schema:
    """Returns the users table with the columns of the declared user features."""
    return _with_features(USERS, catalog, Side.USER)


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
        for column in catalog.declared_columns(side):
            if column.name in schema.names:
                raise ValueError(
                    f"features.{side.value}: `{column.name}` is a column of the log "
                    "contract and cannot be declared as a feature; rename the feature "
                    "and map its column under `columns`."
                )
