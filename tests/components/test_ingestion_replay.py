"""Mended dead letters pass the ingestion's own checks, once, and none gets lost."""

import json

import pytest

from components.ingestion import replay as replay_module
from components.ingestion.dead_letters import to_line
from components.ingestion.errors import IngestionError
from components.ingestion.replay import (
    read_mended,
    replay,
    replayed_letters,
)
from tests.components import ingestion_world as world
from tests.components.stored_letters import mendable, store


def lines_of(path):
    return [json.loads(line) for line in path.read_bytes().splitlines()]


class Replays:
    """A folder of replayed files, and what each call adds to it."""

    def __init__(self, root, settings=None):
        self.settings = settings or world.settings(root)
        self.folder = root / "replayed"
        self.mended = root / "mended.jsonl"
        self.left_name = root / "mended.left.jsonl"

    def __call__(self, records, table="events", settings=None):
        self.mended.write_bytes(
            b"".join(
                (r if isinstance(r, bytes) else to_line(r).encode()) + b"\n"
                for r in records
            )
        )
        return replay(
            read_mended(self.mended),
            table,
            settings or self.settings,
            world.CATALOG,
            self.folder,
            self.left_name,
        )

    @property
    def kept(self):
        return [
            record
            for path in sorted(self.folder.glob("*.jsonl"))
            for record in lines_of(path)
        ]


@pytest.fixture
def replays(tmp_path):
    return Replays(tmp_path)


def annotated(record, letter="l" * 16, **ours):
    ours = {
        "reason": "`x` should",
        "file": "log",
        "position": 7,
        "letter": letter,
    } | ours
    return {f"_{name}": value for name, value in ours.items()} | record


def test_mended_record_is_kept_without_our_keys(replays):
    record = world.event("e1", _id="the log's own", extra=[1, {"a": None}])
    counts = replays([annotated(record)])
    assert (counts.replayed, counts.known, counts.left) == (1, 0, 0)
    assert replays.kept == [record]
    assert counts.left_file is None and not list(replays.mended.parent.glob("*left*"))
    assert replayed_letters(replays.folder) == {"l" * 16}


@pytest.mark.parametrize("letter", ["a\nb", "\ud800", 7, None, ["a"], ""])
def test_letter_edited_by_hand_does_no_harm(replays, letter):
    counts = replays([annotated(world.event("e1"), letter)])
    assert counts.replayed == 1
    assert replayed_letters(replays.folder) == set()


def test_refused_records_are_left_with_their_reason_and_place(replays):
    bad = annotated(world.event("bad", propensity=2), raw="old text")
    counts = replays([annotated(world.event("good")), bad])
    assert (counts.replayed, counts.left, counts.unmended) == (1, 1, 0)
    assert counts.rules == {"`propensity` should lie in (0, 1]": 1}
    (left,) = lines_of(counts.left_file)
    assert left.pop("_reason") == "`propensity` should lie in (0, 1]. Received: 2"
    assert left == {
        key: value for key, value in bad.items() if key not in ("_reason", "_raw")
    }
    # Mended in its turn, it passes.
    left["propensity"] = 0.5
    again = replays([left])
    assert (again.replayed, again.left) == (1, 0)
    assert {record["event_id"] for record in replays.kept} == {"good", "bad"}


def test_same_call_twice_adds_nothing_twice(replays):
    records = [annotated(world.event(f"e{i}"), str(i)) for i in range(3)]
    first = replays([*records, annotated(world.event("bad", user_id=""))])
    files = {path: path.read_bytes() for path in replays.mended.parent.rglob("*.*")}
    second = replays([*records, annotated(world.event("bad", user_id=""))])
    assert (second.replayed, second.known, second.left) == (0, 3, 1)
    assert second.left_file == first.left_file
    assert files == {
        path: path.read_bytes() for path in replays.mended.parent.rglob("*.*")
    }


def test_more_records_than_before_adds_only_the_new(replays):
    replays([world.event("e1"), world.event("e2")])
    counts = replays([world.event("e2"), world.event("e3"), world.event("e3")])
    assert (counts.replayed, counts.known) == (1, 2)
    assert sorted(record["event_id"] for record in replays.kept) == ["e1", "e2", "e3"]


def test_deleting_a_replayed_file_takes_it_back(replays):
    counts = replays([annotated(world.event("e1"))])
    counts.file.unlink()
    assert replayed_letters(replays.folder) == set()
    again = replays([annotated(world.event("e1"))])
    assert (again.replayed, again.file) == (1, counts.file)
    assert replayed_letters(replays.folder) == {"l" * 16}


def test_replayed_file_edited_by_hand_is_not_overwritten(replays):
    counts = replays([world.event("e1")])
    counts.file.write_text("{}\n")
    with pytest.raises(FileExistsError, match="other content"):
        replays([world.event("e1")])
    assert counts.file.read_text() == "{}\n"


def test_left_file_that_is_being_mended_is_not_overwritten(replays):
    counts = replays([world.event("bad", user_id="")])
    counts.left_file.write_text("half mended\n")
    again = replays([world.event("bad", user_id="")])
    assert again.left_file == counts.left_file
    assert counts.left_file.read_text() == "half mended\n"


UNMENDED = {"_reason": "the record should be one object. Received: x", "_raw": "{oops"}


def test_line_that_is_raw_only_is_refused_as_not_mended(replays):
    counts = replays([UNMENDED, {"_raw": "{oops"}, UNMENDED | world.event("mended")])
    assert (counts.replayed, counts.left, counts.unmended) == (1, 2, 2)
    first, second = lines_of(counts.left_file)
    assert first["_reason"] == UNMENDED["_reason"] and first["_raw"] == "{oops"
    assert "in place of `_raw`" in second["_reason"]


NO_OBJECTS = {
    "no JSON": b'{"event_id": "e", ',
    "a list": b"[1]",
    "half of a pretty-printed object": b"{",
    "bytes that are not UTF-8": b'{"event_id": "\xff"}',
    "too deep": b'{"a":' * 100_000,
    "too long a number": b'{"timestamp": ' + b"9" * 5000 + b"}",
}


@pytest.mark.parametrize("kind", NO_OBJECTS)
def test_line_that_is_no_object_is_left_as_it_stands(replays, kind):
    line = NO_OBJECTS[kind]
    counts = replays([world.event("e1"), line])
    assert (counts.replayed, counts.left) == (1, 1)
    (left,) = lines_of(counts.left_file)
    assert left["_raw"] == line.decode("utf-8", "backslashreplace")
    assert (left["_file"], left["_position"]) == (str(replays.mended), 2)
    assert "one JSON object" in left["_reason"]


def test_windows_editors_and_empty_lines_do_no_harm(replays):
    replays.mended.write_bytes(
        b"\xef\xbb\xbf" + to_line(world.event("e1")).encode() + b"\r\n\r\n \n"
    )
    (record,) = read_mended(replays.mended)
    assert record["event_id"] == "e1"


def test_lone_surrogate_is_refused_in_an_id_and_kept_elsewhere(replays):
    counts = replays(
        [world.event("\ud800"), world.event("e1", note="\ud800"), world.event("東京")]
    )
    assert (counts.replayed, counts.left) == (2, 1)
    assert lines_of(counts.left_file)[0]["event_id"] == "\ud800"
    assert {record.get("note") for record in replays.kept} == {"\ud800", None}


def test_stored_letters_pass_once_the_config_declares_their_type(tmp_path):
    world.write(tmp_path, [world.event("e1", event_type="share"), "{oops"])
    before = world.settings(tmp_path)
    records = mendable(before, world.CATALOG, tmp_path / "dead")
    after = world.settings(
        tmp_path, event_types=world.event_type_settings() | {"share": {"reward": 3}}
    )
    replays = Replays(tmp_path, after)
    assert replays(records, settings=before).replayed == 0
    counts = replays(records)
    assert (counts.replayed, counts.left, counts.unmended) == (1, 1, 1)
    assert replays.kept == [world.event("e1", event_type="share")]


def test_closed_at_applies_and_the_bounds_of_spans_do_not(tmp_path):
    (tmp_path / "unused").touch()
    settings = world.settings(
        tmp_path,
        events={"path": f"{tmp_path}/events-{{YYYY-MM-DD}}.jsonl"},
        closed_at="1970-01-01T00:00:02Z",
    )
    counts = Replays(tmp_path, settings)(
        [world.event("old", timestamp=0), world.event("late", timestamp=2000)]
    )
    assert (counts.replayed, counts.left) == (1, 1)
    assert "`timestamp` should be before the log was closed" in next(iter(counts.rules))


@pytest.mark.parametrize(
    ("table", "good", "bad"),
    [
        ("items", {"item_id": "i9", "genres": ["war"]}, {"genres": ["war"]}),
        ("users", {"user_id": "u9", "age": "31"}, {"user_id": "u9", "age": "old"}),
    ],
)
def test_side_tables_are_replayed_by_their_own_rules(replays, table, good, bad):
    counts = replays([annotated(good), annotated(bad)], table)
    assert (counts.replayed, counts.left) == (1, 1)
    assert replays.kept == [good]


def test_undeclared_columns_are_kept_of_users_and_left_out_of_items(replays):
    item, user = {"item_id": "i9", "since": "1999"}, {"user_id": "u9", "since": "1999"}
    replays([item], "items")
    replays([user], "users")
    assert {"item_id": "i9"} in replays.kept and user in replays.kept
    counts = replays([item | {"item_id": ""}], "items")
    assert lines_of(counts.left_file)[0]["since"] == "1999"


def test_many_batches_keep_every_record_and_its_reason(replays, monkeypatch):
    monkeypatch.setattr(replay_module, "_BATCH_RECORDS", 3)
    records = [world.event(f"e{i}", propensity=1 + i % 2) for i in range(20)]
    counts = replays(records)
    assert (counts.replayed, counts.left) == (10, 10)
    assert [r["event_id"] for r in replays.kept] == [f"e{i}" for i in range(0, 20, 2)]
    left = [record["event_id"] for record in lines_of(counts.left_file)]
    assert left == [f"e{i}" for i in range(1, 20, 2)]


def test_ingestion_accepts_exactly_what_passed(tmp_path):
    bad = [
        world.event("", timestamp="1970-01-01T00:00:01Z"),
        world.event("rated", event_type="rating"),
        world.event("p", propensity="0"),
        "{oops",
    ]
    world.write(tmp_path, [world.event("good"), *bad])
    settings = world.settings(tmp_path)
    first, second, third, raw = mendable(settings, world.CATALOG, tmp_path / "dead")
    first["event_id"], second["value"] = "named", 5
    replays = Replays(tmp_path, settings)
    counts = replays([first, second, third, raw])
    assert (counts.replayed, counts.left, counts.unmended) == (2, 2, 1)
    source = {**settings.events.model_dump(), "replayed": f"{replays.folder}/*.jsonl"}
    accepted = store(
        world.settings(tmp_path, events=source), world.CATALOG, tmp_path / "again"
    )
    ids = [row["event_id"] for row in accepted["events"]]
    assert ids == ["good", "named", "rated"]
    assert accepted["events"][1]["timestamp"] == 1000


def test_nothing_is_made_where_there_is_nothing(replays):
    before = set(replays.mended.parent.rglob("*"))
    counts = replays([])
    assert counts.file is None and counts.left_file is None
    assert set(replays.mended.parent.rglob("*")) - before == {replays.mended}


def test_column_called_like_a_key_of_ours_is_refused(replays):
    settings = world.settings(
        events={"path": "log.jsonl", "columns": {"request_id": "_raw"}}
    )
    with pytest.raises(IngestionError, match="the column `_raw`"):
        replays([world.event()], settings=settings)
