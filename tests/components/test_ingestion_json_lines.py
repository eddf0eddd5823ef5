"""JSON is read at once as json.loads reads it line by line, whatever the bytes are."""

import json
import random

import numpy as np
import pyarrow as pa
import pyarrow.json as pa_json
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from components.ingestion import blocks, json_lines, lines
from components.ingestion.parsing import parse_side_table
from components.ingestion.records import read_batches
from components.ingestion.settings import Format
from components.ingestion.sources import SourceFile, column_maps
from tests.components import ingestion_world as world
from tests.components.ingestion_reading import as_read, batches, normal, plain_lines

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
