"""What a person gets to mend: the record's own fields, whatever the file was."""

import csv
import gzip
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from components.ingestion import dead_letters, tfrecord
from components.ingestion.errors import IngestionError
from components.ingestion.sources import column_maps
from tests.components import ingestion_world as world
from tests.components.stored_letters import mendable, store

COLUMNS = {"event_id": "_id", "timestamp": "at", "user_id": "uid"}


def own(record):
    """Returns a record under the service's own names."""
    return {COLUMNS.get(name, name): value for name, value in record.items()}


BAD = own(world.event("bad", event_type="share", value=4.5, request_id='r, "1"\n'))
GOOD = own(world.event("good", value=1.5, request_id="r"))


def settings_for(path, **source):
    source = {"path": str(path), "columns": COLUMNS, **source}
    return world.settings(events=source, items=None, users=None)


def write_jsonl(path):
    path.write_text(json.dumps(GOOD) + "\n" + json.dumps(BAD) + "\n")


def write_csv(path):
    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(GOOD))
        writer.writeheader()
        writer.writerows([GOOD, BAD])


def write_parquet(path):
    pq.write_table(pa.Table.from_pylist([GOOD, BAD]), path)


def write_tfrecord(path):
    records = [json.dumps(record).encode() for record in (GOOD, BAD)]
    path.write_bytes(b"".join(map(tfrecord.framed, records)))


def example_of(record):
    """Returns a serialized tf.Example."""
    from tensorflow.core.example.example_pb2 import Example

    example = Example()
    for name, value in record.items():
        feature = example.features.feature[name]
        if isinstance(value, str):
            feature.bytes_list.value.append(value.encode())
        elif isinstance(value, float):
            feature.float_list.value.append(value)
        else:
            feature.int64_list.value.append(value)
    return example.SerializeToString()


def write_examples(path):
    records = [example_of(GOOD), example_of(BAD)]
    path.write_bytes(b"".join(map(tfrecord.framed, records)))


def write_gzip(path):
    write_csv(path.with_suffix(""))
    path.write_bytes(gzip.compress(path.with_suffix("").read_bytes()))


FORMATS = {
    "log.jsonl": (write_jsonl, 2),
    "log.csv": (write_csv, 3),
    "log.parquet": (write_parquet, 2),
    "log.tfrecord": (write_tfrecord, 2),
    "examples.tfrecord": (write_examples, 2),
    "log.csv.gz": (write_gzip, 3),
}


@pytest.mark.parametrize("name", FORMATS)
def test_record_comes_back_under_the_logs_own_names(tmp_path, name):
    path = tmp_path / "log" / name
    path.parent.mkdir()
    write, position = FORMATS[name]
    write(path)
    (record,) = mendable(settings_for(path), world.CATALOG, tmp_path / "dead")
    ours = {key: record.pop(key) for key in ("_file", "_position", "_reason")}
    assert ours["_file"] == str(path)
    assert ours["_position"] == position
    assert ours["_reason"].startswith("`event_type` should be one of")
    assert len(record.pop("_letter")) == 16
    # A CSV file knows no numbers.
    as_text = {key: str(value) for key, value in BAD.items()}
    assert record == (as_text if "csv" in name else BAD)


def test_example_comes_back_to_the_byte_or_stays_raw(tmp_path):
    path = tmp_path / "log.tfrecord"
    bad = world.event("x", event_type="share")
    # Lengths and times that are no UTF-8, an end of line at the end, and a string that
    # reads like a byte spelled out.
    records = [
        bad | {"note": "é" * 200, "timestamp": 1 << 40},
        bad | {"zz": "\n"},
        bad | {"note": "a\\xe9b"},
    ]
    path.write_bytes(b"".join(tfrecord.framed(example_of(r)) for r in records))
    settings = world.settings(events={"path": str(path)}, items=None, users=None)
    first, second, third = mendable(settings, world.CATALOG, tmp_path / "dead")
    assert records[0].items() <= first.items() and "_raw" not in first
    assert records[1].items() <= second.items() and "_raw" not in second
    assert "_raw" in third and "note" not in third


def test_binary_ids_of_parquet_come_back_as_text(tmp_path):
    path = tmp_path / "log.parquet"
    record = world.event("x", event_type="share", user_id="東京")
    pq.write_table(pa.Table.from_pylist([record | {"user_id": b"\xe6\x9d\xb1"}]), path)
    settings = world.settings(events={"path": str(path)}, items=None, users=None)
    (mended,) = mendable(settings, world.CATALOG, tmp_path / "dead")
    assert mended["user_id"] == "東"


CSV_HEADER = "event_id,timestamp,user_id,item_id,event_type,request_id\n"


def csv_fields(tmp_path, text, **source):
    path = tmp_path / "log.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    settings = world.settings(
        events={"path": str(path), **source}, items=None, users=None
    )
    return mendable(settings, world.CATALOG, tmp_path / "dead")


CSV_TRAPS = {
    "comma in quotes": ('"a,b"', "a,b"),
    "quotes in quotes": ('"a ""b"""', 'a "b"'),
    "line end in quotes": ('"a\nb"', "a\nb"),
    "carriage return in quotes": ('"a\r\nb"', "a\r\nb"),
    "empty line in quotes": ('"a\n\nb"', "a\n\nb"),
    "quote within": ('a"b', 'a"b'),
    "empty is missing": ("", None),
    "other alphabets": ("東京", "東京"),
    "line separator": ("a\u2028b", "a\u2028b"),
    "looks like markup": ("[red]x[/]", "[red]x[/]"),
}


@pytest.mark.parametrize("trap", CSV_TRAPS)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_fields_survive_quoting(tmp_path, trap, end):
    written, expected = CSV_TRAPS[trap]
    text = CSV_HEADER.replace("\n", end) + f"e,1,u,i,share,{written}{end}"
    (record,) = csv_fields(tmp_path, text)
    assert record["request_id"] == expected
    assert record["event_type"] == "share"
    assert "_raw" not in record


def test_csv_of_another_delimiter_with_a_byte_order_mark(tmp_path):
    text = ("\ufeff" + CSV_HEADER).replace(",", ";") + "e;1;u;i;share;a,b\n"
    (record,) = csv_fields(tmp_path, text, delimiter=";")
    assert (record["event_id"], record["request_id"]) == ("e", "a,b")


def test_header_named_twice_keeps_the_last_as_the_reader_does(tmp_path):
    text = CSV_HEADER.replace("request_id", "event_type") + "e,1,u,i,click,share\n"
    (record,) = csv_fields(tmp_path, text)
    assert record["event_type"] == "share"


def test_unknown_bytes_stay_raw_and_only_that_record(tmp_path):
    text = CSV_HEADER.encode() + b"e\xff,1,u,i,click,r\ne,1,u,i,share,r\n"
    broken, whole = csv_fields(tmp_path, text)
    assert broken["_raw"] == "e\\xff,1,u,i,click,r"
    assert "not UTF-8" in broken["_reason"]
    assert "event_id" not in broken
    assert whole["event_type"] == "share"


def test_wrong_number_of_fields_stays_raw(tmp_path):
    (record,) = csv_fields(tmp_path, CSV_HEADER + "e,1,u,i\n")
    assert record["_raw"] == "e,1,u,i"
    assert set(record) == {"_reason", "_file", "_position", "_letter", "_raw"}


def test_csv_file_that_is_gone_leaves_its_records_raw(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(CSV_HEADER + "e,1,u,i,share,r\n")
    settings = world.settings(events={"path": str(path)}, items=None, users=None)
    store(settings, world.CATALOG, tmp_path / "dead")
    columns = column_maps(settings, world.CATALOG)["events"]

    def records():
        letters = dead_letters.read_letters(tmp_path / "dead", "events")
        return list(dead_letters.as_mendable(letters, columns, ","))

    assert records()[0]["event_type"] == "share"
    path.write_text("other,columns,by,now,are,there\n")
    assert records()[0]["_raw"] == "e,1,u,i,share,r"
    path.unlink()
    assert records()[0]["_raw"] == "e,1,u,i,share,r"


def test_broken_json_stays_raw_even_where_its_spelling_is_json(tmp_path):
    # A backslash before a byte that is not UTF-8: spelled out, it reads as `\\xff`.
    line = json.dumps(world.event("x")).encode().replace(b'"x"', b'"\\\xff"')
    path = tmp_path / "log.jsonl"
    path.write_bytes(line + b'\n{oops\n[1]\n"text"\n')
    settings = world.settings(events={"path": str(path)}, items=None, users=None)
    records = mendable(settings, world.CATALOG, tmp_path / "dead")
    assert [record["_position"] for record in records] == [1, 2, 3, 4]
    assert all("_raw" in record and "event_id" not in record for record in records)
    assert json.loads(records[0]["_raw"])["event_id"] == "\\xff"


def test_lone_surrogate_and_nan_come_back_as_they_were(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(
        '{"event_id": "\\ud800", "value": NaN, "title": "\U0001f600 \u6771"}\n'
    )
    settings = world.settings(events={"path": str(path)}, items=None, users=None)
    (record,) = mendable(settings, world.CATALOG, tmp_path / "dead")
    assert record["event_id"] == "\ud800"
    line = dead_letters.to_line(record)
    line.encode()  # UTF-8, whatever the record holds
    assert "\\ud800" in line and "NaN" in line and "\U0001f600 \u6771" in line
    back = json.loads(line)
    assert back["event_id"] == "\ud800" and back["value"] != back["value"]


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def is_one_object_a_line(to_line, record):
    line = to_line(record)
    assert line == "".join(line.splitlines())
    assert json.loads(line.encode().decode()) == json.loads(json.dumps(record))


@hypothesis_settings(deadline=None, max_examples=300)
@given(record=st.dictionaries(st.text(st.characters()), JSON_VALUES))
def test_line_holds_any_record(record):
    is_one_object_a_line(dead_letters.to_line, record)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda record: json.dumps(record, ensure_ascii=False),
        lambda record: json.dumps(record, ensure_ascii=True, indent=0),
        str,
    ],
)
def test_line_checker_rejects(wrong):
    with pytest.raises((AssertionError, ValueError)):
        for text in ("\ud800", "\u2028", "é"):
            is_one_object_a_line(wrong, {"text": text})


@hypothesis_settings(deadline=None, max_examples=100)
@given(
    fields=st.lists(
        st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",))),
        min_size=2,
        max_size=5,
    ),
    delimiter=st.sampled_from(",;\t|"),
)
def test_written_csv_record_is_read_field_by_field(fields, delimiter):
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter).writerow(fields)
    raw = out.getvalue().rstrip("\r\n")
    names = [f"c{i}" for i in range(len(fields))]
    read = dead_letters._csv_fields(raw, names, delimiter)
    assert read == {n: f or None for n, f in zip(names, fields, strict=True)}


def test_column_called_like_a_key_of_ours_is_refused(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text("{}\n")
    settings = settings_for(path, columns={"event_id": "_file"})
    with pytest.raises(IngestionError, match="the column `_file`"):
        mendable(settings, world.CATALOG, tmp_path / "dead")


def test_letter_names_the_record_at_its_place():
    letter = dead_letters.DeadLetterRecord("f", 1, "`x` should be y. Received: z", "r")

    def changed(**change):
        fields = {"file": "f", "position": 1, "reason": letter.reason, "raw": "r"}
        return dead_letters.DeadLetterRecord(**fields | change).letter

    assert changed(reason="another config's reason") == letter.letter
    others = {changed(file="g"), changed(position=2), changed(raw="s"), letter.letter}
    assert len(others) == 4
    assert letter.rule == "`x` should be y"


def test_tables_are_kept_apart_and_read_in_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(dead_letters, "_BATCH_LETTERS", 2)
    world.write(tmp_path, ["{oops"] * 5)
    users = pa.table({"user_id": ["", "u1"], "age": [1.0, 2.0]})
    pq.write_table(users, tmp_path / "users.parquet")
    store(world.settings(tmp_path), world.CATALOG, tmp_path / "dead")
    events = list(dead_letters.read_letters(tmp_path / "dead", "events"))
    assert [letter.position for letter in events] == [1, 2, 3, 4, 5]
    assert len(list(dead_letters.read_letters(tmp_path / "dead", "users"))) == 1
    assert not list(dead_letters.read_letters(tmp_path / "dead", "items"))
