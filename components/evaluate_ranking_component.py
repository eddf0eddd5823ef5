"""EvaluateRanking: the ranking gate as a TFX component."""

import json
from pathlib import Path

import numpy as np
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

from components.artifacts import Evaluation, GateReport, Release
from components.build_index import run_in_batches
from components.evaluate_ranking import (
    RankingGateSettings,
    binary_figures,
    judge_ranking,
    popularity_predictions,
)
from components.gate_file import publish_gate
from components.read_examples import read_labelled

LAST_RELEASE = "last_release"


@component
def EvaluateRanking(
    impressions: InputArtifact[standard_artifacts.Examples],
    model: InputArtifact[standard_artifacts.Model],
    tfma_evaluation: InputArtifact[standard_artifacts.ModelEvaluation],
    evaluation: OutputArtifact[Evaluation],
    report: OutputArtifact[GateReport],
    settings_json: Parameter[str],
    model_name: Parameter[str],
    last_release: InputArtifact[Release] = None,
) -> None:
    """Sets the ranker beside the baselines and the last release, on the test split.

    Args:
        impressions: all splits; the baselines learn from train and eval.
        model: the ranking model.
        tfma_evaluation: of the Evaluator, on the same rows.
        evaluation: receives `metrics.json`.
        report: receives the gate's answer.
        settings_json: a `RankingGateSettings`.
        model_name: the ranker's name in the figures.
        last_release: what serves now, if anything does.
    """
    settings = RankingGateSettings.model_validate_json(settings_json)
    test = read_labelled(impressions.uri, "test")
    seen = [read_labelled(impressions.uri, split) for split in ("train", "eval")]
    items = np.concatenate([rows.items for rows in seen])
    labels = np.concatenate([rows.labels for rows in seen])

    def predict(model_dir: str) -> np.ndarray:
        rank = tf.saved_model.load(model_dir).signatures["serving_default"]
        return run_in_batches(rank, test.serialized, "scores")

    predictions = {
        model_name: predict(path_utils.serving_model_path(model.uri)),
        "constant": np.full(len(test.labels), labels.mean()),
        "popularity": popularity_predictions(items, labels, test.items),
    }
    if last_release is not None:
        predictions[LAST_RELEASE] = predict(str(Path(last_release.uri) / "ranking"))
    figures = {
        name: binary_figures(test.labels, values, test.users)
        for name, values in predictions.items()
    }
    figures["tfma"] = tfma_figures(tfma_evaluation.uri)
    figures["test"] = {
        "rows": len(test.labels),
        "positive_share": float(test.labels.mean()),
    }
    (Path(evaluation.uri) / "metrics.json").write_text(json.dumps(figures, indent=2))
    publish_gate(judge_ranking(figures, settings, model_name, LAST_RELEASE), report)


def tfma_figures(uri: str) -> dict[str, float]:
    """Returns the overall metrics that TFMA's Evaluator wrote."""
    result = tfma.load_eval_result(uri)
    overall = next(
        metrics for slice_key, metrics in result.slicing_metrics if not slice_key
    )
    return {
        name: float(value["doubleValue"])
        for name, value in overall[""][""].items()
        if "doubleValue" in value
    }
