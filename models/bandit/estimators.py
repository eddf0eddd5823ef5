"""What a policy would have earned, from a log of what another one showed.

Every estimator here is a mean over logged rounds of one form,

    value = mean(direct) + mean(correction) / mean(normaliser)

so a round adds to it by itself, and one bootstrap and one variance serve all of them. In
a round i the logging policy showed a_i with the chance pi_b(a_i | x_i) and earned r_i;
w_i = pi_e(a_i | x_i) / pi_b(a_i | x_i), and q is a model of the reward that has not seen
the round (`reward_model.py`). A slate is a round for each of its places, see `slates.py`.
MRDR is `dr` with a reward model fitted for it, see `mrdr.py`.

Absent on purpose: estimators that learn the propensities; a log that was served by Tandem
has the true ones.

References:
    [1] Dudik et al. Doubly Robust Policy Evaluation and Optimization. Statistical Science
        2014. (IPS, DM, DR, Switch-DR's weights)
    [2] Swaminathan, Joachims. The Self-Normalized Estimator for Counterfactual Learning.
        NeurIPS 2015. (SNIPS)
    [3] Wang et al. Optimal and Adaptive Off-policy Evaluation in Contextual Bandits. ICML
        2017. (Switch-DR)
    [4] Su et al. Doubly Robust Off-policy Evaluation with Shrinkage. ICML 2020. Section
        3.2. (clipping, DR with optimistic shrinkage)
    [5] Metelli et al. Subgaussian and Differentiable Importance Sampling for Off-Policy
        Evaluation and Learning. NeurIPS 2021. Equation 6 with s = -1. (sub-Gaussian)
"""

import dataclasses
import enum

import numpy as np


class Estimator(enum.Enum):
    """The estimators; those with a parameter interpolate between two others."""

    IPS = "ips"
    CLIPPED_IPS = "clipped_ips"
    SNIPS = "snips"
    SG_IPS = "sg_ips"
    DM = "dm"
    DR = "dr"
    CLIPPED_DR = "clipped_dr"
    SNDR = "sndr"
    SWITCH_DR = "switch_dr"
    DROS = "dros"
    SG_DR = "sg_dr"

    @property
    def has_reward_model(self) -> bool:
        """Whether it needs q."""
        return self not in _BY_WEIGHTS_ALONE

    @property
    def has_parameter(self) -> bool:
        """Whether its weights are changed by a number that somebody has to choose."""
        return self in _WEIGHTS

    @property
    def is_self_normalised(self) -> bool:
        """Whether it divides by the mean weight."""
        return self in (Estimator.SNIPS, Estimator.SNDR)


@dataclasses.dataclass(frozen=True)
class Rounds:
    """What the estimators read of N rounds.

    Attributes:
        rewards: [N] r_i.
        weights: [N] w_i, 0 or more.
        q_logged: [N] q(x_i, a_i); None without a reward model.
        q_target: [N] sum over a of pi_e(a | x_i) q(x_i, a); None without.

    Raises:
        ValueError: if the arrays differ in length or hold what cannot be.
    """

    rewards: np.ndarray
    weights: np.ndarray
    q_logged: np.ndarray | None = None
    q_target: np.ndarray | None = None

    def __post_init__(self) -> None:
        if (self.q_logged is None) != (self.q_target is None):
            raise ValueError(
                "`q_logged` and `q_target` go together; give both or none."
            )
        shape = (len(self.rewards),)
        for field in dataclasses.fields(self):
            values = getattr(self, field.name)
            if values is None:
                continue
            if values.shape != shape:
                raise ValueError(
                    f"`{field.name}` should be of the shape of `rewards`, {shape}. "
                    f"Received: {values.shape}"
                )
            if not np.isfinite(values).all():
                row = int(np.flatnonzero(~np.isfinite(values))[0])
                raise ValueError(
                    f"`{field.name}` should hold numbers. Received: {values[row]} in "
                    f"row {row}"
                )
        if not len(self.rewards):
            raise ValueError("there should be at least one round. Received: none")
        if self.weights.min() < 0:
            row = int(np.argmin(self.weights))
            raise ValueError(
                "`weights` should be 0 or more. Received: "
                f"{self.weights[row]} in row {row}"
            )


@dataclasses.dataclass(frozen=True)
class Contributions:
    """What each of N rounds adds to an estimate.

    value = mean(direct) + mean(correction) / mean(normaliser)

    Attributes:
        direct, correction, normaliser: [N]; where an estimator does not normalise itself,
            its normaliser is 1 in every round.
    """

    direct: np.ndarray
    correction: np.ndarray
    normaliser: np.ndarray

    @property
    def value(self) -> float:
        """Returns the estimate; without any weight, what is direct alone."""
        norm = self.normaliser.mean()
        corrected = self.correction.mean() / norm if norm > 0 else 0.0
        return float(self.direct.mean() + corrected)

    def influence(self) -> np.ndarray:
        """Returns [N] numbers with the estimate as mean and its spread.

        influence[i] = direct[i] + correction[i] / norm - (ratio / norm) (normaliser[i] - norm)

        with norm = mean(normaliser), ratio = mean(correction) / norm: the estimate to
        first order in each round (delta method). Its variance by N is the estimate's.
        """
        norm = self.normaliser.mean()
        if not norm > 0:
            return self.direct.copy()
        ratio = self.correction.mean() / norm
        change = (self.correction - ratio * (self.normaliser - norm)) / norm
        return self.direct + change


def contributions(
    estimator: Estimator, rounds: Rounds, parameter: float | None = None
) -> Contributions:
    """Returns what each round adds to an estimate.

    ips, clipped_ips, sg_ips:   v r
    snips:                      w r / mean(w)
    dm:                         q_target
    dr, clipped_dr, switch_dr,
    dros, sg_dr:                q_target + v (r - q_logged)
    sndr:                       q_target + w (r - q_logged) / mean(w)

    where v are the weights w, changed by the parameter where there is one: see
    `clipped`, `switched`, `shrunk` and `sub_gaussian`.

    Args:
        estimator: which.
        rounds: the log.
        parameter: for estimators that have one.

    Raises:
        ValueError: if `rounds` has no reward model where one is needed, or a parameter is
            missing, superfluous or out of range.
    """
    if estimator.has_parameter != (parameter is not None):
        needs = "a parameter" if estimator.has_parameter else "no parameter"
        raise ValueError(f"`{estimator.value}` takes {needs}. Received: {parameter}")
    if estimator.has_reward_model and rounds.q_logged is None:
        raise ValueError(
            f"`{estimator.value}` needs a reward model: give `q_logged` and `q_target`."
        )
    weights = changed_weights(estimator, rounds.weights, parameter)
    nothing, one = np.zeros(len(weights)), np.ones(len(weights))
    if estimator is Estimator.DM:
        return Contributions(rounds.q_target.astype(np.float64), nothing, one)
    normaliser = weights if estimator.is_self_normalised else one
    if not estimator.has_reward_model:
        return Contributions(nothing, weights * rounds.rewards, normaliser)
    correction = weights * (rounds.rewards - rounds.q_logged)
    return Contributions(rounds.q_target.astype(np.float64), correction, normaliser)


def changed_weights(
    estimator: Estimator, weights: np.ndarray, parameter: float | None
) -> np.ndarray:
    """Returns [N] the weights that an estimator multiplies with."""
    if estimator is Estimator.DM:
        return np.zeros(len(weights))
    if not estimator.has_parameter:
        return weights.astype(np.float64)
    return _WEIGHTS[estimator](weights.astype(np.float64), float(parameter))


def clipped(weights: np.ndarray, largest: float) -> np.ndarray:
    """Returns min(w, largest): a large weight counts, but not for more [4]."""
    _check(largest >= 0, "largest", "0 or more", largest)
    return np.minimum(weights, largest)


def switched(weights: np.ndarray, largest: float) -> np.ndarray:
    """Returns w where w <= largest, else 0: the model is trusted there instead [3].

    0 makes DR the direct method, infinity leaves it as it is.
    """
    _check(largest >= 0, "largest", "0 or more", largest)
    return np.where(weights <= largest, weights, 0.0)


def shrunk(weights: np.ndarray, strength: float) -> np.ndarray:
    """Returns strength w / (w^2 + strength): the larger a weight, the more it shrinks [4].

    0 makes DR the direct method, infinity leaves it as it is.
    """
    _check(strength >= 0, "strength", "0 or more", strength)
    if np.isinf(strength):
        return weights
    with np.errstate(invalid="ignore"):
        found = strength * weights / (weights**2 + strength)
    return np.where(weights > 0, found, 0.0)  # 0 / 0 where both are 0


def sub_gaussian(weights: np.ndarray, mixture: float) -> np.ndarray:
    """Returns w / (1 - mixture + mixture w): never above 1 / mixture [5].

    0 leaves the weights as they are, 1 makes all that are above 0 equal to 1.
    """
    _check(0 <= mixture <= 1, "mixture", "from 0 to 1", mixture)
    denominator = 1 - mixture + mixture * weights
    return np.divide(
        weights, denominator, out=np.zeros_like(weights), where=weights > 0
    )


def _check(is_right: bool, name: str, expected: str, seen: float) -> None:
    if not is_right:
        raise ValueError(f"`{name}` should be {expected}. Received: {seen}")


_BY_WEIGHTS_ALONE = frozenset(
    {Estimator.IPS, Estimator.CLIPPED_IPS, Estimator.SNIPS, Estimator.SG_IPS}
)
_WEIGHTS = {
    Estimator.CLIPPED_IPS: clipped,
    Estimator.CLIPPED_DR: clipped,
    Estimator.SWITCH_DR: switched,
    Estimator.DROS: shrunk,
    Estimator.SG_IPS: sub_gaussian,
    Estimator.SG_DR: sub_gaussian,
}
