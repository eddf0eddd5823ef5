"""`tandem items refresh`: what it reads, what it refuses, what it says and pushes."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner

from components.gate import Check, GateResult
from components.ingestion.errors import IngestionError
from components.ingestion.items import ingest_items
from components.push_release import PushError
from components.refresh_release import RefreshedBundle, RefreshError
from pipeline import refresh as pipeline_module
from pipeline.cli import cli
from pipeline.config import ConfigError, load_config
from pipeline.refresh import RefreshOptions, refresh_items
from pipeline.root_config import with_absolute_paths
from serving.model_config import read_served_models
from serving.model_store import ModelStore
from serving.release_layout import MODELS, Refresh, list_releases, read_manifest
from serving.release_tables import NoReleaseError
from tests.components import refresh_world as world
from tests.pipeline.ingested_root import EVENT_TYPES

pytestmark = pytest.mark.component

DRY = RefreshOptions(dry_run=True)


@pytest.fixture
def root(tmp_path):
    """A root whose items table is that of its release."""
    shop = world.shop_with_release()
    shutil.copytree(shop.serving_root, tmp_path / "serving")
    write_items(tmp_path, world.items_table(range(world.NUM_ITEMS)))
    # It names the root that was copied; the next push writes it anew.
    (tmp_path / "serving" / "models.config").unlink()
    # As a run pushes it: what the ingestion made of that table.
    config = load_config(config_file(tmp_path))
    data = with_absolute_paths(config, tmp_path).data
    ingest_items(data, config.features, str(tmp_path / "c"), str(tmp_path / "l"))
    (release,) = (tmp_path / "serving" / "releases").iterdir()
    shutil.copy(tmp_path / "c" / "items.parquet", release / "items.parquet")
    (tmp_path / "schema.pbtxt").write_text(
        'feature { name: "item_title" type: BYTES presence { min_fraction: 1 } }\n'
    )
    return tmp_path


def write_items(root, table):
    pq.write_table(table, root / "items.parquet")


def config_file(root, **changes):
    values = {
        "name": "shop",
        "data": {
            "events": {"path": "events.jsonl"},
            "items": {"path": "items.parquet"},
            "event_types": EVENT_TYPES,
        },
        "features": json.loads(world.CATALOG.model_dump_json()),
        "schema_file": str(root / "schema.pbtxt"),
        "index": {"kind": "scann"},
        "gates": {"serving": {"max_p99_ms": 5000, "num_timed_requests": 5}},
    }
    path = root / "shop.yaml"
    path.write_text(yaml.safe_dump(values | changes))
    return str(path)


def refresh(root, options=DRY, **changes):
    return refresh_items(load_config(config_file(root, **changes)), root, options)


def test_nothing_changed_pushes_nothing(root):
    before = list_releases(root / "serving")
    result = refresh(root, RefreshOptions())
    assert not result.changes and not result.details_changed
    assert result.release is None and result.changes.unchanged == world.NUM_ITEMS
    assert list_releases(root / "serving") == before
    assert not list(root.glob(".refresh-*"))


def test_changes_are_those_of_the_table_the_deny_list_and_the_window(root):
    table = world.items_table(
        [*range(3, 300), 1000, 1001], lambda n: 50 if n == 9 else n % 17
    )
    until = ["2026-01-01T00:00:00Z" if n == 4 else None for n in range(table.num_rows)]
    write_items(root, table.append_column("available_until", pa.array(until)))
    (root / "denied.txt").write_text("i5\n")
    candidates = {"deny_list": "denied.txt"}
    result = refresh(root, candidates=candidates)
    assert result.changes.added == ("i1000", "i1001")
    assert result.changes.changed == ("i9",)
    # i7 stands in row 4.
    assert sorted(result.changes.removed) == ["i0", "i1", "i2", "i5", "i7"]
    assert (result.selection.denied, result.selection.no_longer_available) == (1, 1)
    assert result.release is None and result.account.read == 299
    early = refresh(root, candidates=candidates | {"at": "2025-12-31"})
    assert "i7" not in early.changes.removed


def test_titles_alone_are_details(root):
    table = world.items_table(range(world.NUM_ITEMS))
    at = table.schema.get_field_index("shelf")
    write_items(root, table.set_column(at, "shelf", pa.array(["Z"] * table.num_rows)))
    result = refresh(root)
    assert result.details_changed and not result.changes


def test_config_without_items_keeps_those_of_the_release(root):
    (root / "denied.txt").write_text("i5\n")
    data = {"events": {"path": "events.jsonl"}, "event_types": EVENT_TYPES}
    result = refresh(root, data=data, candidates={"deny_list": "denied.txt"})
    assert result.account is None and result.changes.removed == ("i5",)


def test_root_without_a_release_is_refused(root):
    shutil.rmtree(root / "serving")
    with pytest.raises(NoReleaseError, match="tandem run"):
        refresh(root)


def test_release_of_other_features_is_refused(root):
    features = json.loads(world.CATALOG.model_dump_json()) | {"history_length": 4}
    with pytest.raises(ConfigError, match="features: the config declares others"):
        refresh(root, features=features)


def test_missing_table_is_refused(root):
    (root / "items.parquet").unlink()
    with pytest.raises(IngestionError, match="data.items.path: no file matches"):
        refresh(root)


def test_removing_everything_is_refused(root):
    (root / "denied.txt").write_text("".join(f"i{n}\n" for n in range(world.NUM_ITEMS)))
    with pytest.raises(IngestionError, match="no item is left to recommend"):
        refresh(root, candidates={"deny_list": "denied.txt"})


def check_half_an_export_is_refused(root, options):
    write_items(root, world.items_table(range(100)))
    with pytest.raises(
        RefreshError, match="200 items, 66.7% .* --max-removed-share 0.68"
    ):
        refresh(root, options)


def test_removing_much_is_refused_unless_it_is_meant(root):
    check_half_an_export_is_refused(root, DRY)
    meant = RefreshOptions(dry_run=True, max_removed_share=0.68)
    assert len(refresh(root, meant).changes.removed) == 200


def test_check_of_half_an_export_rejects(root):
    with pytest.raises(pytest.fail.Exception):
        check_half_an_export_is_refused(
            root, RefreshOptions(dry_run=True, max_removed_share=1.0)
        )


def with_untitled(root):
    table = pa.concat_tables(
        [
            world.items_table(range(world.NUM_ITEMS)),
            world.items_table([1000]),
            pa.table(
                {
                    "item_id": ["i2000", "i2001"],
                    "title": pa.array([None, None], pa.string()),
                    "price": pa.array([3.0, None], pa.float32()),
                    "shelf": ["S1", "S1"],
                }
            ),
        ]
    )
    write_items(root, table)


def test_new_item_without_what_it_needs_is_refused_or_left_out(root):
    with_untitled(root)
    message = "2 new .*'i2000', 'i2001'. 'i2000' lacks `item_title`"
    with pytest.raises(RefreshError, match=message):
        refresh(root)
    result = refresh(root, RefreshOptions(dry_run=True, leave_out_incomplete=True))
    assert result.changes.added == ("i1000",)
    assert result.left_out == {"i2000": "`item_title`", "i2001": "any feature"}


PASSED = GateResult("export", (Check("users compared", True, "1", "1"),))


def note_of(base) -> Refresh:
    empty = dict.fromkeys(("added", "changed", "removed", "fresh", "tombstones"), 0)
    return Refresh(base=base.version, rebuilt=False, **empty)


def test_release_that_is_replaced_meanwhile_is_refused(root, monkeypatch):
    """A push while the models are tried: what is newer must not be undone."""
    write_items(root, world.items_table(range(5, world.NUM_ITEMS)))
    serving = root / "serving"

    def push_another(base, candidates_uri, bundle, *_):
        (first,) = list_releases(serving)
        for place in serving.glob(f"*/{first}"):
            shutil.copytree(place, place.with_name(str(first + 1)))
            shutil.copytree(place, bundle / place.parent.name)
        return RefreshedBundle(note_of(base), PASSED, "")

    monkeypatch.setattr(pipeline_module, "refresh_bundle", push_another)
    monkeypatch.setattr(pipeline_module, "validate_serving", lambda *_: PASSED)
    with pytest.raises(PushError, match="was the newest, but"):
        refresh(root, RefreshOptions())
    assert len(list_releases(serving)) == 2


def test_gate_that_refuses_holds_the_push(root, monkeypatch):
    write_items(root, world.items_table(range(5, world.NUM_ITEMS)))
    refused = GateResult("export", ())
    monkeypatch.setattr(
        pipeline_module,
        "refresh_bundle",
        lambda base, *_: RefreshedBundle(note_of(base), refused, ""),
    )
    done = CliRunner().invoke(
        cli, ["items", "refresh", "--config", config_file(root), "--root", str(root)]
    )
    assert done.exit_code == 3
    assert "it had nothing to check" in done.output
    assert "Nothing was pushed" in done.output
    assert len(list_releases(root / "serving")) == 1


def test_command_refreshes_and_a_server_takes_over(root):
    write_items(root, world.items_table([*range(5, world.NUM_ITEMS), 1000, 1001]))
    serving = root / "serving"
    (first,) = list_releases(serving)
    arguments = ["items", "refresh", "--config", config_file(root), "--root", str(root)]
    store = ModelStore(read_served_models(serving))
    store.refresh()
    assert store.available_versions() == {model: [first] for model in MODELS}
    done = CliRunner().invoke(cli, [*arguments, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout.splitlines()[-1])
    store.refresh()
    assert store.available_versions() == {model: [said["release"]] for model in MODELS}
    store.close()
    assert (said["base"], said["added"], said["removed"]) == (first, 2, 5)
    manifest = read_manifest(serving, said["release"])
    assert manifest.refresh.model_dump() == said["refresh"]
    assert said["refresh"]["tombstones"] == 5 and not said["refresh"]["rebuilt"]
    assert set(manifest.gates) == {"export", "serving"}
    # And once more: there is nothing left to do.
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert f"Nothing changed: release {said['release']} stays" in done.output
