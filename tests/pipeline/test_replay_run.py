"""Dead letters mended and replayed through the real ingestion, under TFX's own runner."""

import csv
import datetime
import gzip
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from components.ingestion import tfrecord
from components.ingestion.sources import input_fingerprint
from pipeline.cli import cli
from pipeline.layout import Layout
from pipeline.run_state import read_latest
from tests.components.ingestion_oracle import decoded
from tests.pipeline.ingested_root import effective, write_config

pytestmark = pytest.mark.component

GOOD = [
    {
        "event_id": f"e{number}",
        "timestamp": 1000 + number,
        "user_id": f"u{number % 4}",
        "item_id": f"i{number % 3}",
        "event_type": "click",
    }
    for number in range(40)
]


def broken(name, **changes):
    return GOOD[0] | {"event_id": name, "timestamp": 1100} | changes


# A dead letter of each kind in each format, and how a person mends it.
MENDS = {
    "jsonl-type": {"event_type": "click"},
    "jsonl-raw": broken("jsonl-raw"),
    "csv-propensity": {"propensity": "0.5"},
    "csv-bytes": broken("csv-bytes"),
    "parquet-time": {"timestamp": 1100},
    "tfrecord-user": {"user_id": "u1"},
}
ITEM = {"item_id": "i2", "genre": "war"}


def write_log(root):
    """Writes a log of four files, each good but for what MENDS mends."""
    folder = root / "log"
    folder.mkdir(parents=True)
    lines = [*GOOD[:10], GOOD[3], broken("jsonl-type", event_type="share")]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "events-1.jsonl").write_text(text + '{"event_id": "jsonl-raw", \n')
    out = io.StringIO()
    writer = csv.DictWriter(out, [*GOOD[0], "propensity"])
    writer.writeheader()
    writer.writerows([*GOOD[10:20], broken("csv-propensity", propensity="1,5")])
    data = out.getvalue().encode() + b"csv-bytes\xff,1100,u0,i0,click,\r\n"
    (folder / "events-2.csv.gz").write_bytes(gzip.compress(data))
    rows = [*GOOD[20:30], broken("parquet-time", timestamp=-1)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "events-3.parquet")
    records = [*GOOD[30:], broken("tfrecord-user", user_id=" ")]
    (folder / "events-4.tfrecord").write_bytes(
        b"".join(tfrecord.framed(json.dumps(record).encode()) for record in records)
    )
    items = [
        {"item_id": "i0", "genre": "drama", "since": datetime.date(1999, 1, 1)},
        {"item_id": "i1", "genre": "drama", "since": None},
        {"item_id": "", "genre": "war", "since": datetime.date(1999, 1, 2)},
    ]
    pq.write_table(pa.Table.from_pylist(items), root / "items.parquet")


def ingest(root, config_path):
    """Runs IngestEvents alone; returns its summary and the folders it wrote."""
    from tfx import v1 as tfx

    from components.ingest_events_component import IngestEvents

    layout, config = Layout(root), effective(config_path, root)
    stage = IngestEvents(
        settings_json=config.data.model_dump_json(),
        catalog_json=config.features.model_dump_json(),
        input_fingerprint=input_fingerprint(config.data),
    )
    tfx.orchestration.LocalDagRunner().run(
        tfx.dsl.Pipeline(
            pipeline_name=config.name,
            pipeline_root=str(layout.pipeline),
            components=[stage],
            enable_cache=True,
            metadata_connection_config=(
                tfx.orchestration.metadata.sqlite_metadata_connection_config(
                    str(layout.metadata)
                )
            ),
            beam_pipeline_args=["--runner=FnApiRunner"],
        )
    )
    outputs = read_latest(str(layout.metadata), "IngestEvents").run.outputs
    with open(f"{outputs['summary']}/summary.json") as file:
        return json.load(file), outputs


def account(summary, table="events"):
    source = summary["sources"][table]
    counts = tuple(
        source[kind] for kind in ("read", "accepted", "duplicates", "dead_letters")
    )
    assert counts[0] == sum(counts[1:])
    return counts


def interactions(outputs):
    """Returns the rows written, by event_id."""
    rows = {}
    for path in Path(outputs["interactions"]).glob("Split-*/*.gz"):
        data = gzip.decompress(path.read_bytes())
        for record in tfrecord.read_records(io.BytesIO(data)):
            row = decoded(record)
            rows[row["event_id"][0]] = row
    return rows


def command(*arguments):
    done = CliRunner().invoke(cli, ["data", *map(str, arguments)])
    assert done.exception is None or isinstance(done.exception, SystemExit)
    return done.exit_code, done.output


def mend(record):
    """Mends a record as a person would; what is raw gets its fields."""
    for name, change in MENDS.items():
        if record.get("event_id") == name or name in record.get("_raw", ""):
            return {k: v for k, v in record.items() if k != "_raw"} | change
    raise AssertionError(f"nobody broke {record}")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    write_log(root)
    return root


@pytest.fixture(scope="module")
def config_path(root):
    path = write_config(
        root, events={"path": "log/events*"}, items={"path": "items.parquet"}
    )
    text = path.read_text().replace(
        "features: {}", "features: {item: [{name: genre, kind: categorical}]}"
    )
    path.write_text(text)
    return path


def test_mended_letters_come_back_as_rows_with_exact_accounts(root, config_path):
    summary, _ = ingest(root, config_path)
    assert account(summary) == (47, 40, 1, 6)
    assert account(summary, "items") == (3, 2, 0, 1)

    dead = root / "dead.jsonl"
    assert command("dead-letters", "--root", root, "--output", dead)[0] == 0
    records = [json.loads(line) for line in dead.read_text().splitlines()]
    # Two are mended at first, and those that are not come back in a file.
    half = [mend(r) if i < 2 else r for i, r in enumerate(records)]
    dead.write_text("".join(json.dumps(record) + "\n" for record in half))
    replay = ("replay-dead-letters", "--config", config_path, "--root", root)
    assert command(*replay, dead)[0] == 1
    (left,) = root.glob("dead.left-*.jsonl")
    records = [json.loads(line) for line in left.read_text().splitlines()]
    assert len(records) == 4
    left.write_text("".join(json.dumps(mend(record)) + "\n" for record in records))
    assert command(*replay, left)[0] == 0
    assert command(*replay, left)[0] == 0  # again, and nothing is there twice

    summary, outputs = ingest(root, config_path)
    assert account(summary) == (53, 46, 1, 6)
    assert sum(summary["events"].values()) == 46
    rows = interactions(outputs)
    assert set(rows) == {event["event_id"] for event in GOOD} | set(MENDS)
    assert rows["csv-propensity"]["propensity"] == [0.5]
    assert rows["tfrecord-user"]["user_id"] == ["u1"]
    # The export knows what was mended.
    code, said = command("dead-letters", "--root", root)
    assert code == 0 and "replayed before: 6 of events" in " ".join(said.split())

    # The service mends its log as well: what was replayed is a duplicate of it.
    late = [broken("jsonl-raw"), broken("parquet-time", timestamp=1100)]
    (root / "log" / "events-5.jsonl").write_text(
        "".join(json.dumps(record) + "\n" for record in late)
    )
    summary, _ = ingest(root, config_path)
    assert account(summary) == (55, 46, 3, 6)


def test_mended_item_joins_the_catalogue_whatever_its_other_columns(root, config_path):
    dead = root / "items.jsonl"
    where = ("--root", root, "--table", "items")
    assert command("dead-letters", *where, "--output", dead)[0] == 0
    (record,) = [json.loads(line) for line in dead.read_text().splitlines()]
    assert record["since"] == "1999-01-02"
    dead.write_text(json.dumps(record | ITEM) + "\n")
    assert command("replay-dead-letters", "--config", config_path, *where, dead)[0] == 0
    summary, outputs = ingest(root, config_path)
    assert account(summary, "items") == (4, 3, 0, 1)
    catalog = pq.read_table(f"{outputs['catalog']}/items.parquet").to_pylist()
    assert catalog[2]["item_id"] == "i2" and catalog[2]["genre"] == "war"
    assert catalog[0]["since"] == datetime.date(1999, 1, 1)
