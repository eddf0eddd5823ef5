"""Reads back what a policy showed: rows with the chance that they were shown with."""

import dataclasses
import itertools

import numpy as np
import tensorflow as tf

from components.read_examples import read_serialized, split_files
from models.ranking.labelled_rows import NO_POSITION
from models.signatures import QUERY_SIDES, example_spec
from schemas.features import (
    HISTORY,
    ITEM_ID,
    LABEL,
    POSITION,
    PROPENSITY,
    REQUEST_ID,
    REWARD,
    TIMESTAMP,
    USER_ID,
    FeatureCatalog,
)

_AT_ONCE = 4096
_NO_PROPENSITY = -1.0
_NO_REQUEST_ID = b""


@dataclasses.dataclass(frozen=True)
class ShownRows:
    """Labelled rows whose propensity the log has.

    Attributes:
        users, items: [N] bytes.
        labels, rewards: [N] float64.
        propensities: [N] float64, in (0, 1].
        positions: [N] int64, 0 at the top; 0 where the log has none.
        requests: [N] which request a row is of; see `requests_of`.
        serialized: [N] bytes, the tf.Examples; [0] where there are none.
        num_without: rows beside these that have no propensity.
    """

    users: np.ndarray
    items: np.ndarray
    labels: np.ndarray
    rewards: np.ndarray
    propensities: np.ndarray
    positions: np.ndarray
    requests: np.ndarray
    serialized: np.ndarray
    num_without: int


def requests_of(
    users: np.ndarray, moments: np.ndarray, ids: np.ndarray | None = None
) -> np.ndarray:
    """Returns [N] int64: which request each row is of.

    Rows of one user with one id are one request's, whenever they were logged. Of rows
    without an id nothing better is known than that a user makes one request at a moment.

    Args:
        users: [N].
        moments: [N] int64, the times of the rows.
        ids: [N] of the requests, empty where the log has none; None where it never has.
    """
    numbers = [np.unique(users, return_inverse=True)[1], moments]
    if ids is not None:
        has_id = ids.astype(bool)
        id_of = np.where(has_id, np.unique(ids, return_inverse=True)[1], -1)
        numbers = [numbers[0], id_of, np.where(has_id, 0, moments)]
    keys = np.stack(numbers, axis=1)
    return np.unique(keys, axis=0, return_inverse=True)[1].ravel()


def read_shown(uri: str, *splits: str) -> ShownRows:
    """Reads the rows of some splits of the `impressions` that have a propensity.

    Args:
        uri: of the Examples artifact.
        *splits: which.
    """
    files = [file for split in splits for file in split_files(uri, split)]
    serialized = read_serialized(files)
    spec = {
        USER_ID: tf.io.FixedLenFeature([], tf.string),
        ITEM_ID: tf.io.FixedLenFeature([], tf.string),
        LABEL: tf.io.FixedLenFeature([], tf.float32),
        REWARD: tf.io.FixedLenFeature([], tf.float32),
        PROPENSITY: tf.io.FixedLenFeature([], tf.float32, _NO_PROPENSITY),
        POSITION: tf.io.FixedLenFeature([], tf.int64, NO_POSITION),
        TIMESTAMP: tf.io.FixedLenFeature([], tf.int64),
        REQUEST_ID: tf.io.FixedLenFeature([], tf.string, _NO_REQUEST_ID),
    }
    # A batch without a row, so that there is one: it gives the columns their types.
    parts = []
    for start in itertools.chain(
        [len(serialized)], range(0, len(serialized), _AT_ONCE)
    ):
        batch = tf.constant(serialized[start : start + _AT_ONCE], tf.string)
        row = tf.io.parse_example(batch, spec)
        parts.append([row[key].numpy() for key in spec])
    columns = dict(
        zip(spec, map(np.concatenate, zip(*parts, strict=True)), strict=True)
    )
    has = columns[PROPENSITY] != _NO_PROPENSITY
    kept = {key: values[has] for key, values in columns.items()}
    return ShownRows(
        kept[USER_ID],
        kept[ITEM_ID],
        kept[LABEL].astype(np.float64),
        kept[REWARD].astype(np.float64),
        kept[PROPENSITY].astype(np.float64),
        np.maximum(kept[POSITION], 0),
        requests_of(kept[USER_ID], kept[TIMESTAMP], kept[REQUEST_ID]),
        serialized[has],
        int((~has).sum()),
    )


def query_inputs(
    examples: np.ndarray, raw_spec: dict, catalog: FeatureCatalog
) -> dict[str, np.ndarray]:
    """Returns the request that each row's user made, as a client would send them.

    Args:
        examples: [B] serialized.
        raw_spec: how to parse them.
        catalog: the declared features.

    Returns:
        the query inputs of the recommender's signatures, [B, ...] each.
    """
    spec = example_spec(raw_spec, catalog, *QUERY_SIDES)
    parsed = tf.io.parse_example(tf.constant(examples, tf.string), spec)
    inputs = {USER_ID: parsed[USER_ID].numpy()}
    inputs[HISTORY] = tf.sparse.to_dense(parsed[HISTORY], default_value="").numpy()
    for column in catalog.columns(*QUERY_SIDES):
        default = np.nan if column.is_number else ""
        values = tf.sparse.to_dense(parsed[column.key], default_value=default).numpy()
        if not column.is_list:
            missing = (column.shape[0] if column.shape else 1) - values.shape[1]
            values = np.pad(values, [(0, 0), (0, missing)], constant_values=default)
        if not column.shape:
            values = values[:, 0]
        inputs[column.key] = values.astype(np.float32 if column.is_number else object)
    return inputs
