"""A synthetic event log of any size, the same for the same seed, written in pieces.

Requests of skewed users show 3 to 10 skewed items each; clicks and mutes answer them,
most within the window, some after it, before it, or without a request. Among the records
are a given share of bad ones and of copies.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.events import DAY_MS, MINUTE_MS

BAD_SHARE, COPY_SHARE = 0.03, 0.01
FILE_RECORDS = 250_000
_LEAST_FILES = 4
_ROW_GROUP = 50_000
_FIRST_MS = 1_767_225_600_000  # 2026-01-01
_DAYS = 30
_CATEGORIES, _TAGS, _COUNTRIES = 30, 200, 40

EVENTS = pa.schema(
    [
        ("event_id", pa.string()),
        ("timestamp", pa.int64()),
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("event_type", pa.string()),
        ("request_id", pa.string()),
        ("position", pa.int64()),
        ("propensity", pa.float64()),
    ]
)


@dataclasses.dataclass(frozen=True)
class LogShape:
    """How large a log is; all follows from the number of records."""

    records: int

    @property
    def files(self) -> int:
        return max(_LEAST_FILES, -(-self.records // FILE_RECORDS))

    @property
    def users(self) -> int:
        return max(10, self.records // 200)

    @property
    def items(self) -> int:
        return max(50, self.records // 100)

    def bounds(self, file: int) -> tuple[int, int]:
        """Returns the first record of a file, and the first of the next."""
        return (
            file * self.records // self.files,
            (file + 1) * self.records // self.files,
        )


def write_log(
    folder: Path, records: int, seed: int = 0, file_format: str = "parquet"
) -> LogShape:
    """Writes `events-*.<format>`, `items.parquet` and `users.parquet`.

    Args:
        folder: made if it is not there.
        records: of the event log, bad ones and copies among them.
        seed: of everything.
        file_format: parquet, or jsonl, which has some lines that are no JSON as well.

    Returns:
        What was written.
    """
    shape = LogShape(records)
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(_items(shape, seed), folder / "items.parquet")
    pq.write_table(_users(shape, seed), folder / "users.parquet")
    for file, table in enumerate(event_tables(shape, seed)):
        path = folder / f"events-{file:04d}.{file_format}"
        if file_format == "parquet":
            pq.write_table(table, path, row_group_size=_ROW_GROUP)
        else:
            path.write_text("".join(_lines(table)))
    return shape


def event_tables(shape: LogShape, seed: int = 0) -> Iterator[pa.Table]:
    """Yields the records of each file, about in the order of time."""
    for file in range(shape.files):
        begin, end = shape.bounds(file)
        yield _file_events(shape, file, end - begin, seed)


def _file_events(shape: LogShape, file: int, size: int, seed: int) -> pa.Table:
    chance = np.random.default_rng([seed, file])
    num_bad, num_copies = round(size * BAD_SHARE), round(size * COPY_SHARE)
    num_good = size - num_bad - num_copies
    good = _good_events(shape, file, num_good, seed, chance)
    copied = chance.choice(num_good, num_copies, replace=False)
    spoilt = chance.choice(num_good, num_bad, replace=False)
    # A copy comes a little later; a producer that tries again may stamp it anew.
    copies = good.take(pa.array(copied))
    again = chance.integers(0, 5000, num_copies) * (chance.random(num_copies) < 0.25)
    copies = copies.set_column(
        1, "timestamp", pc.add(copies["timestamp"], pa.array(again))
    )
    fresh = _ids("e", np.arange(num_good, num_good + num_bad), file, seed)
    bad = good.take(pa.array(spoilt)).set_column(0, "event_id", fresh)
    together = pa.concat_tables([good, copies, _spoilt(bad)])
    place = np.concatenate(
        [np.arange(num_good), copied + chance.random(num_copies) * 200, spoilt + 0.5]
    )
    return together.take(pa.array(np.argsort(place, kind="stable"))).combine_chunks()


def _good_events(
    shape: LogShape, file: int, size: int, seed: int, chance: np.random.Generator
) -> pa.Table:
    """Returns `size` well-formed events of one file, in the order of time."""
    num_requests = size // 5 + 10  # each has 6.5 impressions on average
    span = _DAYS * DAY_MS // shape.files
    moments = np.sort(chance.integers(0, span, num_requests)) + file * span + _FIRST_MS
    users = _skewed(chance, num_requests, shape.users, 2.0)
    request = np.repeat(np.arange(num_requests), chance.integers(3, 11, num_requests))
    item = _skewed(chance, len(request), shape.items, 3.0)
    # An item stands once in a request.
    _, first = np.unique(request * shape.items + item, return_index=True)
    first.sort()
    request, item = request[first], item[first]
    begins = np.searchsorted(request, np.arange(num_requests))
    position = np.arange(len(request)) - begins[request]
    propensity = np.maximum(chance.beta(1, 4, len(request)), 0.001)

    draw = chance.random(len(request))
    clicked = 0.25 / (1 + 0.3 * position)  # the chance that it is
    answered = np.flatnonzero(draw < clicked + 0.03)
    answer_type = np.where(draw[answered] < clicked[answered], 1, 2)
    delay = _delays(chance, len(answered))
    lost = chance.random(len(answered)) < 0.02  # its request is not on record

    shown = np.zeros(len(request), np.int64)
    source = np.concatenate([np.arange(len(request)), answered])
    event_type = np.concatenate([shown, answer_type])
    without = np.concatenate([shown.astype(bool), lost])
    moment = moments[request[source]] + np.concatenate([shown, delay])
    order = np.argsort(moment, kind="stable")[:size]
    source, event_type = source[order], event_type[order]
    is_answer = event_type > 0
    requests = _ids("r", request[source], file, seed)
    return pa.table(
        [
            _ids("e", np.arange(size), file, seed),
            pa.array(np.maximum(moment[order], 0)),
            _numbered("u", users[request[source]], 7),
            _numbered("i", item[source], 6),
            pa.array(["impression", "click", "mute"]).take(pa.array(event_type)),
            pc.if_else(
                pa.array(without[order]), pa.scalar(None, pa.string()), requests
            ),
            pa.array(position[source], mask=is_answer),
            pa.array(propensity[source], mask=is_answer),
        ],
        schema=EVENTS,
    )


def _delays(chance: np.random.Generator, size: int) -> np.ndarray:
    """Returns ms from impression to response: most short, some late, a few early."""
    delay = chance.exponential(1.5 * MINUTE_MS, size)
    kind = chance.random(size)
    late = MINUTE_MS * chance.uniform(10, 60, size)
    delay = np.where(kind < 0.08, late, delay)
    return np.where(kind > 0.995, -chance.uniform(1, MINUTE_MS, size), delay).astype(
        np.int64
    )


def _set(column: str, value: object) -> Callable[[pa.Table], pa.Table]:
    def changed(table: pa.Table) -> pa.Table:
        at = table.schema.get_field_index(column)
        field = table.schema.field(at)
        values = pa.array([value] * table.num_rows, field.type)
        return table.set_column(at, field, values)

    return changed


# Each kind breaks one rule of the log's contract.
BAD_KINDS = {
    "empty event id": _set("event_id", ""),
    "blank user": _set("user_id", " "),
    "no item": _set("item_id", None),
    "giant user": _set("user_id", "u" * 2000),
    "unknown type": _set("event_type", "hover"),
    "before 1970": _set("timestamp", -1),
    "far future": _set("timestamp", 10**15),
    "no propensity": _set("propensity", 0.0),
    "propensity above 1": _set("propensity", 1.5),
    "propensity NaN": _set("propensity", float("nan")),
    "negative position": _set("position", -1),
}


def _spoilt(table: pa.Table) -> pa.Table:
    """Spoils all rows, as many in each way of `BAD_KINDS`."""
    bounds = np.linspace(0, table.num_rows, len(BAD_KINDS) + 1).astype(int).tolist()
    parts = [
        spoil(table.slice(begin, end - begin))
        for spoil, begin, end in zip(
            BAD_KINDS.values(), bounds, bounds[1:], strict=False
        )
    ]
    return pa.concat_tables(parts)


def _items(shape: LogShape, seed: int) -> pa.Table:
    chance = np.random.default_rng([seed, 1 << 20])
    size = shape.items
    ends = np.concatenate([[0], np.cumsum(chance.integers(0, 5, size))])
    tags = _numbered("tag", chance.integers(0, _TAGS, ends[-1]), 3)
    return pa.table(
        {
            "item_id": _numbered("i", np.arange(size), 6),
            "category": _numbered("cat", chance.integers(0, _CATEGORIES, size), 2),
            "tags": pa.ListArray.from_arrays(pa.array(ends, pa.int32()), tags),
            "price": pa.array(
                chance.lognormal(2, 1, size), mask=chance.random(size) < 0.05
            ),
        }
    )


def _users(shape: LogShape, seed: int) -> pa.Table:
    chance = np.random.default_rng([seed, 1 << 21])
    size = shape.users
    return pa.table(
        {
            "user_id": _numbered("u", np.arange(size), 7),
            "country": _numbered("c", chance.integers(0, _COUNTRIES, size), 2),
            "age": pa.array(
                chance.integers(16, 90, size).astype(float),
                mask=chance.random(size) < 0.1,
            ),
        }
    )


def _skewed(
    chance: np.random.Generator, size: int, number: int, power: float
) -> np.ndarray:
    """Returns draws from 0..number-1, the low ones far more often.

    The share of the first x is x^(1 / power): for power 3, a tenth has 46 %.
    """
    return (number * chance.random(size) ** power).astype(np.int64)


def _numbered(prefix: str, numbers: np.ndarray, digits: int) -> pa.Array:
    padded = pc.utf8_lpad(pa.array(numbers).cast(pa.string()), digits, "0")
    return pc.binary_join_element_wise(prefix, padded, "")


def _ids(prefix: str, numbers: np.ndarray, file: int, seed: int) -> pa.Array:
    """Returns ids like a producer's: 16 hexadecimal digits without order.

    Different numbers, files and seeds below 2^32, 2^20 and 2^12 have different ids.
    """
    key = np.uint64(seed) << np.uint64(52) | np.uint64(file) << np.uint64(32)
    mixed = key | numbers.astype(np.uint64)
    # The finaliser of splitmix64, which is one-to-one.
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    digits = mixed.astype(">u8").tobytes().hex().encode()
    ends = np.arange(len(numbers) + 1, dtype=np.int32) * 16
    ids = pa.StringArray.from_buffers(
        len(numbers), pa.py_buffer(ends.tobytes()), pa.py_buffer(digits)
    )
    return pc.binary_join_element_wise(prefix, ids, "")


def _lines(table: pa.Table) -> Iterator[str]:
    """Yields the records as JSON; every other one before 1970 is cut in the middle."""
    cut = 0
    for batch in table.to_batches(max_chunksize=_ROW_GROUP):
        for record in batch.to_pylist():
            line = json.dumps({k: v for k, v in record.items() if v is not None})
            if record["timestamp"] < 0:
                cut += 1
                if cut % 2 == 0:
                    line = line[: len(line) // 2]
            yield line + "\n"
