"""A small table of labelled rows, by hand."""

import numpy as np

from benchmarks.ctr_data import CtrTable


def table(num_rows=60, seed=0) -> CtrTable:
    """Returns rows in which the second column decides most of the label."""
    rng = np.random.default_rng(seed)
    categories = np.stack(
        [
            rng.integers(1, 8, num_rows),
            rng.integers(1, 12, num_rows),
            rng.integers(0, 4, num_rows),
        ],
        axis=1,
    ).astype(np.int32)
    probs = np.where(categories[:, 1] > 6, 0.9, 0.1)
    history = np.zeros([num_rows, 4], np.int32)
    history[:, 2:] = rng.integers(1, 12, [num_rows, 2])
    return CtrTable(
        labels=(rng.random(num_rows) < probs).astype(np.float32),
        categories=categories,
        category_names=np.array(["user_id", "item_id", "context_device"]),
        numbers=rng.normal(2.0, 3.0, [num_rows, 1]).astype(np.float32),
        number_names=np.array(["item_price"]),
        lists=rng.integers(0, 5, [num_rows, 3]).astype(np.int32),
        list_name=np.array("item_genres"),
        history=history,
        num_fit=np.array(num_rows * 6 // 10),
        num_train=np.array(num_rows * 8 // 10),
    )
