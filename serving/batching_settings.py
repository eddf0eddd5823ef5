"""How requests are joined: `batching.config`, as TF Serving reads it."""

import dataclasses
import os
from pathlib import Path

from serving.config_messages import BatchingParameters, read_message
from serving.errors import ServerStartError


@dataclasses.dataclass(frozen=True)
class BatchingSettings:
    """What TF Serving's BatchingParameters say, with its defaults.

    Attributes:
        max_batch_size: rows of a joined request, at most.
        batch_timeout_s: how long the first request of a batch waits for others, at most.
        max_enqueued_batches: full batches that may wait; beyond, requests are refused.
        num_batch_threads: batches computed at the same time.
        allowed_batch_sizes: ascending sizes to which batches are filled up; none: any.
        pad_variable_length_inputs: whether requests whose inputs differ in length are
            joined too, the shorter ones padded by zeros or "" at their end.
    """

    max_batch_size: int = 1000
    batch_timeout_s: float = 0.0
    max_enqueued_batches: int = 10
    num_batch_threads: int = 1
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False

    def size_for(self, rows: int) -> int:
        """Returns to how many rows a batch is filled up."""
        fitting = [size for size in self.allowed_batch_sizes if size >= rows]
        return fitting[0] if fitting else rows


def read_batching(path: Path) -> BatchingSettings:
    """Reads a file of BatchingParameters.

    Raises:
        ServerStartError: if it cannot be understood, or a number is out of range.
    """
    message = read_message(BatchingParameters, path)
    given = {
        field: getattr(message, field).value
        for field in ("max_batch_size", "max_enqueued_batches", "num_batch_threads")
        if message.HasField(field)
    }
    given.setdefault("num_batch_threads", os.cpu_count() or 1)
    for field, value in given.items():
        if value < 1:
            raise ServerStartError(
                f"`{path}`: {field} should be >= 1. Received: {value}"
            )
    timeout = message.batch_timeout_micros.value
    if timeout < 0:
        raise ServerStartError(
            f"`{path}`: batch_timeout_micros should be >= 0. Received: {timeout}"
        )
    settings = BatchingSettings(
        **given,
        batch_timeout_s=1e-6 * timeout,
        allowed_batch_sizes=tuple(message.allowed_batch_sizes),
        pad_variable_length_inputs=message.pad_variable_length_inputs,
    )
    allowed = settings.allowed_batch_sizes
    if allowed and (
        list(allowed) != sorted(set(allowed)) or allowed[-1] != settings.max_batch_size
    ):
        raise ServerStartError(
            f"`{path}`: allowed_batch_sizes should ascend to max_batch_size, "
            f"{settings.max_batch_size}. Received: {list(allowed)}"
        )
    return settings
