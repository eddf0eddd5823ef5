"""A user's vector from a history alone, for factors that were learnt with users' own."""

import numpy as np
import scipy.sparse


def fold_in(
    histories: scipy.sparse.csr_matrix,
    factors: np.ndarray,
    scale: float,
    ridge: float | None,
) -> np.ndarray:
    """Returns [n, factors] vectors of users who are known by a history alone.

    Without `ridge`: scale * weighted mean of the items' factors. With it, scale times

        u = (sum_h c_h y_h y_h^T + w Y^T Y + ridge I)^-1 sum_h c_h y_h,
        w = sum_h c_h / items

    the least squares that draw the history's items to 1 and all items to 0, either side
    as heavy as the other.

    Args:
        histories: [n, items] the weight c of each item in the history.
        factors: [items, K], Y.
        scale: of the answer, beside a bias of the items that it does not touch.
        ridge: None takes the mean.
    """
    sums = histories @ factors  # [n, K]
    total = np.asarray(histories.sum(axis=1))[:, 0]
    if ridge is None:
        return scale * sums / np.maximum(total, 1e-9)[:, np.newaxis]
    all_items = factors.T @ factors / len(factors)
    users = np.empty_like(sums)
    for place in range(len(sums)):
        begin, end = histories.indptr[place : place + 2]
        own = factors[histories.indices[begin:end]]
        weighted = histories.data[begin:end, np.newaxis] * own
        system = own.T @ weighted + total[place] * all_items
        system[np.diag_indices_from(system)] += ridge
        users[place] = np.linalg.solve(system, sums[place])
    return scale * users
