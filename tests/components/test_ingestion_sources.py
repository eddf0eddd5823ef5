"""The files behind a path with spans: the right ones, in a stable order."""

import json

import pytest

from components.ingestion import blocks, records
from components.ingestion.errors import IngestionError
from components.ingestion.settings import Format
from components.ingestion.sources import (
    column_maps,
    input_bytes,
    input_fingerprint,
    match_files,
    match_sources,
)
from tests.components import ingestion_world as world
from tests.components import memory_file_system


def write(folder, *names, text="x"):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def found(folder, table="events", newest="", spans=None, **source):
    """Returns (span, name within the folder) of the files that are read."""
    path = f"{folder}/{source.pop('path')}"
    settings = world.settings(
        events={"path": path, **source}, items=None, users=None, spans=spans or {}
    )
    files = match_files(table, settings.events, settings.spans, newest)
    assert [file.index for file in files] == list(range(len(files)))
    return [(file.span, file.path.removeprefix(f"{folder}/")) for file in files]


def test_spans_in_folders_come_by_span_and_path(tmp_path):
    write(
        tmp_path,
        "span-2026-11-21/b.jsonl",
        "span-2026-11-21/a.jsonl",
        "span-2026-11-20/c.jsonl",
        "span-2026-11-31/d.jsonl",
        "span-latest/e.jsonl",
        "span-2026-11-19/_tmp/f.jsonl",
    )
    assert found(tmp_path, path="span-{YYYY-MM-DD}/*.jsonl") == [
        ("2026-11-20", "span-2026-11-20/c.jsonl"),
        ("2026-11-21", "span-2026-11-21/a.jsonl"),
        ("2026-11-21", "span-2026-11-21/b.jsonl"),
    ]
    newest = found(tmp_path, path="span-{YYYY-MM-DD}/*.jsonl", spans={"last": 1})
    assert [span for span, _ in newest] == ["2026-11-21", "2026-11-21"]


def test_numbers_sort_as_numbers(tmp_path):
    write(tmp_path, "log-9.csv", "log-10.csv", "log-x.csv")
    assert found(tmp_path, path="log-{SPAN}.csv") == [
        ("9", "log-9.csv"),
        ("10", "log-10.csv"),
    ]


def test_highest_version_of_each_span_is_read(tmp_path):
    write(
        tmp_path,
        "1/v9/a.csv",
        "1/v10/a.csv",
        "1/v10/b.csv",
        "2/v1/a.csv",
        "2/vx/a.csv",
    )
    assert found(tmp_path, path="{SPAN}/v{VERSION}/*.csv") == [
        ("1", "1/v10/a.csv"),
        ("1", "1/v10/b.csv"),
        ("2", "2/v1/a.csv"),
    ]


def test_gap_is_an_error_that_names_the_missing_days(tmp_path):
    write(tmp_path, "2026/11/19.csv", "2026/11/22.csv")
    with pytest.raises(IngestionError) as caught:
        found(tmp_path, path="{YYYY}/{MM}/{DD}.csv")
    assert "data.events.path: no file of span 2026-11-20, 2026-11-21" in str(
        caught.value
    )
    gaps = {"allow_gaps": True}
    assert len(found(tmp_path, path="{YYYY}/{MM}/{DD}.csv", spans=gaps)) == 2


def test_what_only_looks_similar_is_named_when_nothing_matches(tmp_path):
    write(tmp_path, "log-today.csv")
    with pytest.raises(IngestionError, match="log-today.csv` only looks similar"):
        found(tmp_path, path="log-{YYYY-MM-DD}.csv")


def test_empty_files_stand_beside_others_but_not_alone(tmp_path):
    write(tmp_path, "log-1.csv")
    write(tmp_path, "log-2.csv", text="")
    assert len(found(tmp_path, path="log-{SPAN}.csv")) == 2
    with pytest.raises(IngestionError, match="is empty"):
        found(tmp_path, path="log-{SPAN}.csv", spans={"last": 1})


def test_side_table_is_the_snapshot_of_the_newest_span(tmp_path):
    write(tmp_path, "log-2026-11-20.csv", "log-2026-11-21.csv")
    write(
        tmp_path,
        *(f"items-2026-11-{day}.csv" for day in ("01", "19", "22")),
        "users.csv",
    )
    settings = world.settings(
        events={"path": f"{tmp_path}/log-{{YYYY-MM-DD}}.csv"},
        items={"path": f"{tmp_path}/items-{{YYYY-MM-DD}}.csv"},
        users={"path": f"{tmp_path}/users.csv"},
        spans={"last": 1},
    )
    files = match_sources(settings)
    assert {table: [file.span for file in files[table]] for table in files} == {
        "events": ["2026-11-21"],
        "items": ["2026-11-19"],
        "users": [""],
    }


def test_replayed_files_come_last_as_json_lines_of_no_span(tmp_path):
    write(tmp_path, "log-1.csv", "replay/b.jsonl", "replay/a.txt")
    settings = world.settings(
        events={
            "path": f"{tmp_path}/log-{{SPAN}}.csv",
            "replayed": f"{tmp_path}/replay/*",
        }
    )
    files = match_files("events", settings.events, settings.spans)
    assert [
        (f.index, f.span, f.format, f.replayed, f.path.rsplit("/")[-1]) for f in files
    ] == [
        (0, "1", Format.CSV, False, "log-1.csv"),
        (1, "", Format.JSONL, True, "a.txt"),
        (2, "", Format.JSONL, True, "b.jsonl"),
    ]
    assert input_bytes(files) == 3


def test_no_replayed_file_is_no_error(tmp_path):
    write(tmp_path, "log.csv")
    assert found(tmp_path, path="log.csv", replayed=f"{tmp_path}/replay/*") == [
        ("", "log.csv")
    ]


def test_fingerprint_covers_what_is_read_and_nothing_else(tmp_path):
    world.write(tmp_path, [world.event("a")])
    write(tmp_path, "log-1.jsonl", "log-2.jsonl", "log-x.jsonl", text="{}")
    settings = world.settings(
        tmp_path,
        events={
            "path": f"{tmp_path}/log-{{SPAN}}.jsonl",
            "replayed": f"{tmp_path}/replay/*.jsonl",
        },
        spans={"last": 1},
    )
    first = input_fingerprint(settings)
    write(tmp_path, "log-1.jsonl", "log-x.jsonl", text="{ }")
    assert input_fingerprint(settings) == first
    write(tmp_path, "replay/r.jsonl", text="{}")
    second = input_fingerprint(settings)
    assert second != first
    write(tmp_path, "replay/r.jsonl", text="[]")  # of the same size
    third = input_fingerprint(settings)
    assert third not in (first, second)
    write(tmp_path, "log-2.jsonl", text="[]")
    assert input_fingerprint(settings) not in (first, second, third)


def test_any_file_system_of_beam_is_listed_and_read(monkeypatch):
    lines = [json.dumps(world.event(f"e{i}")) + "\n" for i in range(100)]
    files = {
        "memory://bucket/2026/11/20.jsonl": "".join(lines[:50]).encode(),
        "memory://bucket/2026/11/21.jsonl": "".join(lines[50:]).encode(),
        "memory://bucket/2026/11/xx.jsonl": b"?",
    }
    monkeypatch.setattr(memory_file_system, "FILES", files)
    settings = world.settings(
        events={"path": "memory://bucket/{YYYY}/{MM}/{DD}.jsonl"},
        items=None,
        users=None,
    )
    column_map = column_maps(settings, world.CATALOG)["events"]
    seen = []
    for file in match_files("events", settings.events):
        for block in blocks.split_file(file, 1000):
            for batch in records.read_batches(block, settings.events, column_map):
                seen += batch.columns["event_id"].to_pylist()
    assert seen == [f"e{i}" for i in range(100)]
    first = input_fingerprint(settings)
    files["memory://bucket/2026/11/21.jsonl"] += b"\n"
    assert input_fingerprint(settings) != first


def test_numbers_are_only_columns_that_nothing_else_reads(tmp_path):
    settings = world.settings(
        events={"path": "x", "columns": {"value": "n", "event_id": "n"}}
    )
    column_map = column_maps(settings, world.CATALOG)["events"]
    assert column_map.numbers == {"timestamp", "position", "propensity"}
