"""Requests for a release to be tried with: real users of the test split."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from components.read_examples import read_serialized, split_files
from models.recommender import EXCLUDE, NUM_ITEMS, SEED
from models.signatures import QUERY_SIDES, example_spec
from schemas.features import HISTORY, USER_ID, FeatureCatalog


@dataclasses.dataclass(frozen=True)
class UserRequest:
    """One user's request: its tensors, and the tf.Example they were made from."""

    inputs: dict[str, np.ndarray]  # query inputs by name, one row
    example: bytes

    @property
    def history(self) -> list[str]:
        """Item ids of the history."""
        return [item.decode() for item in self.inputs[HISTORY][0] if item]

    def to_recommend(self, k: int, seed: int, exclude: tuple[str, ...] = ()) -> dict:
        """Returns the inputs of the signature `recommend`."""
        return self.inputs | {
            EXCLUDE: np.array([[item.encode() for item in exclude]], object),
            NUM_ITEMS: np.array(k, np.int32),
            SEED: np.array([seed], np.int64),
        }


def requests_of_test_users(
    interactions_uri: str, raw_feature_spec: dict, catalog: FeatureCatalog, limit: int
) -> list[UserRequest]:
    """Returns one request for each of up to `limit` users of the test split.

    A user's request is that of its latest test event; users come in order of id.
    """
    spec = example_spec(raw_feature_spec, catalog, *QUERY_SIDES)
    examples = read_serialized(split_files(interactions_uri, "test"))
    users = tf.io.parse_example(
        tf.constant(examples, tf.string), {USER_ID: spec[USER_ID]}
    )[USER_ID].numpy()
    # Splits are written in order of user and time within a shard: the last row counts.
    latest = {user: row for row, user in enumerate(users)}
    rows = [latest[user] for user in sorted(latest)][:limit]
    return requests_of(examples[rows], raw_feature_spec, catalog)


def requests_of(
    examples: Sequence[bytes], raw_feature_spec: dict, catalog: FeatureCatalog
) -> list[UserRequest]:
    """Returns the request that each tf.Example's user would make."""
    spec = example_spec(raw_feature_spec, catalog, *QUERY_SIDES)
    return [
        UserRequest(_dense(example, spec, catalog), example) for example in examples
    ]


def _dense(
    example: bytes, spec: dict, catalog: FeatureCatalog
) -> dict[str, np.ndarray]:
    """Returns the query inputs of one row as a client would send them."""
    parsed = tf.io.parse_example(tf.constant([example]), spec)
    inputs = {USER_ID: parsed[USER_ID].numpy()}
    inputs[HISTORY] = tf.sparse.to_dense(parsed[HISTORY], default_value="").numpy()
    for column in catalog.columns(*QUERY_SIDES):
        default = np.nan if column.is_number else ""
        values = tf.sparse.to_dense(parsed[column.key], default_value=default).numpy()
        if not column.is_list and values.shape[1] == 0:
            values = np.full([1, *(column.shape or [1])], default)
        if not column.shape:
            values = values[:, 0]
        inputs[column.key] = values.astype(np.float32 if column.is_number else object)
    return inputs
