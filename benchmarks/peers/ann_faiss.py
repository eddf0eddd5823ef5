"""faiss as a contestant of `benchmarks.ann_index`."""

import os
from collections.abc import Iterator

import faiss
import numpy as np

from benchmarks.ann_contestant import Search, Sweep, arguments, compete, growing
from benchmarks.ann_world import K

_TRAINED_PER_LIST = 64


def sweeps(items: np.ndarray, quick: bool) -> Iterator[Sweep]:
    """Yields partitions with 4-bit codes scored exactly after, and plain partitions.

    What grows is `nprobe`; for each number of candidates that are scored exactly, it is
    found anew.
    """
    faiss.omp_set_num_threads(os.cpu_count())
    root = round(len(items) ** 0.5)
    dim = items.shape[1]
    indexes = {}
    for num_lists in (root,) if quick else (root, 4 * root):
        codes = f"IVF{num_lists},PQ{dim // 2}x4fsr"  # r: of what a centre leaves over
        indexes[f"{codes},RFlat"] = faiss.index_factory(
            dim, f"{codes},RFlat", faiss.METRIC_INNER_PRODUCT
        )
        indexes[f"IVF{num_lists},Flat"] = faiss.index_factory(
            dim, f"IVF{num_lists},Flat", faiss.METRIC_INNER_PRODUCT
        )
    for index in indexes.values():
        num_lists = faiss.extract_index_ivf(index).nlist
        random = np.random.default_rng(0)
        sample = random.permutation(len(items))[: _TRAINED_PER_LIST * num_lists]
        index.train(items[sample])
        index.add(items)
    faiss.omp_set_num_threads(1)
    for name, index in indexes.items():
        # Beyond a quarter of the partitions it is slower than anything else here.
        efforts = growing(1, faiss.extract_index_ivf(index).nlist // 4)
        for factor in (1.5, 2, 3, 4, 6, 10, 16) if name.endswith("RFlat") else (0,):
            yield Sweep(
                {"index": name} | ({"k_factor": factor} if factor else {}),
                efforts,
                lambda nprobe, index=index, factor=factor: _search(
                    index, nprobe, factor
                ),
                "nprobe",
            )


def _search(index: faiss.Index, nprobe: int, k_factor: float) -> Search:
    inner = faiss.SearchParametersIVF(nprobe=nprobe)
    parameters = inner
    if k_factor:
        parameters = faiss.IndexRefineSearchParameters(
            k_factor=k_factor, base_index_params=inner
        )
    return lambda queries: index.search(queries, K, params=parameters)[1]


if __name__ == "__main__":
    world, core, quick = arguments()
    compete(sweeps(world.items, quick), world, core)
