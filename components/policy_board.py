"""What policies would have earned, for TensorBoard: scalars of each, and charts.

A run of the pipeline shows its own estimates; `write_releases` puts those of one release
after the other.
"""

import dataclasses
from collections.abc import Mapping, Sequence
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


Interval = tuple[float, float, float]  # the estimate, and the ends of its interval


@dataclasses.dataclass(frozen=True)
class JudgedRelease:
    """What a log said of the policy of one release.

    Attributes:
        name: of the release, or of what was refused.
        logged: what the log earned, by metric.
        estimates: what the policy would have earned, by metric and estimator.
    """

    name: str
    logged: Mapping[str, Interval]
    estimates: Mapping[str, Mapping[str, Interval]]


def releases_chart(
    releases: Sequence[JudgedRelease], metric: str, estimator: str
) -> np.ndarray:
    """Draws each release's estimate of a metric below what its log earned.

    Args:
        releases: that have it, oldest first, at least one.
        metric: which.
        estimator: whose.

    Returns:
        [height, width, 3] uint8.
    """
    bars = []
    for release in releases:
        bars.append(Bar(f"log before {release.name}", *release.logged[metric]))
        bars.append(Bar(release.name, *release.estimates[metric][estimator], 1))
    title = f"{metric} by {estimator}: each release on the log before it"
    return interval_chart(title, f"{metric}, with its interval", bars)


def write_releases(releases: Sequence[JudgedRelease], log_dir: str) -> None:
    """Writes the estimates of releases as TensorBoard runs, a step a release.

    The runs `estimate`, `low`, `high` and `logged` have the same tags, so that each chart
    shows an interval and, beside it, what the log earned that it is an estimate by.

    Args:
        releases: oldest first; each has its own log.
        log_dir: of the runs.
    """
    if not releases:
        return
    found = [
        (step, metric, estimator, release)
        for step, release in enumerate(releases, 1)
        for metric, by_estimator in release.estimates.items()
        for estimator in by_estimator
    ]
    for name, place in (("estimate", 0), ("low", 1), ("high", 2), ("logged", None)):
        writer = tf.summary.create_file_writer(str(Path(log_dir) / name))
        with writer.as_default():
            for step, metric, estimator, release in found:
                values = release.logged[metric]
                if place is not None:
                    values = release.estimates[metric][estimator]
                tag = f"policy_releases_{metric}/{estimator}"
                tf.summary.scalar(tag, values[place or 0], step)
        writer.close()
    writer = tf.summary.create_file_writer(log_dir)
    with writer.as_default(step=len(releases)):
        for metric, estimator in sorted({(each[1], each[2]) for each in found}):
            those = [r for r in releases if estimator in r.estimates.get(metric, {})]
            image = releases_chart(those, metric, estimator)
            tf.summary.image(f"policy_releases/{metric}_{estimator}", image[np.newaxis])
    writer.close()
