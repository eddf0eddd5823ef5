"""A catalogue of clustered unit vectors, and queries like them; needs NumPy alone.

Item vectors of a trained tower lie in clusters of uneven sizes. So do these: centres are
drawn at random, the share of the r-th is proportional to r ** -0.5, and a vector lies as
far from its centre as the centre from the origin, before both are scaled to length 1.
"""

import dataclasses
from pathlib import Path

import numpy as np

K = 100
DIM = 64
ITEMS_PER_CLUSTER = 2000
NUM_QUERIES = 1000  # to tune on, and as many to measure with
_CHUNK = 100_000
_FILES = ("items", "tuning", "measuring", "tuning_truth", "measuring_truth")


@dataclasses.dataclass(frozen=True)
class World:
    """Items, two sets of queries, and the rows of each query's K best items."""

    items: np.ndarray  # [N, D] float32
    tuning: np.ndarray  # [Q, D] float32
    measuring: np.ndarray  # [Q, D] float32
    tuning_truth: np.ndarray  # [Q, K] int32
    measuring_truth: np.ndarray  # [Q, K] int32

    @classmethod
    def draw(cls, num_items: int, seed: int, num_queries: int = NUM_QUERIES) -> "World":
        """Returns a world; the same seed gives the same one."""
        random = np.random.default_rng(seed)
        num_clusters = max(2, num_items // ITEMS_PER_CLUSTER)
        centres = random.standard_normal([num_clusters, DIM], np.float32)
        shares = np.arange(1, num_clusters + 1) ** -0.5
        shares /= shares.sum()

        def vectors(count: int) -> np.ndarray:
            drawn = centres[random.choice(num_clusters, count, p=shares)]
            drawn += random.standard_normal(drawn.shape, np.float32)
            return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)

        items, tuning, measuring = map(vectors, (num_items, num_queries, num_queries))
        return cls(
            items,
            tuning,
            measuring,
            nearest(items, tuning, K),
            nearest(items, measuring, K),
        )

    def save(self, folder: Path) -> None:
        """Writes what `load` reads."""
        for name in _FILES:
            np.save(folder / f"{name}.npy", getattr(self, name))

    @classmethod
    def load(cls, folder: Path) -> "World":
        return cls(*(np.load(folder / f"{name}.npy") for name in _FILES))


def nearest(items: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """Returns the rows of the k largest inner products of each query, int32 [Q, k]."""
    best = np.zeros([len(queries), 0], np.float32)
    rows = np.zeros([len(queries), 0], np.int32)
    for start in range(0, len(items), _CHUNK):
        products = queries @ items[start : start + _CHUNK].T
        numbers = np.arange(start, start + products.shape[1], dtype=np.int32)
        best = np.concatenate([best, products], axis=1)
        rows = np.concatenate([rows, np.tile(numbers, [len(queries), 1])], axis=1)
        if best.shape[1] > k:
            kept = np.argpartition(best, -k, axis=1)[:, -k:]
            best = np.take_along_axis(best, kept, axis=1)
            rows = np.take_along_axis(rows, kept, axis=1)
    return np.take_along_axis(rows, np.lexsort([rows, -best]), axis=1)


def recalls(rows: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Returns the share of each query's true rows that were found, [Q]."""
    found = [np.isin(true, row).mean() for true, row in zip(truth, rows, strict=True)]
    return np.array(found)
