"""What TFMA measures of a ranker, and by which slices."""

import json

import tensorflow_model_analysis as tfma

from components.tfma_slices import SLICE_KEYS
from schemas.features import LABEL

_METRICS = ("AUC", "BinaryCrossentropy", "Calibration", "ExampleCount")
# Not named: of plots that are, TFMA reads back the last alone.
_PLOTS = {
    "CalibrationPlot": {"num_buckets": 50},
    "ConfusionMatrixPlot": {"num_thresholds": 200},  # the ROC curve, by threshold
}


def ranking_eval_config(target: str = LABEL) -> tfma.EvalConfig:
    """Returns the metrics and plots, of all rows and by what `tfma_slices` adds.

    Args:
        target: key of what the ranker predicts.
    """
    settings = {name: {"name": name.lower()} for name in _METRICS} | _PLOTS
    return tfma.EvalConfig(
        model_specs=[
            tfma.ModelSpec(
                signature_name="serving_default",
                label_key=target,
                prediction_key="scores",
            )
        ],
        slicing_specs=[
            tfma.SlicingSpec(),
            *(tfma.SlicingSpec(feature_keys=[key]) for key in SLICE_KEYS.values()),
        ],
        metrics_specs=[
            tfma.MetricsSpec(
                metrics=[
                    tfma.MetricConfig(class_name=name, config=json.dumps(own))
                    for name, own in settings.items()
                ]
            )
        ],
    )
