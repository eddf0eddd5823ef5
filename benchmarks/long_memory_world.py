"""A world in which one event decides, and it may be long ago.

Users say once in a while what they are for; all else they do says nothing. A history holds
two such declarations, of different kinds, and only the newer one counts:

    noise .. noise  declaration a  noise ..  declaration b  noise .. noise
                                             `lag` events before now

The candidate is of kind a or of kind b, each as often; the label says whether it is of kind
b. Which events a history holds therefore says nothing, only their order does, and it has to
be remembered for `lag` events. It is the plainest form of what a lifelong model is for: a
user who has moved, has become a parent, has changed the camera's make.
"""

import dataclasses

import numpy as np

from models.feature_space import FeatureSpace
from schemas.features import FeatureCatalog

_FIRST_KNOWN = 2  # 0 pads, 1 is the bucket of unknown ids


@dataclasses.dataclass(frozen=True)
class Rows:
    """Labelled rows.

    Attributes:
        history: [n, T] items, oldest first.
        candidate: [n] items.
        label: [n] 0 or 1.
        lag: [n] how many events ago the newer declaration was; 1 is the newest event.
    """

    history: np.ndarray
    candidate: np.ndarray
    label: np.ndarray
    lag: np.ndarray

    def features(self) -> dict[str, np.ndarray]:
        """Returns the transformed tensors; the users are all the same one."""
        return {
            "user_id_xf": np.full(len(self.candidate), _FIRST_KNOWN),
            "item_id_xf": self.candidate + _FIRST_KNOWN,
            "history_item_ids_xf": self.history + _FIRST_KNOWN,
        }


@dataclasses.dataclass(frozen=True)
class World:
    """Where rows are drawn from.

    Attributes:
        lags: of which each row has one, each as often. Nothing lies between them: who can
            tell the nearest has no steps by which to come to the farthest.
        kinds: of declarations; items 0, 1, ... are they.
        noise_items: the items that say nothing, equally likely.
        longest_gap: events from the older declaration to the newer, at most; from 1, all
            equally likely.
    """

    lags: tuple[int, ...]
    kinds: int = 4
    noise_items: int = 200
    longest_gap: int = 20

    @property
    def history_length(self) -> int:
        return max(self.lags) + self.longest_gap

    def draw(self, num_rows: int, rng: np.random.Generator) -> Rows:
        """Draws labelled rows."""
        lag = rng.choice(self.lags, num_rows)
        older_lag = lag + rng.integers(1, self.longest_gap + 1, num_rows)
        newer = rng.integers(self.kinds, size=num_rows)
        older = (newer + rng.integers(1, self.kinds, num_rows)) % self.kinds
        length = self.history_length
        history = self.kinds + rng.integers(self.noise_items, size=(num_rows, length))
        row = np.arange(num_rows)
        history[row, length - lag] = newer
        history[row, length - older_lag] = older
        label = rng.integers(2, size=num_rows)
        return Rows(history, np.where(label, newer, older), label, lag)

    def feature_space(self) -> FeatureSpace:
        """Returns the space of `Rows.features`: ids and histories, no more."""
        catalog = FeatureCatalog(history_length=self.history_length, id_hash_buckets=1)
        return FeatureSpace.from_vocabulary_sizes(
            catalog, {"user_id": 1, "item_id": self.kinds + self.noise_items}
        )
