"""Compares policies on a log of what one of them showed, with intervals and doubts.

`evaluate` is the whole question for one target policy: the weights, their diagnostics,
every estimator with its chosen parameter, and intervals by drawing users. Its parts are
array functions of their own: `estimators`, `slates`, `reward_model` and `mrdr`,
`estimator_choice`, `off_policy_intervals`, `off_policy_diagnostics`.

A target policy is given by its chance of what was logged, so a catalogue may be of any
size; with a reward model's q come the direct and the doubly robust estimators.
"""

import dataclasses
import functools
import math
from collections.abc import Iterable, Sequence

import numpy as np

from models.bandit.estimator_choice import chosen_parameter
from models.bandit.estimators import Contributions, Estimator, Rounds, contributions
from models.bandit.off_policy_diagnostics import (
    Diagnostics,
    by_position,
    check_propensities,
    check_target,
    diagnose,
)
from models.bandit.off_policy_intervals import (
    empirical_bernstein,
    of_users,
    resampled,
    standard_error,
    studentised_interval,
)
from models.bandit.off_policy_settings import OffPolicySettings
from models.bandit.slates import SlateModel, slate_weights

MRDR = "mrdr"


@dataclasses.dataclass(frozen=True)
class Log:
    """N logged rounds: what a policy showed, with which chance, and what came of it.

    Attributes:
        rewards: [N].
        propensities: [N] chance of what was shown, in (0, 1].
        users: [N] whose round it is; intervals draw them.
        positions: [N] int, place in the slate; zeros where there are no slates.
        slates: [N] which slate the place is of; needed where ratios multiply.
        least_propensity: what no chance is ever below by the logging policy's nature,
            such as its floor; None where that is not known.
    """

    rewards: np.ndarray
    propensities: np.ndarray
    users: np.ndarray
    positions: np.ndarray
    slates: np.ndarray | None = None
    least_propensity: float | None = None

    def __post_init__(self) -> None:
        check_propensities(self.propensities)
        least = self.least_propensity
        if least is not None and not 0 < least <= self.propensities.min():
            raise ValueError(
                "`least_propensity` should be above 0 and at most the least in the log, "
                f"{self.propensities.min():g}. Received: {least}"
            )

    @functools.cached_property
    def user_numbers(self) -> np.ndarray:
        """Returns [N] int64 for `users`: what compares names again and again is slow."""
        return np.unique(self.users, return_inverse=True)[1]


@dataclasses.dataclass(frozen=True)
class Target:
    """A policy on the rounds of a log.

    Attributes:
        propensities: [N] its chance of what was logged, at its place.
        q_logged, q_target: [N] see `estimators.Rounds`; None without a reward model.
        mrdr_logged, mrdr_target: the same of a model fitted by `mrdr`; None without.
        unsupported: share of its choices that the log cannot show; NaN if not known.
    """

    propensities: np.ndarray
    q_logged: np.ndarray | None = None
    q_target: np.ndarray | None = None
    mrdr_logged: np.ndarray | None = None
    mrdr_target: np.ndarray | None = None
    unsupported: float = math.nan


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What one estimator says.

    Attributes:
        value: the estimated mean reward of a round.
        low, high: its interval.
        standard_error: of the value, by the delta method.
        parameter: the chosen one, None where there is none.
    """

    value: float
    low: float
    high: float
    standard_error: float
    parameter: float | None = None


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What is known of a policy by a log.

    Attributes:
        estimates: by estimator's name; `mrdr` is DR with its own reward model.
        draws: by the same names [resamples], of the same users in every evaluation of one
            log, for paired differences.
        diagnostics: whether to believe it.
        positions: see `off_policy_diagnostics.by_position`.
        bernstein: an interval around `ips` that holds for any sample size; None where
            rewards or weights have no known bounds.
    """

    estimates: dict[str, Estimate]
    draws: dict[str, np.ndarray]
    diagnostics: Diagnostics
    positions: dict[int, dict[str, float]]
    bernstein: tuple[float, float] | None = None


def evaluate(
    log: Log,
    target: Target,
    settings: OffPolicySettings,
    slates: SlateModel = SlateModel.INDEPENDENT,
    estimators: Iterable[Estimator] = tuple(Estimator),
) -> Evaluation:
    """Estimates what a target policy would have earned.

    Args:
        log: what was shown.
        target: the policy.
        settings: confidence, parameters to choose from, bounds of the diagnostics.
        slates: how places of a slate go together.
        estimators: which, of those that the target's arrays allow.

    Raises:
        ValueError: if a chance is out of range, or the arrays do not go together.
    """
    check_target(target.propensities)
    ratios = target.propensities / log.propensities
    names = log.users if log.slates is None else log.slates
    weights = slate_weights(ratios, names, log.positions, slates)
    rounds = Rounds(log.rewards, weights, target.q_logged, target.q_target)
    parts: dict[str, Contributions] = {}
    chosen: dict[str, float | None] = {}
    for estimator in estimators:
        if estimator.has_reward_model and target.q_logged is None:
            continue
        parameter = None
        if estimator.has_parameter:
            parameter = chosen_parameter(
                estimator, rounds, settings.parameters, settings.choice
            )
        parts[estimator.value] = contributions(estimator, rounds, parameter)
        chosen[estimator.value] = parameter
    if target.mrdr_logged is not None:
        robust = Rounds(log.rewards, weights, target.mrdr_logged, target.mrdr_target)
        parts[MRDR] = contributions(Estimator.DR, robust)
        chosen[MRDR] = None
    found = _estimates(list(parts.values()), log.user_numbers, settings)
    estimates = {
        name: dataclasses.replace(estimate, parameter=chosen[name])
        for name, (estimate, _) in zip(parts, found, strict=True)
    }
    return Evaluation(
        estimates,
        {name: draws for name, (_, draws) in zip(parts, found, strict=True)},
        diagnose(weights, log.user_numbers, settings, target.unsupported),
        by_position(log.rewards, weights, log.positions),
        _bernstein(log, rounds, settings, slates),
    )


def logged_value(log: Log, settings: OffPolicySettings) -> tuple[Estimate, np.ndarray]:
    """Returns what the logging policy earned, and its draws of the same users."""
    ones = np.ones(len(log.rewards))
    part = Contributions(0 * ones, log.rewards.astype(np.float64), ones)
    return _estimates([part], log.user_numbers, settings)[0]


def _estimates(
    parts: Sequence[Contributions], users: np.ndarray, settings: OffPolicySettings
) -> list[tuple[Estimate, np.ndarray]]:
    """Returns each estimate with its interval, and its draws [resamples]."""
    draws = resampled(parts, users, settings.seed, settings.num_resamples)
    found = []
    for number, part in enumerate(parts):
        error = standard_error(part, users)
        values, errors = draws.values[:, number], draws.errors[:, number]
        low, high = studentised_interval(
            part.value, error, values, errors, settings.confidence
        )
        found.append((Estimate(part.value, low, high, error), values))
    return found


def _bernstein(
    log: Log, rounds: Rounds, settings: OffPolicySettings, slates: SlateModel
) -> tuple[float, float] | None:
    """Returns an interval of `ips` that needs no luck, where there are bounds for it.

    With rewards from 0 to 1 and single places, a round adds at most 1 / propensity; a
    user as often as they have rounds.
    """
    has_bounds = log.least_propensity is not None and slates is SlateModel.INDEPENDENT
    if not has_bounds or rounds.rewards.min() < 0 or rounds.rewards.max() > 1:
        return None
    values = of_users(contributions(Estimator.IPS, rounds), log.user_numbers)
    if len(values) < 2:
        return None
    counts = np.bincount(log.user_numbers)
    most = counts.max() * len(values) / len(log.users) / log.least_propensity
    return empirical_bernstein(values, 0.0, most, settings.confidence)
