"""CompareStatistics: drift and training/serving skew as a TFX component."""

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.components.statistics_gen import stats_artifact_utils
from tfx.dsl.component.experimental.annotations import (
    BeamComponentParameter,
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts

from components.artifacts import IngestionSummary, StatisticsComparison
from components.compare_statistics import Log, compare_log
from components.comparison import COMPARISON_FILE
from components.ingestion.summary import Summary
from components.validate_examples_settings import ValidationSettings
from schemas.events import SPLITS


@component(use_beam=True)
def CompareStatistics(
    impressions: InputArtifact[standard_artifacts.Examples],
    statistics: InputArtifact[standard_artifacts.ExampleStatistics],
    schema: InputArtifact[standard_artifacts.Schema],
    summary: InputArtifact[IngestionSummary],
    comparison: OutputArtifact[StatisticsComparison],
    settings_json: Parameter[str],
    serving_fingerprint: Parameter[str],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Measures the drift and the skew that `settings_json` has thresholds for.

    Args:
        impressions: the rows; read where days are compared, or a sample will not do.
        statistics: of StatisticsGen, with `statistics_options`.
        schema: the curated one.
        summary: of IngestEvents; says which spans there are.
        comparison: receives `comparison.json`.
        settings_json: a `ValidationSettings`.
        serving_fingerprint: of what was served. Read by nobody here: TFX reuses a cached
            result only where all parameters are equal.
        beam_pipeline: given by TFX.
    """
    del serving_fingerprint
    log = Log(
        uri=impressions.uri,
        statistics={
            split: stats_artifact_utils.load_statistics(statistics, split).proto()
            for split in SPLITS
        },
        schema=text_format.Parse(
            _read(schema.uri, "schema.pbtxt"), schema_pb2.Schema()
        ),
        summary=Summary.model_validate_json(_read(summary.uri, "summary.json")),
    )
    settings = ValidationSettings.model_validate_json(settings_json)
    found = compare_log(beam_pipeline, log, settings, comparison.uri)
    path = FileSystems.join(comparison.uri, COMPARISON_FILE)
    with FileSystems.create(path) as handle:
        handle.write(found.model_dump_json(indent=2).encode())


def _read(folder: str, name: str) -> bytes:
    with FileSystems.open(FileSystems.join(folder, name)) as handle:
        return handle.read()
