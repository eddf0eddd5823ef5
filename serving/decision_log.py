"""Reads back what a server showed, and what it was told of its users' past.

From the database of `EventStore`, beside a server that writes to it, and from the files of
`RequestLog`, which hold what a model was asked.
"""

import dataclasses
import json
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from schemas.decisions import IMPRESSION, SEED, Decision, read_decision
from schemas.features import REQUEST_ID
from serving import tensor_codec
from serving.client import RECOMMEND_AT_SIGNATURE, RECOMMEND_SIGNATURE

_ASKING = (RECOMMEND_SIGNATURE, RECOMMEND_AT_SIGNATURE)


@dataclasses.dataclass(frozen=True)
class LoggedDecision:
    """A decision, and when it was logged: after all events with a smaller number."""

    decision: Decision
    number: int


@dataclasses.dataclass(frozen=True)
class LoggedEvent:
    """One event of a user's past."""

    number: int
    timestamp: int
    event_id: str
    item_id: str


@dataclasses.dataclass(frozen=True)
class AskedRequest:
    """What a model was asked in one call of `recommend`."""

    user_id: str
    seed: int
    inputs: dict[str, np.ndarray]


class DecisionLog:
    """The events of one server, to read.

    Args:
        path: of the database.

    Raises:
        FileNotFoundError: if there is none.
    """

    def __init__(self, path: Path):
        if not path.is_file():
            raise FileNotFoundError(f"no event log at `{path}`")
        uri = f"{path.absolute().as_uri()}?mode=ro"
        self._connection = sqlite3.connect(uri, uri=True)

    def latest(self, most: int) -> list[LoggedDecision]:
        """Returns the latest decisions, the oldest first.

        Impressions that a client sent by itself are no decisions of a server.
        """
        rows: dict[str, list[dict]] = {}
        numbers: dict[str, int] = {}
        found = self._connection.execute(
            "SELECT number, record FROM events WHERE event_type = ? "
            "ORDER BY number DESC",
            (IMPRESSION,),
        )
        for number, record in found:
            event = json.loads(record)
            if SEED not in event:
                continue
            request_id = event[REQUEST_ID]
            if request_id not in rows and len(rows) == most:
                break
            rows.setdefault(request_id, []).append(event)
            numbers.setdefault(request_id, number)
        found.close()
        return [
            LoggedDecision(read_decision(events), numbers[request_id])
            for request_id, events in reversed(rows.items())
        ]

    def past(self, user_id: str, event_types: Sequence[str]) -> list[LoggedEvent]:
        """Returns a user's events of some types, as ingestion orders them."""
        marks = ", ".join("?" * len(event_types))
        rows = self._connection.execute(
            "SELECT number, timestamp, event_id, item_id FROM events "
            f"WHERE user_id = ? AND event_type IN ({marks}) "
            "ORDER BY timestamp, event_id",
            (user_id, *event_types),
        )
        return [LoggedEvent(*row) for row in rows]

    def close(self) -> None:
        """Closes the database."""
        self._connection.close()


def asked_requests(files: Iterable[Path]) -> dict[tuple[str, int], AskedRequest]:
    """Returns the logged calls of `recommend`, by user and seed.

    A seed has 63 random bits: it tells one call of a user from another.

    Args:
        files: as `RequestLog` writes them; the last record may be cut off.
    """
    found = {}
    for path in files:
        records = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
        try:
            for record in records:
                log = prediction_log_pb2.PredictionLog.FromString(record)
                request = log.predict_log.request
                if request.model_spec.signature_name not in _ASKING:
                    continue
                inputs = {
                    name: tensor_codec.decode(tensor)
                    for name, tensor in request.inputs.items()
                }
                user_id = inputs["user_id"][0].decode()
                seed = int(inputs["seed"][0])
                found[user_id, seed] = AskedRequest(user_id, seed, inputs)
        except tf.errors.DataLossError:
            continue  # a server that was killed left half a record
    return found
