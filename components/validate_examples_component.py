"""ValidateExamples: the data gate as a TFX component."""

from absl import logging
from apache_beam.io.filesystems import FileSystems
from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.components.statistics_gen import stats_artifact_utils
from tfx.dsl.component.experimental.annotations import (
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils, standard_artifacts

from components.artifacts import (
    GateReport,
    IngestionSummary,
    StatisticsComparison,
)
from components.comparison import COMPARISON_FILE, Comparisons
from components.data_report.page import PAGE_FILE, DataReport, render
from components.gate_file import publish_gate
from components.ingestion.summary import Summary
from components.validate_examples import validate_examples
from components.validate_examples_settings import ValidationSettings

_ANOMALIES_FILE = "SchemaDiff.pb"  # ExampleValidator's name for it


@component
def ValidateExamples(
    anomalies: InputArtifact[standard_artifacts.ExampleAnomalies],
    statistics: InputArtifact[standard_artifacts.ExampleStatistics],
    summary: InputArtifact[IngestionSummary],
    report: OutputArtifact[GateReport],
    settings_json: Parameter[str],
    name: Parameter[str],
    comparison: InputArtifact[StatisticsComparison] = None,
) -> None:
    """Blesses the ingested data, or says in `report` why not.

    It never raises over the data: the pipeline conditions what follows on the property
    `blessed`.

    Args:
        anomalies: of ExampleValidator.
        statistics: of StatisticsGen; the page shows them.
        summary: of IngestEvents.
        report: `gate.json`, `data.html` and the custom property `blessed`.
        settings_json: a `ValidationSettings`.
        name: of the pipeline, for the page.
        comparison: of CompareStatistics, where drift or skew has a threshold.
    """
    found = read_anomalies(anomalies)
    account = Summary.model_validate_json(_read(summary.uri, "summary.json"))
    comparisons = (
        Comparisons.model_validate_json(_read(comparison.uri, COMPARISON_FILE))
        if comparison is not None
        else Comparisons()
    ).comparisons
    result = validate_examples(
        account,
        found,
        ValidationSettings.model_validate_json(settings_json),
        comparisons,
    )
    splits = artifact_utils.decode_split_names(statistics.split_names)
    by_split = {
        split: stats_artifact_utils.load_statistics(statistics, split).proto()
        for split in splits
    }
    page = render(DataReport(name, result, account, by_split, found, comparisons))
    with FileSystems.create(FileSystems.join(report.uri, PAGE_FILE)) as handle:
        handle.write(page.encode())
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
            name: (info.description or info.short_description).rstrip(" .")
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
