"""Is the ranking model good enough to be released?

TFMA measures the model; this gate sets its figures beside baselines that need no
training, and beside the last release's model, on the same test rows.
"""

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from sklearn.metrics import roc_auc_score

from components.gate import Check, GateResult, at_most
from models.retrieval.evaluation import bootstrap_interval

_NUM_RESAMPLES = 200
_PRIOR_STRENGTH = 10.0
# TFMA takes AUC over a grid of thresholds; more than this is a difference in the rows or
# in the model that was scored.
_MAX_TFMA_DIFFERENCE = 0.005


class RankingGateSettings(BaseModel):
    """When a ranking model is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    beat_baselines: bool = Field(
        default=True,
        description="AUC must exceed the constant's and popularity's, and log loss be "
        "below the constant's.",
    )
    max_auc_drop: float = Field(
        default=0.01,
        ge=0,
        description="How far AUC may fall below the last release's, absolutely.",
    )
    max_log_loss_rise: float = Field(
        default=0.02,
        ge=0,
        description="How far log loss may rise above the last release's, absolutely.",
    )


def popularity_predictions(
    train_items: np.ndarray, train_labels: np.ndarray, test_items: np.ndarray
) -> np.ndarray:
    """Predicts each item's mean label in training, drawn towards the overall mean.

    p[i] = (sum of i's labels + m * mean) / (number of i's labels + m),  m = 10

    Args:
        train_items: [n] item ids.
        train_labels: [n] in [0, 1].
        test_items: [t] item ids; unknown ones get the mean.

    Returns:
        [t] predicted probabilities.
    """
    items, item = np.unique(train_items, return_inverse=True)
    mean = float(np.mean(train_labels))
    sums = np.bincount(item, weights=train_labels)
    rates = (sums + _PRIOR_STRENGTH * mean) / (np.bincount(item) + _PRIOR_STRENGTH)
    place = np.minimum(np.searchsorted(items, test_items), len(items) - 1)
    return np.where(items[place] == test_items, rates[place], mean)


def binary_figures(
    labels: np.ndarray, predictions: np.ndarray, users: np.ndarray
) -> dict[str, float | list[float]]:
    """Returns AUC, log loss and calibration, with intervals by resampling users.

    Args:
        labels: [n] in [0, 1]; AUC takes those above 1/2 as positive.
        predictions: [n] probabilities.
        users: [n] whose rows they are.

    Returns:
        auc, logloss, calibration (mean prediction / mean label), `auc_interval`,
        `logloss_interval`. AUC is NaN where the rows hold one class only.
    """
    clipped = np.clip(predictions, 1e-7, 1 - 1e-7)
    losses = -(labels * np.log(clipped) + (1 - labels) * np.log1p(-clipped))
    is_positive = labels > 0.5
    return {
        "auc": _auc(is_positive, predictions),
        "auc_interval": list(_auc_interval(is_positive, predictions, users)),
        "logloss": float(losses.mean()),
        "logloss_interval": list(bootstrap_interval(losses, users)),
        "calibration": float(predictions.mean() / labels.mean())
        if labels.any()
        else np.nan,
    }


def _auc(is_positive: np.ndarray, predictions: np.ndarray, weights=None) -> float:
    if is_positive.all() or not is_positive.any():
        return float("nan")
    return float(roc_auc_score(is_positive, predictions, sample_weight=weights))


def _auc_interval(
    is_positive: np.ndarray, predictions: np.ndarray, users: np.ndarray, seed: int = 0
) -> tuple[float, float]:
    _, user = np.unique(users, return_inverse=True)
    num_users = user.max() + 1
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(
        num_users, np.full(num_users, 1 / num_users), _NUM_RESAMPLES
    )
    values = []
    for draw in draws:
        weights = draw[user]
        kept = weights > 0
        values.append(_auc(is_positive[kept], predictions[kept], weights[kept]))
    low, high = np.nanquantile(values, [0.025, 0.975])
    return float(low), float(high)


def judge_ranking(
    figures: dict[str, dict], settings: RankingGateSettings, model: str, last: str
) -> GateResult:
    """Decides whether the ranking model may be released.

    Args:
        figures: by model: `model`, `constant`, `popularity` and, where there was a
            release, `last`; each holds `auc` and `logloss`. `tfma` holds TFMA's `auc`.
        settings: the thresholds.
        model: name of the candidate.
        last: name of the last release's model.
    """
    own = figures[model]
    difference = abs(own["auc"] - figures["tfma"]["auc"])
    checks = [at_most("difference to TFMA's auc", difference, _MAX_TFMA_DIFFERENCE)]
    if settings.beat_baselines:
        for baseline in ("constant", "popularity"):
            bound = figures[baseline]["auc"]
            checks.append(
                Check(
                    f"auc against {baseline}",
                    own["auc"] > bound,
                    f"{own['auc']:.4f}",
                    f"> {bound:.4f}",
                )
            )
        bound = figures["constant"]["logloss"]
        checks.append(
            Check(
                "logloss against constant",
                own["logloss"] < bound,
                f"{own['logloss']:.4f}",
                f"< {bound:.4f}",
            )
        )
    if last in figures:
        before = figures[last]
        low = before["auc"] - settings.max_auc_drop
        high = before["logloss"] + settings.max_log_loss_rise
        checks += [
            Check(
                "auc against the last release",
                own["auc"] >= low,
                f"{own['auc']:.4f}",
                f">= {low:.4f}",
            ),
            Check(
                "logloss against the last release",
                own["logloss"] <= high,
                f"{own['logloss']:.4f}",
                f"<= {high:.4f}",
            ),
        ]
    return GateResult("ranking", tuple(checks))
