"""EvaluateRetrieval: the retrieval gate as a TFX component."""

import json
from pathlib import Path

import tensorflow as tf
from tfx.dsl.component.experimental.annotations import (
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from components.artifacts import Catalog, Evaluation, GateReport, ItemIndex, Release
from components.build_index import (
    embed_catalogue,
    read_vectors,
    run_in_batches,
)
from components.evaluate_retrieval import (
    RetrievalGateSettings,
    dot_product_scorer,
    evaluate_retrieval,
    judge_retrieval,
)
from components.gate_file import publish_gate
from components.read_examples import read_test_log

TWO_TOWER = "two_tower"
LAST_RELEASE = "last_release"


@component
def EvaluateRetrieval(
    interactions: InputArtifact[standard_artifacts.Examples],
    catalog: InputArtifact[Catalog],
    model: InputArtifact[standard_artifacts.Model],
    index: InputArtifact[ItemIndex],
    evaluation: OutputArtifact[Evaluation],
    report: OutputArtifact[GateReport],
    settings_json: Parameter[str],
    last_release: InputArtifact[Release] = None,
) -> None:
    """Ranks the test events beside the baselines and the last release.

    Args:
        interactions: all splits; the test split is what is predicted.
        catalog: the items.
        model: the retrieval model.
        index: its item vectors.
        evaluation: receives `metrics.json`.
        report: receives the gate's answer.
        settings_json: a `RetrievalGateSettings`.
        last_release: what serves now, if anything does.
    """
    settings = RetrievalGateSettings.model_validate_json(settings_json)
    vectors = read_vectors(index.uri)
    log, examples = read_test_log(interactions.uri, vectors.item_ids)

    def scorer(model_dir, embeddings):
        embed = tf.saved_model.load(model_dir).signatures["query_examples"]
        return dot_product_scorer(
            lambda rows: run_in_batches(embed, examples[rows], "embeddings"), embeddings
        )

    model_dir = path_utils.serving_model_path(model.uri)
    models = {TWO_TOWER: scorer(model_dir, vectors.embeddings)}
    if last_release is not None:
        last_dir = str(Path(last_release.uri) / "retrieval")
        last_vectors = embed_catalogue(catalog.uri, last_dir)
        models[LAST_RELEASE] = scorer(last_dir, last_vectors.embeddings)
    figures = evaluate_retrieval(log, models, settings)
    (Path(evaluation.uri) / "metrics.json").write_text(json.dumps(figures, indent=2))
    publish_gate(judge_retrieval(figures, settings, TWO_TOWER, LAST_RELEASE), report)
