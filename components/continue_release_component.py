"""ContinueRelease and RankingBase: what trainers start from, as TFX components."""

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
from components.continue_release import continue_release, write_ranking_base
from components.ingestion.summary import Summary
from models.ranking.settings import RankingSettings
from models.retrieval.settings import RetrievalSettings
from schemas.features import FeatureCatalog


@component
def ContinueRelease(
    analysed: InputArtifact[standard_artifacts.TransformGraph],
    summary: InputArtifact[IngestionSummary],
    transform_graph: OutputArtifact[standard_artifacts.TransformGraph],
    base: OutputArtifact[standard_artifacts.Model],
    settings_json: Parameter[str],
    ranking_json: Parameter[str],
    catalog_json: Parameter[str],
    release: InputArtifact[Release] = None,
) -> None:
    """Grows the last release's vocabularies and hands its models to the trainers.

    Args:
        analysed: of Transform, over the log as it is now.
        summary: of the ingestion, for when spans begin.
        transform_graph: receives the graph to train and to serve with.
        base: receives what the trainers start from, empty where there is no release.
        settings_json: a `RetrievalSettings`.
        ranking_json: a `RankingSettings`; "" where the ranker is trained anew.
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
        RankingSettings.model_validate_json(ranking_json) if ranking_json else None,
    )
    logging.info("new values by vocabulary: %s", num_new)


@component
def RankingBase(
    retrieval_model: InputArtifact[standard_artifacts.Model],
    base: OutputArtifact[standard_artifacts.Model],
    continued: InputArtifact[standard_artifacts.Model] = None,
) -> None:
    """Joins what a ranker that reads the towers' vectors starts from: a Trainer has one base.

    Args:
        retrieval_model: of the retrieval Trainer.
        base: receives the towers and, where training goes on, the release's ranker.
        continued: of ContinueRelease, if training goes on.
    """
    write_ranking_base(
        Path(path_utils.serving_model_path(retrieval_model.uri)),
        None
        if continued is None
        else Path(path_utils.serving_model_path(continued.uri)),
        Path(path_utils.serving_model_dir(base.uri)),
    )
