"""How much a policy explores: what it puts at the top, beside what its ranker would.

Drawn in TensorBoard beside what the policy would have earned: exploration that nobody
notices is paid for in clicks, and none at all leaves the next policy nothing to learn.
"""

from pathlib import Path

import numpy as np
import tensorflow as tf

from components.policy_log import ShownRows
from components.release_policy import ReleasePolicy
from models.recommender import EXCLUDE, NUM_ITEMS, SEED

_NUM_REQUESTS = 256


def exploration_rates(scores: np.ndarray, width: int) -> dict[str, float]:
    """Returns how often the top is not what the ranker would have put there.

    outside_greedy_slate    share of requests whose top item is none of the `width` items
                            that the ranker scores best
    not_the_best            share whose top item is not the best of all

    Args:
        scores: [R, C] of each request's ranked candidates, in the order that the policy
            gave them; 0 where there are fewer.
        width: places of a slate.
    """
    best_first = -np.sort(-scores, axis=1)
    last_of_slate = best_first[:, min(width, scores.shape[1]) - 1]
    return {
        "outside_greedy_slate": float((scores[:, 0] < last_of_slate).mean()),
        "not_the_best": float((scores[:, 0] < best_first[:, 0]).mean()),
    }


def measure_exploration(
    policy: ReleasePolicy, rows: ShownRows, num_candidates: int, seed: int
) -> dict[str, float]:
    """Asks a policy for all of its candidates in order; see `exploration_rates`.

    Args:
        policy: of a release.
        rows: of a log, at least one; up to 256 of its requests, evenly from all, are made
            again.
        num_candidates: how many the release ranks for a request.
        seed: of the draws.
    """
    _, first_rows = np.unique(rows.requests, return_index=True)
    step = -(-len(first_rows) // _NUM_REQUESTS)
    chosen = np.sort(first_rows)[::step]
    width = int(rows.positions.max()) + 1
    inputs = policy.inputs_of(rows.serialized[chosen])
    answer = policy.recommend(
        **{key: tf.constant(values) for key, values in inputs.items()},
        **{
            EXCLUDE: tf.zeros([len(chosen), 0], tf.string),
            NUM_ITEMS: tf.constant(max(width, num_candidates), tf.int32),
            SEED: tf.constant(seed + np.arange(len(chosen)), tf.int64),
        },
    )
    return exploration_rates(answer["scores"].numpy(), width)


def write_exploration(rates: dict[str, float], name: str, log_dir: str) -> None:
    """Writes a policy's rates into its TensorBoard run."""
    with tf.summary.create_file_writer(str(Path(log_dir) / name)).as_default(0):
        for rate, value in rates.items():
            tf.summary.scalar(f"exploration/{rate}", value)
