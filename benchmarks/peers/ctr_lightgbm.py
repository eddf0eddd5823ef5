"""LightGBM, stopped when validation gets no better.

Categories are told to it as such, those with many values too, and smoothed ten times as much
as by default, which is better on trivago; a list becomes a column a value.

Run as `python -m benchmarks.peers.ctr_lightgbm TABLE OUTCOME [--quick]`.
"""

from collections.abc import Iterator

import lightgbm
import numpy as np

from benchmarks.ctr_contest import Setting, compete_by_files
from benchmarks.ctr_data import CtrTable

_PATIENCE = 50


class LightGbm:
    """Grows trees.

    Args:
        settings: of LightGBM.
        rounds: trees at most.
    """

    def __init__(self, settings: list[Setting], rounds: int):
        self._settings = settings
        self._rounds = rounds

    def candidates(self, table: CtrTable) -> Iterator[tuple[Setting, np.ndarray]]:
        rows, categorical = matrix(table.known())
        for setting in self._settings:
            data = lightgbm.Dataset(
                rows[table.fit],
                table.labels[table.fit],
                categorical_feature=categorical,
                free_raw_data=False,
            )
            later = data.create_valid(
                rows[table.validation], table.labels[table.validation]
            )
            model = lightgbm.train(
                {"objective": "binary", "verbosity": -1, "seed": 0, **setting},
                data,
                self._rounds,
                valid_sets=[later],
                callbacks=[lightgbm.early_stopping(_PATIENCE, verbose=False)],
            )
            yield setting, model.predict(rows[int(table.num_fit) :])


def matrix(table: CtrTable) -> tuple[np.ndarray, list[int]]:
    """Returns [N, D], and which columns are categories."""
    lists = np.zeros([len(table.labels), int(table.lists.max(initial=0)) + 1], "f4")
    np.put_along_axis(lists, table.lists, 1.0, axis=1)
    columns = [table.categories, table.numbers, lists]
    return np.concatenate(columns, axis=1, dtype=np.float32), list(
        range(table.categories.shape[1])
    )


_LEARNING = {"learning_rate": 0.1, "cat_smooth": 100.0, "num_threads": 1}
FULL = LightGbm([{**_LEARNING, "num_leaves": n} for n in (15, 63)], rounds=2000)
QUICK = LightGbm([{**_LEARNING, "num_leaves": 15}], rounds=100)

if __name__ == "__main__":
    compete_by_files({False: FULL, True: QUICK})
