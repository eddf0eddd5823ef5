"""The job of `benchmarks.ingest` in DuckDB: the whole log as one table in memory."""

import json
import sys
import time
from pathlib import Path

import duckdb
import numpy as np

from benchmarks import ingest_job as job
from benchmarks.peers import row_writer

_READ = """
create table raw as
select event_id, timestamp, user_id, item_id, event_type, request_id, position,
       propensity, filename as file, file_row_number as place,
       case {rules} end as reason
from read_parquet($events, filename = true, file_row_number = true)
"""
_UNIQUE = """
create table events as
select * exclude (file, place, reason),
       row_number() over (order by user_id, timestamp, event_id) - 1 as row,
       {type_number} as type
from (
    select * from raw where reason is null
    qualify row_number() over (
        partition by event_id order by timestamp, file, place
    ) = 1
)
order by user_id, timestamp, event_id
"""
# Of several impressions the latest; then of several responses the first.
_COUNTING = """
select shown, type from (
    select s.row as shown, r.row as row, r.type as type
    from events r join events s using (user_id, request_id, item_id)
    where r.type in {responses} and s.type not in {responses}
      and r.timestamp - s.timestamp between 0 and {window}
    qualify row_number() over (partition by r.row order by s.row desc) = 1
)
qualify row_number() over (partition by shown order by type, row) = 1
"""
_DEAD_LETTERS = """
copy (
    select file, place + 1 as position, reason, to_json(struct_pack(
        event_id, timestamp, user_id, item_id, event_type, request_id, position,
        propensity)) as raw
    from raw where reason is not null
) to '{path}' (format parquet)
"""
_RULES = {
    "event_id": "trim(event_id) = '' or strlen(event_id) > {id_bytes}",
    "user_id": "trim(user_id) = '' or strlen(user_id) > {id_bytes}",
    "item_id": "trim(item_id) = '' or strlen(item_id) > {id_bytes}",
    "timestamp": "timestamp not between 0 and {last}",
    "event_type": "event_type not in {types}",
    "position": "position < 0",
    "propensity": "not (propensity > 0 and propensity <= 1) or isnan(propensity)",
}
_REQUIRED = ("event_id", "user_id", "item_id", "timestamp", "event_type")


def main(log: Path, out: Path) -> None:
    """Ingests the Parquet files of `log` into `out`; prints the account."""
    startup = time.process_time()
    database = duckdb.connect()
    database.execute("set preserve_insertion_order = true")
    names = list(job.EVENT_TYPES)
    database.execute(
        _READ.format(rules=_rules(names)), {"events": str(log / "events-*.parquet")}
    )
    numbers = " ".join(f"when '{name}' then {i}" for i, name in enumerate(names))
    database.execute(_UNIQUE.format(type_number=f"case event_type {numbers} end"))
    for folder in ("dead_letters", "profiles"):
        (out / folder).mkdir(parents=True)
    path = out / "dead_letters" / "dead_letters.parquet"
    database.execute(_DEAD_LETTERS.format(path=path))
    read, dead = database.execute("select count(*), count(reason) from raw").fetchone()
    database.execute("drop table raw")
    (accepted,) = database.execute("select count(*) from events").fetchone()
    items = _side(database, log / "items.parquet")
    users = _side(database, log / "users.parquet")
    events = _events(database, items, users)
    account = {
        "read": read,
        "accepted": accepted,
        "duplicates": read - dead - accepted,
        "dead_letters": dead,
        "rows": row_writer.write_rows(events, out),
    }
    row_writer.write_catalog(items, out / "catalog")
    _write_profiles(database, log / "users.parquet", out / "profiles")
    print(json.dumps(account | {"startup_cpu_s": startup}))


def _rules(names: list[str]) -> str:
    values = {
        "id_bytes": job.MAX_ID_BYTES,
        "last": job.MAX_TIMESTAMP,
        "types": tuple(names),
    }
    return " ".join(
        f"when {f'{name} is null or ' if name in _REQUIRED else ''}"
        f"{rule.format(**values)} then '`{name}` breaks its rule'"
        for name, rule in _RULES.items()
    )


def _side(database: duckdb.DuckDBPyConnection, path: Path) -> list[dict]:
    cursor = database.execute("select * from read_parquet($path)", {"path": str(path)})
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _events(
    database: duckdb.DuckDBPyConnection, items: list[dict], users: list[dict]
) -> row_writer.Events:
    for side in ("user", "item"):
        database.execute(
            f"create table {side}s as select *, row_number() over (order by {side}_id) "
            f"- 1 as code from (select distinct {side}_id from events)"
        )
    columns = database.execute(
        """
        select event_id, request_id, timestamp, u.code as user, i.code as item, type,
               coalesce(position, -1) as position,
               coalesce(propensity, 'nan'::double) as propensity
        from events join users u using (user_id) join items i using (item_id)
        order by row
        """
    ).fetchnumpy()
    responses = [
        i for i, kind in enumerate(job.EVENT_TYPES.values()) if "answers" in kind
    ]
    counting = database.execute(
        _COUNTING.format(responses=tuple(responses), window=job.WINDOW_MS)
    ).fetchnumpy()
    types = _plain(columns["type"]).astype(np.int64)
    outcomes = types.copy()
    outcomes[_plain(counting["shown"])] = _plain(counting["type"])
    ids = {
        side: [
            row[0]
            for row in database.execute(
                f"select {side}_id from {side}s order by code"
            ).fetchall()
        ]
        for side in ("user", "item")
    }
    return row_writer.Events(
        event_ids=_plain(columns["event_id"]).tolist(),
        request_ids=columns["request_id"].tolist(),  # None where its mask is set
        timestamps=_plain(columns["timestamp"]),
        user_of=_plain(columns["user"]),
        item_of=_plain(columns["item"]),
        types=types,
        positions=_plain(columns["position"]),
        propensities=_plain(columns["propensity"]),
        outcomes=outcomes,
        users=ids["user"],
        items=ids["item"],
        user_features={user["user_id"]: user for user in users},
        item_features={item["item_id"]: item for item in items},
    )


def _plain(column: np.ndarray) -> np.ndarray:
    """Returns a column that has no nulls without its mask."""
    return np.asarray(column)


def _write_profiles(
    database: duckdb.DuckDBPyConnection, users: Path, folder: Path
) -> None:
    positive = [
        i for i, kind in enumerate(job.EVENT_TYPES.values()) if kind["positive"]
    ]
    database.execute(
        f"""
        copy (
            select *, seen_item_ids[-{job.HISTORY_LENGTH}:] as history_item_ids
            from read_parquet('{users}') full join (
                select user_id, list(item_id order by row) as seen_item_ids
                from (
                    select * from events where type in {(*positive, -1)}
                    qualify row_number() over (partition by user_id order by row desc)
                        <= {job.SEEN_LENGTH}
                )
                group by user_id
            ) using (user_id)
        ) to '{folder / "profiles.parquet"}' (format parquet)
        """
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
