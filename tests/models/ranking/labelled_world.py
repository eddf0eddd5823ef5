"""Labelled rows in files: a user likes the items of the own parity, mostly at the top."""

import numpy as np
import tensorflow as tf

from tests.models import training_world

NUM_USERS, NUM_ITEMS = 8, 10


class Transform(training_world.Transform):
    """As the analysed graph of a log whose schema has positions."""

    def __init__(self):
        super().__init__()
        self.raw_spec["position"] = tf.io.VarLenFeature(tf.int64)


def rows(seed=0, num_rows=240, has_positions=True) -> list[dict]:
    """Returns rows by example key; every fifth has no position."""
    rng = np.random.default_rng(seed)
    out = []
    for number in range(num_rows):
        user = int(rng.integers(1, NUM_USERS + 1))
        item = int(rng.integers(1, NUM_ITEMS + 1))
        liked = [i for i in range(1, NUM_ITEMS + 1) if i % 2 == user % 2 and i != item]
        history = rng.choice(liked, rng.integers(0, 4), replace=False).tolist()
        position = int(rng.integers(0, 4))
        is_match = user % 2 == item % 2
        likes = rng.random() < (0.95 if is_match else 0.05) * 0.9**position
        row = {"user_id": [user], "item_id": [item], "history_item_ids": history}
        row |= {"label": float(likes), "reward": float(likes) * 0.5}
        if has_positions and number % 5:
            row["position"] = position
        out.append(row)
    return out


def write(path, rows: list[dict]) -> str:
    """Writes rows as a gzipped TFRecord file; returns its name."""
    options = tf.io.TFRecordOptions(compression_type="GZIP")
    with tf.io.TFRecordWriter(str(path), options) as writer:
        for row in rows:
            writer.write(_example(row).SerializeToString())
    return str(path)


def _example(row: dict) -> tf.train.Example:
    example = tf.train.Example()
    for key, value in row.items():
        feature = example.features.feature[key]
        if isinstance(value, list):
            feature.bytes_list.value.extend(str(item).encode() for item in value)
        elif isinstance(value, float):
            feature.float_list.value.append(value)
        else:
            feature.int64_list.value.append(value)
    return example
