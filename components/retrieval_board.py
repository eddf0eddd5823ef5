"""The figures of an evaluation as TensorBoard runs: one run per model, and a table.

A model's scalars stand under the same tags in a run of its own, so that TensorBoard draws
the models over each other. A slice is a curve: recall by the place of the label, whose
text the table has.
"""

from pathlib import Path

import tensorflow as tf

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
        tf.summary.text("figures", _figures_table(figures, models))
        for slicing in figures[models[0]]["slices"] if models else ():
            tf.summary.text(f"slices/{slicing}", _slice_table(figures, models, slicing))
    writer.close()


def _write_scalars(row: dict) -> None:
    for name in (*_MEANS, *_BIAS):
        if name in row:
            tf.summary.scalar(f"retrieval/{name}", row[name])
    for slicing, by_label in row["slices"].items():
        for place, inside in enumerate(by_label.values()):
            tag = f"retrieval_by_{slicing}/{_SLICED}"
            tf.summary.scalar(tag, inside[_SLICED], step=place)


def _figures_table(figures: dict[str, dict], models: list[str]) -> str:
    names = (*_MEANS, *_BIAS)
    rows = [
        [name, *(_cell(figures[model], name) for model in models)] for name in names
    ]
    return _markdown(["", *models], rows)


def _slice_table(figures: dict[str, dict], models: list[str], slicing: str) -> str:
    """Returns events and recall of each label; the labels are the same for each model."""
    rows = [
        [
            f"{place}: {label}",
            str(inside["events"]),
            *(
                _cell(figures[name]["slices"][slicing][label], _SLICED)
                for name in models
            ),
        ]
        for place, (label, inside) in enumerate(
            figures[models[0]]["slices"][slicing].items()
        )
    ]
    heads = (f"{_SLICED} of {name}" for name in models)
    return _markdown([slicing, "events", *heads], rows)


def _cell(row: dict, name: str) -> str:
    if name not in row:
        return ""
    interval = row.get(f"{name}_interval")
    between = f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
    return f"{row[name]:.3f}{between}"


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
