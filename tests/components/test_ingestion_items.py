"""The items table read alone is the catalogue that an ingestion makes, to the byte."""

import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.ingestion.errors import IngestionError
from components.ingestion.items import ingest_items, write_catalog
from components.ingestion.parsing import SOURCE_POSITION
from components.ingestion.tables import without_duplicates
from tests.components import ingestion_runs
from tests.components import ingestion_world as world

RECORDS = (
    {"item_id": "i9", "genres": ["war"], "title": "Nine", "shelf": "B"},
    {"item_id": "i1", "genres": [], "title": None, "shelf": "A"},
    {"item_id": "i5", "genres": ["drama", "war"], "title": "Five", "shelf": None},
    {"item_id": "i5", "genres": ["comedy"], "title": "Five again", "shelf": "C"},
    {"item_id": None, "genres": [], "title": "nobody's", "shelf": "A"},
    {"item_id": "i2", "genres": ["war"], "title": "Two", "shelf": "A"},
    {"item_id": "i3", "genres": ["drama"], "title": "Three", "shelf": "A"},
)


def settings_over(folder: Path, records=RECORDS, name="items-{SPAN}.jsonl"):
    """Writes a log and its items; of two snapshots the newer one holds `records`."""
    world.write(folder, [world.event(f"e{n}", timestamp=1000 * n) for n in range(9)])
    for span, part in ((1, records[:2]), (2, records)):
        text = "".join(json.dumps(record) + "\n" for record in part)
        (folder / name.replace("{SPAN}", str(span))).write_text(text)
    return world.settings(folder, items={"path": f"{folder}/{name}"})


def digests(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
    }


@pytest.fixture(scope="module")
def ingested(tmp_path_factory):
    """The settings, and the catalogue that the whole ingestion made."""
    folder = tmp_path_factory.mktemp("ingested")
    settings = settings_over(folder)
    summary, _ = ingestion_runs.run(folder, settings, world.CATALOG)
    return settings, folder / "out" / "catalog", summary


def check_catalog(read, ingested, folder):
    settings, expected, _ = ingested
    read(settings, world.CATALOG, str(folder / "catalog"), str(folder / "letters"))
    is_same = digests(folder / "catalog") == digests(expected)
    assert is_same


def test_items_alone_are_the_ingestions_catalog(ingested, tmp_path):
    check_catalog(ingest_items, ingested, tmp_path)


def _with_duplicates(settings, catalog, *uris):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("components.ingestion.tables.without_duplicates", lambda t, _: t)
        return ingest_items(settings, catalog, *uris)


def _last_of_duplicates(settings, catalog, *uris):
    def last(table, keys):
        at = table.schema.get_field_index(SOURCE_POSITION)
        positions = pa.array([-p for p in table.column(at).to_pylist()])
        return without_duplicates(
            table.set_column(at, SOURCE_POSITION, positions), keys
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("components.ingestion.tables.without_duplicates", last)
        return ingest_items(settings, catalog, *uris)


def _oldest_snapshot(settings, catalog, *uris):
    path = settings.items.path.replace("{SPAN}", "1")
    source = settings.items.model_copy(update={"path": path})
    return ingest_items(settings.model_copy(update={"items": source}), catalog, *uris)


def _declared_columns_only(settings, catalog, catalog_uri, letters_uri):
    ingest_items(settings, catalog, catalog_uri, letters_uri)
    table = pq.read_table(f"{catalog_uri}/items.parquet").drop_columns(["shelf"])
    write_catalog(table, catalog, catalog_uri)


@pytest.mark.parametrize(
    "wrong",
    [_with_duplicates, _last_of_duplicates, _oldest_snapshot, _declared_columns_only],
)
def test_check_of_the_catalog_rejects(wrong, ingested, tmp_path):
    with pytest.raises(AssertionError):
        check_catalog(wrong, ingested, tmp_path)


def test_catalog_is_written_again_from_its_own_table(ingested, tmp_path):
    _, expected, _ = ingested
    table = pq.read_table(expected / "items.parquet")
    write_catalog(table, world.CATALOG, str(tmp_path / "catalog"))
    again = tmp_path / "catalog"
    assert pq.read_table(again / "items.parquet").equals(table)
    records = digests(again)["items.tfrecord.gz"]
    assert records == digests(expected)["items.tfrecord.gz"]


def test_account_is_the_ingestions(ingested, tmp_path):
    settings, _, summary = ingested
    account = ingest_items(
        settings, world.CATALOG, str(tmp_path / "c"), str(tmp_path / "letters")
    )
    assert account == summary.sources["items"]
    assert (account.read, account.accepted, account.duplicates) == (7, 5, 1)
    assert account.dead_letters == 1
    assert len(list((tmp_path / "letters").iterdir())) == 1


def test_table_without_an_item_is_refused(tmp_path):
    settings = settings_over(tmp_path, RECORDS[4:5] * 2)
    with pytest.raises(
        IngestionError, match="data.items.path: no item in 1 .*2 records, 2 refused"
    ):
        ingest_items(settings, world.CATALOG, str(tmp_path / "c"), str(tmp_path / "l"))


def test_config_without_items_is_refused(tmp_path):
    with pytest.raises(IngestionError, match="data.items: the config declares no"):
        ingest_items(
            world.settings(items=None), world.CATALOG, str(tmp_path), str(tmp_path)
        )


def test_missing_column_is_refused(tmp_path):
    settings = settings_over(tmp_path)
    pq.write_table(pa.table({"item_id": ["a"]}), tmp_path / "bare.parquet")
    source = settings.items.model_copy(update={"path": f"{tmp_path}/bare.parquet"})
    settings = settings.model_copy(update={"items": source})
    with pytest.raises(IngestionError, match="genres"):
        ingest_items(settings, world.CATALOG, str(tmp_path / "c"), str(tmp_path / "l"))
