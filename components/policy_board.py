"""What policies would have earned, for TensorBoard: scalars of each, and a chart."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from components.interval_chart import Bar, interval_chart
from components.policy_gate import LOGGED

# Of everything that is estimated, what a person looks at.
_SHOWN = ("ips", "snips", "dm", "dr", "switch_dr", "mrdr")


def policy_chart(figures: dict, metric: str) -> np.ndarray:
    """Draws each policy's estimates of a metric against what the log earned.

    Args:
        figures: of `evaluate_policy.figures_of`.
        metric: which.

    Returns:
        [height, width, 3] uint8.
    """
    logged = figures[LOGGED][metric]
    bars = [Bar("logged", logged["value"], *logged["interval"])]
    for group, (name, of_policy) in enumerate(figures["policies"].items(), 1):
        for estimator in _SHOWN:
            found = of_policy["metrics"][metric].get(estimator)
            if found is not None:
                label = f"{name} {estimator}"
                bars.append(Bar(label, found["value"], *found["interval"], group))
    title = f"{metric}: what each policy would have earned, 95 % intervals"
    axis = figures["definitions"][metric]
    return interval_chart(title, axis, bars, logged["value"])


def write_board(figures: dict, log_dir: str) -> None:
    """Writes estimates as a TensorBoard run of each policy, and charts of the metrics."""
    for name, of_policy in figures["policies"].items():
        writer = tf.summary.create_file_writer(str(Path(log_dir) / name))
        with writer.as_default(step=0):
            tf.summary.scalar("policy/effective_rows", of_policy["effective_rows"])
            tf.summary.scalar("policy/mean_weight", of_policy["mean_weight"])
            for metric, by_estimator in of_policy["metrics"].items():
                for estimator, found in by_estimator.items():
                    tag = f"policy_{metric}/{estimator}"
                    tf.summary.scalar(tag, found["value"])
                    for end, value in zip(
                        ("low", "high"), found["interval"], strict=True
                    ):
                        tf.summary.scalar(f"{tag}_{end}", value)
        writer.close()
    writer = tf.summary.create_file_writer(log_dir)
    with writer.as_default(step=0):
        for metric in figures[LOGGED]:
            image = policy_chart(figures, metric)
            tf.summary.image(f"policy/{metric}", image[np.newaxis])
    writer.close()
