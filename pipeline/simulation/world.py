"""Users and items with hidden tastes, and the log of a first, uniform policy.

A user likes an item by the product of two hidden vectors, of which the user's group and the
item's category tell a part. So there is something that only interactions tell: the best
item of a group is not the best of all. What a user clicked is not shown again.
"""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.simulation.settings import WorldSize
from schemas.decisions import Decision, ShownItem, hash_of_request
from schemas.features import (
    EVENT_ID,
    EVENT_TYPE,
    ITEM_ID,
    REQUEST_ID,
    TIMESTAMP,
    USER_ID,
)

CLICK = "click"
UNIFORM = "uniform"
DIMENSIONS, BASE = 3, -2.0
TOLD = 0.7  # share of a hidden vector's variance that group or category tells
_STEP_MS = 100  # between two requests of the first log
_CLICKED_AFTER_MS = 10


@dataclasses.dataclass(frozen=True)
class Worth:
    """What a slate is worth to a user, as the mean chance of a click of its places.

    Attributes:
        shown: of the slate.
        best: of the best slate that there was.
        uniform: of a slate drawn evenly from what may be shown.
    """

    shown: float
    best: float
    uniform: float


class World:
    """Hidden tastes, and who clicked what so far.

    Args:
        size: of the world.
        seed: of everything in it.
    """

    def __init__(self, size: WorldSize, seed: int) -> None:
        rng = np.random.default_rng([seed, 0])
        self.size = size
        self.group = rng.integers(0, size.groups, size.users)
        self.category = rng.integers(0, size.categories, size.items)
        users = _hidden(rng, self.group, size.groups)
        items = _hidden(rng, self.category, size.categories)
        quality = 0.3 * rng.normal(size=size.items)
        self.chances = 1 / (1 + np.exp(-(BASE + quality + users @ items.T)))
        self._clicked = np.zeros((size.users, size.items), bool)
        self._rng = np.random.default_rng([seed, 1])

    def visitors(self, number: int) -> np.ndarray:
        """Returns [number] users; nobody comes again before everybody came once."""
        rounds = -(-number // self.size.users)
        orders = [self._rng.permutation(self.size.users) for _ in range(rounds)]
        return np.concatenate(orders)[:number]

    def seed(self) -> int:
        """Returns the seed of a request."""
        return int(self._rng.integers(0, 2**62))

    def uniform_slate(self, user: int, k: int) -> list[int]:
        """Returns items that the user did not click yet, each as likely at each place."""
        left = np.flatnonzero(~self._clicked[user])
        return self._rng.permutation(left)[:k].tolist()

    def uniform_propensities(self, user: int, k: int) -> list[float]:
        """Returns the chance of each item of such a slate, given those above."""
        left = self.size.items - int(self._clicked[user].sum())
        return [1.0 / (left - place) for place in range(min(k, left))]

    def worth(self, user: int, slate: list[int]) -> Worth:
        """Returns what a slate is worth, before the user answers it."""
        left = self.chances[user][~self._clicked[user]]
        return Worth(
            shown=float(self.chances[user][slate].mean()),
            best=float(np.sort(left)[-len(slate) :].mean()),
            uniform=float(left.mean()),
        )

    def clicks(self, user: int, slate: list[int]) -> list[int]:
        """Returns the places that the user clicks; these items are never shown again."""
        lucky = self._rng.random(len(slate)) < self.chances[user][slate]
        places = np.flatnonzero(lucky).tolist()
        self._clicked[user, [slate[place] for place in places]] = True
        return places

    def write_tables(self, folder: Path) -> None:
        """Writes `items.parquet` and `users.parquet`."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, key, feature, kinds in (
            ("items", ITEM_ID, "category", self.category),
            ("users", USER_ID, "group", self.group),
        ):
            table = {
                key: [f"{name[0]}{number}" for number in range(len(kinds))],
                feature: [f"{feature}{kind}" for kind in kinds],
            }
            pq.write_table(pa.table(table), folder / f"{name}.parquet")

    def first_log(
        self, number: int, k: int, end: int
    ) -> tuple[list[dict], list[Worth]]:
        """Returns the events of requests that a uniform policy answered, and their worth.

        Args:
            number: of requests.
            k: items of a slate.
            end: ms, by which all have happened.
        """
        events: list[dict] = []
        worths = []
        start = end - number * _STEP_MS
        for row, user in enumerate(self.visitors(number).tolist()):
            slate = self.uniform_slate(user, k)
            propensities = self.uniform_propensities(user, k)
            decision = _uniform_decision(
                f"first-{row}", start + row * _STEP_MS, user, slate, propensities
            )
            events += decision.events()
            worths.append(self.worth(user, slate))
            for place in self.clicks(user, slate):
                moment = decision.timestamp + _CLICKED_AFTER_MS
                answer = answer_event(
                    decision.request_id, place, decision.user_id, item_id(slate[place])
                )
                events.append(answer | {TIMESTAMP: moment})
        return events, worths


def item_id(number: int) -> str:
    """Returns the id of an item."""
    return f"i{number}"


def item_number(item: str) -> int:
    """Returns the item of an id."""
    return int(item[1:])


def user_id(number: int) -> str:
    """Returns the id of a user."""
    return f"u{number}"


def user_number(user: str) -> int:
    """Returns the user of an id."""
    return int(user[1:])


def answer_event(request: str, place: int, user: str, item: str) -> dict:
    """Returns the event of a click, without its time."""
    return {
        EVENT_ID: f"{request}/{place}-{CLICK}",
        USER_ID: user,
        ITEM_ID: item,
        EVENT_TYPE: CLICK,
        REQUEST_ID: request,
    }


def write_events(path: Path, events: list[dict]) -> None:
    """Writes a log as JSON Lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(event)}\n" for event in events))


def _uniform_decision(
    request: str, moment: int, user: int, slate: list[int], propensities: list[float]
) -> Decision:
    shown = (
        ShownItem(item_id=item_id(item), score=propensity, propensity=propensity)
        for item, propensity in zip(slate, propensities, strict=True)
    )
    return Decision(
        request_id=request,
        timestamp=moment,
        user_id=user_id(user),
        slate=tuple(shown),
        policy=UNIFORM,
        release=0,
        seed=0,
        request_hash=hash_of_request(user_id(user), [], {}, [], len(slate)),
    )


def _hidden(rng: np.random.Generator, kinds: np.ndarray, count: int) -> np.ndarray:
    of_kind = rng.normal(size=(count, DIMENSIONS))[kinds]
    own = rng.normal(size=(len(kinds), DIMENSIONS))
    return np.sqrt(TOLD) * of_kind + np.sqrt(1 - TOLD) * own
