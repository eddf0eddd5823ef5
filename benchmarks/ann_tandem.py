"""Tandem's index as a contestant of `benchmarks.ann_index`: ScaNN's op in a graph."""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from benchmarks.ann_contestant import Search, Sweep, arguments, compete, growing
from benchmarks.ann_world import K
from models.index import IndexKind, IndexSettings, ScannIndex

LEAVES_PER_ROOT = (1, 2)  # partitions, in roots of the number of items
REORDERED = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0)  # candidates scored exactly for each result


def sweeps(items: np.ndarray, quick: bool) -> Iterator[Sweep]:
    """Yields an index of each number of partitions, and of candidates.

    What grows is the number of partitions searched.
    """
    root = len(items) ** 0.5
    for times in LEAVES_PER_ROOT[:1] if quick else LEAVES_PER_ROOT:
        settings = IndexSettings(
            kind=IndexKind.SCANN, tree_above=0, num_leaves=round(times * root)
        )
        index = ScannIndex(items, settings)
        # Both counts are inputs of the one graph, as they are of the op.
        graph = tf.function(
            lambda queries, leaves, reordered, index=index: index.search_with(
                queries, K, leaves, reordered
            )[1],
            input_signature=[
                tf.TensorSpec([None, items.shape[1]], tf.float32),
                *[tf.TensorSpec([], tf.int32)] * 2,
            ],
        )
        for factor in REORDERED:
            reordered = round(K * factor)
            yield Sweep(
                {"num_leaves": index.num_leaves, "num_reordered": reordered},
                growing(1, index.num_leaves),
                lambda leaves, graph=graph, reordered=reordered: _search(
                    graph, leaves, reordered
                ),
                "leaves_to_search",
            )


def _search(graph: tf.types.experimental.GenericFunction, *counts: int) -> Search:
    inputs = [tf.constant(count, tf.int32) for count in counts]
    return lambda queries: graph(tf.constant(queries), *inputs).numpy()


if __name__ == "__main__":
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    world, core, quick = arguments()
    compete(sweeps(world.items, quick), world, core)
