"""`tandem data`: what a person mends dead letters with."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from components.ingestion.errors import IngestionError
from pipeline.cli import cli
from pipeline.config import ConfigError, load_config
from pipeline.layout import Layout
from pipeline.local_runner import with_absolute_paths
from serving.event_store import EventStore
from tests.pipeline.ingested_root import (
    EVENT_TYPES,
    effective,
    ingest,
    write_config,
    write_log,
)


def event(event_id, **changes):
    record = {"event_id": event_id, "timestamp": 1000, "user_id": "u", "item_id": "i"}
    return json.dumps(record | {"event_type": "click"} | changes)


LOG = [
    event("good"),
    event("shared", event_type="share"),
    event("[red]", event_type="[/]"),
    event("p", propensity=0),
    "{oops",
]


def data(*arguments, code=0):
    """Runs `tandem data`; returns what it said."""
    done = CliRunner().invoke(cli, ["data", *map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return " ".join(done.output.split())


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "root"
    write_log(root, LOG)
    ingest(root, write_config(tmp_path))
    return root


def export(root, name="dead.jsonl", *options):
    """Exports; returns the file and its records."""
    path = root.parent / name
    data("dead-letters", "--root", root, "--output", path, *options)
    return path, [json.loads(line) for line in path.read_text().splitlines()]


def rewrite(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def config_of(root, *overrides):
    return ["--config", root.parent / "shop.yaml", "--root", root, *overrides]


def test_reasons_are_shown_with_the_next_step(root):
    said = data("dead-letters", "--root", root)
    assert "Dead letters of events: 4" in said
    assert "`propensity` should lie in (0, 1]" in said
    assert "events.jsonl:4" in said
    assert f"Next: tandem data dead-letters --root {root} --output dead.jsonl" in said


def test_export_mend_replay_and_read_again(root):
    path, records = export(root)
    assert [record.get("event_id") for record in records] == [
        "shared",
        "[red]",
        "p",
        None,
    ]
    assert records[3]["_raw"] == "{oops"
    records[0]["event_type"] = "click"
    records[2]["propensity"] = 0.25
    rewrite(path, records)
    said = data("replay-dead-letters", *config_of(root), path, code=1)
    assert "Passed: 2 of events" in said and "Still refused: 2" in said
    assert "no fields: 1 of them" in said
    assert (
        f"Next: tandem run --config {root.parent / 'shop.yaml'} --root {root}" in said
    )
    (left,) = root.parent.glob("dead.left-*.jsonl")
    assert str(left) in said
    # The next ingestion reads what was replayed, and the letters still in the log.
    accepted = ingest(root, root.parent / "shop.yaml")["events"]
    assert [row["event_id"] for row in accepted] == ["good", "shared", "p"]
    # Of these, the export leaves out what was mended.
    said = data("dead-letters", "--root", root)
    assert "Dead letters of events: 2" in said
    assert "Mended and replayed before: 2 of events" in said
    assert "Dead letters of events: 4" in data("dead-letters", "--root", root, "--all")
    # What was left is mended in its turn, under one more name of the same kind.
    rewrite(left, [json.loads(line) for line in left.read_text().splitlines()][:1])
    assert "Still refused: 1" in data(
        "replay-dead-letters", *config_of(root), left, code=1
    )
    names = {path.name for path in root.parent.glob("dead*")}
    assert all(name.count(".left-") <= 1 for name in names), names


def test_stored_letters_are_replayed_against_the_present_config(root):
    types = EVENT_TYPES | {"share": {"reward": 2}}
    write_config(root.parent, event_types=types)
    said = data("replay-dead-letters", *config_of(root), code=1)
    assert "Passed: 1 of events" in said and "Still refused: 3" in said
    (left,) = Layout(root).left("shop").glob("*.jsonl")
    assert len(left.read_text().splitlines()) == 3
    again = data("replay-dead-letters", *config_of(root), code=1)
    assert "not added again: 1" in again
    (kept,) = Layout(root).replayed("shop", "events").glob("*.jsonl")
    assert len(kept.read_text().splitlines()) == 1


def test_replay_that_leaves_nothing_ends_well(root):
    path, records = export(root)
    rewrite(path, [records[0] | {"event_type": "click"}])
    said = data("replay-dead-letters", *config_of(root), path)
    assert "refused" not in said and "Next: tandem run" in said


def test_json_says_it_all_in_one_object(root):
    path = root.parent / "dead.jsonl"
    done = CliRunner().invoke(
        cli, ["data", "dead-letters", "--root", str(root), "--json"]
    )
    shown = json.loads(done.stdout)
    assert (shown["dead_letters"], shown["unsplit"], shown["output"]) == (4, 1, None)
    assert sum(reason["count"] for reason in shown["reasons"]) == 4
    export(root)
    arguments = ["data", "replay-dead-letters", *config_of(root), "--json", path]
    done = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert done.exit_code == 1
    shown = json.loads(done.stdout)
    assert (shown["replayed"], shown["left"], shown["unmended"]) == (0, 4, 1)
    assert shown["output"] is None and shown["left_output"].endswith(".jsonl")


def test_export_never_overwrites_a_file_that_is_being_mended(root):
    path, records = export(root)
    assert "Wrote them" in data("dead-letters", "--root", root, "--output", path)
    rewrite(path, records[:1])
    said = data("dead-letters", "--root", root, "--output", path, code=2)
    assert "half mended" in said
    assert len(path.read_text().splitlines()) == 1


def test_no_dead_letters_says_so(tmp_path):
    write_log(tmp_path, [event("good")])
    ingest(tmp_path, write_config(tmp_path))
    output = tmp_path / "dead.jsonl"
    said = data("dead-letters", "--root", tmp_path, "--output", output)
    assert "no dead letters of events" in said
    assert not output.exists()
    said = data(
        "replay-dead-letters", "--config", tmp_path / "shop.yaml", "--root", tmp_path
    )
    assert "No dead letters of events to replay" in said


def test_root_without_an_ingestion_says_how_to_make_one(tmp_path):
    with pytest.raises(IngestionError, match="tandem run"):
        data("dead-letters", "--root", tmp_path)
    write_log(tmp_path, LOG)
    ingest(tmp_path, write_config(tmp_path), complete=False)
    with pytest.raises(IngestionError, match="tandem run"):
        data("dead-letters", "--root", tmp_path)


def test_latest_ingestion_counts_of_the_root_and_of_the_config(root):
    other = write_config(root.parent, "other", events={"path": "other/*.jsonl"})
    (root / "other").mkdir()
    (root / "other" / "e.jsonl").write_text("{oops\n{oops\n")
    ingest(root, other)
    assert "Dead letters of events: 2" in data("dead-letters", "--root", root)
    said = data("replay-dead-letters", *config_of(root), code=1)
    assert "Still refused: 4" in said


def test_table_that_is_not_there_is_named(root):
    with pytest.raises(IngestionError, match="read no users table"):
        data("dead-letters", "--root", root, "--table", "users")
    with pytest.raises(ConfigError, match=r"data\.items"):
        data("replay-dead-letters", *config_of(root), "--table", "items")


def test_config_that_reads_replayed_files_from_elsewhere_is_refused(root):
    replayed = ("--set", "data.events.replayed=elsewhere/*.jsonl")
    with pytest.raises(ConfigError, match=r"data\.events\.replayed"):
        data("replay-dead-letters", *config_of(root, *replayed))


def test_next_step_repeats_the_overrides(root):
    override = "data.event_types.share.reward=2"
    said = data("replay-dead-letters", *config_of(root, "--set", override), code=1)
    assert f"--set {override}" in said and "Passed: 1 of events" in said


def test_run_reads_replayed_files_of_its_own_config_alone(root):
    config_path = root.parent / "shop.yaml"
    assert effective(config_path, root).data.events.replayed is None
    folder = Layout(root).replayed("shop", "events")
    folder.mkdir(parents=True)
    assert effective(config_path, root).data.events.replayed is None
    (folder / "0123.jsonl").write_text(event("e") + "\n")
    assert effective(config_path, root).data.events.replayed == f"{folder}/*.jsonl"
    other = write_config(root.parent, "other")
    assert effective(other, root).data.events.replayed is None
    own = write_config(
        root.parent, events={"path": "log/*.jsonl", "replayed": "mended/*"}
    )
    assert effective(own, root).data.events.replayed == f"{root}/mended/*"


def test_replayed_path_on_another_file_system_stays(root):
    config = load_config(
        root.parent / "shop.yaml", ["data.events.replayed=gs://bucket/mended/*"]
    )
    moved = with_absolute_paths(config, root)
    assert moved.data.events.replayed == "gs://bucket/mended/*"


@pytest.mark.parametrize("command", ["fetch", "dead-letters", "replay-dead-letters"])
def test_every_command_explains_itself(command):
    assert "Usage" in data(command, "--help")


def test_events_are_exported_once(tmp_path):
    data("export-events", "--root", tmp_path, code=2)  # nothing was taken in yet
    store = EventStore(Layout(tmp_path).event_store)
    store.append([json.loads(event("a")), json.loads(event("b"))])
    (file,) = json.loads(data("export-events", "--root", tmp_path, "--json"))["files"]
    assert Path(file).parent == tmp_path / "events" / "log"
    assert [json.loads(x) for x in Path(file).read_text().splitlines()] == [
        json.loads(event("a")),
        json.loads(event("b")),
    ]
    assert "0 new file(s)" in data("export-events", "--root", tmp_path)
    store.append([json.loads(event("c"))])
    other = tmp_path / "elsewhere"
    data("export-events", "--root", tmp_path, "--output", other)
    assert len(list(other.glob("*.jsonl"))) == 1
    store.close()
