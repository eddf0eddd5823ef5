"""CSV is read at once as the csv module reads it, whatever the bytes are."""

import csv
import io
import random

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from components.ingestion import lines
from components.ingestion.settings import Format
from tests.components import ingestion_world as world
from tests.components.ingestion_reading import (
    batches,
    plain,
)

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
