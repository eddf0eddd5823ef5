"""Regret by round, and estimates beside the truth, for TensorBoard."""

import shutil
from pathlib import Path

import tensorflow as tf

from pipeline.simulation.rounds import Simulation

REGRET, VALUE, JUDGED = (f"simulation/{name}" for name in ("regret", "value", "judged"))


def write_board(simulation: Simulation, log_dir: Path) -> None:
    """Writes runs that share their tags: who chose, and the uniform policy beside it.

    Rounds are steps. `judged` is what a round's log said that the policy which learnt
    from it would earn: `estimate`, with the ends of its interval, and the `truth`.
    """
    shutil.rmtree(
        log_dir, ignore_errors=True
    )  # else TensorBoard shows the old beside it
    rounds, judgements = simulation.rounds, simulation.judgements
    runs: dict[str, dict[str, list[tuple[int, float]]]] = {
        "served": {
            REGRET: [(each.number, each.regret) for each in rounds],
            VALUE: [(each.number, each.value) for each in rounds],
        },
        "uniform": {
            REGRET: [(each.number, each.uniform_regret) for each in rounds],
            VALUE: [(each.number, each.uniform) for each in rounds],
        },
        "best": {VALUE: [(each.number, each.best) for each in rounds]},
    }
    for name in ("estimate", "low", "high", "truth"):
        runs[name] = {
            JUDGED: [(each.after, getattr(each, name)) for each in judgements]
        }
    for name, tags in runs.items():
        writer = tf.summary.create_file_writer(str(log_dir / name))
        with writer.as_default():
            for tag, points in tags.items():
                for step, value in points:
                    tf.summary.scalar(tag, value, step)
        writer.close()
