"""How sure an off-policy estimate is, when the rounds of one user go together.

Users are drawn, not rounds: a user who clicks a lot does so in all of their rounds, and
rounds that share a context share its luck.

References:
    [1] Maurer, Pontil. Empirical Bernstein Bounds and Sample Variance Penalization. COLT
        2009. Theorem 4.
    [2] Thomas et al. High Confidence Off-Policy Evaluation. AAAI 2015. Section 3.
    [3] Efron, Tibshirani. An Introduction to the Bootstrap. 1993. Section 12.5.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from models.bandit.estimators import Contributions
from models.retrieval.intervals import UserBootstrap


@dataclasses.dataclass(frozen=True)
class Resamples:
    """Estimates on logs of users drawn with replacement.

    Attributes:
        values: [resamples, E]; all of a resample are of the same users, so differences are
            paired.
        errors: [resamples, E] the standard error that each resample would state.
    """

    values: np.ndarray
    errors: np.ndarray


def resampled(
    estimates: Sequence[Contributions],
    users: np.ndarray,
    seed: int = 0,
    num_resamples: int = 1000,
) -> Resamples:
    """Returns estimates on logs of users drawn with replacement.

    Args:
        estimates: E of the same N rounds.
        users: [N] whose round it is.
        seed: of the draws.
        num_resamples: how many.
    """
    _, sizes = user_totals([], users)
    draws = UserBootstrap(np.arange(len(sizes)), seed, num_resamples)
    totals = [
        np.c_[user_totals([e.direct, e.correction, e.normaliser], users)[0], sizes]
        for e in estimates
    ]  # [users, 4] each
    products = [_products(columns) for columns in totals]
    values, errors = [], []
    for drawn in draws.row_weights():
        found = [
            _values_and_errors(drawn @ sums, drawn @ squares, len(sizes))
            for sums, squares in zip(totals, products, strict=True)
        ]
        values.append(np.stack([value for value, _ in found], axis=1))
        errors.append(np.stack([error for _, error in found], axis=1))
    return Resamples(np.concatenate(values), np.concatenate(errors))


def _products(columns: np.ndarray) -> np.ndarray:
    """Returns [users, 16] the products of every two of [users, 4] columns."""
    pairs = columns[:, :, np.newaxis] * columns[:, np.newaxis, :]
    return pairs.reshape(len(columns), -1)


def _values_and_errors(
    sums: np.ndarray, squares: np.ndarray, num_users: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns estimates and their `standard_error`s, [R], of R logs.

    The error is a quadratic form of what users come to, so the sums of their columns'
    products tell it for any draw of users.

    Args:
        sums: [R, 4] of direct, correction, normaliser and rounds.
        squares: [R, 16] of the users' products of these.
        num_users: drawn in each.
    """
    direct, correction, normaliser, rounds = sums.T
    has_weight = normaliser > 0
    norm = np.where(has_weight, normaliser / rounds, 1.0)
    ratio = np.divide(
        correction, normaliser, out=np.zeros_like(direct), where=has_weight
    )
    scale = np.where(has_weight, 1 / norm, 0.0)
    parts = [np.ones_like(direct), scale, -ratio * scale, -direct / rounds]
    form = np.stack(
        parts, axis=1
    )  # of each user's columns: influence less the estimate
    square = np.einsum("ri,rij,rj->r", form, squares.reshape(-1, 4, 4), form)
    square = np.maximum(square, 0.0) * num_users / max(num_users - 1, 1)
    return direct / rounds + ratio, np.sqrt(square) / rounds


def user_totals(
    columns: Sequence[np.ndarray], users: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns ([users, columns] sums, [users] numbers of rounds)."""
    distinct, user = np.unique(users, return_inverse=True)
    sums = np.zeros((len(distinct), len(columns)))
    for place, column in enumerate(columns):
        sums[:, place] = np.bincount(user, column, minlength=len(distinct))
    return sums, np.bincount(user, minlength=len(distinct)).astype(float)


def standard_error(estimate: Contributions, users: np.ndarray) -> float:
    """Returns the standard error of an estimate, users being independent.

    error = sqrt(U / (U - 1) sum over users of (sum of influence - value)^2) / N

    the sums being over each user's rounds; infinity for one user.
    """
    centred = estimate.influence() - estimate.value
    totals, _ = user_totals([centred], users)
    num_users = len(totals)
    if num_users < 2:
        return math.inf
    square = float((totals**2).sum()) * num_users / (num_users - 1)
    return math.sqrt(square) / len(users)


def interval(draws: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """Returns the middle `confidence` of resampled values [resamples]."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, (tail, 1 - tail))
    return float(low), float(high)


def studentised_interval(
    value: float,
    error: float,
    values: np.ndarray,
    errors: np.ndarray,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Returns the interval of an estimate by how far resamples are from it in their errors.

    t = (values - value) / errors;   (value - upper quantile of t * error,
                                      value - lower quantile of t * error)

    Rewards are rare and weights skewed: a log with few of the large ones has a low estimate
    and a low error too. The middle of the resampled values does not know, and holds the
    truth too seldom in small logs [3]. Resamples without any spread do not count.

    Args:
        value, error: the estimate and its standard error.
        values, errors: [resamples], of `Resamples`.
        confidence: of the interval.
    """
    spread = errors > 1e-9 * error
    if not error > 0 or not math.isfinite(error) or not spread.any():
        return interval(values, confidence)
    t = (values[spread] - value) / errors[spread]
    low, high = interval(t, confidence)
    return value - max(high, 0.0) * error, value - min(low, 0.0) * error


def empirical_bernstein(
    values: np.ndarray, low: float, high: float, confidence: float = 0.95
) -> tuple[float, float]:
    """Returns an interval of the mean of bounded independent values, for any sample size.

    half = sqrt(2 V ln(2 / d) / n) + 7 (high - low) ln(2 / d) / (3 (n - 1))

    with V the sample variance and d = (1 - confidence) / 2, the chance of each side. It holds whatever the distribution is, where a bootstrap of
    few clicks does not, and is much wider. Not for estimates that normalise themselves.

    Args:
        values: [n] independent, such as a user's sums, see `of_users`.
        low, high: bounds that every value keeps by its nature: what the sample happens to
            hold does not do.
        confidence: of the interval; half of the rest is on each side.

    Raises:
        ValueError: if a value is out of its bounds, or there are fewer than two.
    """
    n = len(values)
    if n < 2:
        raise ValueError(f"`values` should be two or more. Received: {n}")
    if values.min() < low or values.max() > high:
        raise ValueError(
            f"`values` should be from low={low:g} to high={high:g}. Received: "
            f"{values.min():g} to {values.max():g}"
        )
    log_term = math.log(2 / ((1 - confidence) / 2))
    half = math.sqrt(2 * float(values.var(ddof=1)) * log_term / n)
    half += 7 * (high - low) * log_term / (3 * (n - 1))
    mean = float(values.mean())
    return mean - half, mean + half


def of_users(estimate: Contributions, users: np.ndarray) -> np.ndarray:
    """Returns [users] numbers whose mean is the estimate, one of each user.

    x[u] = U / N sum over rounds i of u of influence[i]
    """
    totals, counts = user_totals([estimate.influence()], users)
    return totals[:, 0] * len(counts) / len(users)
