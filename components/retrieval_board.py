"""The figures of an evaluation as TensorBoard runs: one run per model, and a table.

A model's scalars stand under the same tags in a run of its own, so that TensorBoard draws
the models over each other. A slice is a curve: recall by the place of the label, whose
text the table has.
"""

from pathlib import Path

import tensorflow as tf

from components.board_table import figures_table, slice_table

_MEANS = ("recall@10", "recall@50", "recall@100", "ndcg@10", "mrr")
_BIAS = ("coverage@10", "coverage@100", "gini@10", "popularity_percentile@10")
_SLICED = "recall@100"
_NOT_MODELS = ("test", "gain")


def write_board(figures: dict[str, dict], log_dir: str) -> None:
    """Writes the figures as TensorBoard runs below `log_dir`.

    Args:
        figures: what `evaluate_retrieval` returned.
        log_dir: receives a folder for each model, and the tables.
    """
    models = [name for name in figures if name not in _NOT_MODELS]
    for name in models:
        writer = tf.summary.create_file_writer(str(Path(log_dir) / name))
        with writer.as_default(step=0):
            _write_scalars(figures[name])
        writer.close()
    writer = tf.summary.create_file_writer(log_dir)
    with writer.as_default(step=0):
        tf.summary.scalar("test/events", figures["test"]["events"])
        tf.summary.text("figures", figures_table(figures, models, (*_MEANS, *_BIAS)))
        for slicing in figures[models[0]]["slices"] if models else ():
            table = slice_table(figures, models, slicing, "events", _SLICED)
            tf.summary.text(f"slices/{slicing}", table)
    writer.close()


def _write_scalars(row: dict) -> None:
    for name in (*_MEANS, *_BIAS):
        if name in row:
            tf.summary.scalar(f"retrieval/{name}", row[name])
    for slicing, by_label in row["slices"].items():
        for place, inside in enumerate(by_label.values()):
            tag = f"retrieval_by_{slicing}/{_SLICED}"
            tf.summary.scalar(tag, inside[_SLICED], step=place)
