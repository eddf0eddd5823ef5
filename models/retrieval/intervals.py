"""How sure a mean over events is, when the events of one user are not independent.

Users are drawn, not events. Every figure of one `UserBootstrap` is computed on the same
draws, so a difference of two figures and its interval are paired.
"""

from collections.abc import Iterator

import numpy as np

_QUANTILES = (0.025, 0.975)
_MAX_DRAWN = 2**23  # counts held at a time: a chunk of resamples of all users
_MAX_WEIGHTS = 2**20  # of events, held at a time
_MAX_KEPT = 2**24  # where all counts are fewer, they are drawn once


class UserBootstrap:
    """95 % intervals of means over events, by resampling users.

    Args:
        users: [n] whose event it is.
        seed: seeds the draws; every call draws the same users.
        num_resamples: number of draws.
    """

    def __init__(
        self, users: np.ndarray, seed: int = 0, num_resamples: int = 1000
    ) -> None:
        distinct, self._user = np.unique(users, return_inverse=True)
        self._num_users = len(distinct)
        self._seed = seed
        self._num_resamples = num_resamples
        self._kept: list[np.ndarray] = []

    def intervals(
        self, values: np.ndarray, groups: np.ndarray | None = None, num_groups: int = 1
    ) -> np.ndarray:
        """Returns the interval of the mean of each figure in each group of events.

        Args:
            values: [n, M] M figures per event.
            groups: [n] int, the group that an event counts in, -1 for none; without,
                all events are group 0.
            num_groups: G.

        Returns:
            [G, M, 2] low and high: the 2.5 % and 97.5 % quantiles of the resampled
            means. A resample without an event of a group does not count for it; a group
            without any event has NaN.
        """
        if groups is None:
            groups = np.zeros(len(values), np.int64)
        counted = groups >= 0
        cell = self._user[counted] * num_groups + groups[counted]
        size = self._num_users * num_groups
        counts = np.bincount(cell, minlength=size)
        sums = np.stack(
            [np.bincount(cell, column, minlength=size) for column in values[counted].T],
            axis=1,
        )
        num_figures = values.shape[1]
        means = self._resampled_means(
            sums.reshape(self._num_users, num_groups, num_figures),
            counts.reshape(self._num_users, num_groups),
        )
        result = np.full((num_groups, num_figures, 2), np.nan)
        for group in np.unique(groups[counted]):
            drawn = means[:, group]
            drawn = drawn[~np.isnan(drawn[:, 0])]
            result[group] = np.quantile(drawn, _QUANTILES, axis=0).T
        return result

    def row_weights(self) -> Iterator[np.ndarray]:
        """Yields [resamples, n], how often a resample holds each event, some at a time.

        For figures that are no mean over events.
        """
        step = max(1, _MAX_WEIGHTS // len(self._user))
        for drawn in self._draws():
            for start in range(0, len(drawn), step):
                yield drawn[start : start + step, self._user]

    def _resampled_means(self, sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Returns [resamples, G, M]; NaN where a resample has no event of the group."""
        means = []
        for drawn in self._draws():
            total = np.tensordot(drawn, sums, axes=1)  # [chunk, G, M]
            events = (drawn @ counts)[:, :, np.newaxis]
            means.append(
                np.divide(
                    total, events, out=np.full_like(total, np.nan), where=events > 0
                )
            )
        return np.concatenate(means)

    def _draws(self) -> Iterator[np.ndarray]:
        """Yields [chunk, users] float, how often each resample has each user."""
        if self._kept:
            yield from self._kept
            return
        rng = np.random.default_rng(self._seed)
        share = np.full(self._num_users, 1 / self._num_users)
        step = max(1, _MAX_DRAWN // self._num_users)
        is_kept = self._num_resamples * self._num_users <= _MAX_KEPT
        kept = []
        for start in range(0, self._num_resamples, step):
            size = min(step, self._num_resamples - start)
            drawn = rng.multinomial(self._num_users, share, size=size).astype(float)
            if is_kept:
                kept.append(drawn)
            yield drawn
        self._kept = kept
