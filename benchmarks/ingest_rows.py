"""What an ingestion wrote, in a form that does not depend on files or their order."""

import gzip
import hashlib
import struct
from collections.abc import Iterator
from pathlib import Path

from benchmarks import ingest_job as job

_HEADER = struct.Struct("<QI")
_CRC_BYTES = 4


def digests(out: Path) -> dict[str, tuple[int, int]]:
    """Returns (number of rows, digest of the multiset) by `<examples>/<split>`.

    Two folders have the same digests where each row's features are the same, to the
    last byte of id, label, history and all others.
    """
    return {
        f"{name}/{split}": _digest(out / name / f"Split-{split}")
        for name in job.EXAMPLES
        for split in job.SPLITS
    }


def read_records(path: Path) -> Iterator[bytes]:
    """Yields the records of a gzipped TFRecord file, its checksums unread."""
    data = gzip.decompress(path.read_bytes())
    at = 0
    while at < len(data):
        size, _ = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        yield data[at : at + size]
        at += size + _CRC_BYTES


def canonical(example: bytes) -> bytes:
    """Returns a serialized tf.Example with its features in one order."""
    (features,) = _fields(example)
    return b"".join(sorted(_fields(features)))


def _digest(folder: Path) -> tuple[int, int]:
    count = total = 0
    for path in sorted(folder.iterdir()):
        for record in read_records(path):
            count += 1
            one = hashlib.blake2b(canonical(record), digest_size=8).digest()
            total += int.from_bytes(one)
    return count, total % (1 << 64)


def _fields(message: bytes) -> list[bytes]:
    """Returns the contents of a message whose fields are all length-delimited."""
    found, at = [], 0
    while at < len(message):
        at += 1  # the tag, 0x0a in Example and Features
        size = shift = 0
        while True:
            byte = message[at]
            at += 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        found.append(message[at : at + size])
        at += size
    return found
