"""How good a ranker's probabilities are: in order, in size, for each user, on a plot.

Pure NumPy; whoever has probabilities can be measured: a ranker, a baseline, another
library's model. Labels are in [0, 1]. Where order is measured, a row with the label y is
y of a positive and 1 - y of a negative one, as TFMA has it; hard ones are the usual case.
"""

import dataclasses

import numpy as np

from models.retrieval.intervals import UserBootstrap

_LEAST = 1e-7  # a certain and wrong prediction costs much, but not infinity
_QUANTILES = (0.025, 0.975)


class GroupAuc:
    """The area under the ROC curve in each group of rows, whatever the rows weigh.

    auc = sum_{p, n} w_p w_n ([s_p > s_n] + 1/2 [s_p = s_n]) / (sum_p w_p sum_n w_n)

    over the positive rows p and the negative rows n of the group. Rows are sorted once,
    so a resample costs one pass over them.

    Args:
        labels: [n] in [0, 1], or bool.
        predictions: [n] float, larger for what is likelier.
        groups: [n] int, the group of each row, -1 for none; without, all are group 0.
        num_groups: G.
    """

    def __init__(
        self,
        labels: np.ndarray,
        predictions: np.ndarray,
        groups: np.ndarray | None = None,
        num_groups: int = 1,
    ) -> None:
        if groups is None:
            groups = np.zeros(len(predictions), np.int64)
        order = np.lexsort((predictions, groups))
        self._order = order[np.searchsorted(groups[order], 0) :]
        group, score = groups[self._order], predictions[self._order]
        self._labels = labels[self._order].astype(np.float64)
        begins = np.ones(len(group), bool)  # of rows that tie
        begins[1:] = (group[1:] != group[:-1]) | (score[1:] != score[:-1])
        self._ties = np.flatnonzero(begins)
        group = group[self._ties]
        self._present, self._first = np.unique(group, return_index=True)
        self._num_groups = num_groups
        self._unknown = np.zeros(num_groups, bool)
        self._unknown[groups[np.isnan(predictions) & (groups >= 0)]] = True

    def __call__(self, weights: np.ndarray | None = None) -> np.ndarray:
        """Returns the AUC of each group.

        Args:
            weights: [R, n] what each row weighs in each of R resamples; without, all
                rows weigh 1.

        Returns:
            [R, G], or [G] without weights. NaN where a group lacks positive or negative
            rows, or has a prediction that is NaN.
        """
        if weights is None:
            return self(np.ones([1, self._order.max(initial=-1) + 1]))[0]
        auc = np.full([len(weights), self._num_groups], np.nan)
        if not len(self._order):
            return auc
        negative = np.take(weights, self._order, axis=1)
        positive = negative * self._labels
        negative -= positive
        if len(self._ties) < len(self._order):
            positive = np.add.reduceat(positive, self._ties, axis=1)
            negative = np.add.reduceat(negative, self._ties, axis=1)
        positives = np.add.reduceat(positive, self._first, axis=1)
        negatives = np.add.reduceat(negative, self._first, axis=1)
        lower_groups = np.cumsum(negatives, axis=1) - negatives
        below = np.cumsum(negative, axis=1)  # in all groups, with the tie itself
        negative /= 2
        below -= negative
        below *= positive
        won = np.add.reduceat(below, self._first, axis=1) - positives * lower_groups
        pairs = positives * negatives
        auc[:, self._present] = np.divide(
            won, pairs, out=np.full_like(won, np.nan), where=pairs > 0
        )
        auc[:, self._unknown] = np.nan
        return auc


@dataclasses.dataclass(frozen=True)
class UserAuc:
    """How well the rows of one user are ordered, told of each row.

    Group AUC is the mean of `of_row` over the rows that count:

        gauc = sum_u rows_u auc_u / sum_u rows_u

    over the users who have rows of both classes; nobody else's rows can be in order.
    Unlike AUC, it gains nothing by telling users who like much from those who like
    little, which no ranking of one user's items can use.

    Attributes:
        of_row: [n] AUC of the row's user; 0 where the row does not count.
        counts: [n] bool, rows of users with both classes.

    References:
        [1] Zhu et al. Optimized Cost per Click in Taobao Display Advertising. KDD 2017.
            Group AUC, which weighs a user by impressions or by clicks: here, the former.
    """

    of_row: np.ndarray
    counts: np.ndarray

    @property
    def mean(self) -> float:
        """Returns the group AUC; NaN where no user has both classes."""
        return float(self.of_row[self.counts].mean()) if self.counts.any() else np.nan


def user_auc(labels: np.ndarray, predictions: np.ndarray, users: np.ndarray) -> UserAuc:
    """Measures the order of each user's own rows.

    Args:
        labels: [n] in [0, 1], or bool.
        predictions: [n] float; where one is NaN, its user's AUC is too, and so is the
            mean: what cannot be ordered must not be passed over.
        users: [n] whose rows they are.
    """
    distinct, user = np.unique(users, return_inverse=True)
    num_users = len(distinct)
    positives = np.bincount(user, weights=labels, minlength=num_users)
    has_both = (positives > 0) & (positives < np.bincount(user, minlength=num_users))
    of_user = GroupAuc(labels, predictions, user, num_users)()
    return UserAuc(np.where(has_both, of_user, 0.0)[user], has_both[user])


def log_losses(labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Returns [n] -(y log p + (1 - y) log(1 - p)), p kept 1e-7 away from 0 and 1."""
    prob = np.clip(predictions, _LEAST, 1 - _LEAST)
    return -(labels * np.log(prob) + (1 - labels) * np.log1p(-prob))


def calibration(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Returns the mean prediction over the mean label; NaN where no label is above 0."""
    return float(predictions.sum() / labels.sum()) if labels.any() else np.nan


def roc_curve(
    labels: np.ndarray, predictions: np.ndarray, num_points: int = 101
) -> np.ndarray:
    """Returns points of the ROC curve, evenly spaced along it.

    Rows that tie are one straight stretch, so that the area below is the AUC.

    Args:
        labels: [n] in [0, 1], or bool.
        predictions: [n] float without NaN.
        num_points: how many, both ends included.

    Returns:
        [num_points, 2] false positive rate and true positive rate, both from 0 to 1; no
        points where the rows are of one class.
    """
    positives = labels.sum(dtype=np.float64)
    if positives in (0, len(labels)):
        return np.zeros([0, 2])
    order = np.argsort(-predictions, kind="stable")
    score = predictions[order]
    ends = np.append(np.flatnonzero(score[1:] != score[:-1]), len(score) - 1)
    true = np.cumsum(labels[order], dtype=np.float64)[ends]
    false = ends + 1 - true
    corners = np.zeros([len(ends) + 1, 2])
    corners[1:] = np.stack([false / false[-1], true / true[-1]], axis=1)
    way = corners.sum(axis=1)
    places = np.linspace(0, 2, num_points)
    return np.stack([np.interp(places, way, axis) for axis in corners.T], axis=1)


def calibration_curve(
    labels: np.ndarray,
    predictions: np.ndarray,
    draws: UserBootstrap,
    num_bins: int,
) -> list[dict]:
    """Returns the mean label of rows of like predictions, smallest predictions first.

    Bins hold equal numbers of rows, so that a rare label has its detail where its
    predictions are; rows that tie are in one bin, so there can be fewer.

    Args:
        labels: [n] in [0, 1].
        predictions: [n] probabilities without NaN.
        draws: of the rows' users.
        num_bins: at most.

    Returns:
        For each bin `rows`, and means over them: `prediction`, `label` and
        `label_interval`.
    """
    score = np.sort(predictions)
    bounds = np.unique(score[np.arange(1, num_bins) * len(score) // num_bins])
    bins = np.searchsorted(bounds, predictions, side="right")
    intervals = draws.intervals(labels[:, np.newaxis], bins, num_bins)
    return [
        {
            "rows": int(inside.sum()),
            "prediction": float(predictions[inside].mean()),
            "label": float(labels[inside].mean()),
            "label_interval": intervals[number, 0].tolist(),
        }
        for number in range(len(bounds) + 1)
        if (inside := bins == number).any()
    ]


@dataclasses.dataclass(frozen=True)
class Resampled:
    """Figures of one model in each of R resamples of the users.

    Figures of two models on the same draws are paired: subtract them.

    Attributes:
        auc, gauc, logloss, calibration: [R]; NaN where a resample lacks what it takes.
        sliced: [R, G] AUC of each group, by slicing.
    """

    auc: np.ndarray
    gauc: np.ndarray
    logloss: np.ndarray
    calibration: np.ndarray
    sliced: dict[str, np.ndarray]


def resample(
    labels: np.ndarray,
    predictions: np.ndarray,
    users: np.ndarray,
    draws: UserBootstrap,
    slicings: dict[str, tuple[np.ndarray, int]],
) -> Resampled:
    """Measures a model again on each draw of users.

    Args:
        labels: [n] in [0, 1].
        predictions: [n] probabilities.
        users: [n] whose rows they are.
        draws: of the same users.
        slicings: by name, the group of each row (-1 for none) and the number of groups.
    """
    by_user = user_auc(labels, predictions, users)
    in_all = GroupAuc(labels, predictions)
    in_groups = {
        name: GroupAuc(labels, predictions, groups, num_groups)
        for name, (groups, num_groups) in slicings.items()
    }
    columns = np.stack(
        [
            *(log_losses(labels, predictions), np.ones(len(labels))),
            *(by_user.of_row, by_user.counts),
            *(predictions, labels),
        ],
        axis=1,
        dtype=np.float64,
    )
    sums, auc = [], []
    sliced: dict[str, list[np.ndarray]] = {name: [] for name in slicings}
    for weights in draws.row_weights():
        sums.append(weights @ columns)
        auc.append(in_all(weights)[:, 0])
        for name, of_groups in in_groups.items():
            sliced[name].append(of_groups(weights))
    total = np.concatenate(sums)
    parts, wholes = total[:, ::2], total[:, 1::2]
    means = np.divide(parts, wholes, out=np.full_like(parts, np.nan), where=wholes > 0)
    return Resampled(
        auc=np.concatenate(auc),
        logloss=means[:, 0],
        gauc=means[:, 1],
        calibration=means[:, 2],
        sliced={name: np.concatenate(values) for name, values in sliced.items()},
    )


def interval(resampled: np.ndarray) -> list[float]:
    """Returns the 2.5 % and 97.5 % quantiles of what is known of [R] values."""
    known = resampled[~np.isnan(resampled)]
    return np.quantile(known, _QUANTILES).tolist() if len(known) else [np.nan] * 2
