"""What KerasTuner proposes next, in the words of our settings."""

import json
from pathlib import Path
from typing import Any

import keras_tuner

from models.tuning.space import SearchSpace
from models.tuning_settings import Search, TuningSettings

_MAX_REPEATS = 10  # proposals for each trial: rounded, two may be the same


def make_oracle(
    space: SearchSpace,
    tuning: TuningSettings,
    objective: str,
    is_loss: bool,
    folder: Path,
    max_failures: int,
) -> keras_tuner.Oracle:
    """Returns KerasTuner's oracle at its beginning.

    Args:
        space: what is varied.
        tuning: how, and how often.
        objective: name of the metric that decides.
        is_loss: whether less of it is better.
        folder: where the oracle may write what nobody reads.
        max_failures: failed trials in a row after which it raises RuntimeError.
    """
    kind = {Search.BAYESIAN: _Bayesian, Search.RANDOM: _Random}[tuning.search]
    oracle = kind(
        objective=keras_tuner.Objective(objective, "min" if is_loss else "max"),
        max_trials=_MAX_REPEATS * tuning.trials,
        seed=tuning.seed,
        hyperparameters=_hyperparameters(space),
        allow_new_entries=False,
        max_consecutive_failed_trials=max_failures,
    )
    oracle.verbose = 0
    base = keras_tuner.engine.base_tuner.BaseTuner
    base(oracle, directory=str(folder), project_name="oracle", overwrite=True)
    return oracle


_Random = keras_tuner.oracles.RandomSearchOracle


class _Bayesian(keras_tuner.oracles.BayesianOptimizationOracle):
    """Draws where the process would try again what it knows: few choices are soon all.

    A draw, unlike the process, says when there is nothing left.
    """

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Returns `status` and `values`, as KerasTuner's oracles do."""
        proposal = super().populate_space(trial_id)
        values = proposal["values"]
        if values is not None and self._duplicate(values):
            return self._random_populate_space()
        return proposal


def _hyperparameters(space: SearchSpace):
    """Returns the space in KerasTuner's words."""
    found = keras_tuner.HyperParameters()
    # First what others hang on.
    for path in sorted(space.dimensions, key=lambda path: path != "model"):
        parent = space.parent(path)
        if parent is None:
            _add(found, space, path)
            continue
        name, value = parent
        with found.conditional_scope(name, [json.dumps(value)]):
            _add(found, space, path)
    return found


def _add(found, space: SearchSpace, path: str) -> None:
    dimension = space.dimensions[path]
    if dimension.choices is not None:
        choices = space.choices(path)
        if not all(map(_is_number, choices)):
            choices = [json.dumps(choice) for choice in choices]
        elif not all(isinstance(choice, int) for choice in choices):
            choices = [float(choice) for choice in choices]
        found.Choice(path, list(dict.fromkeys(choices)))
        return
    kind = found.Int if space.is_integer(path) else found.Float
    kind(
        path,
        dimension.min,
        dimension.max,
        step=dimension.step,
        sampling="log" if dimension.log else "linear",
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def proposed_values(space: SearchSpace, proposed) -> dict[str, Any]:
    """Returns the values of the keys that have an effect, by path, as configs have them.

    Args:
        space: what is varied.
        proposed: a trial's HyperParameters.
    """
    values = {}
    for path, dimension in space.dimensions.items():
        if path not in proposed.values or not proposed.is_active(path):
            continue
        value = proposed.values[path]
        if dimension.choices is None:
            value = space.rounded(path, value)
        elif isinstance(value, str):
            value = json.loads(value)
        values[path] = value
    return values
