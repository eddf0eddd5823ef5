"""A sample of what was asked and answered, as TF Serving's PredictionLog records.

`logging_config` of a model in `models.config` turns it on: `sampling_config.sampling_rate`
is the share of its gRPC calls that are kept, and
`log_collector_config { type: "tfrecord" filename_prefix: "/logs/recommender" }` says where:
each process of a server writes one file, `<filename_prefix>-<time>-<process>.tfrecord`. Such
a file can be replayed as warm-up requests.
"""

import logging
import os
import queue
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf
from google.protobuf.message import Message
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    model_pb2,
    predict_pb2,
    prediction_log_pb2,
    regression_pb2,
)

from serving.model_config import Sampling

_LOG = logging.getLogger(__name__)

_MAX_WAITING = 1000
_FLUSH_EVERY_S = 1.0
_FIELDS: dict[type[Message], str] = {
    predict_pb2.PredictRequest: "predict_log",
    classification_pb2.ClassificationRequest: "classify_log",
    regression_pb2.RegressionRequest: "regress_log",
    inference_pb2.MultiInferenceRequest: "multi_inference_log",
}


class RequestLog:
    """Writes sampled calls, on a thread of its own: a slow disk slows no answer.

    Where the disk cannot keep up, records are dropped and counted.

    Args:
        sampling_of: model name -> how it is logged; None logs nothing of it.
        draw: returns a number in [0, 1) for each call.
    """

    def __init__(
        self,
        sampling_of: Callable[[str], Sampling | None],
        draw: Callable[[], float] = random.random,
    ):
        self._sampling_of = sampling_of
        self._draw = draw
        self._waiting: queue.Queue[tuple[str, bytes] | None] = queue.Queue(_MAX_WAITING)
        self._writers: dict[str, tf.io.TFRecordWriter] = {}
        self._thread = threading.Thread(
            target=self._write, name="request log", daemon=True
        )
        self._thread.start()
        self.num_dropped = 0

    def offer(
        self, spec: model_pb2.ModelSpec, request: Message, response: Message
    ) -> None:
        """Logs a call, if it is drawn.

        Args:
            spec: which model, and which version answered.
            request: of a type that PredictionLog has a field for.
            response: its answer.
        """
        self.offer_made(spec, lambda: (request, response))

    def offer_made(
        self,
        spec: model_pb2.ModelSpec,
        make: Callable[[], tuple[Message, Message]],
    ) -> None:
        """Logs a call, if it is drawn, whose messages are only made then.

        Args:
            spec: as of `offer`.
            make: returns request and response.
        """
        sampling = self._sampling_of(spec.name)
        if sampling is None or self._draw() >= sampling.rate:
            return
        request, response = make()
        log = prediction_log_pb2.PredictionLog()
        log.log_metadata.model_spec.CopyFrom(spec)
        log.log_metadata.sampling_config.sampling_rate = sampling.rate
        log.log_metadata.timestamp_secs = int(time.time())
        field = getattr(log, _FIELDS[type(request)])
        field.request.CopyFrom(request)
        field.response.CopyFrom(response)
        try:
            record = log.SerializeToString()
            self._waiting.put_nowait((sampling.filename_prefix, record))
        except queue.Full:
            self.num_dropped += 1
            if self.num_dropped.bit_count() == 1:  # the 1st, 2nd, 4th, 8th, ...
                _LOG.warning("request log: %d records dropped", self.num_dropped)

    def close(self) -> None:
        """Writes what waits, and ends."""
        self._waiting.put(None)
        self._thread.join()

    def _write(self) -> None:
        flushed = time.monotonic()
        while True:
            try:
                item = self._waiting.get(timeout=_FLUSH_EVERY_S)
                if item is None:
                    break
                self._writer(item[0]).write(item[1])
            except queue.Empty:
                pass
            except (OSError, tf.errors.OpError) as error:
                _LOG.warning("request log: %s", error)
            if time.monotonic() - flushed >= _FLUSH_EVERY_S:
                for writer in self._writers.values():
                    writer.flush()
                flushed = time.monotonic()
        for writer in self._writers.values():
            writer.close()

    def _writer(self, prefix: str) -> tf.io.TFRecordWriter:
        if prefix not in self._writers:
            Path(prefix).parent.mkdir(parents=True, exist_ok=True)
            name = f"{prefix}-{time.time_ns()}-{os.getpid()}.tfrecord"
            self._writers[prefix] = tf.io.TFRecordWriter(name)
        return self._writers[prefix]
