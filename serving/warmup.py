"""Warm-up requests: what a server replays before it calls a version available.

The first request after a load pays for graph pruning, kernel creation and memory pools.
TF Serving and our server replay recorded requests from the model's own folder, so that
no user pays.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

WARMUP_FILE = Path("assets.extra/tf_serving_warmup_requests")
MAX_WARMUP_RECORDS = 1000  # TF Serving refuses a file with more


def write_warmup(
    model_dir: Path, requests: Sequence[predict_pb2.PredictRequest]
) -> Path:
    """Writes the requests into a SavedModel's folder.

    Args:
        model_dir: folder of the SavedModel, with or without a version number.
        requests: 1 to 1000 of them, of the batch sizes and signatures that traffic has.

    Returns:
        The file written, in TF Serving's form: TFRecord of PredictionLog.

    Raises:
        ValueError: if the number of requests is out of range.
    """
    if not 1 <= len(requests) <= MAX_WARMUP_RECORDS:
        raise ValueError(
            f"`requests` should have 1 to {MAX_WARMUP_RECORDS} members. "
            f"Received: {len(requests)}"
        )
    path = model_dir / WARMUP_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for request in requests:
            log = prediction_log_pb2.PredictionLog(
                predict_log=prediction_log_pb2.PredictLog(request=request)
            )
            writer.write(log.SerializeToString())
    return path


def read_warmup(model_dir: Path) -> Iterator[prediction_log_pb2.PredictionLog]:
    """Yields the warm-up records of a model, none if it has no such file."""
    path = model_dir / WARMUP_FILE
    if path.exists():
        records: Iterable[bytes] = tf.data.TFRecordDataset(
            [str(path)]
        ).as_numpy_iterator()
        for record in records:
            yield prediction_log_pb2.PredictionLog.FromString(record)
