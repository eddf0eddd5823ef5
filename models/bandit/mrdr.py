"""The reward model that makes a doubly robust estimate vary least: MRDR.

Least squares fits q where the log is dense. What a doubly robust estimate needs is a q
that is right where the target policy goes and the log seldom went. The part of its
variance that depends on q is

    E_x[(pi_e o (q_hat - q))' Omega (pi_e o (q_hat - q))],  Omega = diag(1 / pi_b) - e e'

and `objective` estimates it, up to a constant, from the log. It needs both policies'
chances of every action. `weights` is the diagonal of it, which needs those of the logged
actions alone and goes with any regression that takes weights: exact where the target
policy is deterministic.

References:
    [1] Farajtabar et al. More Robust Doubly Robust Off-policy Evaluation. ICML 2018.
        Section 4.1, equations 9 to 11.
"""

import dataclasses
import enum

import numpy as np
from scipy.optimize import minimize


class Link(enum.Enum):
    """From a linear function of features to a reward."""

    IDENTITY = "identity"
    LOGISTIC = "logistic"  # for rewards from 0 to 1


@dataclasses.dataclass(frozen=True)
class MrdrModel:
    """A fitted reward model.

    Attributes:
        coefficients: [D + 1], the intercept last.
        link: how they become a reward.
    """

    coefficients: np.ndarray
    link: Link

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Returns q [...] of features [..., D]."""
        return _rewards(features, self.coefficients, self.link)[0]


def weights(
    target: np.ndarray, logging: np.ndarray, compat: str | None = None
) -> np.ndarray:
    """Returns what logged rounds weigh in a regression that is to be MRDR's.

    weights = target^2 (1 - logging) / logging^2

    The diagonal of `objective`, with the other actions left out. The first power of
    `target`, as Open Bandit Pipeline has it (`compat="obp"`), is the same for
    deterministic policies only.

    Args:
        target: [N] pi_e(a_i | x_i).
        logging: [N] pi_b(a_i | x_i), in (0, 1].
        compat: None, or "obp".
    """
    if compat not in (None, "obp"):
        raise ValueError(f"`compat` should be None or 'obp'. Received: {compat!r}")
    power = 1 if compat == "obp" else 2
    return target**power * (1 - logging) / logging**2


def objective(
    coefficients: np.ndarray,
    features: np.ndarray,
    actions: np.ndarray,
    rewards: np.ndarray,
    target: np.ndarray,
    logging: np.ndarray,
    link: Link,
) -> tuple[float, np.ndarray]:
    """Returns the part of DR's variance that q decides, as the log shows it.

    J = mean_i  w_i z_i' Omega_i z_i,   z_i[a] = pi_e(a | x_i) q(x_i, a) - 1{a = a_i} r_i
      = mean_i  w_i (sum_a z_i[a]^2 / pi_b(a | x_i) - (sum_a z_i[a])^2)

    Args:
        coefficients: [D + 1], the intercept last.
        features: [N, A, D] of each action in each round.
        actions: [N] int, what was shown.
        rewards: [N].
        target: [N, A] pi_e.
        logging: [N, A] pi_b; above 0 where `target` is.
        link: of the model.

    Returns:
        (J, gradient [D + 1]).
    """
    rounds = np.arange(len(actions))
    q, slope = _rewards(features, coefficients, link)  # [N, A]
    inverse = np.divide(1.0, logging, out=np.zeros_like(q), where=target > 0)
    z = target * q
    z[rounds, actions] -= rewards
    # An action that the target never shows has z = 0, but for the logged one: w is 0 there.
    importance = target[rounds, actions] / logging[rounds, actions]
    total = z.sum(axis=1)
    value = importance * ((z**2 * inverse).sum(axis=1) - total**2)
    by_q = importance[:, np.newaxis] * (z * inverse - total[:, np.newaxis])
    by_logit = 2 * by_q * target * slope / len(rounds)  # [N, A]
    gradient = np.append(
        np.tensordot(by_logit, features, axes=([0, 1], [0, 1])), by_logit.sum()
    )
    return float(value.mean()), gradient


def fit_mrdr(
    features: np.ndarray,
    actions: np.ndarray,
    rewards: np.ndarray,
    target: np.ndarray,
    logging: np.ndarray,
    link: Link = Link.IDENTITY,
    ridge: float = 1e-6,
) -> MrdrModel:
    """Fits q by the least `objective`, and a little ridge on all but the intercept.

    Features are brought to mean 0 and variance 1 meanwhile, so that one ridge suits all.

    Args:
        features: [N, A, D].
        actions: [N] int.
        rewards: [N].
        target: [N, A] pi_e.
        logging: [N, A] pi_b.
        link: of the model.
        ridge: on coefficients of standardised features, against mean squares.

    Raises:
        ValueError: if `logging` is 0 where `target` is not: no log can tell that value.
        RuntimeError: if the minimum was not found.
    """
    _check_support(actions, target, logging)
    axes = (0, 1)
    centre, scale = features.mean(axis=axes), features.std(axis=axes)
    scale = np.where(scale > 0, scale, 1.0)
    standard = (features - centre) / scale
    if link is Link.IDENTITY:
        fitted = _least_squares(standard, actions, rewards, target, logging, ridge)
    else:
        fitted = _descended(standard, actions, rewards, target, logging, ridge)
    slopes = fitted[:-1] / scale
    return MrdrModel(np.append(slopes, fitted[-1] - slopes @ centre), link)


def _least_squares(features, actions, rewards, target, logging, ridge) -> np.ndarray:
    """Returns [D + 1]: for a linear q the objective is a quadratic form."""
    rounds = np.arange(len(actions))
    ones = np.ones((*features.shape[:2], 1))
    features = np.concatenate([features, ones], axis=2)
    shown = target > 0
    by_action = np.divide(target**2, logging, out=np.zeros(target.shape), where=shown)
    importance = target[rounds, actions] / logging[rounds, actions]
    mean = np.einsum("na,nad->nd", target, features)
    weighted = (importance[:, np.newaxis] * by_action)[:, :, np.newaxis] * features
    square = np.tensordot(weighted, features, axes=([0, 1], [0, 1]))
    square -= (importance[:, np.newaxis] * mean).T @ mean
    logged = features[rounds, actions]
    pull = importance * rewards
    right = logged.T @ (pull * importance) - mean.T @ pull
    square[np.arange(len(square) - 1), np.arange(len(square) - 1)] += ridge * len(
        rounds
    )
    return np.linalg.lstsq(square, right, rcond=None)[0]


def _descended(features, actions, rewards, target, logging, ridge) -> np.ndarray:
    """Returns [D + 1] by L-BFGS, from the logit of the mean reward."""
    mean = float(np.clip(rewards.mean(), 1e-4, 1 - 1e-4))
    start = np.append(np.zeros(features.shape[2]), np.log(mean / (1 - mean)))

    # Rewards may be rare and weights large: in units of the start, tolerances mean the
    # same for every log.
    unit = abs(
        objective(start, features, actions, rewards, target, logging, Link.LOGISTIC)[0]
    )
    unit = unit or 1.0

    def penalised(coefficients: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = objective(
            coefficients, features, actions, rewards, target, logging, Link.LOGISTIC
        )
        slopes = np.append(coefficients[:-1], 0.0)
        value += ridge * slopes @ slopes
        return value / unit, (gradient + 2 * ridge * slopes) / unit

    options = {"maxiter": 2000, "maxfun": 20_000, "ftol": 1e-12, "gtol": 1e-8}
    found = minimize(penalised, start, jac=True, method="L-BFGS-B", options=options)
    if found.status == 1:  # out of iterations
        raise RuntimeError(
            f"MRDR's logistic fit did not converge in {found.nit} iterations; give a "
            "larger `ridge`."
        )
    return found.x


def _rewards(
    features: np.ndarray, coefficients: np.ndarray, link: Link
) -> tuple[np.ndarray, np.ndarray]:
    """Returns q and its derivative by the linear function."""
    linear = features @ coefficients[:-1] + coefficients[-1]
    if link is Link.IDENTITY:
        return linear, np.ones_like(linear)
    q = 0.5 * (1 + np.tanh(0.5 * linear))  # the sigmoid, without overflow
    return q, q * (1 - q)


def _check_support(
    actions: np.ndarray, target: np.ndarray, logging: np.ndarray
) -> None:
    if logging.shape != target.shape:
        raise ValueError(
            "`target` and `logging` should both be [rounds, actions]. Received: "
            f"{target.shape} and {logging.shape}"
        )
    lacking = (target > 0) & ~(logging > 0)
    lacking[np.arange(len(actions)), actions] |= ~(
        logging[np.arange(len(actions)), actions] > 0
    )
    if lacking.any():
        row, action = np.argwhere(lacking)[0]
        raise ValueError(
            "`logging` should be above 0 wherever `target` is, and for what was shown: "
            "else the log cannot tell the value. Received: "
            f"{logging[row, action]} against {target[row, action]} in round {row}, "
            f"action {action}"
        )
