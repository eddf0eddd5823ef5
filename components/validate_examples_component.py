"""ValidateExamples: the data gate as a TFX component."""

from absl import logging
from apache_beam.io.filesystems import FileSystems
from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.dsl.component.experimental.annotations import (
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils, standard_artifacts

from components.artifacts import GateReport, IngestionSummary
from components.gate_file import publish_gate
from components.ingestion.summary import Summary
from components.validate_examples import validate_examples
from components.validate_examples_settings import ValidationSettings

_ANOMALIES_FILE = "SchemaDiff.pb"  # ExampleValidator's name for it


@component
def ValidateExamples(
    anomalies: InputArtifact[standard_artifacts.ExampleAnomalies],
    summary: InputArtifact[IngestionSummary],
    report: OutputArtifact[GateReport],
    settings_json: Parameter[str],
) -> None:
    """Blesses the ingested data, or says in `report` why not.

    It never raises over the data: the pipeline conditions what follows on the property
    `blessed`.

    Args:
        anomalies: of ExampleValidator.
        summary: of IngestEvents.
        report: `gate.json` and the custom property `blessed`.
        settings_json: a `ValidationSettings`.
    """
    result = validate_examples(
        Summary.model_validate_json(_read(summary.uri, "summary.json")),
        read_anomalies(anomalies),
        ValidationSettings.model_validate_json(settings_json),
    )
    publish_gate(result, report)
    logging.info("%s", result.reason)


def read_anomalies(
    artifact: standard_artifacts.ExampleAnomalies,
) -> dict[str, dict[str, str]]:
    """Returns what TFDV objects to, by split and feature ("" is the whole set)."""
    found = {}
    for split in artifact_utils.decode_split_names(artifact.split_names):
        uri = artifact_utils.get_split_uri([artifact], split)
        proto = anomalies_pb2.Anomalies.FromString(_read(uri, _ANOMALIES_FILE))
        found[split] = {
            name: info.description or info.short_description
            for name, info in proto.anomaly_info.items()
        }
        if proto.HasField("dataset_anomaly_info"):
            found[split][""] = proto.dataset_anomaly_info.description
        if proto.data_missing:
            found[split][""] = "there are no examples"
    return found


def _read(folder: str, name: str) -> bytes:
    with FileSystems.open(FileSystems.join(folder, name)) as handle:
        return handle.read()
