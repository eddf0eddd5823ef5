"""A release of MovieLens 100K as `tandem demo` makes it, for what measures its server."""

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.command_line import say
from serving.client import feature_array
from serving.release_tables import ReleaseTables

DATASET = "movielens-100k"


def served_root() -> Path:
    """Returns a root folder with a release; made once, in minutes, and kept."""
    from pipeline.config import load_config
    from pipeline.datasets import fetch
    from pipeline.layout import Layout
    from pipeline.local_runner import run_pipeline

    root = Path(tempfile.gettempdir()) / "tandem-bench-serving" / "root"
    root.mkdir(parents=True, exist_ok=True)
    fetch(DATASET, Layout(root).data, say)
    result = run_pipeline(load_config(DATASET), root, lambda stage: say(f"  {stage}"))
    if result.refused:
        raise RuntimeError(f"no release to serve: {result.refused[0].reason}")
    return root


def query_rows(
    tables: ReleaseTables, signature, number: int, length: int
) -> list[dict]:
    """Returns what to ask for the first users, over and over: inputs of one row each.

    Args:
        tables: of the release.
        signature: SignatureDef of a query: user, history and features.
        number: of rows.
        length: of the histories, "" pads.
    """
    users = tables.some_user_ids(min(number, 200))
    profiles = [tables.profile(user) for user in users]
    rows = []
    for place in range(number):
        profile = profiles[place % len(profiles)]
        history = profile.history_item_ids[-length:]
        padded = [""] * (length - len(history)) + history
        row = {
            "user_id": np.array([profile.user_id], object),
            "history_item_ids": np.array([padded], object),
        }
        for name in set(signature.inputs) - set(row):
            value = profile.features.get(name)
            row[name] = feature_array(name, value, signature.inputs[name])
        rows.append(row)
    return rows


def stacked(rows: list[dict]) -> dict[str, np.ndarray]:
    """Returns the rows as one request."""
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
