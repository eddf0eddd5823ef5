"""The record of a served decision: what was shown to whom, by which policy, how likely.

A decision is logged as one event a shown item, so that ingestion reads it back as it
reads any log: position and propensity with each, and the request's id, which the user's
responses carry too. What only the request knows stands in every one of its events.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from schemas.events import MAX_ID_BYTES, MAX_TIMESTAMP, MIN_TIMESTAMP
from schemas.features import (
    EVENT_ID,
    EVENT_TYPE,
    ITEM_ID,
    POSITION,
    PROPENSITY,
    REQUEST_ID,
    TIMESTAMP,
    USER_ID,
)

IMPRESSION = "impression"

SCORE, POLICY, RELEASE, SEED = "score", "policy", "release", "seed"
REQUEST_HASH = "request_hash"


class ShownItem(BaseModel):
    """One item of a slate.

    Attributes:
        item_id: of the catalogue.
        score: the model's probability of the label.
        propensity: chance with which the policy showed it at its position, given the
            items above it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    item_id: str = Field(min_length=1, max_length=MAX_ID_BYTES)
    score: float = Field(allow_inf_nan=False)
    propensity: float = Field(gt=0, le=1)


class Decision(BaseModel):
    """A slate that was shown, and all that is needed to show it again.

    Attributes:
        request_id: names the decision; the user's responses carry it.
        timestamp: ms since the epoch, UTC.
        user_id: to whom.
        slate: the items, the first position first.
        policy: its name and settings, as text.
        release: version of the models that answered.
        seed: of the policy's draw.
        request_hash: digest of the request; see `hash_of_request`.
        context: context columns of the request, under the log's names.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    request_id: str = Field(min_length=1, max_length=MAX_ID_BYTES)
    timestamp: int = Field(ge=MIN_TIMESTAMP, le=MAX_TIMESTAMP)
    user_id: str = Field(min_length=1, max_length=MAX_ID_BYTES)
    slate: tuple[ShownItem, ...]
    policy: str
    release: int
    seed: int
    request_hash: str
    context: dict[str, JsonValue] = {}

    @model_validator(mode="after")
    def _items_are_distinct(self) -> Self:
        items = [shown.item_id for shown in self.slate]
        if len(set(items)) < len(items):
            raise ValueError(f"a slate should show an item once. Received: {items}")
        clash = sorted(set(self.context) & _OWN_COLUMNS)
        if clash:
            raise ValueError(f"context columns should have names of their own: {clash}")
        return self

    def events(self) -> list[dict[str, Any]]:
        """Returns the event of each shown item, positions from 0.

        The event's id is made of the request's and the position: written twice, it is
        the same event.
        """
        return [
            {
                EVENT_ID: f"{self.request_id}/{position}",
                TIMESTAMP: self.timestamp,
                USER_ID: self.user_id,
                ITEM_ID: shown.item_id,
                EVENT_TYPE: IMPRESSION,
                REQUEST_ID: self.request_id,
                POSITION: position,
                PROPENSITY: shown.propensity,
                SCORE: shown.score,
                POLICY: self.policy,
                RELEASE: self.release,
                SEED: self.seed,
                REQUEST_HASH: self.request_hash,
                **self.context,
            }
            for position, shown in enumerate(self.slate)
        ]


_OWN_COLUMNS = frozenset(
    {
        *(EVENT_ID, TIMESTAMP, USER_ID, ITEM_ID, EVENT_TYPE, REQUEST_ID, POSITION),
        *(PROPENSITY, SCORE, POLICY, RELEASE, SEED, REQUEST_HASH),
    }
)


def read_decision(events: Iterable[Mapping[str, Any]]) -> Decision:
    """Puts a decision together again from its events, in any order.

    Args:
        events: of one request; what `Decision.events` gave, with its columns.

    Raises:
        ValueError: if events are missing, doubled, or of several decisions.
    """
    rows = sorted(events, key=lambda event: event[POSITION])
    if [row[POSITION] for row in rows] != list(range(len(rows))) or not rows:
        raise ValueError(
            "a decision should have an event at each position from 0. Received: "
            f"{[row[POSITION] for row in rows]}"
        )
    shared = (REQUEST_ID, TIMESTAMP, USER_ID, POLICY, RELEASE, SEED, REQUEST_HASH)
    facts = {name: rows[0][name] for name in shared}
    context = {k: v for k, v in rows[0].items() if k not in _OWN_COLUMNS}
    decision = Decision(
        **facts,
        context=context,
        slate=tuple(
            ShownItem(
                item_id=row[ITEM_ID], score=row[SCORE], propensity=row[PROPENSITY]
            )
            for row in rows
        ),
    )
    if decision.events() != [dict(row) for row in rows]:
        raise ValueError(
            f"the events of request {decision.request_id} should be those of one "
            "decision; some differ in what they share"
        )
    return decision


def hash_of_request(
    user_id: str,
    history_item_ids: Sequence[str],
    features: Mapping[str, Any],
    exclude_item_ids: Iterable[str],
    k: int,
) -> str:
    """Returns a digest of what a model was asked, to tell whether it is asked the same.

    Args:
        user_id: for whom.
        history_item_ids: the oldest first.
        features: by input name, in any order.
        exclude_item_ids: in any order.
        k: how many items.
    """
    asked = (
        user_id,
        list(history_item_ids),
        sorted(features.items()),
        sorted(set(exclude_item_ids)),
        k,
    )
    return hashlib.sha256(repr(asked).encode()).hexdigest()[:32]
