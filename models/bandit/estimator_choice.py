"""Which parameter an estimator takes: by the log alone, as the truth is not known.

References:
    [1] Su, Srinath, Krishnamurthy. Adaptive Estimator Selection for Off-Policy Evaluation.
        ICML 2020. Algorithm 1. (SLOPE)
    [2] Tucker, Lee. Improved Estimator Selection for Off-Policy Evaluation. RL Theory
        Workshop at ICML 2021. (intervals in place of monotone bounds)
    [3] Su et al. Doubly Robust Off-policy Evaluation with Shrinkage. ICML 2020. Section 5.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from models.bandit.estimators import Estimator, Rounds, changed_weights, contributions
from models.bandit.off_policy_settings import Choice

_SLOPE_DELTA = 0.1
_MSE_DELTA = 0.05


def chosen_parameter(
    estimator: Estimator,
    rounds: Rounds,
    parameters: Sequence[float],
    choice: Choice = Choice.SLOPE,
) -> float:
    """Returns the parameter that a rule chooses for an estimator.

    Args:
        estimator: one that has a parameter.
        rounds: the log.
        parameters: what may be chosen; those of sub-Gaussian estimators are 1 / p.
        choice: the rule.

    Raises:
        ValueError: if there is nothing to choose from.
    """
    if not parameters:
        raise ValueError("`parameters` should hold at least one number. Received: none")
    scores = slope_choice if choice is Choice.SLOPE else mse_choice
    return scores(estimator, rounds, grid_of(estimator, parameters))


def grid_of(estimator: Estimator, parameters: Sequence[float]) -> list[float]:
    """Returns the parameters in an estimator's own unit.

    A sub-Gaussian weight is at most 1 / mixture, so a largest weight p is a mixture 1 / p.
    """
    if estimator in (Estimator.SG_IPS, Estimator.SG_DR):
        return [1 / max(p, 1.0) for p in parameters]
    return list(parameters)


def slope_choice(
    estimator: Estimator, rounds: Rounds, parameters: Sequence[float]
) -> float:
    """Returns the parameter of the least width that no wider interval contradicts.

    In the order of falling width, each candidate i is taken as long as

        |value_i - value_j| <= width_i + (sqrt(6) - 1) width_j   for all j before it

    Widths are one-sided 90 % of Student's t, so wide candidates are those with little
    bias, and a narrow one that left their intervals has too much of it.
    """
    quantile = stats.t(len(rounds.rewards) - 1).ppf(1 - _SLOPE_DELTA)
    values, widths = [], []
    for parameter in parameters:
        shares = contributions(estimator, rounds, parameter).influence()
        values.append(float(shares.mean()))
        widths.append(math.sqrt(shares.var() / (len(shares) - 1)) * quantile)
    order = np.argsort(-np.array(widths), kind="stable")
    taken = [order[0]]
    for number in order[1:]:
        if any(
            abs(values[number] - values[wider])
            > widths[number] + (math.sqrt(6) - 1) * widths[wider]
            for wider in taken
        ):
            break
        taken.append(number)
    return parameters[taken[-1]]


def mse_choice(
    estimator: Estimator, rounds: Rounds, parameters: Sequence[float]
) -> float:
    """Returns the parameter of the least bound of squared bias, plus variance.

    bias <= |mean((v - w) (r - q))| + sqrt(2 mean(w^2) ln(2 / d) / N) + 2 max(w) ln(2 / d) / (3 N)

    with v the changed weights and d = 0.05.
    """
    best, least = parameters[0], math.inf
    for parameter in parameters:
        shares = contributions(estimator, rounds, parameter).influence()
        error = squared_bias_bound(estimator, rounds, parameter)
        error += float(shares.var()) / len(shares)
        if error < least:
            best, least = parameter, error
    return best


def squared_bias_bound(estimator: Estimator, rounds: Rounds, parameter: float) -> float:
    """Returns the square of the bound in `mse_choice`."""
    weights = rounds.weights
    residuals = rounds.rewards.astype(np.float64)
    if estimator.has_reward_model:
        residuals = residuals - rounds.q_logged
    changed = changed_weights(estimator, weights, parameter)
    log_term, n = math.log(2 / _MSE_DELTA), len(weights)
    bias = abs(float(((weights - changed) * residuals).mean()))
    bias += math.sqrt(2 * float((weights**2).mean()) * log_term / n)
    bias += 2 * float(weights.max()) * log_term / (3 * n)
    return bias**2
