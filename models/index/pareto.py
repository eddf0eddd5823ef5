"""The tuned index's recall against its speed, for TensorBoard."""

from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from models.index.tuning import Tuning, TuningPoint

_STEPS = 10_000  # of recall: a chart's axis of steps takes whole numbers


def pareto_points(points: Sequence[TuningPoint]) -> list[TuningPoint]:
    """Returns the points that no other beats in recall and speed, by rising recall."""
    front: list[TuningPoint] = []
    for point in sorted(points, key=lambda p: (-p.recall, -p.queries_per_second)):
        if not front or point.queries_per_second > front[-1].queries_per_second:
            front.append(point)
    return front[::-1]


def pareto_table(tuning: Tuning) -> str:
    """Returns all points as a table of Markdown, by falling recall."""
    front = set(pareto_points(tuning.points))
    lines = [
        f"| leaves | scored exactly | dimensions a code | recall@{tuning.k} "
        "| queries/s | |",
        "|" + " ---: |" * 5 + " --- |",
    ]
    for point in sorted(tuning.points, key=lambda p: (-p.recall, p.num_leaves)):
        setting = _setting(point)
        note = "not beaten" if point in front else ""
        if setting == _setting(tuning.best):
            note = "**chosen**"
        lines.append(
            f"| {' | '.join(map(str, setting))} | {point.recall:.4f} "
            f"+- {point.recall_error:.4f} | {point.queries_per_second:,.0f} | {note} |"
        )
    return "\n".join(lines) + "\n"


def write_pareto(tuning: Tuning, log_dir: Path) -> None:
    """Writes a tuning as a TensorBoard run.

    Its chart `index/queries_per_second` has recall on the axis of steps, in units of
    1/10,000: the points that no other beats. `index/tuning` is the table of all.
    """
    with tf.summary.create_file_writer(str(log_dir)).as_default():
        for point in pareto_points(tuning.points):
            step = round(point.recall * _STEPS)
            tf.summary.scalar(
                "index/queries_per_second", point.queries_per_second, step
            )
            tf.summary.scalar("index/leaves_to_search", point.num_leaves, step)
            tf.summary.scalar("index/reordered", point.num_reordered, step)
        chosen = round(tuning.best.recall * _STEPS)
        tf.summary.scalar(
            "index/chosen_queries_per_second", tuning.best.queries_per_second, chosen
        )
        tf.summary.text("index/tuning", pareto_table(tuning), step=0)


def _setting(point: TuningPoint) -> tuple[int, int, int]:
    return point.num_leaves, point.num_reordered, point.dimensions_per_block
