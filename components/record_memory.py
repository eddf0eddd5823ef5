"""Does a release's memory, written event by event, answer like its ranker?

Users' histories are written into memories as a service would write their events, many users
at a time, and a candidate is scored by them and by the ranker that reads the history. What
was asked and answered is recorded, as of the other models of a release.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from components.offline_recommendation import OfflineModels, join_examples
from components.recorded_requests import UserRequest
from models.ranking.memory_serving import MEMORY, STEP
from schemas.features import HISTORY, ITEM_ID, FeatureCatalog, Side
from serving.recorded import RecordedCase
from serving.release_layout import MEMORY_MODEL
from serving.saved_model import SavedModel

UPDATE, SCORE = "update_memory", "score"
_NUM_USERS = 20
_NUM_CANDIDATES = 10
_NUM_RECORDED_UPDATES = 3
_TOLERANCE = 1e-3

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class RecordedMemory:
    """What was asked and answered, and the share of users with the ranker's logit."""

    cases: list[RecordedCase]
    agreement: float


def record_memory(
    model: SavedModel,
    requests: Sequence[UserRequest],
    offline: OfflineModels,
    catalog: FeatureCatalog,
) -> RecordedMemory:
    """Asks the memory and the ranker the same, for some users.

    Of a history, the items that may be recommended count, as only of those the features
    are at hand; the ranker is asked about the same part. Still the two differ where an
    item came after the training rows, whose features the memory sees and the ranker's
    history does not, so that the share says something only of catalogues that are mostly
    older than the training.

    Args:
        model: `update_memory` and `score`.
        requests: of users; the first are asked about.
        offline: the ranker, and the items' examples.
        catalog: the declared features.
    """
    requests = requests[:_NUM_USERS]
    row_of = {item: row for row, item in enumerate(offline.vectors.item_ids)}
    histories = [[i for i in r.history if i in row_of] for r in requests]
    state = _new_users(model, len(requests))
    cases = []
    for place in range(max(map(len, histories), default=0)):
        rows = [row_of[h[place]] if place < len(h) else -1 for h in histories]
        inputs = state | item_inputs(offline.item_examples, rows, catalog)
        state = model.run(UPDATE, inputs)
        if len(cases) < _NUM_RECORDED_UPDATES:
            cases.append(RecordedCase(MEMORY_MODEL, UPDATE, inputs, state))
    candidates = list(range(min(_NUM_CANDIDATES, len(row_of))))
    asked = item_inputs(offline.item_examples, candidates, catalog)
    asked = {key: values[np.newaxis] for key, values in asked.items()}
    agreed = []
    for user, request in enumerate(requests):
        query = {k: v for k, v in request.inputs.items() if k != HISTORY}
        inputs = {MEMORY: state[MEMORY][user : user + 1], **query, **asked}
        answer = model.run(SCORE, inputs)
        cases.append(RecordedCase(MEMORY_MODEL, SCORE, inputs, answer))
        example = _with_history(request.example, histories[user])
        rows = [
            join_examples(example, offline.item_examples[c], catalog)
            for c in candidates
        ]
        expected = offline.rank(examples=tf.constant(rows))["logits"].numpy()
        agreed.append(
            np.allclose(answer["logits"][0], expected, _TOLERANCE, _TOLERANCE)
        )
    return RecordedMemory(cases, float(np.mean(agreed)) if agreed else 0.0)


def item_inputs(
    examples: Sequence[bytes], rows: Sequence[int], catalog: FeatureCatalog
) -> Arrays:
    """Returns some items' features as a client would send them, [B] or [B, L] each.

    Args:
        examples: [N] serialized tf.Examples of items.
        rows: [B] which; -1 is no item, whose id is "".
        catalog: the declared features.
    """
    nothing = tf.train.Example()
    nothing.features.feature[ITEM_ID].bytes_list.value.append(b"")
    empty = nothing.SerializeToString()
    chosen = tf.constant([examples[row] if row >= 0 else empty for row in rows])
    columns = catalog.columns(Side.ITEM)
    spec = {ITEM_ID: tf.io.FixedLenFeature([], tf.string)} | {
        column.key: tf.io.VarLenFeature(tf.float32 if column.is_number else tf.string)
        for column in columns
    }
    parsed = tf.io.parse_example(chosen, spec)
    inputs = {ITEM_ID: parsed[ITEM_ID].numpy()}
    for column in columns:
        default = np.nan if column.is_number else ""
        values = tf.sparse.to_dense(parsed[column.key], default_value=default).numpy()
        # An absent feature has no column, and any but a list has a fixed number of them.
        width = 0 if column.is_list else (column.shape or (1,))[0] - values.shape[1]
        fill = np.nan if column.is_number else b""
        values = np.pad(values, [(0, 0), (0, max(width, 0))], constant_values=fill)
        if not column.shape:
            values = values[:, 0]
        inputs[column.key] = values.astype(np.float32 if column.is_number else object)
    return inputs


def _new_users(model: SavedModel, num_users: int) -> Arrays:
    shape = model.signatures[UPDATE].inputs[MEMORY].tensor_shape
    _, *sizes = (dim.size for dim in shape.dim)
    return {
        MEMORY: np.zeros([num_users, *sizes], np.float32),
        STEP: np.zeros([num_users], np.int64),
    }


def _with_history(example: bytes, history: Sequence[str]) -> bytes:
    changed = tf.train.Example.FromString(example)
    changed.features.feature.pop(HISTORY, None)
    values = changed.features.feature[HISTORY].bytes_list.value
    values.extend(item.encode() for item in history)
    return changed.SerializeToString()
