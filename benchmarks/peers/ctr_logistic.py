"""Logistic regression as scikit-learn has it: every value a weight, L2 chosen on validation.

Numbers come standardised and as one of twenty quantile bins, so that the model is no worse
off than those that can bend.

Run as `python -m benchmarks.peers.ctr_logistic TABLE OUTCOME [--quick]`.
"""

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp
from sklearn.linear_model import LogisticRegression

from benchmarks.ctr_contest import Setting, compete_by_files
from benchmarks.ctr_data import CtrTable

_BINS = 20


class Logistic:
    """Weighs one-hot columns.

    Args:
        strengths: scikit-learn's C, the smaller the stronger the penalty.
    """

    def __init__(self, strengths: list[float]):
        self._strengths = strengths

    def candidates(self, table: CtrTable) -> Iterator[tuple[Setting, np.ndarray]]:
        rows = one_hot(table.known())
        for strength in self._strengths:
            model = LogisticRegression(C=strength, max_iter=300)
            model.fit(rows[table.fit], table.labels[table.fit])
            later = rows[int(table.num_fit) :]
            yield {"C": strength}, model.predict_proba(later)[:, 1]


def one_hot(table: CtrTable) -> sp.csr_matrix:
    """Returns [N, D]; a list's values share a weight of 1, what is unknown has none."""
    numbers = standardised(table)
    parts = [sp.csr_matrix(numbers)]
    for place in range(numbers.shape[1]):
        column = numbers[:, place]
        edges = np.unique(np.quantile(column[table.fit], np.arange(1, _BINS) / _BINS))
        parts.append(_columns(np.searchsorted(edges, column)[:, np.newaxis] + 2))
    parts += [_columns(column[:, np.newaxis]) for column in table.categories.T]
    if table.lists.shape[1]:
        parts.append(_columns(table.lists))
    return sp.hstack(parts, format="csr")


def standardised(table: CtrTable) -> np.ndarray:
    """Returns the numbers with the mean 0 and the deviation 1 in the rows to fit."""
    known = table.numbers[table.fit]
    return (table.numbers - known.mean(axis=0)) / (known.std(axis=0) + 1e-9)


def _columns(numbers: np.ndarray) -> sp.csr_matrix:
    row, place = np.nonzero(numbers > 1)  # 0 is missing, 1 unknown
    counts = (numbers > 1).sum(axis=1)
    shape = (len(numbers), int(numbers.max()) + 1)
    return sp.csr_matrix((1 / counts[row], (row, numbers[row, place])), shape)


if __name__ == "__main__":
    compete_by_files({False: Logistic([0.03, 0.1, 0.3]), True: Logistic([0.1])})
