"""The figures of a ranking evaluation as TensorBoard runs: one per model, and images.

A model's scalars stand under the same tags in a run of its own, so that TensorBoard draws
the models over each other. A slice is a curve: AUC by the place of the label, whose text
the table has. Calibration and ROC are images, in which the models share the axes.
"""

from pathlib import Path

import numpy as np
import tensorflow as tf

from components.board_table import figures_table, slice_table
from components.chart_image import Line, heat_map, square_chart
from components.layer_attention import LayerAttention

_FIGURES = ("auc", "gauc", "logloss", "calibration")
_SLICED = "auc"


def write_board(
    figures: dict[str, dict],
    curves: dict[str, dict],
    attention: LayerAttention | None,
    log_dir: str,
) -> None:
    """Writes the figures as TensorBoard runs below `log_dir`.

    Args:
        figures: what `evaluate_ranking` returned, without those that are NaN.
        curves: what `curves_of` returned.
        attention: over the layers of a memory, if the model has any.
        log_dir: receives a folder for each model, the tables and the images.
    """
    models = [name for name in figures if "rows_without_prediction" in figures[name]]
    for name in models:
        writer = tf.summary.create_file_writer(str(Path(log_dir) / name))
        with writer.as_default(step=0):
            _write_scalars(figures[name])
        writer.close()
    writer = tf.summary.create_file_writer(log_dir)
    with writer.as_default(step=0):
        tf.summary.scalar("test/rows", figures["test"]["rows"])
        tf.summary.text("figures", figures_table(figures, models, _FIGURES))
        sliced = [name for name in models if "slices" in figures[name]]
        for slicing in figures[sliced[0]]["slices"] if sliced else ():
            table = slice_table(figures, sliced, slicing, "rows", _SLICED)
            tf.summary.text(f"slices/{slicing}", table)
        if curves:
            _write_image("calibration", _calibration(curves))
            _write_image("roc", _roc(curves))
        if attention is not None:
            _write_attention(attention)
    writer.close()


def _write_scalars(row: dict) -> None:
    for name in _FIGURES:
        if name in row:
            tf.summary.scalar(f"ranking/{name}", row[name])
    for slicing, by_label in row.get("slices", {}).items():
        for place, inside in enumerate(by_label.values()):
            if _SLICED in inside:
                tag = f"ranking_by_{slicing}/{_SLICED}"
                tf.summary.scalar(tag, inside[_SLICED], step=place)


def _calibration(curves: dict[str, dict]) -> np.ndarray:
    lines = []
    for name, of_model in curves.items():
        bins = of_model["calibration"]
        points = [(inside["prediction"], inside["label"]) for inside in bins]
        bars = [inside["label_interval"] for inside in bins]
        lines.append(Line(name, np.array(points), np.array(bars)))
    axes = ("mean prediction", "mean label, 95 % interval")
    return square_chart("Calibration: on the diagonal is right", *axes, lines)


def _roc(curves: dict[str, dict]) -> np.ndarray:
    lines = [
        Line(name, np.array(of_model["roc"]).reshape(-1, 2))
        for name, of_model in curves.items()
    ]
    axes = ("false positive rate", "true positive rate")
    return square_chart("ROC: the area below is AUC", *axes, lines)


def _write_attention(attention: LayerAttention) -> None:
    layers = [f"layer {place}" for place in range(1, attention.of_users.shape[1] + 1)]
    means = "Attention over layers: means by interest (rows)"
    _write_image(
        "layer_attention/interests",
        heat_map(means, attention.interests, layers, attention.of_interests),
    )
    if attention.users:
        title = "Attention over layers: one row of each user"
        image = heat_map(title, attention.users, layers, attention.of_users)
        _write_image("layer_attention/users", image)


def _write_image(tag: str, image: np.ndarray) -> None:
    tf.summary.image(tag, image[np.newaxis])
