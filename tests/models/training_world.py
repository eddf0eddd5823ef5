"""Ingested rows in files, and a transform that needs no analysis to read them.

Item "7" has the id 7, and its genres are the ids that divide it: lists of every length.
"""

import tensorflow as tf

from models.feature_space import FeatureSpace
from schemas.features import Feature, FeatureCatalog, FeatureKind

NUM_IDS = 200
CATALOG = FeatureCatalog(
    item=(
        Feature(name="genres", kind=FeatureKind.MULTI_CATEGORICAL, hash_buckets=1),
        Feature(name="price", kind=FeatureKind.NUMERIC),
    ),
    history_length=4,
    id_hash_buckets=1,
)


class Transform:
    """Stands where the analysed `TransformGraph` does: ids are written in the names."""

    def __init__(self):
        sizes = {"user_id": NUM_IDS, "item_id": NUM_IDS, "item_genres": NUM_IDS}
        self.space = FeatureSpace.from_vocabulary_sizes(CATALOG, sizes)
        self.raw_spec = {
            "user_id": tf.io.FixedLenFeature([], tf.string),
            "item_id": tf.io.FixedLenFeature([], tf.string),
            "history_item_ids": tf.io.VarLenFeature(tf.string),
            "reward": tf.io.FixedLenFeature([], tf.float32),
            "label": tf.io.FixedLenFeature([], tf.float32),
        }

    def __call__(self, raw):
        history = tf.sparse.to_dense(raw["history_item_ids"], default_value="0")
        item = tf.strings.to_number(raw["item_id"], tf.int64)
        longest = tf.reduce_max(item)
        divisors = tf.range(1, longest + 1)[tf.newaxis]  # [1, L]
        divides = item[:, tf.newaxis] % divisors == 0
        return {
            "user_id_xf": tf.strings.to_number(raw["user_id"], tf.int64),
            "item_id_xf": item,
            "history_item_ids_xf": tf.strings.to_number(history, tf.int64),
            "item_genres_xf": tf.where(divides, divisors, 0),
            "item_price_xf": tf.cast(item, tf.float32) / 10,
        }


def write(path, rows) -> str:
    """Writes (user, item, history) rows as a gzipped TFRecord file; returns its name."""
    options = tf.io.TFRecordOptions(compression_type="GZIP")
    with tf.io.TFRecordWriter(str(path), options) as writer:
        for number, (user, item, history) in enumerate(rows):
            values = {"user_id": [user], "item_id": [item], "history_item_ids": history}
            features = {
                key: tf.train.Feature(
                    bytes_list=tf.train.BytesList(value=[str(v).encode() for v in ids])
                )
                for key, ids in values.items()
            }
            for key, value in {"reward": number + 0.5, "label": number % 2}.items():
                features[key] = tf.train.Feature(
                    float_list=tf.train.FloatList(value=[value])
                )
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())
    return str(path)
