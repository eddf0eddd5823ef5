"""A search in TensorBoard's HPARAMS tab: a row for each trial."""

from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorboard.plugins.hparams import api

from models.tuning.search import Objective, Trial
from models.tuning.space import SearchSpace
from models.tuning.trials import LOGS

_BOARD = "hparams"


def describe(folder: Path, space: SearchSpace, objective: Objective) -> None:
    """Writes which keys are varied and what is made better.

    Args:
        folder: of the search.
        space: what is varied.
        objective: what is made better.
    """
    keys = [api.HParam(f"{space.section}.{path}") for path in space.dimensions]
    with _writer(folder / _BOARD):
        api.hparams_config(hparams=keys, metrics=[api.Metric(objective.name)])


def show(space: SearchSpace, trial: Trial) -> None:
    """Writes a trial's values and metrics beside its training's curves."""
    configured = space.settings.model_dump(mode="json")
    values = {
        f"{space.section}.{path}": _plain(trial.values.get(path, _at(configured, path)))
        for path in space.dimensions
    }
    with _writer(trial.folder / LOGS):
        api.hparams(values, trial_id=trial.folder.name)
        for name, value in trial.metrics.items():
            tf.summary.scalar(name, value, step=0)


class _writer:
    """A file writer that is written out when it is left."""

    def __init__(self, folder: Path) -> None:
        self._writer = tf.summary.create_file_writer(str(folder))
        self._context = self._writer.as_default()

    def __enter__(self) -> None:
        self._context.__enter__()

    def __exit__(self, *error) -> None:
        self._context.__exit__(*error)
        self._writer.close()


def _at(values: Any, path: str) -> Any:
    for part in path.split("."):
        values = values[part]
    return values


def _plain(value: Any) -> bool | int | float | str:
    """Returns a value that the tab can show: a list as text."""
    return value if isinstance(value, bool | int | float | str) else str(value)
