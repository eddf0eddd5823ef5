"""Brute force as a contestant of `benchmarks.ann_index`, by NumPy and by TensorFlow."""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from benchmarks.ann_contestant import Search, Sweep, arguments, compete
from benchmarks.ann_world import K
from models.index import ExactIndex

_BATCHES = (32, 128, 256)


def sweeps(items: np.ndarray) -> Iterator[Sweep]:
    """Yields both, in batches of some sizes: the fastest counts."""
    yield Sweep({"by": "numpy"}, [1], lambda _: _by_numpy(items, _BATCHES[0]), "effort")
    index = ExactIndex(items)
    graph = tf.function(
        lambda queries: index.search(queries, K)[1],
        input_signature=[tf.TensorSpec([None, items.shape[1]], tf.float32)],
    )
    for batch in _BATCHES:
        yield Sweep(
            {"by": "tensorflow", "batch": batch},
            [1],
            lambda _, batch=batch: _in_batches(lambda q: graph(q).numpy(), batch),
        )


def _by_numpy(items: np.ndarray, batch: int) -> Search:
    def search(queries: np.ndarray) -> np.ndarray:
        products = queries @ items.T
        return np.argpartition(products, -K, axis=1)[:, -K:]

    return _in_batches(search, batch)


def _in_batches(search: Search, batch: int) -> Search:
    return lambda queries: np.concatenate(
        [
            search(queries[start : start + batch])
            for start in range(0, len(queries), batch)
        ]
    )


if __name__ == "__main__":
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    world, core, _ = arguments()
    compete(sweeps(world.items), world, core)
