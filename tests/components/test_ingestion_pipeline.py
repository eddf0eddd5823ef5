"""The whole ingestion on Beam's in-process runner, over small logs in a folder."""

import gzip
import hashlib
import io
import json
import random

import apache_beam as beam
import pyarrow.parquet as pq
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from components.ingestion import tfrecord
from components.ingestion.errors import IngestionError
from components.ingestion.pipeline import ingest
from schemas.features import FeatureCatalog
from tests.components import ingestion_oracle as oracle
from tests.components import ingestion_world as world

pytestmark = pytest.mark.component


def run(folder, settings=None, out="out", catalog=world.CATALOG):
    return ingest(
        beam.Pipeline(runner=FnApiRunner()),
        settings or world.settings(folder),
        catalog,
        world.output_paths(folder / out),
    )


def read_rows(folder):
    """Returns {(examples, split): {event_id: row}} of what was written."""
    out = {}
    for name in ("interactions", "impressions"):
        for split in ("train", "eval", "test"):
            rows = out[name, split] = {}
            files = sorted((folder / name / f"Split-{split}").iterdir())
            assert [file.name for file in files] == [
                f"data_tfrecord-0000{shard}-of-00003.gz" for shard in range(3)
            ]
            for file in files:
                in_file = [oracle.decoded(r) for r in records_of(file)]
                order = [(r["timestamp"][0], r["event_id"][0]) for r in in_file]
                assert order == sorted(order)
                rows |= {row["event_id"][0]: row for row in in_file}
    return out


def records_of(file):
    return list(tfrecord.read_records(io.BytesIO(gzip.decompress(file.read_bytes()))))


def digests(folder):
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def random_log(size):
    chance = random.Random(7)
    return [
        world.event(
            f"e{chance.randrange(int(size * 0.95))}",
            timestamp=chance.randrange(size // 2),
            user_id=f"u{chance.randrange(9)}",
            item_id=f"i{chance.randrange(5)}",
            event_type=chance.choice(list(world.EVENT_TYPES)),
            value=chance.choice([1.0, 4.0]),
            propensity=chance.choice([None, 0.5]),
        )
        for _ in range(size)
    ]


BAD = ["{oops", json.dumps(world.event("bad", propensity=0))]


@pytest.fixture(scope="module")
def ingested(tmp_path_factory):
    folder = tmp_path_factory.mktemp("log")
    log = random_log(120)
    world.write(folder, [*log[:50], BAD[0]], "events-1.jsonl")
    world.write(folder, [BAD[1], *log[50:]], "events-2.jsonl")
    return folder, log, run(folder)


def test_every_written_row_equals_the_oracle(ingested):
    folder, log, _ = ingested
    assert read_rows(folder / "out") == oracle.expected_rows(
        log,
        world.EVENT_TYPES,
        world.ITEMS,
        world.USERS,
        world.HISTORY_LENGTH,
        0.3,
        0.25,
    )


def test_accounts_hold_and_agree_with_the_files(ingested):
    folder, log, summary = ingested
    accepted, duplicates = oracle.accepted_events(log, world.EVENT_TYPES)
    events = summary.sources["events"]
    assert (events.read, events.accepted) == (len(log) + 2, len(accepted))
    assert (events.duplicates, events.dead_letters) == (duplicates, 2)
    assert {reason.field: reason.count for reason in events.reasons} == {
        "": 1,
        "propensity": 1,
    }
    written = {key: len(rows) for key, rows in read_rows(folder / "out").items()}
    assert written == {
        (name, split): count
        for name, splits in summary.rows.items()
        for split, count in splits.items()
    }
    assert summary.items == 3
    assert summary.users == 9
    assert summary.unknown_item_events == sum(
        event["item_id"] not in world.ITEMS for event in accepted
    )
    assert summary.unknown_user_events == sum(
        event["user_id"] not in world.USERS for event in accepted
    )


def test_dead_letters_are_kept_whole(ingested):
    folder, _, _ = ingested
    names = [f"dead_letters-events-0000{file}-00000.parquet" for file in (0, 1)]
    assert sorted(x.name for x in (folder / "out/dead_letters").iterdir()) == names
    letters = pq.read_table(folder / "out/dead_letters").to_pylist()
    assert [(x["source"], x["file"], x["position"], x["raw"]) for x in letters] == [
        ("events", str(folder / "events-1.jsonl"), 51, BAD[0]),
        ("events", str(folder / "events-2.jsonl"), 1, BAD[1]),
    ]


def test_catalogue_and_profiles(ingested):
    folder, log, _ = ingested
    catalog = pq.read_table(folder / "out/catalog/items.parquet").to_pylist()
    assert catalog == [{"item_id": key, **item} for key, item in world.ITEMS.items()]
    examples = records_of(folder / "out/catalog/items.tfrecord.gz")
    assert [oracle.decoded(example) for example in examples] == [
        {
            "item_id": ["i0"],
            "item_genres": ["drama", "war"],
            "item_title": ["The Zeroth"],
        },
        {"item_id": ["i1"]},
        {"item_id": ["i2"], "item_genres": ["comedy"], "item_title": ["Deux"]},
    ]
    profiles = pq.read_table(folder / "out/profiles").to_pylist()
    accepted, _ = oracle.accepted_events(log, world.EVENT_TYPES)
    probe = [
        {**world.event(user, event_type="mute"), "user_id": user, "timestamp": 10**9}
        for user in {event["user_id"] for event in accepted} | set(world.USERS)
    ]
    latest = oracle.histories(accepted + probe, world.EVENT_TYPES, world.HISTORY_LENGTH)
    assert {row["user_id"]: row["history_item_ids"] for row in profiles} == {
        event["user_id"]: latest[event["event_id"]] for event in probe
    }


def test_same_input_gives_the_same_bytes(ingested):
    folder, _log, _ = ingested
    run(folder, out="again")
    assert digests(folder / "again") == digests(folder / "out")


def test_without_items_table_the_catalogue_is_what_was_seen(tmp_path):
    world.write(tmp_path, [world.event("a"), world.event("b", item_id="z")])
    summary = run(
        tmp_path,
        world.settings(tmp_path, items=None, users=None),
        catalog=FeatureCatalog(),
    )
    catalog = pq.read_table(tmp_path / "out/catalog/items.parquet").to_pylist()
    assert catalog == [{"item_id": "i0"}, {"item_id": "z"}]
    assert (summary.items, summary.unknown_item_events) == (2, 0)
    assert list(summary.sources) == ["events"]


def test_side_tables_are_deduplicated_and_accounted(tmp_path):
    world.write(tmp_path, [world.event("a"), world.event("b", timestamp=2)])
    (tmp_path / "users.csv").write_text("user_id,age\nu0,31\nu0,99\n,5\nu1,old\n")
    summary = run(
        tmp_path,
        world.settings(tmp_path, users={"path": str(tmp_path / "users.csv")}),
    )
    users = summary.sources["users"]
    assert (users.read, users.accepted, users.duplicates) == (4, 1, 1)
    assert [(r.field, r.count) for r in users.reasons] == [("age", 1), ("user_id", 1)]
    profiles = pq.read_table(tmp_path / "out/profiles").to_pylist()
    assert [(row["user_id"], row["age"]) for row in profiles] == [("u0", 31.0)]


def test_log_of_one_user_is_ingested(tmp_path):
    world.write(tmp_path, [world.event(f"e{i}", timestamp=i) for i in range(10)])
    summary = run(tmp_path)
    assert summary.users == 1
    assert summary.events == {"train": 5, "eval": 2, "test": 3}


def test_log_of_dead_letters_alone_reaches_the_gate(tmp_path):
    world.write(tmp_path, [world.event(f"e{i}", propensity=0) for i in range(5)])
    summary = run(tmp_path)
    assert summary.sources["events"].dead_letters == 5
    assert sum(summary.events.values()) == 0


@pytest.mark.parametrize(
    ("lines", "message"),
    [([], "is empty"), (["", ""], "the event log is empty: 0 records in 1 file")],
    ids=["no bytes", "no records"],
)
def test_empty_log_is_an_error_with_its_mend(tmp_path, lines, message):
    world.write(tmp_path, lines)
    with pytest.raises(IngestionError, match=message) as caught:
        run(tmp_path)
    assert "point the path at another one" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_is_an_error_with_path_and_mend(tmp_path):
    with pytest.raises(IngestionError) as caught:
        run(tmp_path)
    assert f"data.events.path: no file matches `{tmp_path}/events*.jsonl`" in str(
        caught.value
    )
    assert "tandem data fetch" in str(caught.value)


def test_fault_of_a_later_file_is_an_error_from_the_worker(tmp_path):
    world.write(tmp_path, [world.event("a")])
    for number, header in enumerate(
        ("event_id,timestamp,user_id,item_id,event_type", "x")
    ):
        (tmp_path / f"log-{number}.csv").write_text(header + "\n1,2,3,4,click\n")
    with pytest.raises(IngestionError, match=r"log-1.csv` has no column `event_id`"):
        run(
            tmp_path,
            world.settings(tmp_path, events={"path": f"{tmp_path}/log-*.csv"}),
        )
