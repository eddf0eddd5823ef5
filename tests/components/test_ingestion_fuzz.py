"""Whatever a log's bytes are: no crash, and every record accounted for exactly once."""

import csv
import dataclasses
import gzip
import io
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from components.ingestion import blocks, tfrecord
from components.ingestion.errors import IngestionError
from components.ingestion.parsing import DeadLetter, parse_events
from components.ingestion.records import read_batches
from components.ingestion.settings import Format
from components.ingestion.sources import SourceFile, column_maps
from schemas.features import FeatureCatalog
from tests.components import ingestion_fuzz as fuzz
from tests.components import ingestion_world as world

SETTINGS = world.settings(events={"path": "unused"}, items=None, users=None)
CATALOG = FeatureCatalog.model_validate(
    {
        "context": [
            {"name": "page", "kind": "categorical"},
            {"name": "dwell", "kind": "numeric"},
            {"name": "tags", "kind": "multi_categorical"},
        ],
        "history_length": 3,
    }
)
COLUMN_MAP = column_maps(SETTINGS, CATALOG)["events"]
FORMATS = {
    "jsonl": (Format.JSONL, fuzz.jsonl),
    "csv": (Format.CSV, fuzz.csv_text),
    "tfrecord": (Format.TFRECORD, fuzz.tfrecords),
    "typed.parquet": (Format.PARQUET, lambda *a: fuzz.parquet(*a, typed=True)),
    "text.parquet": (Format.PARQUET, lambda *a: fuzz.parquet(*a, typed=False)),
}
RECORDS_OF = {  # what plain Python finds in damaged bytes of a format
    "jsonl": fuzz.lines_of,
    "csv": fuzz.csv_records,
    "tfrecord": fuzz.framed_records,
}
BULK = 12_000  # records a file; 9 files


@dataclasses.dataclass
class Outcome:
    """What the readers and the parser make of a file."""

    num_read: int
    accepted: list[dict[str, Any]]
    dead: list[DeadLetter]


def ingested(path, kind, block_bytes=200_000, batch_records=5000) -> Outcome:
    file = SourceFile("events", 0, str(path), kind, num_bytes=path.stat().st_size)
    out = Outcome(0, [], [])
    for block in blocks.split_file(file, block_bytes):
        for batch in read_batches(block, SETTINGS.events, COLUMN_MAP, batch_records):
            table, dead = parse_events(batch, COLUMN_MAP, SETTINGS, CATALOG, file)
            out.num_read += batch.num_read
            out.accepted += table.to_pylist()
            out.dead += dead
    return out


def check_log(run, path, kind, log):
    """The checker: `run` accounts for every record of `log`, and for each rightly."""
    path.write_bytes(log.data)
    outcome = run(path, kind)
    assert outcome.num_read == len(log.records)
    assert len(outcome.accepted) + len(outcome.dead) == outcome.num_read
    fates = [row["_position"] for row in outcome.accepted]
    fates += [letter.position for letter in outcome.dead]
    assert sorted(fates) == sorted(log.records)
    for row in outcome.accepted:
        fuzz.check_row(row)
        record = log.records[row["_position"]]
        expected = log.verdicts.get(record)
        assert expected is not False, record
        for name, value in (expected or {}).items():
            assert value is None or row[name] == value, (name, record)
    for letter in outcome.dead:
        assert letter.raw == log.records[letter.position]
        assert letter.rule in letter.reason
        expected = log.verdicts.get(letter.raw)
        assert expected in (None, False), letter


@pytest.mark.parametrize(
    ("name", "packed"),
    [*((name, "") for name in FORMATS), *((name, ".gz") for name in list(FORMATS)[:4])],
)
def test_damaged_records_in_bulk(tmp_path, name, packed):
    kind, make = FORMATS[name]
    log = make(random.Random(f"{name}{packed}"), BULK)
    assert len(log.records) > 0.9 * BULK
    assert len(log.verdicts) > 0.7 * BULK
    if packed:
        log.data = gzip.compress(log.data, 1)
    check_log(ingested, tmp_path / f"events.{name}{packed}", kind, log)


@pytest.mark.parametrize("name", RECORDS_OF)
def test_truncated_gzip(tmp_path, name):
    kind, make = FORMATS[name]
    rng = random.Random(name)
    log = make(rng, 400)
    whole = gzip.compress(log.data, 6)
    for cut in [0, 1, 9, len(whole) - 1, *rng.sample(range(10, len(whole)), 12)]:
        left = fuzz.decompressed(whole[:cut]) if cut else b""
        log.data = whole[:cut]
        log.records = truncated(name, left, bool(cut))
        if name == "csv" and not left.count(b"\n") and cut:
            with pytest.raises(IngestionError, match="has no readable CSV header"):
                check_log(ingested, tmp_path / "events.csv.gz", kind, log)
            continue
        check_log(ingested, tmp_path / f"events.{name}.gz", kind, log)


def truncated(name, left, is_damaged):
    """Returns the whole records of `left`, and the one at which the damage shows."""
    if name == "tfrecord":
        records = fuzz.framed_records(left)
        if is_damaged and "" not in list(records.values())[-1:]:
            records[len(records) + 1] = ""
        return records
    lines, _, rest = left.rpartition(b"\n")
    records = RECORDS_OF[name](lines + b"\n") if lines else {}
    if is_damaged:
        records[left.count(b"\n") + 1] = fuzz.spelled(rest)
    return records


@pytest.mark.parametrize("name", RECORDS_OF)
def test_bytes_changed_anywhere(tmp_path, name):
    kind, make = FORMATS[name]
    rng = random.Random(name)
    header = ",".join(fuzz.COLUMNS).encode() + b"\n" if name == "csv" else b""
    for _ in range(25):
        log = make(rng, 100)
        data = bytearray(log.data.removeprefix(header))
        for _ in range(rng.randrange(1, 10)):
            at = rng.randrange(len(data))
            data[at : at + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
        log.data = header + bytes(data)
        log.records = RECORDS_OF[name](log.data)
        log.verdicts = {raw: x for raw, x in log.verdicts.items() if x is not False}
        check_log(ingested, tmp_path / f"events.{name}", kind, log)


def test_parquet_that_ends_early_is_an_ingestion_error(tmp_path):
    log = fuzz.parquet(random.Random(1), 100, typed=True)
    for cut in (0, 3, 4, 8, 100, len(log.data) // 2, len(log.data) - 1):
        (tmp_path / "a.parquet").write_bytes(log.data[:cut])
        with pytest.raises(IngestionError, match="cannot be read as Parquet"):
            ingested(tmp_path / "a.parquet", Format.PARQUET)


def test_parquet_with_bytes_changed_is_read_whole_or_not_at_all(tmp_path):
    rng = random.Random(5)
    log = fuzz.parquet(rng, 200, typed=True)
    path = tmp_path / "a.parquet"
    outcomes = set()
    for _ in range(250):
        data = bytearray(log.data)
        for _ in range(rng.randrange(1, 5)):
            data[rng.randrange(len(data) // 2, len(data))] = rng.randrange(256)
        path.write_bytes(data)
        try:
            outcome = ingested(path, Format.PARQUET)
        except IngestionError:
            outcomes.add("refused")
            continue
        outcomes.add("read")
        assert outcome.num_read == 200
        assert len(outcome.accepted) + len(outcome.dead) == 200
        for row in outcome.accepted:
            fuzz.check_row(row)
    assert outcomes == {"read", "refused"}


def test_csv_field_of_many_megabytes_is_one_dead_letter(tmp_path):
    header = ",".join(fuzz.COLUMNS)
    rows = [f"e{i},1,u,i,click,,,,,,," for i in range(4)]
    rows.insert(2, f"e9,1,u,i,click,,,,,{'x' * (17 << 20)},,")
    data = "\n".join([header, *rows]).encode()
    records = dict(enumerate(rows, 2))
    log = fuzz.Log(data, records, {rows[2]: False, rows[3]: {"event_id": "e2"}})
    check_log(ingested, tmp_path / "events.csv", Format.CSV, log)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)
records = st.fixed_dictionaries(
    {},
    optional={name: values for name in fuzz.COLUMNS}
    | {
        name: values | st.sampled_from(["click", "rating", "1", 1, 0.5])
        for name in fuzz.REQUIRED
    },
)


@hypothesis_settings(max_examples=60, deadline=None)
@given(found=st.lists(records, max_size=20), packed=st.sampled_from(["", ".gz"]))
def test_any_json_values(tmp_path_factory, found, packed):
    lines = [json.dumps(record).encode() for record in found]
    folder = tmp_path_factory.mktemp("fuzz")
    data = b"\n".join(lines)
    framed = b"".join(map(tfrecord.framed, lines))
    for name, content in (("jsonl", data), ("tfrecord", framed)):
        log = fuzz.Log(content, RECORDS_OF[name](content), {})
        if packed:
            log.data = gzip.compress(content)
        check_log(
            lambda *a: ingested(*a, block_bytes=50, batch_records=7),
            folder / f"events.{name}{packed}",
            FORMATS[name][0],
            log,
        )


@hypothesis_settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.lists(st.text(max_size=6), max_size=13), max_size=20))
def test_any_csv_values(tmp_path_factory, rows):
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([fuzz.COLUMNS, *rows])
    data = out.getvalue().encode("utf-8", "surrogatepass")
    log = fuzz.Log(data, fuzz.csv_records(data), {})
    path = tmp_path_factory.mktemp("fuzz") / "events.csv"
    check_log(lambda *a: ingested(*a, batch_records=7), path, Format.CSV, log)


# Deliberately wrong variants, which the check has to refuse.
def dropping_bad_lines(path, kind):
    """Drops in silence what does not split into fields."""
    outcome = ingested(path, kind)
    kept = [letter for letter in outcome.dead if letter.field]
    lost = len(outcome.dead) - len(kept)
    return Outcome(outcome.num_read - lost, outcome.accepted, kept)


def letting_nan_pass(path, kind):
    """Accepts a propensity that is no number."""
    outcome = ingested(path, kind)
    some_row = outcome.accepted[0]
    for letter in [x for x in outcome.dead if "Received: nan" in x.reason]:
        outcome.dead.remove(letter)
        row = some_row | {"_position": letter.position, letter.field: float("nan")}
        outcome.accepted.append(row)
    return outcome


def shortening(path, kind):
    """Keeps only the start of a dead letter's record."""
    outcome = ingested(path, kind)
    outcome.dead = [dataclasses.replace(x, raw=x.raw[:1000]) for x in outcome.dead]
    return outcome


def reading_twice(path, kind):
    """Reads the last record of a block again with the next one."""
    outcome = ingested(path, kind)
    outcome.accepted.append(outcome.accepted[-1])
    outcome.num_read += 1
    return outcome


def mending(path, kind):
    """Takes bytes that are not UTF-8 for something else."""
    data = path.read_bytes()
    path.write_bytes(data.decode("utf-8", "replace").encode())
    return ingested(path, kind)


def refusing_too_much(path, kind):
    """Refuses what stands behind the first bad record of a batch."""
    outcome = ingested(path, kind)
    row = outcome.accepted.pop(0)
    log_line = path.read_bytes().split(b"\n")[row["_position"] - 1]
    letter = DeadLetter(row["_position"], "", "", "", fuzz.spelled(log_line))
    outcome.dead.append(letter)
    return outcome


@pytest.mark.parametrize(
    "wrong",
    [
        dropping_bad_lines,
        letting_nan_pass,
        shortening,
        reading_twice,
        mending,
        refusing_too_much,
    ],
)
def test_log_checker_rejects(tmp_path, wrong):
    log = fuzz.jsonl(random.Random(0), 600)
    path = tmp_path / "events.jsonl"
    check_log(ingested, path, Format.JSONL, log)
    with pytest.raises(AssertionError):
        check_log(wrong, path, Format.JSONL, log)
