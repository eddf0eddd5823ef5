"""A contest small enough to be worked out by hand or by loops."""

import numpy as np

from benchmarks.retrieval_data import Contest


def small_contest(num_users=12, num_items=9, num_events=400, seed=0) -> Contest:
    """Returns events of users who like the items of their own parity twice as much."""
    rng = np.random.default_rng(seed)
    users = rng.integers(num_users, size=num_events)
    weights = 1.0 + (np.arange(num_items) % 2 == users[:, np.newaxis] % 2)
    chance = np.cumsum(weights / weights.sum(axis=1, keepdims=True), axis=1)
    items = (rng.random([num_events, 1]) > chance).sum(axis=1)
    num_train, num_fit = round(num_events * 0.8), round(num_events * 0.7)
    return Contest(
        users=users,
        items=np.minimum(items, num_items - 1),
        timestamps=np.arange(num_events) * 3_600_000,
        event_ids=np.array([f"e{n}" for n in range(num_events)]),
        item_ids=np.array([f"i{n}" for n in range(num_items)]),
        titles=np.array([f"title {n}" for n in range(num_items)]),
        num_fit=np.array(num_fit),
        num_train=np.array(num_train),
        validation_rows=np.arange(num_fit, num_train, 2),
        test_rows=np.arange(num_train, num_events, 2),
    )
