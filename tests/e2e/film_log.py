"""A small film service whose log runs under the shipped MovieLens config.

Two tastes: a user of a taste watches its films and rates them 4 or 5, and now and then
one of the other taste, which it rates 1 or 2. So retrieval has something to find, and
the ranker something to learn.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

NUM_USERS, NUM_ITEMS, EVENTS_PER_USER = 120, 80, 40
_START_MS = 1_600_000_000_000
_STEP_MS = 60_000
_GENRES = (["Comedy", "Romance"], ["War", "Drama"])
_WORDS = ("Love", "Battle")


def write_film_log(folder: Path, seed: int = 0, poison=None) -> None:
    """Writes events, items and users as `tandem data fetch` would.

    Args:
        folder: `<root>/data/movielens-100k`.
        seed: of the world.
        poison: changes the events' columns in place before they are written.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    num_events = NUM_USERS * EVENTS_PER_USER
    users = rng.permutation(np.repeat(np.arange(NUM_USERS), EVENTS_PER_USER))
    own_taste = rng.random(num_events) < 0.8
    likes = own_taste ^ (rng.random(num_events) < 0.1)
    taste = np.where(own_taste, users % 2, 1 - users % 2)
    # Films of a taste have every other number; the first ones are watched more.
    rank = np.minimum(rng.geometric(0.08, num_events) - 1, NUM_ITEMS // 2 - 1)
    items = 2 * rank + taste
    stars = np.where(
        likes, rng.integers(4, 6, num_events), rng.integers(1, 3, num_events)
    )
    events = {
        "event_id": [f"e{row:06d}" for row in range(num_events)],
        "timestamp": (_START_MS + _STEP_MS * np.arange(num_events)).tolist(),
        "user_id": [f"u{user}" for user in users],
        "item_id": [f"i{item}" for item in items],
        "event_type": ["rating"] * num_events,
        "value": stars.astype(float).tolist(),
    }
    if poison is not None:
        poison(events, rng)
    pq.write_table(pa.table(events), folder / "events.parquet")
    pq.write_table(
        pa.table(
            {
                "item_id": [f"i{item}" for item in range(NUM_ITEMS)],
                "title": [
                    f"{_WORDS[item % 2]} Story {item}" for item in range(NUM_ITEMS)
                ],
                "genres": [_GENRES[item % 2] for item in range(NUM_ITEMS)],
                "release_year": [1960.0 + item % 40 for item in range(NUM_ITEMS)],
            }
        ),
        folder / "items.parquet",
    )
    pq.write_table(
        pa.table(
            {
                "user_id": [f"u{user}" for user in range(NUM_USERS)],
                "age": [20.0 + user % 50 for user in range(NUM_USERS)],
                "gender": [("F", "M")[user % 2] for user in range(NUM_USERS)],
                "occupation": [
                    ("cook", "clerk", "nurse")[user % 3] for user in range(NUM_USERS)
                ],
            }
        ),
        folder / "users.parquet",
    )


def replace_half_the_items(events: dict, rng: np.random.Generator) -> None:
    """Poison: half the item ids are of no item, as after a broken join."""
    events["item_id"] = [
        f"broken-{item}" if rng.random() < 0.5 else item for item in events["item_id"]
    ]


def zero_propensity(events: dict, rng: np.random.Generator) -> None:
    """Poison: one event says that it could not have happened."""
    events["propensity"] = [0.5] * len(events["event_id"])
    events["propensity"][int(rng.integers(len(events["event_id"])))] = 0.0
