"""hnswlib as a contestant of `benchmarks.ann_index`."""

import os
from collections.abc import Iterator

import hnswlib
import numpy as np

from benchmarks.ann_contestant import Search, Sweep, arguments, compete, growing
from benchmarks.ann_world import K

EF_CONSTRUCTION = 200


def sweeps(items: np.ndarray, quick: bool) -> Iterator[Sweep]:
    """Yields a graph of each number of links; what grows is `ef`."""
    for links in (16,) if quick else (16, 32):
        index = hnswlib.Index(space="ip", dim=items.shape[1])
        index.init_index(
            max_elements=len(items), M=links, ef_construction=EF_CONSTRUCTION
        )
        index.add_items(items, num_threads=os.cpu_count())

        def search_with(ef: int, index: hnswlib.Index = index) -> Search:
            def search(queries: np.ndarray) -> np.ndarray:
                index.set_ef(ef)
                return index.knn_query(queries, K, num_threads=1)[0]

            return search

        yield Sweep({"M": links}, growing(K, 4000), search_with, "ef")


if __name__ == "__main__":
    world, core, quick = arguments()
    compete(sweeps(world.items, quick), world, core)
