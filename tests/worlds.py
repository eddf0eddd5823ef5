"""Toy worlds with one right answer, as plain arrays."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Checkerboard:
    """Users like the items of their own parity; u's opinion of item u is withheld.

    The answer: user u prefers item u to every item of the other parity, and of all the
    items it has not met, item u is the only one it likes.

    Users and items are counted from 0 to `size` - 1.
    """

    size: int

    def likes(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Returns whether each user likes each item, as bool of their shape."""
        return users % 2 == items % 2

    def impressions(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns (user, item, label) of every pair but the withheld ones."""
        users, items = (grid.ravel() for grid in np.indices((self.size, self.size)))
        kept = users != items
        users, items = users[kept], items[kept]
        return users, items, self.likes(users, items).astype(np.float32)

    def interactions(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns (user, item) of every pair that is liked and not withheld."""
        users, items, labels = self.impressions()
        return users[labels > 0], items[labels > 0]

    def history(self, user: int, without: int, length: int, rng) -> np.ndarray:
        """Returns `length` items, drawn anew, that the user likes and may have met."""
        items = np.arange(self.size)
        liked = items[self.likes(np.full(self.size, user), items)]
        liked = liked[(liked != user) & (liked != without)]
        return rng.choice(liked, size=length, replace=length > len(liked))


@dataclasses.dataclass(frozen=True)
class PowerLawWorld:
    """Contexts that choose items, some of which everybody meets far more often.

    P(item | context) ~ popularity[item] * exp(taste[context, item])

    The answer: a model of P(item | context) ranks by it; one whose negatives are drawn
    by popularity, and not corrected for that, ranks by taste alone.
    """

    popularity: np.ndarray  # [N], sums to 1
    conditional: np.ndarray  # [contexts, N], rows sum to 1

    @classmethod
    def make(cls, num_contexts: int, num_items: int, seed: int) -> "PowerLawWorld":
        rng = np.random.default_rng(seed)
        popularity = 1.0 / np.arange(1, num_items + 1)
        weight = popularity * np.exp(rng.normal(size=(num_contexts, num_items)))
        conditional = weight / weight.sum(axis=1, keepdims=True)
        return cls(conditional.mean(axis=0), conditional)

    def events(self, num_events: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns (context, item) of events whose contexts are equally likely."""
        rng = np.random.default_rng(seed)
        contexts = rng.integers(len(self.conditional), size=num_events)
        uniform = rng.random(num_events)
        cumulative = np.cumsum(self.conditional, axis=1)[contexts]
        items = (uniform[:, np.newaxis] > cumulative).sum(axis=1)
        return contexts, np.minimum(items, len(self.popularity) - 1)


def batches_without_replacement(
    share: np.ndarray, num_steps: int, batch_size: int, seed: int
) -> np.ndarray:
    """Returns int64 [num_steps, batch_size] items, each step's distinct.

    An item is drawn in proportion to its share of those not yet drawn (the largest
    Gumbel-perturbed logs are such a draw).
    """
    rng = np.random.default_rng(seed)
    batches = np.empty([num_steps, batch_size], np.int64)
    for step in range(num_steps):
        keys = np.log(share) + rng.gumbel(size=len(share))
        batches[step] = np.argpartition(keys, -batch_size)[-batch_size:]
    return batches
