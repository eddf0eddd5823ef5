"""Algorithms 2 and 3 of Yi et al. (RecSys 2019) in plain loops, with ideal hashing.

What the layer is compared with: nothing in it is shared with Tandem. Each item's bucket
in each array is drawn at random, once.
"""

import numpy as np


class LoopEstimator:
    """The moving average of gaps, one hit after the other.

    Args:
        num_items: items are 0 to num_items - 1.
        num_buckets: of one array.
        num_hashes: number of arrays.
        alpha: learning rate.
        rng: draws the buckets.
        initial_gap: of a bucket before its second hit.
    """

    def __init__(
        self, num_items, num_buckets, num_hashes, alpha, rng, initial_gap=100.0
    ):
        buckets = rng.integers(num_buckets, size=(num_hashes, num_items))
        self._buckets = buckets.tolist()
        self._alpha = alpha
        self._step = 0
        self._last: list[dict[int, int]] = [{} for _ in range(num_hashes)]
        self._gap = [
            dict.fromkeys(bucket_of, initial_gap) for bucket_of in self._buckets
        ]

    def count(self, batches: np.ndarray) -> None:
        """Counts batches [steps, batch], one step each."""
        for batch in batches.tolist():
            self._step += 1
            for bucket_of, last, gap in zip(
                self._buckets, self._last, self._gap, strict=True
            ):
                for bucket in {bucket_of[item] for item in batch}:
                    if bucket in last:
                        observed = self._step - last[bucket]
                        gap[bucket] += self._alpha * (observed - gap[bucket])
                    last[bucket] = self._step

    def probabilities(self) -> np.ndarray:
        """Returns the estimate of each item's chance of being in a batch."""
        gaps = [
            [gap[bucket] for bucket in bucket_of]
            for bucket_of, gap in zip(self._buckets, self._gap, strict=True)
        ]
        return 1 / np.max(gaps, axis=0)
