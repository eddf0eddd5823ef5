"""A built index brought up to date: new vectors beside it, deleted rows passed over.

Building an approximate index of a large catalogue takes minutes; a few new items do not
need it. They are searched exactly, in a segment of their own, and the answers of both
are merged in the graph. An item that is gone, or whose vector changed, stays in the
built index as a tombstone: found, and passed over.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from models.index.exact_index import ExactIndex
from models.index.interface import Index, Result, padded

# Beside the tombstones that an even spread puts among the results: twice as many, and
# these. Where it was too few, a second search passes over all of them.
_SPARE = 8


class SegmentedIndex(tf.Module):
    """Searches a main index and a segment of fresh vectors as one.

    Its rows are those of the new catalogue, 0 .. `num_items` - 1, as an index built from
    it would number them. Where the main index is exact and `main_rows` ascends, the
    answers are those of such an index.

    Args:
        main: the built index, of M rows.
        main_rows: int [M], the row that each row of `main` has now; -1 where the item
            is gone, or is in `fresh` with another vector.
        fresh: [F, D] float32, the vectors that `main` lacks; F may be 0. A `tf.Variable`
            is shared.
        fresh_rows: int [F], the row of each.
    """

    def __init__(
        self,
        main: Index,
        main_rows: np.ndarray,
        fresh: np.ndarray | tf.Variable,
        fresh_rows: np.ndarray,
        name: str | None = None,
    ):
        super().__init__(name=name)
        _check_rows(main, main_rows, fresh, fresh_rows)
        self._main = main
        self._fresh = ExactIndex(fresh) if len(fresh_rows) else None
        self._rows = {
            "main": np.asarray(main_rows, np.int32),
            "fresh": np.asarray(fresh_rows, np.int32),
        }
        self._num_live = int((self._rows["main"] >= 0).sum())
        self._main_rows = tf.constant(self._rows["main"])
        self._fresh_rows = tf.constant(self._rows["fresh"])

    @property
    def is_exact(self) -> bool:
        return self._main.is_exact

    @property
    def num_items(self) -> int:
        return self._num_live + len(self._rows["fresh"])

    @property
    def num_fresh(self) -> int:
        """Rows of the fresh segment."""
        return len(self._rows["fresh"])

    @property
    def num_tombstones(self) -> int:
        """Rows of the main index that are passed over."""
        return len(self._rows["main"]) - self._num_live

    @property
    def changed_share(self) -> float:
        """Fresh rows and tombstones for each row of the main index.

        Both make a search slower; a large share says that it is time to build anew.
        """
        return (self.num_fresh + self.num_tombstones) / len(self._rows["main"])

    def search(self, queries: tf.Tensor, k: tf.Tensor | int) -> Result:
        """See `Index.search`."""
        k = tf.maximum(tf.cast(k, tf.int32), 0)
        wanted = tf.minimum(k, self.num_items)
        scores, rows = self._search_main(queries, wanted)
        if self._fresh is not None:
            more_scores, places = self._fresh.search(
                queries, tf.minimum(wanted, self.num_fresh)
            )
            more_rows = tf.gather(self._fresh_rows, places)
            scores = tf.concat([scores, more_scores], axis=1)
            rows = tf.concat([rows, more_rows], axis=1)
            # `top_k` keeps the order of equal scores: make that the order of rows.
            order = tf.argsort(rows, axis=1, stable=True)
            scores = tf.gather(scores, order, batch_dims=1)
            rows = tf.gather(rows, order, batch_dims=1)
        return padded(*_best(scores, rows, wanted), k)

    def exact(self) -> "SegmentedIndex":
        """See `Index.exact`."""
        if self.is_exact:
            return self
        fresh = np.zeros([0, 1]) if self._fresh is None else self._fresh.embeddings
        return SegmentedIndex(
            self._main.exact(), self._rows["main"], fresh, self._rows["fresh"]
        )

    def _search_main(self, queries: tf.Tensor, wanted: tf.Tensor) -> Result:
        """Returns [B, wanted]: the main index's best rows that are still there."""
        if self.num_tombstones == 0:
            return self._renumbered(queries, wanted, wanted)
        share = self.num_tombstones / len(self._rows["main"])
        among = tf.math.ceil(tf.cast(wanted, tf.float32) * 2 * share)
        spare = tf.minimum(tf.cast(among, tf.int32) + _SPARE, self.num_tombstones)
        scores, rows = self._renumbered(queries, wanted, wanted + spare)
        found = tf.reduce_sum(tf.cast(rows >= 0, tf.int32), axis=1)
        is_short = found < tf.minimum(wanted, self._num_live)  # [B]

        def all_passed_over() -> Result:
            # Only the queries that came up short: an answer does not depend on which
            # other queries are in the batch.
            more_scores, more_rows = self._renumbered(
                queries, wanted, wanted + self.num_tombstones
            )
            which = is_short[:, tf.newaxis]
            return (
                tf.where(which, more_scores, scores),
                tf.where(which, more_rows, rows),
            )

        return tf.cond(tf.reduce_any(is_short), all_passed_over, lambda: (scores, rows))

    def _renumbered(
        self, queries: tf.Tensor, wanted: tf.Tensor, fetched: tf.Tensor
    ) -> Result:
        """Returns the best `wanted` that are alive of the `fetched` best."""
        scores, found = self._main.search(queries, fetched)
        rows = tf.gather(self._main_rows, tf.maximum(found, 0))
        is_alive = (found >= 0) & (rows >= 0)
        scores = tf.where(is_alive, scores, float("-inf"))
        return _best(scores, tf.where(is_alive, rows, -1), wanted)


def refreshed_index(
    main: Index,
    main_ids: Sequence[str],
    main_vectors: np.ndarray,
    item_ids: Sequence[str],
    embeddings: np.ndarray,
) -> SegmentedIndex:
    """Returns an index of a new catalogue that reuses one built for an older catalogue.

    An item is taken from `main` where its vector is the same to the last bit; otherwise
    it goes into the fresh segment. So items may have been added, deleted, changed and
    taken back, in any order, since `main` was built.

    Args:
        main: the index as built, not itself segmented.
        main_ids: the M ids of its rows.
        main_vectors: [M, D] float32, what it was built from.
        item_ids: the N ids of the new catalogue.
        embeddings: [N, D] float32, their vectors.

    Returns:
        index: row i belongs to `item_ids[i]`.

    Raises:
        ValueError: if an id occurs twice, or lengths or dimensions disagree.
    """
    for name, ids, vectors in (
        ("main_ids", main_ids, main_vectors),
        ("item_ids", item_ids, embeddings),
    ):
        if len(ids) != len(vectors) or len(set(ids)) != len(ids):
            raise ValueError(
                f"`{name}` should be distinct, one for each vector. Received: "
                f"{len(ids)} ids, {len(set(ids))} distinct, {len(vectors)} vectors"
            )
    old_row = {item: row for row, item in enumerate(main_ids)}
    old = np.array([old_row.get(item, -1) for item in item_ids], np.int64)
    is_kept = old >= 0
    is_kept[is_kept] = (main_vectors[old[is_kept]] == embeddings[is_kept]).all(axis=1)
    main_rows = np.full(len(main_ids), -1, np.int32)
    main_rows[old[is_kept]] = np.flatnonzero(is_kept)
    return SegmentedIndex(
        main, main_rows, embeddings[~is_kept], np.flatnonzero(~is_kept)
    )


def _best(scores: tf.Tensor, rows: tf.Tensor, k: tf.Tensor) -> Result:
    """Returns the k of the largest scores, [B, k]; of equal ones the first."""
    scores, rows = padded(scores, rows, k)
    scores, order = tf.math.top_k(scores, k)
    return scores, tf.gather(rows, order, batch_dims=1)


def _check_rows(
    main: Index,
    main_rows: np.ndarray,
    fresh: np.ndarray | tf.Variable,
    fresh_rows: np.ndarray,
) -> None:
    if len(main_rows) != main.num_items or len(fresh_rows) != fresh.shape[0]:
        raise ValueError(
            "`main_rows` and `fresh_rows` should name a row for each vector. Received: "
            f"{len(main_rows)} for {main.num_items} vectors of the main index, "
            f"{len(fresh_rows)} for {fresh.shape[0]} fresh ones"
        )
    kept = np.asarray(main_rows)
    rows = np.sort(np.concatenate([kept[kept >= 0], np.asarray(fresh_rows)]))
    if len(rows) == 0 or not np.array_equal(rows, np.arange(len(rows))):
        raise ValueError(
            "`main_rows` and `fresh_rows` should number the items from 0, each once. "
            f"Received: {len(rows)} rows, {len(np.unique(rows))} distinct, up to "
            f"{rows.max(initial=-1)}"
        )
