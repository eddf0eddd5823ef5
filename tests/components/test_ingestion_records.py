"""Reading at once gives what reading record by record gives, whatever the bytes are.

The slow readers here are Python's json and csv modules, one record at a time.
"""

import csv
import gzip
import io
import json
import random

import numpy as np
import pyarrow as pa
import pyarrow.json as pa_json
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from components.ingestion import blocks, json_lines, lines, streams, tfrecord
from components.ingestion.errors import IngestionError
from components.ingestion.parsing import parse_events, parse_side_table
from components.ingestion.records import read_batches
from components.ingestion.settings import Format
from components.ingestion.sources import SourceFile, column_maps
from tests.components import ingestion_world as world
from tests.components import memory_file_system

SETTINGS = world.settings(events={"path": "unused"})
COLUMNS = column_maps(SETTINGS, world.CATALOG)["events"]
NUMBERS = {"timestamp", "value", "position", "propensity"}
WANTED = {*NUMBERS, "event_id", "user_id", "item_id", "event_type", "request_id"}


def plain(values):
    return values.to_pylist() if isinstance(values, pa.Array) else values


def batches(path, kind, batch_records=1000, table="events", source=SETTINGS.events):
    file = SourceFile(table, 0, str(path), kind)
    return list(read_batches(blocks.whole(file), source, COLUMNS, batch_records))


def as_read(found):
    """Returns {position: (named values, raw) or None for a broken record}."""
    out = {}
    for batch in found:
        columns = {name: plain(values) for name, values in batch.columns.items()}
        for row, position in enumerate(batch.positions.tolist()):
            record = {name: values[row] for name, values in columns.items()}
            assert position not in out
            out[position] = (normal(record), batch.raw(row))
        for broken in batch.broken:
            assert broken.position not in out
            out[broken.position] = (None, broken.raw)
    return out


def normal(record):
    """Keeps what parsing reads, with types told apart; 1 is 1.0 where numbers are."""
    out = {}
    for name, value in record.items():
        if name in WANTED and value is not None:
            if name in NUMBERS and type(value) is int:
                value = float(value)
            out[name] = repr(value)  # NaN is itself here, -0.0 is not 0.0
    return out


# JSON Lines: each line that some reader takes for another thing than Python's does.
TRAPS = [
    b'{"event_id": "a", "event_id": "b"}',
    b'{"event_id": "a"}{"event_id": "b"}',
    b'{"event_id": "a"} {',
    b'{"event_id": "a"',
    b', "user_id": "b"}',
    b'{"event_id": "a"},',
    b'{"value": NaN}',
    b'{"value": Infinity}',
    b'{"value": Inf}',
    b'{"value": -Infinity}',
    b'{"value": 1e999}',
    b'{"value": 1e-999}',
    b'{"value": 12345678901234567890123}',
    b'{"value": 0.1000000000000000055511151231257827}',
    b'{"value": -0}',
    b'{"value": -0.0}',
    b'{"value": 01}',
    b'{"value": 1.}',
    b'{"value": .5}',
    b'{"value": +1}',
    b'{"value": 1E5}',
    b'{"value": true}',
    b'{"value": "1"}',
    b'{"value": 9007199254740993}',
    b'{"position": 9223372036854775808}',
    b'{"position": 1.0}',
    b'{"position": 1e2}',
    b'{"event_id": 9223372036854775807}',
    b'{"event_id": 123456789012345678901234567890}',
    b'{"event_id": 1}',
    b'{"event_id": 1.0}',
    b'{"event_id": null}',
    b'{"event_id": "\\ud800"}',
    b'{"event_id": "\\udc00\\ud800"}',
    b'{"event_id": "\\ud83d\\ude00"}',
    b'{"event_id": "\\u0000"}',
    b'{"event_id": "\\u00e9\\n\\/\\""}',
    b'{"event_id": "\\x"}',
    b'{"event_id": "\\u12"}',
    b'{"event_id": "\xff"}',
    b'{"event_id": "\xed\xa0\x80"}',
    b'{"event_id": "\xc0\x80"}',
    b'{"event_id": "\xc3\xa9"}',
    '{"event_id": "é"}'.encode("latin-1"),
    '{"event_id": "é"}'.encode("utf-16"),
    b'{"event_id": "a\tb"}',
    b'{"event_id": "a\x00b"}',
    b'{"event_id": "a\x7fb"}',
    b'{"event\\u005fid": "a"}',
    b'\xef\xbb\xbf{"event_id": "a"}',
    b'{"timestamp": "2026-11-21"}',
    b'{"timestamp": "2026-11-21T00:00:00Z"}',
    b'{"timestamp": 1700000000000.0}',
    b'{"context": {"page": ["a", {"b": null}]}, "event_id": "a"}',
    b'{"context": {"page": NaN}, "event_id": "a"}',
    b'{"context": 1, "context": {}, "event_id": "a"}',
    b'{"event_id": ["a"]}',
    b'{"event_id": {"a": 1}}',
    b'{"user_id": []}',
    b'{"": 1}',
    b"{}",
    b"[]",
    b"null",
    b'"{}"',
    b"// comment",
    b"",
    b"   ",
    b"\x0b",
    b"\x00",
    b'{"event_id": "a"}\r',
    b'\t{ "event_id" :"a" , "user_id":\t"b"}  ',
    b'{"event_id": "a",}',
    b"{'event_id': 'a'}",
    b'{"event_id": "a" "user_id": "b"}',
    b'{"event_id" "a"}',
    b'{"a": ' * 600 + b"1" + b"}" * 600,
    b'{"event_id": "' + b"x" * 3000 + b'"}',
]


def slow_json(data):
    """Returns what `as_read` gives, by json.loads alone."""
    out = {}
    numbered = enumerate(data.split(b"\n"), 1)
    for position, line in numbered:
        if not line.strip():
            continue
        raw = line.decode("utf-8", "backslashreplace")
        try:
            record = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError):
            record = None
        is_object = isinstance(record, dict)
        out[position] = (normal(record) if is_object else None, raw)
    return out


def ours(path, batch_records):
    return as_read(batches(path, Format.JSONL, batch_records))


def check_json(read, path, data, sizes=(1, 2, 7, 1000)):
    """The checker: `read` says of every line what json.loads says."""
    path.write_bytes(data)
    for batch_records in sizes:
        assert read(path, batch_records) == slow_json(data)


def plain_lines(number, start=0):
    return [
        json.dumps(
            world.event(f"e{i}", timestamp=10**12 + i, value=i / 7, position=i % 9)
        ).encode()
        for i in range(start, start + number)
    ]


def test_each_trap_among_plain_lines_is_read_as_json_reads_it(tmp_path):
    for trap in TRAPS:
        data = [*plain_lines(3), trap, *plain_lines(3, 3)]
        check_json(ours, tmp_path / "a.jsonl", b"\n".join(data), sizes=[1000])


def test_all_traps_together_are_read_as_json_reads_them(tmp_path):
    random_ = random.Random(7)
    data = TRAPS * 3 + plain_lines(300)
    random_.shuffle(data)
    check_json(ours, tmp_path / "a.jsonl", b"\n".join(data), sizes=(20, 1000))


def test_shape_that_changes_on_the_way_is_learnt_anew(tmp_path):
    data = plain_lines(500)
    other = {"event_id": 1, "timestamp": "2026-11-21T00:00:00Z", "value": 1, "new": {}}
    data += [json.dumps(other | {"position": i / 2}).encode() for i in range(2000)]
    check_json(ours, tmp_path / "a.jsonl", b"\n".join(data), sizes=(100, 5000))


def inferring(path, batch_records):
    """Lets Arrow infer the types, of each batch of lines that it takes at all."""
    out = {}
    data = path.read_bytes().split(b"\n")
    for begin in range(0, len(data), batch_records):
        chunk = data[begin : begin + batch_records]
        try:
            table = pa_json.read_json(pa.BufferReader(b"\n".join(chunk)))
        except pa.ArrowInvalid:
            out |= {
                position + begin: fate
                for position, fate in slow_json(b"\n".join(chunk)).items()
            }
            continue
        for row, record in enumerate(table.to_pylist()):
            out[begin + row + 1] = (normal(record), chunk[row].decode())
    return out


def without_utf8(path, batch_records, monkeypatch):
    monkeypatch.setattr(lines.Lines, "is_utf8", lambda self: np.ones(len(self), bool))
    return ours(path, batch_records)


def test_json_checker_rejects_inferred_types(tmp_path):
    line = json.dumps(world.event("a", timestamp="2026-11-21T00:00:00Z"))
    with pytest.raises(AssertionError):
        check_json(inferring, tmp_path / "a.jsonl", line.encode())


def test_json_checker_rejects_unchecked_utf8(tmp_path, monkeypatch):
    data = b"\n".join([*plain_lines(3), b'{"event_id": "\xed\xa0\x80"}'])
    with pytest.raises((AssertionError, UnicodeDecodeError)):
        check_json(
            lambda *arguments: without_utf8(*arguments, monkeypatch),
            tmp_path / "a.jsonl",
            data,
        )


def test_json_checker_rejects_a_reader_that_drops_bad_lines(tmp_path):
    def dropping(path, batch_records):
        found = ours(path, batch_records)
        return {position: fate for position, fate in found.items() if fate[0]}

    with pytest.raises(AssertionError):
        check_json(dropping, tmp_path / "a.jsonl", b'{"event_id": "a"}\n{oops\n')


json_texts = st.text(max_size=6) | st.sampled_from(["a", "2026-11-21", "1", "\ud800"])
json_values = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | json_texts
    | st.lists(json_texts, max_size=2)
)


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    records=st.lists(
        st.dictionaries(
            st.sampled_from(["event_id", "timestamp", "value", "position", "x"]),
            json_values,
        ),
        max_size=12,
    ),
    ascii_=st.booleans(),
    indent=st.sampled_from([(", ", ": "), (",", ":"), (" ,\t", " : ")]),
)
def test_any_records_are_read_as_json_reads_them(
    tmp_path_factory, records, ascii_, indent
):
    text = "\n".join(
        json.dumps(r, ensure_ascii=ascii_, separators=indent) for r in records
    )
    path = tmp_path_factory.mktemp("json") / "a.jsonl"
    check_json(ours, path, text.encode("utf-8", "surrogatepass"), sizes=(3, 100))


def test_usual_lines_do_not_go_one_by_one(tmp_path, monkeypatch):
    """A log of which 3 % is bad is still read at once, but for those 3 %."""
    seen = []
    one_by_one = json_lines._one_by_one

    def counted(part, rows, parse):
        seen.append(len(rows))
        return one_by_one(part, rows, parse)

    monkeypatch.setattr(json_lines, "_one_by_one", counted)
    bad = [b"{oops", b'{"timestamp": "soon"}', b'{"propensity": NaN}', b"[]"]
    data = plain_lines(10_000)
    data[::33] = [bad[i % 4] for i in range(len(data[::33]))]
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join(data))
    found = batches(path, Format.JSONL, 2000)
    assert sum(batch.num_read for batch in found) == 10_000
    assert sum(seen) <= 10_000 // 33 + 1


def test_columns_that_nothing_reads_do_not_slow_the_others(tmp_path, monkeypatch):
    rows = []
    one_by_one = json_lines._one_by_one
    monkeypatch.setattr(
        json_lines,
        "_one_by_one",
        lambda part, odd, parse: rows.append(len(odd)) or one_by_one(part, odd, parse),
    )
    unread = {
        "context": {"page": ["a", 1, None], "b": {}},
        "": 1,
        "ü": "\n",
        "x y": 1.5,
    }
    data = [
        json.dumps(world.event(f"e{i}") | unread, ensure_ascii=False).encode()
        for i in range(3000)
    ]
    check_json(ours, tmp_path / "a.jsonl", b"\n".join(data), sizes=[1000])
    assert sum(rows) == 0


def test_items_keep_columns_that_nothing_declares_as_they_were(tmp_path):
    path = tmp_path / "items.jsonl"
    path.write_text('{"item_id": "a", "price": 1, "tags": ["x"]}\n' * 3)
    settings = world.settings()
    column_map = column_maps(settings, world.CATALOG)["items"]
    file = SourceFile("items", 0, str(path), Format.JSONL)
    (batch,) = read_batches(blocks.whole(file), settings.items, column_map)
    table, dead = parse_side_table(
        batch, column_map, settings.items, "item_id", world.CATALOG.item, 0, True
    )
    assert not dead
    assert (
        table.select(["price", "tags"]).to_pylist()
        == [{"price": 1, "tags": '["x"]'}] * 3
    )


# CSV.
HEADER = "event_id,timestamp,user_id,item_id,event_type"
CSV_TRAPS = [
    "a,1,u,i,click",
    "a,1,u,i",
    "a,1,u,i,click,more",
    "",
    "   ",
    ",,,,",
    'a,1,"u",i,click',
    'a,1,"u,v",i,click',
    'a,1,"u ""v""",i,click',
    'a,1,u"v,i,click',
    'a,1,u"v",i,click',
    'a,1,"u"v,i,click',
    'a,1, "u,v",i,click',
    'a,1,"u\nv",i,click',
    'a,1,"u\r\nv",i,click',
    'a,1,"u\n\n",i,click',
    "a,1,u\rv,i,click",
    "a,1,u,i,click\r",
    'a,1,"",i,click',
    'a,1,"""",i,click',
    "a,1,\x00,i,click",
    "a,1,\ufeffu,i,click",
    "\ufeffa,1,u,i,click",
    "a,1,é,i,click",
    "a,1, u ,i,click",
    "a\t1\tu\ti\tclick",
    "#a,1,u,i,click",
    "a,1,NULL,NA,nan",
    "a,1,\\N,\\,,click",
    "a,1,'u,v',i,click",
    '"a","1","u","i","click"',
]


def slow_csv(data, delimiter=","):
    """Returns what `as_read` gives, by csv.reader alone over the whole text."""
    text = data.decode("utf-8", "surrogateescape")
    out = {}
    taken = []
    numbered = enumerate(io.StringIO(text, newline="\n"), 1)

    def lines_taken():
        for number, line in numbered:
            taken.append((number, line))
            yield line

    reader = csv.reader(lines_taken(), delimiter=delimiter)
    names = None
    while True:
        try:
            fields = next(reader, None)
            if fields is None:
                return out
        except csv.Error:
            fields = None
        raw = "".join(line for _, line in taken).rstrip("\r\n")
        position = taken[0][0]
        taken.clear()
        if fields == []:
            continue
        if names is None:
            names = fields
            continue
        encoded = raw.encode("utf-8", "surrogateescape")
        spelled = encoded.decode("utf-8", "backslashreplace")
        is_record = fields is not None and len(fields) == len(names) and spelled == raw
        record = None
        if is_record:
            record = {n: f or None for n, f in zip(names, fields, strict=True)}
        out[position] = (None if record is None else texts(record), spelled)


def texts(record):
    return {name: value for name, value in record.items() if value is not None}


def our_csv(path, batch_records, delimiter=","):
    settings = world.settings(events={"path": "unused", "delimiter": delimiter})
    found = batches(path, Format.CSV, batch_records, source=settings.events)
    out = {}
    for batch in found:
        columns = {name: plain(values) for name, values in batch.columns.items()}
        for row, position in enumerate(batch.positions.tolist()):
            record = {name: values[row] for name, values in columns.items()}
            out[position] = (texts(record), batch.raw(row))
        out |= {broken.position: (None, broken.raw) for broken in batch.broken}
    return out


def check_csv(read, path, records, delimiter=",", sizes=(1, 2, 7, 1000)):
    """The checker: `read` says of every record what the csv module says."""
    data = "\n".join([HEADER.replace(",", delimiter), *records])
    data = data.encode("utf-8", "surrogateescape")
    path.write_bytes(data)
    for batch_records in sizes:
        assert read(path, batch_records, delimiter) == slow_csv(data, delimiter)


def test_each_csv_trap_is_read_as_csv_reads_it(tmp_path):
    for trap in CSV_TRAPS:
        records = [*CSV_TRAPS[:1] * 3, trap, *CSV_TRAPS[:1] * 3]
        check_csv(our_csv, tmp_path / "a.csv", records, sizes=(2, 1000))


def test_csv_traps_together_are_read_as_csv_reads_them(tmp_path):
    random_ = random.Random(3)
    for _ in range(20):
        records = random_.choices(CSV_TRAPS, k=40) + [CSV_TRAPS[0]] * 20
        random_.shuffle(records)
        check_csv(our_csv, tmp_path / "a.csv", records)


@pytest.mark.parametrize("delimiter", ["\t", ";", "|", " ", "^", "-", "]", "é", "\\"])
def test_any_delimiter(tmp_path, delimiter):
    records = [trap.replace(",", delimiter) for trap in CSV_TRAPS]
    check_csv(our_csv, tmp_path / "a.csv", records, delimiter)


@pytest.mark.parametrize("read_bytes", [1, 5, 64])
def test_csv_record_goes_on_where_chunks_of_the_file_meet(
    tmp_path, monkeypatch, read_bytes
):
    monkeypatch.setattr(lines, "_READ_BYTES", read_bytes)
    check_csv(our_csv, tmp_path / "a.csv", CSV_TRAPS, sizes=(1, 3, 1000))


@hypothesis_settings(max_examples=200, deadline=None)
@given(
    data=st.lists(st.sampled_from(list('ab,,"\n\r \té\x00\udcff')), max_size=60),
    good=st.integers(0, 3),
)
def test_any_csv_is_read_as_csv_reads_it(tmp_path_factory, data, good):
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    check_csv(our_csv, path, [*CSV_TRAPS[:1] * good, "".join(data)], sizes=(1, 3, 100))


def line_by_line(path, batch_records, delimiter):
    """Takes each line for a record."""
    first, *others = path.read_bytes().split(b"\n")
    out = {}
    for i, line in enumerate(others, 2):
        for _, fate in slow_csv(first + b"\n" + line, delimiter).items():
            out[i] = fate
    return out


def stripping(path, batch_records, delimiter):
    found = our_csv(path, batch_records, delimiter)
    return {
        position: (record and {k: v.strip() for k, v in record.items()}, raw)
        for position, (record, raw) in found.items()
    }


@pytest.mark.parametrize("wrong", [line_by_line, stripping])
def test_csv_checker_rejects(tmp_path, wrong):
    with pytest.raises(AssertionError):
        check_csv(wrong, tmp_path / "a.csv", CSV_TRAPS)


# Compressed and damaged files.
def events_read(path, kind=Format.JSONL):
    """Returns (ids, broken records) of a file."""
    ids, broken = [], []
    for batch in batches(path, kind):
        ids += plain(batch.columns.get("event_id", []))
        broken += batch.broken
    return ids, broken


def test_members_of_a_gzip_file_are_read_one_after_the_other(tmp_path):
    data = plain_lines(300)
    path = tmp_path / "a.jsonl.gz"
    members = [gzip.compress(b"\n".join(data[i : i + 100]) + b"\n") for i in (0, 100)]
    # A member may be empty, and zeros may pad them.
    members += [gzip.compress(b""), b"\0" * 512, gzip.compress(b"\n".join(data[200:]))]
    path.write_bytes(b"".join(members))
    ids, broken = events_read(path)
    assert (ids, broken) == ([f"e{i}" for i in range(300)], [])


def compressible(number):
    return [json.dumps(world.event(f"e{i}")).encode() for i in range(number)]


@pytest.mark.parametrize("cut", [1, 5, 12, 100, 5000, -1, -8, -9])
def test_truncated_gzip_is_one_broken_record_behind_what_was_there(tmp_path, cut):
    data = b"\n".join(compressible(5000)) + b"\n"
    whole = gzip.compress(data, 6)
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(whole[:cut])
    left = decompressed(whole[:cut]).split(b"\n")
    ids, broken = events_read(path)
    assert ids == [f"e{i}" for i in range(len(left) - 1)]
    assert [record.position for record in broken] == [len(left)]
    assert broken[0].raw == left[-1].decode()
    assert "damage: the file ends within" in broken[0].seen


def decompressed(data):
    """Returns all that can be decompressed, byte by byte."""
    import zlib

    member = zlib.decompressobj(31)
    out = b""
    for i in range(len(data)):
        try:
            out += member.decompress(data[i : i + 1])
        except zlib.error:
            break
    return out


def test_damaged_gzip_keeps_what_comes_before_the_damage(tmp_path):
    data = b"\n".join(plain_lines(10_000))
    whole = bytearray(gzip.compress(data, 6))
    whole[len(whole) * 3 // 4] ^= 0xFF
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(whole)
    ids, broken = events_read(path)
    before = decompressed(bytes(whole)).count(b"\n")
    # The last piece handed to zlib before the damage may be lost, no more.
    assert 0 < len(ids) <= before + 1
    assert len(broken) >= 1
    assert "damage: " in broken[-1].seen


def test_garbage_behind_gzip_is_one_broken_record(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b"\n".join(plain_lines(3)) + b"\n") + b"garbage")
    ids, broken = events_read(path)
    assert ids == ["e0", "e1", "e2"]
    assert [record.position for record in broken] == [4]


def test_gzip_bomb_comes_in_pieces(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b" " * (64 << 20)))
    stream = streams.open_stream(str(path))
    assert len(stream.read(1 << 20)) <= 2 << 20
    assert events_read(path) == ([], [])


def test_line_that_is_too_long_keeps_its_start_and_its_neighbours(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(lines, "MAX_RECORD_BYTES", 1000)
    monkeypatch.setattr(lines, "_KEPT_BYTES", 10)
    good = compressible(3)
    for read_bytes in (7, 100, 1 << 20):
        monkeypatch.setattr(lines, "_READ_BYTES", read_bytes)
        for giant in (b"x" * 1001, b"x" * 5000):
            for data in (
                [*good[:1], giant, *good[1:]],
                [giant, *good],
                [*good, giant],
            ):
                path = tmp_path / "a.jsonl"
                path.write_bytes(b"\n".join(data))
                ids, broken = events_read(path)
                assert ids == ["e0", "e1", "e2"]
                (record,) = broken
                assert record.position == data.index(giant) + 1
                assert record.raw == "x" * 10
                assert "should have at most" in record.expected


def test_tfrecords_that_are_empty_or_of_one_brace(tmp_path):
    """A tf.Example of 123 bytes begins with a line feed and a brace."""
    tf_example = pytest.importorskip("tensorflow.core.example.example_pb2")
    example = tf_example.Example()
    example.features.feature["event_id"].bytes_list.value.append(b"a")
    padding = example.features.feature["user_id"].bytes_list.value
    padding.append(b"")
    while example.features.ByteSize() < 123:
        padding[0] += b"u"
    record = example.SerializeToString()
    assert record.startswith(b"\n{")
    path = tmp_path / "a.tfrecord"
    path.write_bytes(b"".join(map(tfrecord.framed, [record, b"", b"{}", b"{oops"])))
    found = as_read(batches(path, Format.TFRECORD))
    assert found[1][0]["event_id"] == "'a'"
    assert [found[i][0] for i in (2, 3, 4)] == [{}, {}, None]


def test_tfrecord_with_line_ends_within_is_one_record(tmp_path):
    path = tmp_path / "a.tfrecord"
    texts_ = [
        json.dumps(world.event("a"), indent=1),
        json.dumps(world.event("b")) + "\n",
    ]
    path.write_bytes(b"".join(tfrecord.framed(text.encode()) for text in texts_))
    found = as_read(batches(path, Format.TFRECORD))
    assert [found[i][1] for i in (1, 2)] == texts_
    assert [found[i][0]["event_id"] for i in (1, 2)] == ["'a'", "'b'"]


# Parquet holds what Python does not.
def test_parquet_values_that_python_cannot_hold_are_dead_letters(tmp_path):
    offsets = pa.py_buffer(np.array([0, 1, 2, 3, 4], np.int32))
    not_utf8 = pa.Array.from_buffers(
        pa.string(), 4, [None, offsets, pa.py_buffer(b"a\xffbc")]
    )
    table = pa.table(
        {
            "event_id": not_utf8,
            "timestamp": pa.array([1, 1, 2**62, None], pa.timestamp("us")),
            "user_id": pa.array([b"u", b"\xff", b"u", b"u"]),
            "item_id": pa.array(["i"] * 4).dictionary_encode(),
            "event_type": ["click"] * 4,
        }
    )
    path = tmp_path / "a.parquet"
    pq.write_table(table, path)
    (batch,) = batches(path, Format.PARQUET)
    file = SourceFile("events", 0, str(path), Format.PARQUET)
    accepted, dead = parse_events(batch, COLUMNS, SETTINGS, world.CATALOG, file)
    assert accepted["event_id"].to_pylist() == ["a"]
    assert [(x.position, x.field) for x in dead] == [
        (2, "event_id"),
        (3, "timestamp"),
        (4, "timestamp"),
    ]
    assert [json.loads(x.raw)["item_id"] for x in dead] == ["i"] * 3


def test_parquet_that_is_compressed_as_a_whole_is_unpacked(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist([world.event("a")]), path)
    packed = tmp_path / "a.parquet.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    (batch,) = batches(packed, Format.PARQUET)
    assert plain(batch.columns["event_id"]) == ["a"]
    packed.write_bytes(gzip.compress(path.read_bytes())[:-20])
    with pytest.raises(IngestionError, match="cannot be read as Parquet"):
        batches(packed, Format.PARQUET)


def test_other_compression_is_an_error_that_says_what_to_do(tmp_path):
    for ending in ("bz2", "zst", "xz"):
        path = tmp_path / f"a.jsonl.{ending}"
        path.write_bytes(b"x")
        with pytest.raises(IngestionError, match="Compress it with gzip"):
            batches(path, Format.JSONL)


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.tfrecord", "a.jsonl.gz"])
def test_storage_that_fails_is_an_error_and_no_damage(monkeypatch, name):
    """The rest of a file is not given up for a moment without network."""

    class Failing(io.BytesIO):
        def read(self, size=-1):
            if self.tell() >= 100_000:
                raise OSError("connection reset")
            return super().read(min(size, 100_000))

    path = f"memory://bucket/{name}"
    data = b"\n".join(
        [b"event_id,timestamp,user_id,item_id,event_type", *plain_lines(5000)]
    )
    if name.endswith("gz"):
        data = gzip.compress(data, 0)
    if name.endswith("tfrecord"):
        data = b"".join(map(tfrecord.framed, data.split(b"\n")))
    monkeypatch.setattr(memory_file_system, "FILES", {path: data})
    monkeypatch.setattr(
        memory_file_system.MemoryFileSystem,
        "open",
        lambda self, path, *arguments, **keywords: Failing(data),
    )
    kind = Format(name.split(".")[1])
    with pytest.raises(IngestionError, match="cannot read .* connection reset"):
        batches(path, kind)


def test_file_that_is_not_there_is_an_error():
    for kind in Format.JSONL, Format.CSV, Format.PARQUET, Format.TFRECORD:
        with pytest.raises(IngestionError, match="cannot open"):
            batches("/nowhere/a.jsonl", kind)
