"""EvaluateRanking: the ranking gate as a TFX component."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import tensorflow as tf
import tensorflow_model_analysis as tfma
from tfx.dsl.component.experimental.annotations import (
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from components.artifacts import Catalog, Evaluation, GateReport, Release
from components.build_index import run_in_batches
from components.catalog_files import ITEMS_TABLE
from components.evaluate_ranking import (
    baselines,
    curves_of,
    evaluate_ranking,
    without_nan,
)
from components.gate_file import publish_gate
from components.item_times import times_of
from components.layer_attention import LayerAttention, measure_attention
from components.ranking_board import write_board
from components.ranking_gate import (
    DEFAULT_PUBLISH_TIME,
    RankingGateSettings,
    judge_ranking,
)
from components.ranking_slices import slicings_of, times_of_items
from components.read_examples import JudgedRows, read_labelled
from components.tfma_slices import NOT_KNOWN, SLICE_KEYS
from models.retrieval.slices import Slicing
from schemas.features import ITEM_ID, LABEL

LAST_RELEASE = "last_release"
# Of rankers with a memory in layers: `examples` [N] -> what rows read of each [N, D].
LAYER_ATTENTION = "layer_attention"
# TFMA's names of figures, by ours.
_TFMA_FIGURES = {
    "rows": "examplecount",
    "auc": "auc",
    "logloss": "binarycrossentropy",
    "calibration": "calibration",
}


@component
def EvaluateRanking(
    impressions: InputArtifact[standard_artifacts.Examples],
    catalog: InputArtifact[Catalog],
    model: InputArtifact[standard_artifacts.Model],
    tfma_evaluation: InputArtifact[standard_artifacts.ModelEvaluation],
    evaluation: OutputArtifact[Evaluation],
    report: OutputArtifact[GateReport],
    board: OutputArtifact[standard_artifacts.ModelRun],
    settings_json: Parameter[str],
    model_name: Parameter[str],
    target: Parameter[str] = LABEL,
    last_release: InputArtifact[Release] = None,
) -> None:
    """Sets the ranker beside the baselines and the last release, on the test split.

    Args:
        impressions: all splits; the baselines learn from train and eval.
        catalog: every item.
        model: the ranking model.
        tfma_evaluation: of the Evaluator, on the same rows.
        evaluation: receives `metrics.json` and `curves.json`.
        report: receives the gate's answer.
        board: receives the figures as TensorBoard runs.
        settings_json: a `RankingGateSettings`.
        model_name: the ranker's name in the figures.
        target: key of what the rankers predict: the label, or the reward.
        last_release: what serves now, if anything does.
    """
    settings = RankingGateSettings.model_validate_json(settings_json)
    test = read_labelled(impressions.uri, "test", target=target)
    seen = read_labelled(impressions.uri, "train", "eval", target=target, in_full=False)

    def predict(model_dir: str) -> np.ndarray:
        rank = tf.saved_model.load(model_dir).signatures["serving_default"]
        return run_in_batches(rank, test.serialized, "scores")

    model_dir = path_utils.serving_model_path(model.uri)
    predictions = {}
    if len(test.labels):
        predictions[model_name] = predict(model_dir)
        predictions |= baselines(seen, test)
        if last_release is not None:
            predictions[LAST_RELEASE] = predict(str(Path(last_release.uri) / "ranking"))
    slicings = _slicings(catalog.uri, seen, test, settings)
    figures = evaluate_ranking(test, predictions, slicings, settings)
    figures["tfma"] = tfma_figures(tfma_evaluation.uri)
    curves = curves_of(test, predictions, settings)
    for name, content in (("metrics", without_nan(figures)), ("curves", curves)):
        text = json.dumps(content, indent=2, allow_nan=False)
        (Path(evaluation.uri) / f"{name}.json").write_text(text)
    attention = _attention(model_dir, test, settings)
    write_board(without_nan(figures), curves, attention, board.uri)
    publish_gate(judge_ranking(figures, settings, model_name, LAST_RELEASE), report)


def _attention(
    model_dir: str, test: JudgedRows, settings: RankingGateSettings
) -> LayerAttention | None:
    """Returns what the model reads from its layers, if it can tell."""
    signatures = tf.saved_model.load(model_dir).signatures
    if LAYER_ATTENTION not in signatures:
        return None
    signature = signatures[LAYER_ATTENTION]
    (output,) = signature.structured_outputs
    return measure_attention(
        test,
        lambda examples: run_in_batches(signature, examples, output),
        settings.board_users,
        settings.seed,
    )


def _slicings(
    catalog_uri: str,
    seen: JudgedRows,
    test: JudgedRows,
    settings: RankingGateSettings,
) -> dict[str, Slicing]:
    items = pq.read_table(Path(catalog_uri) / ITEMS_TABLE)
    times = times_of(
        items,
        "gates.ranking.publish_time_column",
        settings.publish_time_column,
        DEFAULT_PUBLISH_TIME,
    )
    ids = (item.encode() for item in items.column(ITEM_ID).to_pylist())
    published = dict(zip(ids, times.tolist(), strict=True))
    return slicings_of(test, times_of_items(test.items, published, seen, test))


def tfma_figures(uri: str) -> dict:
    """Returns what TFMA's Evaluator wrote: rows, auc, logloss and calibration.

    Figures of all rows, and under `slices` the same by slicing and label; a figure that
    TFMA does not have is NaN.
    """
    whole = dict.fromkeys(_TFMA_FIGURES, np.nan)
    slices: dict[str, dict] = {}
    name_of = {key: name for name, key in SLICE_KEYS.items()}
    for slice_key, metrics in tfma.load_eval_result(uri).slicing_metrics:
        values = metrics[""][""]
        row = {
            name: float(values.get(key, {}).get("doubleValue", np.nan))
            for name, key in _TFMA_FIGURES.items()
        }
        if not slice_key:
            whole = row
            continue
        [(feature, label)] = slice_key
        if label != NOT_KNOWN:
            slices.setdefault(name_of[feature], {})[label] = row
    return {**whole, "slices": slices}
