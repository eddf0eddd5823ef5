"""IngestEvents to the data gate under TFX's runner: dated spans, drift, skew, page."""

import json

import numpy as np
import pytest
from google.protobuf import text_format

from components.ingestion.settings import DataSettings
from components.ingestion.sources import input_fingerprint
from components.serving_examples import serving_fingerprint
from components.validate_examples_settings import ValidationSettings
from schemas.features import FeatureCatalog
from tests.components.rated_days import DAYS, example, write_records

pytestmark = pytest.mark.component

CATALOG = FeatureCatalog.model_validate(
    {"context": [{"name": "device", "kind": "categorical"}]}
)
NUM_EVENTS, NUM_ITEMS = 300, 10
FIRST_MS = {DAYS[0]: 1_795_132_800_000, DAYS[1]: 1_795_219_200_000}  # midnight, UTC
SETTINGS = {
    "drift": {"context_device": {"linf": 0.2}, "label": {"jensen_shannon": 0.05}},
    "skew": {"context_device": {"linf": 0.2}},
}


def write_log(folder, phones):
    """Writes two days of clicks, their share of phones by day."""
    rng = np.random.default_rng(0)
    for day, share in zip(DAYS, phones, strict=True):
        lines = [
            {
                "event_id": f"{day}-{row}",
                "timestamp": FIRST_MS[day] + row * 280_000,
                "user_id": f"u{rng.integers(12)}",
                "item_id": f"i{rng.integers(NUM_ITEMS)}",
                "event_type": "click" if rng.random() < 0.4 else "skip",
                "device": "phone" if rng.random() < share else "desk",
            }
            for row in range(NUM_EVENTS)
        ]
        path = folder / f"span-{day}" / "events.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_served(folder, phones):
    rng = np.random.default_rng(1)
    devices = np.where(rng.random(400) < phones, "phone", "desk")
    write_records(
        folder / "served.tfrecord",
        [example({"user_id": "u1", "context_device": str(d)}) for d in devices],
    )


def run_gate(folder, phones, served):
    """Returns the gate's answer and its page."""
    from tfx import v1 as tfx

    from components.compare_statistics_component import CompareStatistics
    from components.feature_statistics import statistics_options
    from components.infer_schema import infer_from_log
    from components.ingest_events_component import IngestEvents
    from components.validate_examples_component import ValidateExamples

    write_log(folder, phones)
    write_served(folder, served)
    data = DataSettings.model_validate(
        {
            "events": {"path": f"{folder}/span-{{YYYY-MM-DD}}/*.jsonl"},
            "event_types": {
                "click": {"reward": 1.0, "label": 1},
                "skip": {"reward": 0.0, "positive": False, "label": 0},
            },
        }
    )
    settings = ValidationSettings.model_validate(
        SETTINGS | {"serving_examples": str(folder / "served.tfrecord")}
    )
    inferred = infer_from_log(data, CATALOG, str(folder / "inferred"), ("films", "log"))
    (folder / "schema").mkdir()
    schema_file = folder / "schema" / "schema.pbtxt"
    schema_file.write_text(text_format.MessageToString(inferred.schema))
    ingest = IngestEvents(
        settings_json=data.model_dump_json(),
        catalog_json=CATALOG.model_dump_json(),
        input_fingerprint=input_fingerprint(data),
    )
    statistics = tfx.components.StatisticsGen(
        examples=ingest.outputs["impressions"], stats_options=statistics_options()
    )
    schema = tfx.components.ImportSchemaGen(schema_file=str(schema_file))
    validator = tfx.components.ExampleValidator(
        statistics=statistics.outputs["statistics"], schema=schema.outputs["schema"]
    )
    compared = CompareStatistics(
        impressions=ingest.outputs["impressions"],
        statistics=statistics.outputs["statistics"],
        schema=schema.outputs["schema"],
        summary=ingest.outputs["summary"],
        settings_json=settings.model_dump_json(),
        serving_fingerprint=serving_fingerprint(settings),
    )
    gate = ValidateExamples(
        anomalies=validator.outputs["anomalies"],
        statistics=statistics.outputs["statistics"],
        summary=ingest.outputs["summary"],
        comparison=compared.outputs["comparison"],
        settings_json=settings.model_dump_json(),
        name="clicks",
    )
    tfx.orchestration.LocalDagRunner().run(
        tfx.dsl.Pipeline(
            pipeline_name="clicks",
            pipeline_root=str(folder / "root"),
            components=[ingest, statistics, schema, validator, compared, gate],
            metadata_connection_config=(
                tfx.orchestration.metadata.sqlite_metadata_connection_config(
                    str(folder / "metadata.db")
                )
            ),
            beam_pipeline_args=["--runner=FnApiRunner"],
        )
    )
    (report,) = (folder / "root/ValidateExamples/report").iterdir()
    page = (report / "data.html").read_text()
    return json.loads((report / "gate.json").read_text()), page


def test_days_alike_and_served_alike_pass(tmp_path):
    gate, page = run_gate(tmp_path, phones=(0.5, 0.5), served=0.5)
    assert gate["passed"], gate["reason"]
    names = {check["name"] for check in gate["checks"]}
    assert {
        f"drift of `context_device` (linf) from {DAYS[0]} to {DAYS[1]}",
        f"drift of `label` (jensen_shannon) from {DAYS[0]} to {DAYS[1]}",
        "skew of `context_device` (linf) from the train split to what was served",
    } <= names
    assert "The log passed" in page
    assert f"Drift from {DAYS[0]} to {DAYS[1]}" in page
    assert "events by span (2)" in page


def test_a_day_that_drifted_and_other_devices_served_are_refused(tmp_path):
    gate, page = run_gate(tmp_path, phones=(0.2, 0.9), served=0.95)
    assert not gate["passed"]
    failed = [check for check in gate["checks"] if not check["passed"]]
    assert [check["name"] for check in failed] == [
        f"drift of `context_device` (linf) from {DAYS[0]} to {DAYS[1]}",
        "skew of `context_device` (linf) from the train split to what was served",
    ]
    assert gate["reason"].startswith(
        "validate_examples refused: drift of `context_device` (linf) from "
    )
    for check in failed:
        # The share of phones moved by more than 0.4 in each.
        assert float(check["seen"].split()[0]) > 0.4
        assert check["expected"] == "at most 0.2"
        assert "`phone`" in check["seen"] or "`desk`" in check["seen"]
    assert "The log was refused" in page
