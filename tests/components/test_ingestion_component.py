"""IngestEvents to ValidateExamples under TFX's own runner, clean and poisoned."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import schemas
from components.ingestion.settings import DataSettings
from components.ingestion.sources import input_fingerprint
from components.validate_examples_settings import ValidationSettings
from schemas.features import FeatureCatalog

pytestmark = pytest.mark.component

CATALOG = FeatureCatalog.model_validate(
    {
        "user": [{"name": "age", "kind": "numeric"}]
        + [
            {"name": name, "kind": "categorical"}
            for name in ("gender", "occupation", "zip_code")
        ],
        "item": [
            {"name": "title", "kind": "text"},
            {"name": "genres", "kind": "multi_categorical"},
            {"name": "release_year", "kind": "numeric"},
        ],
        "user_statistics": ["mean_label"],
    }
)


def write_films(folder, poisoned):
    """Writes 60 ratings of films; half on ids that no film has, if poisoned."""
    rows = range(60)
    item_ids = [f"x{i}" if poisoned and i % 2 else f"i{i % 6}" for i in rows]
    events = {
        "event_id": [f"e{i}" for i in rows],
        "timestamp": [800_000_000_000 + 1000 * i for i in rows],
        "user_id": [f"u{i % 4}" for i in rows],
        "item_id": item_ids,
        "event_type": ["rating"] * 60,
        "value": [1.0 + i % 5 for i in rows],
    }
    items = {
        "item_id": [f"i{i}" for i in range(6)],
        "title": [f"Film {i}" for i in range(6)],
        "genres": [["Drama", "War"]] * 6,
        "release_year": [1990.0 + i for i in range(6)],
    }
    users = {
        "user_id": [f"u{i}" for i in range(4)],
        "age": [20.0 + i for i in range(4)],
        "gender": ["F", "M"] * 2,
        "occupation": ["other"] * 4,
        "zip_code": ["00000"] * 4,
    }
    for name, table in (("events", events), ("items", items), ("users", users)):
        pq.write_table(pa.table(table), folder / f"{name}.parquet")


def run_pipeline(folder):
    """Returns the folder of each output of the one run, by component and name."""
    from tfx import v1 as tfx

    from components.ingest_events_component import IngestEvents
    from components.validate_examples_component import ValidateExamples

    settings = DataSettings.model_validate(
        {
            **{
                table: {"path": str(folder / f"{table}.parquet")}
                for table in ("events", "items", "users")
            },
            "event_types": {
                "rating": {"reward": 1.0, "label_from_value": {"at_least": 4}}
            },
        }
    )
    (folder / "schema").mkdir()
    shutil.copy(
        Path(schemas.__file__).parent / "movielens.pbtxt",
        folder / "schema" / "schema.pbtxt",
    )
    ingest = IngestEvents(
        settings_json=settings.model_dump_json(),
        catalog_json=CATALOG.model_dump_json(),
        input_fingerprint=input_fingerprint(settings),
    )
    statistics = tfx.components.StatisticsGen(examples=ingest.outputs["impressions"])
    schema = tfx.dsl.Importer(
        source_uri=str(folder / "schema"),
        artifact_type=tfx.types.standard_artifacts.Schema,
    ).with_id("Schema")
    validator = tfx.components.ExampleValidator(
        statistics=statistics.outputs["statistics"], schema=schema.outputs["result"]
    )
    gate = ValidateExamples(
        anomalies=validator.outputs["anomalies"],
        statistics=statistics.outputs["statistics"],
        summary=ingest.outputs["summary"],
        settings_json=ValidationSettings().model_dump_json(),
        name="films",
    )
    with tfx.dsl.Cond(
        gate.outputs["report"].future()[0].custom_property("blessed") == 1
    ):
        behind = tfx.components.StatisticsGen(
            examples=ingest.outputs["interactions"]
        ).with_id("Behind")
    tfx.orchestration.LocalDagRunner().run(
        tfx.dsl.Pipeline(
            pipeline_name="films",
            pipeline_root=str(folder / "root"),
            components=[ingest, statistics, schema, validator, gate, behind],
            metadata_connection_config=(
                tfx.orchestration.metadata.sqlite_metadata_connection_config(
                    str(folder / "metadata.db")
                )
            ),
            beam_pipeline_args=["--runner=FnApiRunner"],
        )
    )
    return {
        f"{path.parent.parent.name}.{path.parent.name}": path
        for path in (folder / "root").glob("*/*/*")
    }


def test_clean_log_passes_the_gate(tmp_path):
    write_films(tmp_path, poisoned=False)
    outputs = run_pipeline(tmp_path)
    gate = json.loads((outputs["ValidateExamples.report"] / "gate.json").read_text())
    assert gate["passed"], gate["reason"]
    summary = json.loads((outputs["IngestEvents.summary"] / "summary.json").read_text())
    assert summary["events"] == {"train": 43, "eval": 5, "test": 12}
    # What stands behind the gate ran, and found the splits that we name.
    splits = {path.name for path in outputs["Behind.statistics"].iterdir()}
    assert splits == {"Split-train", "Split-eval", "Split-test"}


def test_poisoned_log_stops_at_the_gate(tmp_path):
    write_films(tmp_path, poisoned=True)
    outputs = run_pipeline(tmp_path)
    gate = json.loads((outputs["ValidateExamples.report"] / "gate.json").read_text())
    assert not gate["passed"]
    assert "events on items that the items table lacks: seen 50.00%" in gate["reason"]
    failed = {check["name"]: check for check in gate["checks"] if not check["passed"]}
    assert "`item_title`" in failed["anomalies against the schema"]["seen"]
    assert "Behind.statistics" not in outputs
