"""How sure an off-policy estimate is, when the rounds of one user go together.

Users are drawn, not rounds: a user who clicks a lot does so in all of their rounds, and
rounds that share a context share its luck.

References:
    [1] Maurer, Pontil. Empirical Bernstein Bounds and Sample Variance Penalization. COLT
        2009. Theorem 4.
    [2] Thomas et al. High Confidence Off-Policy Evaluation. AAAI 2015. Section 3.
"""

import math
from collections.abc import Sequence

import numpy as np

from models.bandit.estimators import Contributions
from models.retrieval.intervals import UserBootstrap


def bootstrap_values(
    estimates: Sequence[Contributions],
    users: np.ndarray,
    seed: int = 0,
    num_resamples: int = 1000,
) -> np.ndarray:
    """Returns [resamples, E] the estimates on logs of users drawn with replacement.

    All estimates of a resample are of the same users, so differences are paired.

    Args:
        estimates: E of the same N rounds.
        users: [N] whose round it is.
        seed: of the draws.
        num_resamples: how many.
    """
    totals, counts = user_totals(
        [part for e in estimates for part in (e.direct, e.correction, e.normaliser)],
        users,
    )
    draws = UserBootstrap(np.arange(len(counts)), seed, num_resamples)
    found = []
    for drawn in draws.row_weights():
        sums = (drawn @ totals).reshape(len(drawn), len(estimates), 3)
        direct, correction, normaliser = np.moveaxis(sums, 2, 0)
        ratio = np.divide(
            correction, normaliser, out=np.zeros_like(correction), where=normaliser > 0
        )
        found.append(direct / (drawn @ counts)[:, np.newaxis] + ratio)
    return np.concatenate(found)


def user_totals(
    columns: Sequence[np.ndarray], users: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns ([users, columns] sums, [users] numbers of rounds)."""
    distinct, user = np.unique(users, return_inverse=True)
    size = len(distinct)
    sums = [np.bincount(user, column, minlength=size) for column in columns]
    return np.stack(sums, axis=1), np.bincount(user, minlength=size).astype(float)


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
