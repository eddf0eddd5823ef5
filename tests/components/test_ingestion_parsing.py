"""Each kind of bad record has its reason, and every record its fate."""

import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from components.ingestion import columns, tfrecord
from components.ingestion.blocks import whole
from components.ingestion.errors import IngestionError
from components.ingestion.parsing import parse_events, parse_side_table
from components.ingestion.raw_batch import RawBatch, column
from components.ingestion.records import read_batches
from components.ingestion.settings import Format
from components.ingestion.sources import SourceFile, column_maps, match_files
from tests.components import ingestion_world as world


def parse_file(path, **source):
    """Returns (accepted records as dictionaries, dead letters) of one log file."""
    settings = world.settings(
        events={"path": str(path), **source}, items=None, users=None
    )
    column_map = column_maps(settings, world.CATALOG)["events"]
    (file,) = match_files("events", settings.events)
    accepted, dead, read = [], [], 0
    for batch in read_batches(whole(file), settings.events, column_map, 3):
        table, letters = parse_events(batch, column_map, settings, world.CATALOG, file)
        accepted += table.to_pylist()
        dead += letters
        read += batch.num_read
    assert read == len(accepted) + len(dead)
    return accepted, dead


BAD_RECORDS = {
    "no event_id": ({"event_id": None}, "`event_id` should be a non-empty string"),
    "empty item_id": ({"item_id": ""}, "`item_id` should be a non-empty string"),
    "blank user_id": ({"user_id": "  "}, "`user_id` should be a non-empty string"),
    "giant id": ({"item_id": "x" * 1025}, "`item_id` should be a non-empty string"),
    "id of a wrong type": ({"item_id": ["i0"]}, "`item_id` should be a non-empty"),
    "fractional id": ({"item_id": 1.5}, "`item_id` should be a non-empty string"),
    "half a surrogate": ({"user_id": "\ud800"}, "`user_id` should be a non-empty"),
    "no timestamp": ({"timestamp": None}, "`timestamp` should be whole ms"),
    "text as timestamp": ({"timestamp": "soon"}, "`timestamp` should be whole ms"),
    "negative timestamp": ({"timestamp": -1}, "`timestamp` should be whole ms"),
    "far future": ({"timestamp": 10**15}, "`timestamp` should be whole ms"),
    "huge timestamp": ({"timestamp": 10**30}, "`timestamp` should be whole ms"),
    "true as timestamp": ({"timestamp": True}, "`timestamp` should be whole ms"),
    "unknown type": ({"event_type": "share"}, "`event_type` should be one of"),
    "no type": ({"event_type": None}, "`event_type` should be one of"),
    "NaN value": ({"value": float("nan")}, "`value` should be a finite number"),
    "infinite value": ({"value": float("inf")}, "`value` should be a finite number"),
    "beyond float32": ({"value": 1e300}, "`value` should be a finite number"),
    "text as value": ({"value": "good"}, "`value` should be a finite number"),
    "rating without value": ({"event_type": "rating"}, "`value` should be present"),
    "negative position": ({"position": -1}, "`position` should be a whole number"),
    "fractional position": ({"position": 1.5}, "`position` should be a whole number"),
    "propensity 0": ({"propensity": 0}, "`propensity` should lie in (0, 1]"),
    "propensity above 1": ({"propensity": 1.01}, "`propensity` should lie in (0, 1]"),
    "negative propensity": ({"propensity": -0.5}, "`propensity` should lie in (0, 1]"),
    "0 as float32": ({"propensity": 1e-60}, "`propensity` should lie in (0, 1]"),
    "NaN propensity": (
        {"propensity": float("nan")},
        "`propensity` should lie in (0, 1]",
    ),
}
BAD_LINES = {
    "no JSON": ("{oops", "should be one object"),
    "a list": ("[1, 2]", "should be one object"),
    "not UTF-8": (b'{"event_id": "\xff"}', "should be one object"),
    "too deep": ("[" * 100_000, "should be one object"),
}


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "among good ones"])
@pytest.mark.parametrize("name", BAD_RECORDS)
def test_bad_record_becomes_dead_letter_with_its_reason(tmp_path, name, alone):
    change, reason = BAD_RECORDS[name]
    good = [] if alone else [world.event("g0"), world.event("g1")]
    bad = world.event("bad") | change
    lines = [json.dumps(record) for record in [*good[:1], bad, *good[1:]]]
    path = tmp_path / "events.jsonl"
    path.write_text("\n".join(lines))
    accepted, (letter,) = parse_file(path)
    assert [row["event_id"] for row in accepted] == [g["event_id"] for g in good]
    assert letter.reason.startswith(reason)
    assert "Received: " in letter.reason
    assert letter.position == len(good[:1]) + 1
    assert letter.raw == json.dumps(bad)


@pytest.mark.parametrize("name", BAD_LINES)
def test_bad_line_becomes_dead_letter_with_its_reason(tmp_path, name):
    line, reason = BAD_LINES[name]
    line = line if isinstance(line, bytes) else line.encode()
    good = json.dumps(world.event("g")).encode()
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"\n".join([good, b"", line, good]))
    accepted, (letter,) = parse_file(path)
    assert len(accepted) == 2
    assert reason in letter.reason
    assert letter.position == 3
    assert letter.raw == line.decode("utf-8", "backslashreplace")


def check_timestamps(convert):
    """The checker: instants written in several ways, worked out by hand."""
    cases = {
        "1970-01-01T00:00:00Z": 0,
        "1970-01-02": 86_400_000,
        "2000-03-01T00:00:00+01:00": 951_865_200_000,  # 2000-02-29 23:00 UTC
        "1970-01-01T00:00:01.234567Z": 1234,
        "1234": 1234,
    }
    array, wrong = convert(pa.array(list(cases)))
    assert array.to_pylist() == list(cases.values())
    assert not wrong.any()
    micros = pa.array([1_234_567], pa.timestamp("us"))
    assert convert(micros)[0].to_pylist() == [1234]
    assert convert(pa.array([5, None]))[0].to_pylist() == [5, None]


def test_timestamps():
    check_timestamps(columns.to_timestamps)


def in_seconds(values):
    array, wrong = columns.to_timestamps(values)
    return pa.array(
        [None if v is None else v // 1000 for v in array.to_pylist()]
    ), wrong


def without_zone(values):
    if pa.types.is_string(values.type):
        values = pa.array([text.split("+")[0] for text in values.to_pylist()])
    return columns.to_timestamps(values)


@pytest.mark.parametrize("wrong", [in_seconds, without_zone])
def test_timestamp_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_timestamps(wrong)


def test_formats_give_the_same_events(tmp_path):
    records = [
        world.event("a", value=2.5, position=3, propensity=0.5),
        world.event("b", user_id='ü, "q"\nx', timestamp=1234567890123),
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(r) for r in records))
    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as file:
        file.write("\n".join(json.dumps(r) for r in records))
    pq.write_table(
        pa.Table.from_pylist(records, schema=pa.table(raw(records)).schema),
        tmp_path / "a.parquet",
    )
    (tmp_path / "a.csv").write_text(
        "event_id,timestamp,user_id,item_id,event_type,value,position,propensity\r\n"
        "a,1970-01-01T00:00:01Z,u0,i0,click,2.5,3,0.5\r\n\r\n"
        'b,1234567890123,"ü, ""q""\nx",i0,click,,,\r\n'
    )
    (tmp_path / "a.tfrecord").write_bytes(
        b"".join(tfrecord.framed(json.dumps(r).encode()) for r in records)
    )
    expected, dead = parse_file(tmp_path / "a.jsonl")
    assert [row["event_id"] for row in expected] == ["a", "b"]
    assert dead == []
    for name in ("a.jsonl.gz", "a.parquet", "a.csv", "a.tfrecord"):
        accepted, dead = parse_file(tmp_path / name)
        assert dead == [], name
        for row, right in zip(accepted, expected, strict=True):
            del row["_position"]  # a CSV has a header, and its records span lines
            assert row == {k: v for k, v in right.items() if k != "_position"}, name


def raw(records):
    names = dict.fromkeys(name for record in records for name in record)
    return {name: [record.get(name) for record in records] for name in names}


def test_own_column_names_are_mapped(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(
        "id;event_id;timestamp;user_id;item_id;event_type\nx;y;1;u;i;click\n"
    )
    accepted, _ = parse_file(path, columns={"event_id": "id"}, delimiter=";")
    assert [row["event_id"] for row in accepted] == ["x"]


def test_csv_traps(tmp_path):
    path = tmp_path / "events.csv"
    path.write_bytes(
        b"event_id,timestamp,user_id,item_id,event_type\n"
        b"a,1,u,i,click\n"
        b"b,1,u,i\n"
        b"c,1,\xff,i,click\n"
        b"d,1,u,i,click,more\n"
        b'e,1,"u,i,click\n'
        b"f,1,u,i,click\n"
    )
    accepted, dead = parse_file(path)
    assert [row["event_id"] for row in accepted] == ["a"]
    # The quote that e opens and nobody closes swallows f: one record, kept whole.
    assert [letter.position for letter in dead] == [3, 4, 5, 6]
    assert "4 fields where the header has 5" in dead[0].reason
    assert "not UTF-8" in dead[1].reason
    assert dead[1].raw == "c,1,\\xff,i,click"
    assert dead[3].raw == 'e,1,"u,i,click\nf,1,u,i,click'


def test_truncated_gzip_keeps_what_came_before(tmp_path):
    lines = [json.dumps(world.event(f"e{i}", user_id=f"u{i * i}")) for i in range(2000)]
    whole = gzip.compress("\n".join(lines).encode())
    path = tmp_path / "events.jsonl.gz"
    path.write_bytes(whole[: len(whole) // 2])
    accepted, dead = parse_file(path)
    assert [row["event_id"] for row in accepted] == [
        f"e{i}" for i in range(len(accepted))
    ]
    assert len(dead) == 1


def test_corrupt_tfrecord_keeps_what_came_before(tmp_path):
    frames = [tfrecord.framed(json.dumps(world.event(n)).encode()) for n in "abc"]
    broken = frames[1][:-1] + bytes([frames[1][-1] ^ 1])
    path = tmp_path / "events.tfrecord"
    path.write_bytes(frames[0] + broken + frames[2])
    accepted, (letter,) = parse_file(path)
    assert [row["event_id"] for row in accepted] == ["a"]
    assert (letter.position, letter.field) == (2, "")
    assert "checksum" in letter.reason


def test_tf_examples_are_read(tmp_path):
    tf_example = pytest.importorskip("tensorflow.core.example.example_pb2")
    example = tf_example.Example()
    for name, value in world.event("a", value=4.0).items():
        feature = example.features.feature[name]
        if isinstance(value, str):
            feature.bytes_list.value.append(value.encode())
        elif isinstance(value, float):
            feature.float_list.value.append(value)
        else:
            feature.int64_list.value.append(value)
    path = tmp_path / "events.tfrecord"
    path.write_bytes(tfrecord.framed(example.SerializeToString()))
    ((row,), dead) = parse_file(path)
    assert dead == []
    assert (row["event_id"], row["timestamp"], row["value"]) == ("a", 1000, 4.0)


def test_missing_column_is_an_error_that_names_file_and_mend(tmp_path):
    path = tmp_path / "events.csv"
    path.write_text("event_id,timestamp,userid,item_id,event_type\n")
    with pytest.raises(IngestionError) as caught:
        parse_file(path)
    assert str(path) in str(caught.value)
    assert "no column `user_id`. Did you mean `userid`?" in str(caught.value)
    assert "under `columns`" in str(caught.value)


def test_file_of_another_kind_is_an_error(tmp_path):
    path = tmp_path / "events.parquet"
    path.write_text("event_id\n")
    with pytest.raises(IngestionError, match="cannot be read as Parquet"):
        parse_file(path)


def test_side_table_keeps_extra_columns_and_refuses_bad_features():
    records = [
        {"item_id": "a", "genres": "x| y|", "title": "A", "price": 3},
        {"item_id": 7, "genres": ["x"], "title": None, "price": "free"},
        {"item_id": "c", "genres": {"x": 1}, "title": "C", "price": 1},
        {"item_id": "", "genres": [], "title": "D", "price": 1},
    ]
    batch = RawBatch(
        {name: column(values) for name, values in raw(records).items()},
        np.arange(1, 5),
        lambda row: json.dumps(records[row]),
        [],
    )
    settings = world.settings()
    table, dead = parse_side_table(
        batch,
        column_maps(settings, world.CATALOG)["items"],
        settings.items,
        "item_id",
        world.CATALOG.item,
        keep_extra=True,
    )
    assert table.drop_columns(["_file", "_position"]).to_pylist() == [
        {"item_id": "a", "genres": ["x", "y"], "title": "A", "price": "3"},
        {"item_id": "7", "genres": ["x"], "title": None, "price": "free"},
    ]
    assert [(letter.position, letter.field) for letter in dead] == [
        (3, "genres"),
        (4, "item_id"),
    ]


DAY = 86_400_000
MINUTE = 60_000


def times(accepted_at, span="", replayed=False, **changes):
    """Returns which of `accepted_at` (ms) are refused, and with which rules."""
    settings = world.settings(**changes)
    batch = RawBatch(
        raw([world.event(f"e{t}", timestamp=t) for t in accepted_at]),
        np.arange(1, len(accepted_at) + 1),
        str,
        [],
    )
    file = SourceFile("events", 0, "log.jsonl", Format.JSONL, span, replayed)
    maps = column_maps(settings, world.CATALOG)
    _, dead = parse_events(batch, maps["events"], settings, world.CATALOG, file)
    assert {letter.field for letter in dead} <= {"timestamp"}
    return {accepted_at[x.position - 1]: x.rule for x in dead}


def check_spans(refused):
    """The checker: a file of 1970-01-03 holds its day, a day before, 10 minutes past."""
    begin, end = 2 * DAY, 3 * DAY
    fine = [begin - DAY, begin, end - 1, end, end + 10 * MINUTE]
    assert refused(fine, "1970-01-03") == {}
    bad = [begin - DAY - 1, end + 10 * MINUTE + 1]
    rules = refused(bad, "1970-01-03")
    assert "at most 1 day(s) (`max_late_days`) before" in rules[bad[0]]
    assert "at most 10 minute(s) (`max_early_minutes`) past" in rules[bad[1]]
    strict = {"max_late_days": 0, "max_early_minutes": 0}
    at = [begin - 1, begin, end, end + 1]
    assert set(refused(at, "1970-01-03", spans=strict)) == {begin - 1, end + 1}
    # Numbers say nothing of time, and what was mended is of no span.
    assert refused(bad, "17") == {}
    assert refused(bad, "1970-01-03", replayed=True) == {}


def test_span_refuses_what_is_too_late_or_too_early():
    check_spans(times)


def in_local_days(moments, span="", **changes):
    """Takes days for those of a zone two hours east."""
    shifted = [moment + 2 * 60 * MINUTE for moment in moments]
    back = dict(zip(shifted, moments, strict=True))
    return {back[t]: rule for t, rule in times(shifted, span, **changes).items()}


def without_bounds(moments, span="", **changes):
    return times(moments, "", **changes)


@pytest.mark.parametrize("wrong", [in_local_days, without_bounds])
def test_span_checker_rejects(wrong):
    with pytest.raises((AssertionError, KeyError)):
        check_spans(wrong)


def test_what_is_dated_after_the_log_was_closed_is_refused():
    closed = {"closed_at": "1970-01-02T01:00:00+01:00"}
    rules = times([DAY - 1, DAY, DAY + 1], **closed)
    assert set(rules) == {DAY, DAY + 1}
    expected = "should be before the log was closed (`closed_at`, 1970-01-02T01:00"
    assert rules[DAY].startswith(expected)
    # A part of a millisecond belongs to the open time.
    assert set(times([DAY, DAY + 1], closed_at="1970-01-02T00:00:00.0001Z")) == {
        DAY + 1
    }


def test_reason_shows_a_number_alike_whatever_its_column_holds(tmp_path):
    lines = [json.dumps(world.event(f"g{i}", value=i / 2)) for i in range(4)]
    bad = [json.dumps(world.event("b", propensity=p)) for p in (2, 2.0, 2.5)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines + bad))
    _, dead = parse_file(tmp_path / "a.jsonl")
    seen = [letter.reason.rsplit(" ", 1)[1] for letter in dead]
    assert seen == ["2", "2", "2.5"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda children: st.lists(children, max_size=2),
    max_leaves=3,
)


@hypothesis_settings(max_examples=200, deadline=None)
@given(
    records=st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "event_id": json_values,
                "timestamp": json_values,
                "user_id": json_values,
                "item_id": json_values,
                "event_type": st.sampled_from(["click", "rating"]) | json_values,
                "value": json_values,
                "position": json_values,
                "propensity": json_values,
                "request_id": json_values,
            },
        ),
        max_size=6,
    )
)
def test_any_record_is_accepted_or_refused_once(records):
    settings = world.settings()
    batch = RawBatch(
        {name: column(values) for name, values in raw(records).items()},
        np.arange(1, len(records) + 1),
        lambda row: repr(records[row]),
        [],
    )
    maps = column_maps(settings, world.CATALOG)
    file = SourceFile("events", 0, "log.jsonl", Format.JSONL)
    table, dead = parse_events(batch, maps["events"], settings, world.CATALOG, file)
    fates = table["_position"].to_pylist() + [letter.position for letter in dead]
    assert sorted(fates) == list(range(1, len(records) + 1))
    for row in table.to_pylist():
        assert row["event_id"].strip()
        assert row["propensity"] is None or 0 < row["propensity"] <= 1


@hypothesis_settings(max_examples=200, deadline=None)
@given(
    data=st.binary(max_size=200), ending=st.sampled_from(["jsonl", "csv", "tfrecord"])
)
def test_random_bytes_never_crash_the_readers(tmp_path_factory, data, ending):
    path = tmp_path_factory.mktemp("fuzz") / f"events.{ending}"
    header = b"event_id,timestamp,user_id,item_id,event_type\n"
    path.write_bytes(header + data if ending == "csv" else b"\n" + data)
    parse_file(path)
