"""Which items are ranked for a request: the nearest that it may get, and enough of them.

Retrieval over-fetches by what may be excluded. Where that comes up short, of items that
are not excluded, that may be shown now, or that the caps of a slate allow together, the
rows that lack some are searched again, exactly and ever wider, to the whole catalogue.
"""

import tensorflow as tf

from models.index import Index
from models.policy import NO_VALUE, within_caps
from models.recommender_items import Caps, Windows

_WIDER = 8  # times as many items as in the search before


class CandidateSearch(tf.Module):
    """Finds the candidates of requests.

    Args:
        index: searches the N item vectors.
        exact_index: the same vectors searched exactly; `index` itself where it is exact.
        num_candidates: how many items are ranked per request, at least.
        windows: when items may be shown.
        caps: what slates are capped by.

    Attributes:
        values: int32 [N, L], as of `Caps`; None without caps.
    """

    def __init__(
        self,
        index: Index,
        exact_index: Index,
        num_candidates: int,
        windows: Windows | None = None,
        caps: Caps | None = None,
    ) -> None:
        super().__init__(name="candidate_search")
        self._index = index
        self._exact_index = exact_index
        self._num_candidates = num_candidates
        self._num_items = exact_index.num_items
        self._windows = windows
        self.values = None
        if caps is not None:
            self.values = tf.Variable(caps.values, trainable=False, name="values")
            self._limits = tf.constant(caps.limits, tf.int32)
            self._num_fitting = caps.num_fitting()

    def search(
        self, queries: tf.Tensor, banned: tf.Tensor, k: tf.Tensor, now: tf.Tensor
    ) -> tf.Tensor:
        """Returns int32 [B, C]: the rows to rank of each request, -1 behind them.

        Args:
            queries: [B, D] unit vectors.
            banned: int32 [B, X] rows, repeats and -1 allowed.
            k: int32 [B] >= 0, how many items the caller needs.
            now: int64 [B], ms; 0 or less where windows do not count.
        """
        request = _Request(self, queries, tf.sort(banned, axis=1), k, now)
        spare = tf.shape(banned)[1]
        if self._windows is not None:
            spare += tf.minimum(_largest(self._windows.num_closed(now)), request.width)
        fetch = tf.minimum(request.width + spare, self._num_items)
        rows, is_short = request.candidates(self._index, fetch)
        is_enough = self._index.is_exact and self.values is None
        if is_enough and self._windows is None:
            return rows
        if self._index.is_exact:
            is_over, next_fetch = fetch >= self._num_items, self._wider(fetch)
        else:
            is_over, next_fetch = tf.constant(False), fetch

        def again(rows, is_short, fetch, _):
            # Only the rows that came up short: an answer does not depend on which other
            # requests are in the batch.
            found, is_still_short = request.candidates(self._exact_index, fetch)
            rows = tf.where(is_short[:, tf.newaxis], found, rows)
            is_over = fetch >= self._num_items
            return rows, is_short & is_still_short, self._wider(fetch), is_over

        rows, *_ = tf.while_loop(
            lambda rows, is_short, fetch, is_over: tf.reduce_any(is_short) & ~is_over,
            again,
            [rows, is_short, next_fetch, is_over],
            shape_invariants=[
                tf.TensorShape([None, None]),
                tf.TensorShape([None]),
                tf.TensorShape([]),
                tf.TensorShape([]),
            ],
        )
        return rows

    def _wider(self, fetch: tf.Tensor) -> tf.Tensor:
        return tf.minimum(_WIDER * tf.maximum(fetch, 1), self._num_items)


class _Request:
    """What a batch of requests asks for; the arguments are those of `search`."""

    def __init__(self, search: CandidateSearch, queries, banned, k, now) -> None:
        self._queries = queries
        self._banned = banned
        self._now = now
        self._windows = search._windows
        self._k = k
        num_items = search._num_items
        self._wanted = tf.minimum(tf.maximum(k, search._num_candidates), num_items)
        self.width = _largest(self._wanted)
        self._available = num_items - self._num_lost()
        self._values = search.values
        if self._values is not None:
            self._limits = search._limits
            self._needed = tf.minimum(k, search._num_fitting)

    def candidates(self, index: Index, fetch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Searches once.

        Args:
            index: to search.
            fetch: int32 scalar, how many items are fetched.

        Returns:
            rows: int32 [B, width], nearest first, but for what makes up the number that
                the caps allow; -1 behind them.
            is_short: bool [B], whether more could be found.
        """
        rows = _without(index.search(self._queries, fetch)[1], self._banned)
        if self._windows is not None:
            rows = tf.where(self._windows.are_open(rows, self._now), rows, -1)
        # Stable: keeps the retrieval order among the allowed, the others behind them.
        order = tf.argsort(tf.cast(rows < 0, tf.int32), axis=1, stable=True)
        rows = tf.gather(rows, order, batch_dims=1)
        found = tf.reduce_sum(tf.cast(rows >= 0, tf.int32), axis=1)
        # An approximate index that finds enough to show is left alone.
        enough = self._wanted if index.is_exact else self._k
        is_short = found < tf.minimum(enough, self._available)
        if self._values is not None:
            rows, lacks = self._enough_that_fit(rows)
            is_short |= lacks
        is_inside = tf.range(tf.shape(rows)[1]) < self._wanted[:, tf.newaxis]
        rows = tf.where(is_inside, rows, -1)[:, : self.width]
        missing = tf.maximum(self.width - tf.shape(rows)[1], 0)
        return tf.pad(rows, [[0, 0], [0, missing]], constant_values=-1), is_short

    def _enough_that_fit(self, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Moves items that the caps allow together forward, where too few are ahead.

        Returns:
            rows: int32 [B, F].
            lacks: bool [B], whether even then there are too few.
        """
        values = tf.gather(self._values, tf.maximum(rows, 0))  # [B, F, L]
        values = tf.where(rows[..., tf.newaxis] >= 0, values, NO_VALUE)
        fits = within_caps(values, self._limits) & (rows >= 0)
        number = tf.cumsum(tf.cast(fits, tf.int32), axis=1)
        needed = self._needed[:, tf.newaxis]
        is_ahead = tf.range(tf.shape(rows)[1]) < self._wanted[:, tf.newaxis]
        num_ahead = tf.reduce_sum(tf.cast(fits & is_ahead, tf.int32), axis=1)
        is_moved = fits & (number <= needed) & (num_ahead[:, tf.newaxis] < needed)
        place = tf.where(is_moved, 0, tf.where(rows >= 0, 1, 2))
        order = tf.argsort(place, axis=1, stable=True)
        lacks = tf.reduce_sum(tf.cast(fits, tf.int32), axis=1) < self._needed
        return tf.gather(rows, order, batch_dims=1), lacks

    def _num_lost(self) -> tf.Tensor:
        """Returns int32 [B]: how many items a request may not get."""
        previous = tf.pad(self._banned, [[0, 0], [1, 0]], constant_values=-1)[:, :-1]
        is_first = (self._banned != previous) & (self._banned >= 0)
        if self._windows is None:
            return tf.reduce_sum(tf.cast(is_first, tf.int32), axis=1)
        is_first &= self._windows.are_open(self._banned, self._now)
        banned = tf.reduce_sum(tf.cast(is_first, tf.int32), axis=1)
        return banned + self._windows.num_closed(self._now)


def _largest(values: tf.Tensor) -> tf.Tensor:
    """Returns the largest of int32 [B]; 0 where B is 0 or all are below."""
    return tf.maximum(tf.reduce_max(values), 0)


def _without(rows: tf.Tensor, banned: tf.Tensor) -> tf.Tensor:
    """Replaces the rows that are banned by -1; `banned` is sorted along axis 1."""
    if banned.shape[1] == 0:
        return rows
    last = tf.shape(banned)[1] - 1

    def lookup() -> tf.Tensor:
        position = tf.minimum(tf.searchsorted(banned, rows), last)
        is_banned = tf.gather(banned, position, batch_dims=1) == rows
        return tf.where(is_banned, -1, rows)

    return tf.cond(last < 0, lambda: rows, lookup)
