"""ExportRecommender: the four models of a release as a TFX component."""

import json
from pathlib import Path

from tfx.dsl.component.experimental.annotations import (
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from components.artifacts import (
    Catalog,
    Evaluation,
    GateReport,
    ItemIndex,
    ReleaseBundle,
)
from components.build_index import read_vectors
from components.export_bundle import export_bundle
from components.export_recommender import ExportSettings, TrainedStages
from components.gate_file import publish_gate
from components.record_release_settings import ExportGateSettings
from components.recorded_requests import requests_of_test_users
from models.index import write_pareto


@component
def ExportRecommender(
    interactions: InputArtifact[standard_artifacts.Examples],
    catalog: InputArtifact[Catalog],
    transform_graph: InputArtifact[standard_artifacts.TransformGraph],
    retrieval_model: InputArtifact[standard_artifacts.Model],
    ranking_model: InputArtifact[standard_artifacts.Model],
    index: InputArtifact[ItemIndex],
    bundle: OutputArtifact[ReleaseBundle],
    evaluation: OutputArtifact[Evaluation],
    report: OutputArtifact[GateReport],
    board: OutputArtifact[standard_artifacts.ModelRun],
    export_json: Parameter[str],
    settings_json: Parameter[str],
) -> None:
    """Exports the models and compares them with the offline computation.

    Args:
        interactions: its test users' requests are tried and recorded.
        catalog: the items.
        transform_graph: of Transform.
        retrieval_model: of the retrieval Trainer.
        ranking_model: of the ranking Trainer.
        index: the item vectors.
        bundle: receives the models.
        evaluation: receives `metrics.json`: the agreement, and the index's recall.
        report: receives the gate's answer.
        board: receives the index's recall against its speed as a TensorBoard run.
        export_json: an `ExportSettings`.
        settings_json: an `ExportGateSettings`.
    """
    export = ExportSettings.model_validate_json(export_json)
    settings = ExportGateSettings.model_validate_json(settings_json)
    stages = TrainedStages.load(
        transform_graph.uri,
        path_utils.serving_model_path(retrieval_model.uri),
        path_utils.serving_model_path(ranking_model.uri),
        export.catalog,
    )
    requests = requests_of_test_users(
        interactions.uri, stages.transform.raw_spec, export.catalog, settings.num_users
    )
    exported = export_bundle(
        stages,
        transform_graph.uri,
        catalog.uri,
        read_vectors(index.uri),
        requests,
        Path(bundle.uri),
        export,
        settings,
    )
    if exported.built.tuning is not None:
        write_pareto(exported.built.tuning, Path(board.uri))
    metrics = json.dumps(exported.figures, indent=2)
    (Path(evaluation.uri) / "metrics.json").write_text(metrics)
    publish_gate(exported.gate, report)
