"""ContinueRelease: the start of a span's training as a TFX component."""

from pathlib import Path

from absl import logging
from tfx.dsl.component.experimental.annotations import (
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from components.artifacts import IngestionSummary, Release
from components.continue_release import continue_release
from components.ingestion.summary import Summary
from models.retrieval.settings import RetrievalSettings
from schemas.features import FeatureCatalog


@component
def ContinueRelease(
    analysed: InputArtifact[standard_artifacts.TransformGraph],
    summary: InputArtifact[IngestionSummary],
    transform_graph: OutputArtifact[standard_artifacts.TransformGraph],
    base: OutputArtifact[standard_artifacts.Model],
    settings_json: Parameter[str],
    catalog_json: Parameter[str],
    release: InputArtifact[Release] = None,
) -> None:
    """Grows the last release's vocabularies and hands its checkpoint to the trainer.

    Args:
        analysed: of Transform, over the log as it is now.
        summary: of the ingestion, for when spans begin.
        transform_graph: receives the graph to train and to serve with.
        base: receives what the trainer starts from, empty where there is no release.
        settings_json: a `RetrievalSettings`.
        catalog_json: a `FeatureCatalog`.
        release: the last blessed one of an earlier span, if any.
    """
    account = Summary.model_validate_json(
        (Path(summary.uri) / "summary.json").read_text()
    )
    num_new = continue_release(
        None if release is None else Path(release.uri),
        Path(analysed.uri),
        Path(transform_graph.uri),
        Path(path_utils.serving_model_dir(base.uri)),
        RetrievalSettings.model_validate_json(settings_json),
        FeatureCatalog.model_validate_json(catalog_json),
        account.split_times.span_starts.values(),
        account.split_times.test_from,
    )
    logging.info("new values by vocabulary: %s", num_new)
