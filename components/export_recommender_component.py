"""ExportRecommender: the four models of a release as a TFX component."""

import json
from pathlib import Path

import numpy as np
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
from components.build_index import ITEMS_EXAMPLES, read_vectors, run_in_batches
from components.export_recommender import (
    ExportSettings,
    TrainedStages,
    export_models,
    release_index,
)
from components.gate_file import publish_gate
from components.offline_recommendation import OfflineModels
from components.read_examples import read_serialized
from components.record_release import ExportGateSettings, judge_export, record_release
from components.recorded_requests import requests_of_test_users
from models.index import recall_against_exact, write_pareto

_RECALL_CUTOFF = 100


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
    vectors = read_vectors(index.uri)
    items = read_serialized([str(Path(catalog.uri) / ITEMS_EXAMPLES)])
    offline = OfflineModels(
        stages.retrieval.signatures["query_examples"],
        stages.ranking.signatures["logits"],
        vectors,
        items,
    )
    requests = requests_of_test_users(
        interactions.uri, stages.transform.raw_spec, export.catalog, settings.num_users
    )
    query_vectors = run_in_batches(
        offline.embed_query,
        np.array([request.example for request in requests], object),
        "embeddings",
    )
    # What the gate would refuse is no choice.
    target = max(export.index.recall_target, settings.min_index_agreement)
    built = release_index(
        vectors,
        query_vectors[::2],
        export.index.model_copy(update={"recall_target": target}),
        max(_RECALL_CUTOFF, export.num_candidates),
    )
    if built.tuning is not None:
        write_pareto(built.tuning, Path(board.uri))
    indexes = export_models(
        vectors, catalog.uri, stages, export, bundle.uri, built.index
    )
    recorded = record_release(Path(bundle.uri), requests, offline, export)
    judges = query_vectors[1::2] if len(query_vectors) > 1 else query_vectors
    recall = recall_against_exact(*indexes, judges, _RECALL_CUTOFF)
    figures = recorded.figures | {
        f"recall@{_RECALL_CUTOFF}": recall,
        "index_megabytes": built.memory.total / 1e6,
    }
    (Path(evaluation.uri) / "metrics.json").write_text(json.dumps(figures, indent=2))
    publish_gate(judge_export(figures, settings), report)
