"""Logs full of damage, made from a seed, and what their records are by plain Python.

Nothing here comes from the package but the frames of TFRecord files.
"""

import csv
import dataclasses
import io
import json
import math
import random
import struct
import zlib

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.ingestion import tfrecord

TYPES = ("impression", "click", "mute", "purchase", "rating")
COLUMNS = (
    "event_id",
    "timestamp",
    "user_id",
    "item_id",
    "event_type",
    "value",
    "position",
    "propensity",
    "request_id",
    "page",
    "dwell",
    "tags",
)
REQUIRED = COLUMNS[:5]
NAN, INF = float("nan"), float("inf")
GIANT = "giant " * 4000

# What a field may hold beside what a good record has: what is refused, what is not. The
# texts of them are what a field of CSV may hold.
_BAD_IDS = [None, "", "  ", "x" * 1025, "é" * 513, [], ["i"], {"a": 1}, 1.5, NAN, True]
_BAD_NUMBERS = [NAN, INF, -INF, 1e300, "x", "nan", "1_0", [], {"a": 1}, True]
_FINE_IDS = [17, 10**25, "x" * 1024, "é" * 512, "a\x00b", "日本", 'a"b', "a,b", "null"]
BAD = {
    "event_id": [*_BAD_IDS, "\ud800"],
    "user_id": _BAD_IDS,
    "item_id": [*_BAD_IDS, "a\udc00"],
    "timestamp": [
        None,
        "",
        -1,
        10**15,
        10**30,
        "soon",
        "-5",
        True,
        1.5,
        NAN,
        [1],
        1e20,
    ],
    "event_type": [None, "", "share", "Click", "click ", 3, 1.5, ["click"], True],
    "value": _BAD_NUMBERS,
    "position": [*_BAD_NUMBERS, -1, 1.5, 2**60, "-1", "0.5"],
    "propensity": [*_BAD_NUMBERS, 0, -0.1, 1.0001, 1e-60, "0", "2", -0.0],
    "request_id": [1.5, [], True, {}, "\udfff"],
    "page": [1.5, ["home"], False],
    "dwell": _BAD_NUMBERS,
    "tags": [{"a": 1}, 3, True, [[]], [1.5]],
}
FINE = {
    "event_id": _FINE_IDS,
    "user_id": _FINE_IDS,
    "item_id": _FINE_IDS,
    "timestamp": [
        0,
        253_402_300_799_999,
        "2026-11-21T10:11:12.345+01:00",
        "17",
        1.7e12,
    ],
    "value": [None, 0, -3.5, "2.5", 1e-300, "", " 7 "],
    "position": [None, 0, 5.0, "4", "", 2**40],
    "propensity": [None, 1, 1.0, "0.25", 1e-30, ""],
    "request_id": [None, "", 5, "r", GIANT],
    "page": [None, "", "a\nb", GIANT, 5],
    "dwell": [None, "", 3, "1e3"],
    "tags": [None, [], ["a", None], "a|b", ["x" * 5000]],
}
BAD_TEXTS = {
    name: [v for v in values if isinstance(v, str) and v.isprintable() and v]
    for name, values in BAD.items()
} | {"timestamp": ["", "soon", "-5", "1.5", "1e12"], "event_id": ["", "  "]}
FINE_TEXTS = {
    name: [v for v in values if isinstance(v, str) and "\x00" not in v]
    for name, values in FINE.items()
}


@dataclasses.dataclass
class Log:
    """One file, and what plain Python knows of it."""

    data: bytes
    records: dict[int, str]  # position -> the record as it stands in the file
    verdicts: dict[str, dict | bool]  # record -> the row it gives, or False: none


def good_record(rng: random.Random, number: int) -> dict:
    record = {
        "event_id": f"e{number}",
        "timestamp": rng.randrange(10**12, 2 * 10**12),
        "user_id": f"u{rng.randrange(1000)}",
        "item_id": f"i{rng.randrange(1000)}",
        "event_type": rng.choice(TYPES),
        "value": rng.randrange(100) / 8,
        "position": rng.randrange(20),
        "propensity": rng.randrange(1, 65) / 64,
        "request_id": f"r{number // 3}",
        "page": rng.choice(["home", "é", "search"]),
        "dwell": rng.randrange(1000) / 4,
        "tags": ["a", "b"][: rng.randrange(1, 3)],
    }
    for name in COLUMNS[6:]:
        if rng.random() < 0.1:
            del record[name]
    return record


def expected_row(record: dict) -> dict:
    return {name: record.get(name) for name in COLUMNS}


def changed(rng: random.Random, record: dict, bad: dict, fine: dict) -> bool | None:
    """Changes fields of `record`; returns False for one that is bad now, else None."""
    bad_names = set()
    for name in rng.sample(COLUMNS, rng.randrange(1, 3)):
        if name in REQUIRED and rng.random() < 0.1:
            record.pop(name)
            bad_names.add(name)
        elif name in fine and (rng.random() < 0.4 or not bad[name]):
            record[name] = rng.choice(fine[name])
        elif bad[name]:
            record[name] = rng.choice(bad[name])
            bad_names.add(name)
    return False if bad_names else None


def damaged(rng: random.Random, line: bytes) -> bytes:
    """Replaces, drops, doubles and inserts bytes; the line stays one line."""
    data = bytearray(line)
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(5)
        if kind == 0:
            data[at:at] = rng.randbytes(rng.randrange(1, 9))
        elif kind == 1:
            data[at:at] = rng.choice(
                [b'"', b"\\", b"{", b"}", b"\xff", b"\0", b"\r", b","]
            )
        elif kind == 2:
            del data[at : at + rng.randrange(1, 30)]
        elif kind == 3:
            data[at:at] = data[at : at + 20]
        else:
            data[at : at + 1] = rng.randbytes(1)
    return bytes(data).replace(b"\n", b" ")


def json_lines(rng: random.Random, number: int) -> tuple[list[bytes], dict]:
    """Returns records of JSON, and the verdicts over them by their text."""
    records, verdicts = [], {}
    for i in range(number):
        record = good_record(rng, i)
        verdict = expected_row(record)
        chance = rng.random()
        if chance > 0.7:
            verdict = changed(rng, record, BAD, FINE)
        text = json.dumps(record, ensure_ascii=rng.random() < 0.9)
        line = text.encode("utf-8", "surrogatepass")
        if chance > 0.95:
            verdict, line = None, damaged(rng, line)
        elif chance > 0.94:
            verdict = None
            line = rng.choice(
                [
                    text.encode("utf-16", "surrogatepass").replace(b"\n", b" "),
                    text.encode("latin-1", "replace"),
                    rng.randbytes(40).replace(b"\n", b" "),
                    line + b"\r",
                    b"  " + line,
                    b"[" * 3000,
                    b"[1]",
                    b"null",
                ]
            )
        records.append(line)
        if verdict is not None:
            verdicts[spelled(line)] = verdict
    return records, verdicts


def jsonl(rng: random.Random, number: int) -> Log:
    records, verdicts = json_lines(rng, number)
    for _ in range(number // 100):
        records.insert(rng.randrange(len(records)), rng.choice([b"", b"  ", b"\r"]))
    data = b"\n".join(records)
    return Log(data, lines_of(data), verdicts)


def lines_of(data: bytes) -> dict[int, str]:
    numbered = enumerate(data.split(b"\n"), 1)
    return {i: spelled(line) for i, line in numbered if line.strip()}


def csv_text(rng: random.Random, number: int) -> Log:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    lines, verdicts = [out.getvalue().encode()], {}
    for i in range(number):
        record = good_record(rng, i)
        record["tags"] = "|".join(record.get("tags", []))
        verdict = expected_row(record) | {"tags": None}
        chance = rng.random()
        if chance > 0.7:
            verdict = changed(rng, record, BAD_TEXTS, FINE_TEXTS)
        out.seek(0)
        out.truncate()
        quoting = rng.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
        writer = csv.writer(out, lineterminator="\n", quoting=quoting)
        writer.writerow([record.get(name) for name in COLUMNS])
        line = out.getvalue().encode()
        if verdict is not None:
            verdicts[spelled(line.rstrip(b"\r\n"))] = verdict
        if chance > 0.97:
            line = damaged(rng, line[:-1]) + b"\n"
        elif chance > 0.96:
            line = rng.choice(
                [
                    b"\n",
                    b'"\n',
                    b'a,"b\n',
                    b'a"b,c"\n',
                    b",\n",
                    b"\r\n",
                    b'""\n',
                    b'","\n',
                ]
            )
        lines.append(line)
    data = b"".join(lines)
    return Log(data, csv_records(data), verdicts)


def csv_records(data: bytes) -> dict[int, str]:
    """Returns the records behind the header, by the csv module over the whole text."""
    taken: list[tuple[int, str]] = []

    def lines():
        text = io.StringIO(data.decode("utf-8", "surrogateescape"), newline="\n")
        for numbered in enumerate(text, 1):
            taken.append(numbered)
            yield numbered[1]

    reader = csv.reader(lines())
    out = {}
    while True:
        try:
            fields = next(reader, None)
        except csv.Error:
            fields = [""]
        if fields is None:
            out.pop(1, None)
            return out
        if fields:
            raw = "".join(line for _, line in taken).rstrip("\r\n")
            out[taken[0][0]] = spelled(raw.encode("utf-8", "surrogateescape"))
        taken.clear()


def tfrecords(rng: random.Random, number: int) -> Log:
    records, verdicts = json_lines(rng, number)
    for i in range(0, number, 7):
        if rng.random() < 0.5:
            record = good_record(rng, i)
            records[i] = tf_example(record)
            verdicts[spelled(records[i])] = expected_row(record)
        else:
            records[i] = rng.choice([b"", rng.randbytes(30), damaged(rng, records[i])])
    data = b"".join(map(tfrecord.framed, records))
    return Log(data, {i: spelled(r) for i, r in enumerate(records, 1)}, verdicts)


def tf_example(record: dict) -> bytes:
    from tensorflow.core.example.example_pb2 import Example

    example = Example()
    for name, value in record.items():
        feature = example.features.feature[name]
        values = value if isinstance(value, list) else [value]
        if isinstance(values[0], str):
            feature.bytes_list.value.extend(text.encode() for text in values)
        elif isinstance(values[0], float):
            feature.float_list.value.extend(values)
        else:
            feature.int64_list.value.extend(values)
    return example.SerializeToString()


def framed_records(data: bytes) -> dict[int, str]:
    """Returns the records of a TFRecord stream, and "" for what is damaged."""
    out: dict[int, str] = {}
    at = 0
    while at < len(data):
        position = len(out) + 1
        out[position] = ""
        if len(data) < at + 12:
            break
        (length,) = struct.unpack_from("<Q", data, at)
        if data[at + 8 : at + 12] != masked(data[at : at + 8]) or length > 2**30:
            break
        end = at + 12 + length
        record = data[at + 12 : end]
        if len(data) < end + 4 or data[end : end + 4] != masked(record):
            break
        out[position] = spelled(record)
        at = end + 4
    return out


def masked(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def parquet(rng: random.Random, number: int, typed: bool) -> Log:
    """Columns of text that may say anything, or of types with values out of range."""
    rows, verdicts_by_row = [], []
    for i in range(number):
        record = good_record(rng, i)
        verdict = expected_row(record)
        if rng.random() > 0.7:
            verdict = None
            name = rng.choice(COLUMNS)
            if typed and name in _TYPED_BAD:
                record[name] = rng.choice(_TYPED_BAD[name])
                verdict = False
            elif not typed and name != "tags":
                record[name] = rng.choice(BAD_TEXTS[name] or [None])
        if not typed:
            record = {
                k: v if k == "tags" or v is None else str(v) for k, v in record.items()
            }
        rows.append(expected_row(record))
        verdicts_by_row.append(verdict)
    types = {"tags": pa.list_(pa.string())}
    if typed:
        types |= dict(timestamp=pa.int64(), value=pa.float64(), position=pa.float64())
        types |= dict(propensity=pa.float64(), dwell=pa.float32())
    schema = pa.schema([(name, types.get(name, pa.string())) for name in COLUMNS])
    table = pa.Table.from_pylist(rows, schema)
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=max(number // 7, 1))
    texts = [json.dumps(row, default=str) for row in table.to_pylist()]
    verdicts = {
        text: verdict
        for text, verdict in zip(texts, verdicts_by_row, strict=True)
        if verdict is not None
    }
    return Log(sink.getvalue(), dict(enumerate(texts, 1)), verdicts)


_TYPED_BAD = {
    "event_id": [None, "", " ", "x" * 1025],
    "timestamp": [None, -1, 10**15, -(2**63), 2**63 - 1],
    "event_type": [None, "share"],
    "value": [NAN, INF, 1e300],
    "position": [NAN, -1.0, 0.5, 1e20],
    "propensity": [NAN, -INF, 0.0, -0.5, 1.5, 1e-60],
}


def decompressed(data: bytes) -> bytes:
    """Returns all that zlib gives of the first member of a truncated gzip file."""
    return zlib.decompressobj(wbits=31).decompress(data)


def spelled(record: bytes) -> str:
    return record.decode("utf-8", "backslashreplace")


def check_row(row: dict) -> None:
    """Raises AssertionError for an accepted row that breaks the contract."""
    for name in ("event_id", "user_id", "item_id"):
        assert isinstance(row[name], str), name
        assert row[name].strip(), name
        assert len(row[name].encode("utf-8")) <= 1024, name
    assert type(row["timestamp"]) is int
    assert 0 <= row["timestamp"] <= 253_402_300_799_999
    assert row["event_type"] in TYPES
    for name in ("value", "dwell"):
        assert row[name] is None or math.isfinite(np.float32(row[name])), name
    assert row["event_type"] != "rating" or row["value"] is not None
    assert row["position"] is None or 0 <= row["position"] < 2**53
    propensity = row["propensity"]
    assert propensity is None or (np.float32(propensity) > 0 and propensity <= 1)
    for name in ("request_id", "page"):
        assert row[name] is None or (row[name] and row[name].encode("utf-8")), name
    assert row["tags"] is None or all(tag and tag.encode() for tag in row["tags"])
