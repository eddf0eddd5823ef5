"""LinUCB, disjoint and hybrid: what the Bayesian factorisation machine is compared with.

Ridge regression of the reward on features, and an upper bound on what it predicts. NumPy
only: a baseline of simulations, not served.
"""

import numpy as np


class DisjointLinUCB:
    """Each arm has a linear model of its own.

    theta_a = A_a^-1 b_a,  score = theta_a' x + alpha sqrt(x' A_a^-1 x)
    A_a starts at the identity and grows by x x'; b_a by reward * x.

    A_a^-1 is kept by the formula of Sherman and Morrison, O(D^2) an event.

    Args:
        num_arms: number of arms.
        num_features: length D of x.
        alpha: how far above the mean the bound lies.

    References:
        [1] Li et al. A Contextual-Bandit Approach to Personalized News Article
            Recommendation. WWW 2010. Algorithm 1.
    """

    def __init__(self, num_arms: int, num_features: int, alpha: float = 1.0) -> None:
        self.alpha = alpha
        self._inverse = np.tile(np.eye(num_features), (num_arms, 1, 1))
        self._sums = np.zeros((num_arms, num_features))

    def predict(self, arms: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns means and standard deviations.

        Args:
            arms: [...] int.
            x: [..., D].

        Returns:
            means, deviations: [...], in units of the reward's noise.
        """
        projected = np.einsum("...de,...e->...d", self._inverse[arms], x)
        means = np.einsum("...d,...d->...", projected, self._sums[arms])
        variances = np.einsum("...d,...d->...", projected, x)
        return means, np.sqrt(variances)

    def bounds(self, arms: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Returns the upper bounds [...] by which arms are chosen."""
        means, deviations = self.predict(arms, x)
        return means + self.alpha * deviations

    def update(self, arm: int, x: np.ndarray, reward: float) -> None:
        """Learns from one event.

        Args:
            arm: the arm that was played.
            x: [D].
            reward: what it gave.
        """
        _grow(self._inverse[arm], x)
        self._sums[arm] += reward * x


class HybridLinUCB:
    """Each arm's linear model beside one that all arms share.

    score = beta' z + theta_a' x + alpha sqrt(variance): ridge regression on z together
    with x in the columns of its arm. Arms are eliminated from the equations, so that an
    event costs O(D^2 + Z^2 + D Z) whatever the number of arms.

    Args:
        num_arms: number of arms.
        num_features: length D of x.
        num_shared: length Z of z.
        alpha: how far above the mean the bound lies.

    References:
        [1] Li et al. WWW 2010. Algorithm 2. An update changes A_0 there by three terms;
            they add up to one of rank one.
    """

    def __init__(
        self, num_arms: int, num_features: int, num_shared: int, alpha: float = 1.0
    ) -> None:
        self.alpha = alpha
        self._shared_inverse = np.eye(num_shared)  # A_0^-1
        self._shared_sums = np.zeros(num_shared)  # b_0
        self._inverse = np.tile(np.eye(num_features), (num_arms, 1, 1))  # A_a^-1
        self._cross = np.zeros((num_arms, num_features, num_shared))  # B_a
        self._sums = np.zeros((num_arms, num_features))  # b_a

    def predict(
        self, arms: np.ndarray, x: np.ndarray, z: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns means and standard deviations [...].

        Args:
            arms: [...] int.
            x: [..., D].
            z: [..., Z].
        """
        beta = self._shared_inverse @ self._shared_sums
        projected = np.einsum("...de,...e->...d", self._inverse[arms], x)
        left = z - np.einsum("...dz,...d->...z", self._cross[arms], projected)
        own = np.einsum("...d,...d->...", projected, self._sums[arms])
        variances = np.einsum("...d,...d->...", projected, x)
        variances += np.einsum("...z,zy,...y->...", left, self._shared_inverse, left)
        return own + left @ beta, np.sqrt(variances)

    def bounds(self, arms: np.ndarray, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Returns the upper bounds [...] by which arms are chosen."""
        means, deviations = self.predict(arms, x, z)
        return means + self.alpha * deviations

    def update(self, arm: int, x: np.ndarray, z: np.ndarray, reward: float) -> None:
        """Learns from one event; see `DisjointLinUCB.update`, and z is [Z]."""
        projected = self._inverse[arm] @ x
        noise = 1.0 + projected @ x
        left = z - projected @ self._cross[arm]
        _grow(self._shared_inverse, left / np.sqrt(noise))
        self._shared_sums += left * (reward - projected @ self._sums[arm]) / noise
        self._inverse[arm] -= np.outer(projected, projected) / noise
        self._cross[arm] += np.outer(x, z)
        self._sums[arm] += reward * x


def _grow(inverse: np.ndarray, x: np.ndarray) -> None:
    """Turns A^-1 into (A + x x')^-1, in place."""
    projected = inverse @ x
    inverse -= np.outer(projected, projected) / (1.0 + projected @ x)
