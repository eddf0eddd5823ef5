"""How the trainers read ingested rows: shuffled, parsed and transformed in batches."""

import tensorflow as tf

from models.preprocessing import TransformGraph
from schemas.features import ITEM_ID, LABEL, REWARD

Batch = tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]


def transformed_batches(
    file_patterns: list[str],
    transform: TransformGraph,
    batch_size: int,
    shuffle_seed: int | None = None,
    drop_remainder: bool = False,
) -> tf.data.Dataset:
    """Reads tf.Examples and applies the transform graph.

    Rows are shuffled as serialized bytes, which is cheap, and parsed a batch at a time.

    Args:
        file_patterns: gzipped TFRecord files of one or more splits.
        transform: the analysed transform, which also sits in the served models.
        batch_size: rows a batch.
        shuffle_seed: shuffles differently in every epoch, repeatably; None keeps order.
        drop_remainder: drops a last batch that is not full.

    Returns:
        Dataset of (features, row): `features` holds what `preprocessing_fn` returns,
        `row` the untransformed `item_id`, `reward` and `label`, each [B].

    Raises:
        FileNotFoundError: if no file matches.
    """
    files = sorted(
        path for pattern in file_patterns for path in tf.io.gfile.glob(pattern)
    )
    if not files:
        raise FileNotFoundError(
            f"No training files match {file_patterns}; was the split empty?"
        )
    rows = tf.data.TFRecordDataset(files, compression_type="GZIP").cache()
    if shuffle_seed is not None:
        rows = rows.shuffle(1_000_000, seed=shuffle_seed)

    def parse(serialized: tf.Tensor) -> Batch:
        raw = tf.io.parse_example(serialized, transform.raw_spec)
        row = {key: raw[key] for key in (ITEM_ID, REWARD, LABEL)}
        return transform(raw), row

    return (
        rows.batch(batch_size, drop_remainder=drop_remainder)
        .map(parse, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .prefetch(tf.data.AUTOTUNE)
    )
