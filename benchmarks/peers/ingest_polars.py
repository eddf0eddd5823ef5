"""The job of `benchmarks.ingest` in Polars: the whole log as one frame in memory."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks import ingest_job as job
from benchmarks.peers import row_writer

_COLUMNS = (
    "event_id",
    "timestamp",
    "user_id",
    "item_id",
    "event_type",
    "request_id",
    "position",
    "propensity",
)


def main(log: Path, out: Path) -> None:
    """Ingests the Parquet files of `log` into `out`; prints the account."""
    startup = time.process_time()
    raw = pl.concat(
        [
            pl.read_parquet(path, glob=False)
            .with_row_index("place")
            .with_columns(file=pl.lit(number, pl.Int32))
            for number, path in enumerate(sorted(log.glob("events-*.parquet")))
        ]
    )
    reason = _reason()
    raw = raw.with_columns(reason=reason)
    dead = raw.filter(pl.col("reason").is_not_null())
    _write_dead_letters(dead, out)
    good = raw.filter(pl.col("reason").is_null()).drop("reason")
    unique = (
        good.sort("timestamp", "file", "place")
        .unique("event_id", keep="first")
        .sort("user_id", "timestamp", "event_id")
        .drop("file", "place")
        .with_row_index("row")
    )
    account = {
        "read": raw.height,
        "accepted": unique.height,
        "duplicates": good.height - unique.height,
        "dead_letters": dead.height,
    }
    del raw, dead, good
    items = pl.read_parquet(log / "items.parquet").to_dicts()
    users = pl.read_parquet(log / "users.parquet")
    events = _events(unique, items, users.to_dicts())
    account["rows"] = row_writer.write_rows(events, out)
    row_writer.write_catalog(items, out / "catalog")
    _write_profiles(events, users, out)
    print(json.dumps(account | {"startup_cpu_s": startup}))


def _reason() -> pl.Expr:
    """Returns the first rule that a record breaks, null for none."""

    def is_id(name: str) -> pl.Expr:
        filled = pl.col(name).str.strip_chars().str.len_bytes() > 0
        short = pl.col(name).str.len_bytes() <= job.MAX_ID_BYTES
        return (filled & short).fill_null(False)

    in_time = pl.col("timestamp").is_between(0, job.MAX_TIMESTAMP).fill_null(False)
    known = pl.col("event_type").is_in(list(job.EVENT_TYPES)).fill_null(False)
    placed = (pl.col("position") >= 0).fill_null(True)
    chance = pl.col("propensity")
    likely = ((chance > 0) & (chance <= 1) & chance.is_finite()).fill_null(True)
    rules = {
        "event_id": is_id("event_id"),
        "user_id": is_id("user_id"),
        "item_id": is_id("item_id"),
        "timestamp": in_time,
        "event_type": known,
        "position": placed,
        "propensity": likely,
    }
    return pl.coalesce(
        pl.when(~holds).then(pl.lit(f"`{name}` breaks its rule"))
        for name, holds in rules.items()
    )


def _write_dead_letters(dead: pl.DataFrame, out: Path) -> None:
    (out / "dead_letters").mkdir(parents=True)
    dead.select(
        "file",
        position=pl.col("place") + 1,
        reason="reason",
        raw=pl.struct(_COLUMNS).struct.json_encode(),
    ).write_parquet(out / "dead_letters" / "dead_letters.parquet")


def _outcomes(unique: pl.DataFrame, types: np.ndarray) -> np.ndarray:
    """Returns, for each event, the type that gives its label and reward."""
    keys = ["user_id", "request_id", "item_id"]
    kinds = list(job.EVENT_TYPES.values())
    is_response = np.array(["answers" in kind for kind in kinds])[types]
    wanted = unique.select(*keys, "row", "timestamp").with_columns(
        type=pl.Series(types)
    )
    responses = wanted.filter(pl.Series(is_response))
    impressions = wanted.filter(pl.Series(~is_response)).drop("type")
    joined = responses.join(impressions, on=keys, suffix="_shown").filter(
        (pl.col("timestamp") - pl.col("timestamp_shown")).is_between(0, job.WINDOW_MS)
    )
    counting = (
        # Of several impressions the latest; then of several responses the first.
        joined.sort("row_shown")
        .unique("row", keep="last")
        .sort("type", "row")
        .unique("row_shown", keep="first")
    )
    outcomes = types.copy()
    outcomes[counting["row_shown"].to_numpy()] = counting["type"].to_numpy()
    return outcomes


def _events(
    unique: pl.DataFrame, items: list[dict], users: list[dict]
) -> row_writer.Events:
    names = pl.Series("event_type", list(job.EVENT_TYPES))
    types = (
        unique.select("event_type")
        .join(
            pl.DataFrame({"event_type": names, "type": range(len(names))}),
            on="event_type",
            how="left",
            maintain_order="left",
        )["type"]
        .to_numpy()
        .astype(np.int64)
    )
    user_of, user_ids = _codes(unique["user_id"])
    item_of, item_ids = _codes(unique["item_id"])
    return row_writer.Events(
        event_ids=unique["event_id"].to_list(),
        request_ids=unique["request_id"].to_list(),
        timestamps=unique["timestamp"].to_numpy(),
        user_of=user_of,
        item_of=item_of,
        types=types,
        positions=unique["position"].fill_null(-1).to_numpy(),
        propensities=unique["propensity"].fill_null(float("nan")).to_numpy(),
        outcomes=_outcomes(unique, types),
        users=user_ids,
        items=item_ids,
        user_features={user["user_id"]: user for user in users},
        item_features={item["item_id"]: item for item in items},
    )


def _codes(column: pl.Series) -> tuple[np.ndarray, list[str]]:
    """Returns a number for each value, and the distinct values by number."""
    distinct = column.unique().sort()
    codes = column.to_frame().join(
        distinct.to_frame().with_row_index("code"),
        on=column.name,
        how="left",
        maintain_order="left",
    )["code"]
    return codes.to_numpy().astype(np.int64), distinct.to_list()


def _write_profiles(events: row_writer.Events, users: pl.DataFrame, out: Path) -> None:
    (out / "profiles").mkdir()
    seen = row_writer.latest_items(events, job.SEEN_LENGTH)
    pasts = pl.DataFrame(
        {
            "user_id": events.users,
            "history_item_ids": [items[-job.HISTORY_LENGTH :] for items in seen],
            "seen_item_ids": seen,
        }
    )
    users.join(pasts, on="user_id", how="full", coalesce=True).write_parquet(
        out / "profiles" / "profiles.parquet"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
