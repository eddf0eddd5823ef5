"""EvaluateRetrieval: the retrieval gate as a TFX component."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
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
from components.build_index import embed_catalogue, read_vectors, run_in_batches
from components.catalog_files import ITEMS_TABLE
from components.evaluate_retrieval import (
    DEFAULT_PUBLISH_TIME,
    RetrievalGateSettings,
    dot_product_scorer,
    evaluate_retrieval,
    judge_retrieval,
)
from components.gate_file import publish_gate
from components.item_times import times_of
from components.read_examples import read_test_log
from components.retrieval_board import write_board
from schemas.features import ITEM_ID

TWO_TOWER = "two_tower"
LAST_RELEASE = "last_release"


@component
def EvaluateRetrieval(
    interactions: InputArtifact[standard_artifacts.Examples],
    catalog: InputArtifact[Catalog],
    candidates: InputArtifact[Catalog],
    model: InputArtifact[standard_artifacts.Model],
    index: InputArtifact[ItemIndex],
    evaluation: OutputArtifact[Evaluation],
    report: OutputArtifact[GateReport],
    board: OutputArtifact[standard_artifacts.ModelRun],
    settings_json: Parameter[str],
    last_release: InputArtifact[Release] = None,
) -> None:
    """Ranks the test events beside the baselines and the last release.

    Args:
        interactions: all splits; the test split is what is predicted.
        catalog: every item.
        candidates: the items that are in the index.
        model: the retrieval model.
        index: its item vectors.
        evaluation: receives `metrics.json`.
        report: receives the gate's answer.
        board: receives the figures as TensorBoard runs.
        settings_json: a `RetrievalGateSettings`.
        last_release: what serves now, if anything does.
    """
    settings = RetrievalGateSettings.model_validate_json(settings_json)
    vectors = read_vectors(index.uri)
    items = pq.read_table(Path(catalog.uri) / ITEMS_TABLE)
    item_ids = items.column(ITEM_ID).to_pylist()
    published = times_of(
        items,
        "gates.retrieval.publish_time_column",
        settings.publish_time_column,
        DEFAULT_PUBLISH_TIME,
    )
    log, examples = read_test_log(
        interactions.uri, item_ids, settings.history_decay, published
    )
    row_of = {item: row for row, item in enumerate(item_ids)}
    log = dataclasses.replace(
        log, candidates=np.array([row_of[item] for item in vectors.item_ids])
    )
    place = np.cumsum(log.is_test) - 1  # of a test row in `examples`

    def scorer(model_dir, embeddings):
        embed = tf.saved_model.load(model_dir).signatures["query_examples"]
        return dot_product_scorer(
            lambda rows: run_in_batches(embed, examples[place[rows]], "embeddings"),
            embeddings,
        )

    model_dir = path_utils.serving_model_path(model.uri)
    models = {TWO_TOWER: scorer(model_dir, vectors.embeddings)}
    if last_release is not None:
        last_dir = str(Path(last_release.uri) / "retrieval")
        last_vectors = embed_catalogue(candidates.uri, last_dir)
        models[LAST_RELEASE] = scorer(last_dir, last_vectors.embeddings)
    figures = evaluate_retrieval(log, models, settings)
    (Path(evaluation.uri) / "metrics.json").write_text(json.dumps(figures, indent=2))
    write_board(figures, board.uri)
    publish_gate(judge_retrieval(figures, settings, TWO_TOWER, LAST_RELEASE), report)
