"""What a service may declare, and the errors over the rest."""

import pytest
from pydantic import ValidationError

from components.ingestion.errors import IngestionError
from components.ingestion.settings import (
    DataSettings,
    EventType,
    SplitSettings,
)
from components.ingestion.sources import column_maps, input_fingerprint, match_files
from components.validate_examples_settings import ValidationSettings
from tests.components import ingestion_world as world


def test_line_and_movielens_event_types():
    settings = world.settings()
    assert settings.event_types["impression"].is_labelled
    assert not settings.event_types["impression"].positive
    assert not settings.event_types["purchase"].is_labelled
    assert settings.event_types["rating"].label_from_value.at_least == 4
    assert DataSettings.model_validate_json(settings.model_dump_json()) == settings


@pytest.mark.parametrize(
    "changes",
    [
        {"unknown_key": 1},
        {"events": {"path": ""}},
        {"events": {"path": "x", "format": "xml"}},
        {"events": {"path": "x", "delimiter": ";;"}},
        {"event_types": {}},
        {"event_types": {"view": {"reward": 1, "positive": False}}},
        {"event_types": {"view": {"reward": -1}}},
        {"event_types": {"view": {"reward": 1, "label": 2}}},
        {
            "event_types": {
                "view": {"reward": 1, "label": 1, "label_from_value": {"at_least": 1}}
            }
        },
        {"split": {"test_fraction": 1}},
        {"split": {"test_fraction": 0}},
    ],
)
def test_bad_settings_are_refused(changes):
    with pytest.raises(ValidationError):
        world.settings(**changes)


@pytest.mark.parametrize(
    "model", [DataSettings, EventType, SplitSettings, ValidationSettings]
)
def test_every_field_says_what_it_is(model):
    for name, field in model.model_fields.items():
        assert field.description, f"{model.__name__}.{name}"


def test_unknown_column_is_an_error_that_names_the_nearest():
    settings = world.settings(events={"path": "x", "columns": {"itemid": "movie"}})
    with pytest.raises(IngestionError) as caught:
        column_maps(settings, world.CATALOG)
    assert "data.events.columns: `itemid` is neither" in str(caught.value)
    assert "Did you mean `item_id`?" in str(caught.value)


def test_files_are_sorted_and_formats_go_by_ending(tmp_path):
    for name in ("b.csv.gz", "a.jsonl", "c.parquet", "d.tfrecord.gz"):
        (tmp_path / name).write_text("x")
    settings = world.settings(events={"path": f"{tmp_path}/*"})
    files = match_files("events", settings.events)
    assert [(f.index, f.path.rsplit("/")[-1], f.format.value) for f in files] == [
        (0, "a.jsonl", "jsonl"),
        (1, "b.csv.gz", "csv"),
        (2, "c.parquet", "parquet"),
        (3, "d.tfrecord.gz", "tfrecord"),
    ]


def test_ending_that_says_nothing_is_an_error_with_its_mend(tmp_path):
    (tmp_path / "log.dat").write_text("x")
    settings = world.settings(events={"path": f"{tmp_path}/*"})
    with pytest.raises(IngestionError, match="Set `format` to one of jsonl"):
        match_files("events", settings.events)


def test_fingerprint_changes_with_content_and_files_only(tmp_path):
    world.write(tmp_path, [world.event("a")])
    settings = world.settings(tmp_path)
    first = input_fingerprint(settings)
    world.write(tmp_path, [world.event("a")])  # the same again, at another time
    assert input_fingerprint(settings) == first
    world.write(tmp_path, [world.event("b")])  # of the same size
    second = input_fingerprint(settings)
    assert second != first
    world.write(tmp_path, [world.event("b")], "events-2.jsonl")
    assert input_fingerprint(settings) not in (first, second)
