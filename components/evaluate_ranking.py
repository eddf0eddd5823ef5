"""How good the ranking model is, beside what it must be better than.

Measures it, baselines that need no training and the last release's model on the same test
rows. `components.ranking_gate` decides by these figures.
"""

import numpy as np

from components.ranking_gate import RankingGateSettings
from components.read_examples import JudgedRows
from models.ranking.evaluation import (
    GroupAuc,
    Resampled,
    calibration,
    calibration_curve,
    interval,
    log_losses,
    resample,
    roc_curve,
    user_auc,
)
from models.ranking.labelled_rows import NO_POSITION
from models.retrieval.intervals import UserBootstrap
from models.retrieval.slices import Slicing

_PRIOR_STRENGTH = 10.0
_MOST_BINS, _LEAST_BINS, _ROWS_OF_BIN = 20, 5, 100  # of a calibration curve
_WHOLE = ("auc", "gauc", "logloss", "calibration")


def mean_label_predictions(
    train_keys: np.ndarray, train_labels: np.ndarray, test_keys: np.ndarray
) -> np.ndarray:
    """Predicts each key's mean label in training, drawn towards the overall mean.

    p[k] = (sum of k's labels + m * mean) / (number of k's labels + m),  m = 10

    By item, this is popularity.

    Args:
        train_keys: [n] ids of items, or anything else that rows share.
        train_labels: [n] in [0, 1].
        test_keys: [t]; unknown ones get the mean.

    Returns:
        [t] predicted probabilities.
    """
    keys, key = np.unique(train_keys, return_inverse=True)
    mean = float(np.mean(train_labels))
    sums = np.bincount(key, weights=train_labels)
    rates = (sums + _PRIOR_STRENGTH * mean) / (np.bincount(key) + _PRIOR_STRENGTH)
    place = np.minimum(np.searchsorted(keys, test_keys), len(keys) - 1)
    return np.where(keys[place] == test_keys, rates[place], mean)


def baselines(seen: JudgedRows, test: JudgedRows) -> dict[str, np.ndarray]:
    """Returns the predictions that any ranker should beat, [n] each.

    `constant` is the mean label, `popularity` that of the item. `position`, where rows
    have one, is that of the place on the page: what a log says by itself, and no ranker
    can use when it serves.

    Args:
        seen: what may be learnt from, at least one row.
        test: what is predicted.
    """

    def by(key: str) -> np.ndarray:
        keys = getattr(seen, key), seen.labels, getattr(test, key)
        return mean_label_predictions(*keys)

    found = {
        "constant": np.full(len(test.labels), seen.labels.mean(dtype=np.float64)),
        "popularity": by("items"),
    }
    if (test.positions != NO_POSITION).any():
        found["position"] = by("positions")
    return found


def evaluate_ranking(
    test: JudgedRows,
    predictions: dict[str, np.ndarray],
    slicings: dict[str, Slicing],
    settings: RankingGateSettings,
) -> dict[str, dict]:
    """Measures the models and the baselines on the same test rows.

    Args:
        test: the rows.
        predictions: [n] probabilities by name; the first is the candidate.
        slicings: of the rows.
        settings: how often users are drawn.

    Returns:
        figures by name; each holds auc, gauc (see `evaluation.UserAuc`), logloss and
        calibration (mean prediction / mean label), each with `<name>_interval`, and
        `slices`, see `_slice_figures`. `rows_without_prediction` is how many predictions
        are NaN: one is enough for figures that are NaN, without slices.
        Under "test": the numbers of rows, of users, of rows with a position and of rows
        that gauc counts, and the mean label as `positive_share`; under "gain": intervals
        of the paired difference of auc and of logloss to each other model. Without a
        test row, "test" alone.
    """
    nothing = np.zeros(len(test.labels))
    counted = user_auc(test.labels, nothing, test.users).counts
    figures: dict[str, dict] = {
        "test": {
            "rows": len(test.labels),
            "users": len(np.unique(test.users)),
            "rows_with_position": int((test.positions != NO_POSITION).sum()),
            "rows_of_gauc": int(counted.sum()),
        }
    }
    if not len(test.labels):
        return figures
    figures["test"]["positive_share"] = float(test.labels.mean())
    draws = UserBootstrap(test.users, settings.seed, settings.num_resamples)
    resampled: dict[str, Resampled] = {}
    for name, values in predictions.items():
        values = values.astype(np.float64)
        unknown = int(np.isnan(values).sum())
        if unknown:
            figures[name] = dict.fromkeys(_WHOLE, np.nan)
        else:
            figures[name], resampled[name] = _model_figures(
                test, values, slicings, draws
            )
        figures[name]["rows_without_prediction"] = unknown
    figures["gain"] = _gains(resampled, next(iter(predictions)))
    return figures


def _gains(resampled: dict[str, Resampled], model: str) -> dict[str, dict]:
    """Returns {other model: {figure: interval of the difference to it}}."""
    if model not in resampled:
        return {}
    own = resampled[model]
    return {
        name: {
            "auc": interval(own.auc - other.auc),
            "logloss": interval(own.logloss - other.logloss),
        }
        for name, other in resampled.items()
        if name != model
    }


def _model_figures(
    test: JudgedRows,
    predictions: np.ndarray,
    slicings: dict[str, Slicing],
    draws: UserBootstrap,
) -> tuple[dict, Resampled]:
    labels = test.labels.astype(np.float64)
    losses = log_losses(labels, predictions)
    groups = {
        name: (slicing.groups, len(slicing.labels))
        for name, slicing in slicings.items()
    }
    resampled = resample(labels, predictions, test.users, draws, groups)
    whole = {
        "auc": float(GroupAuc(labels, predictions)()[0]),
        "gauc": user_auc(labels, predictions, test.users).mean,
        "logloss": float(losses.mean()),
        "calibration": calibration(labels, predictions),
    }
    intervals = {
        f"{name}_interval": interval(getattr(resampled, name)) for name in whole
    }
    slices = {
        name: _slice_figures(
            labels, predictions, losses, slicing, resampled.sliced[name]
        )
        for name, slicing in slicings.items()
    }
    return {**whole, **intervals, "slices": slices}, resampled


def _slice_figures(
    labels: np.ndarray,
    predictions: np.ndarray,
    losses: np.ndarray,
    slicing: Slicing,
    resampled_auc: np.ndarray,
) -> dict[str, dict]:
    """Returns {label: {"rows", "auc", "auc_interval", "logloss", "calibration"}}.

    Labels without a row are left out; of rows of one class, auc is NaN.
    """
    num_groups = len(slicing.labels)
    auc = GroupAuc(labels, predictions, slicing.groups, num_groups)()
    figures = {}
    for group, label in enumerate(slicing.labels):
        inside = slicing.groups == group
        if inside.any():
            figures[label] = {
                "rows": int(inside.sum()),
                "auc": float(auc[group]),
                "auc_interval": interval(resampled_auc[:, group]),
                "logloss": float(losses[inside].mean()),
                "calibration": calibration(labels[inside], predictions[inside]),
            }
    return figures


def curves_of(
    test: JudgedRows,
    predictions: dict[str, np.ndarray],
    settings: RankingGateSettings,
) -> dict[str, dict]:
    """Returns what the models' plots show.

    Args:
        test: the rows.
        predictions: [n] probabilities by name.
        settings: how often users are drawn.

    Returns:
        By name `roc`, see `evaluation.roc_curve`, and `calibration`, see
        `evaluation.calibration_curve`. Models with a prediction that is NaN, and logs
        without a test row, have none.
    """
    if not len(test.labels):
        return {}
    labels = test.labels.astype(np.float64)
    draws = UserBootstrap(test.users, settings.seed, settings.num_resamples)
    num_bins = min(max(len(labels) // _ROWS_OF_BIN, _LEAST_BINS), _MOST_BINS)
    return {
        name: {
            "roc": roc_curve(labels, values).tolist(),
            "calibration": calibration_curve(
                labels, values.astype(np.float64), draws, num_bins
            ),
        }
        for name, values in predictions.items()
        if not np.isnan(values).any()
    }


def without_nan(figures: dict) -> dict:
    """Returns the figures that are known, as JSON can hold them."""
    known = {}
    for name, value in figures.items():
        if isinstance(value, dict):
            known[name] = without_nan(value)
        elif not any(one != one for one in (value if type(value) is list else [value])):
            known[name] = value
    return known
