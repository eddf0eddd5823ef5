"""tf.Examples and TFRecord files by hand, the fastest straightforward way in Python.

Needs google-crc32c and isal. What many rows share is encoded once; each
row is then one concatenation of bytes and one checksum.
"""

import struct
from collections.abc import Callable, Iterable
from pathlib import Path

import google_crc32c
import numpy as np
from isal import isal_zlib

_FLOAT = struct.Struct("<f")
_WRITE_BYTES = 8 << 20


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_VARINTS = [varint(size) for size in range(1 << 14)]


def delimited(tag: bytes, data: bytes) -> bytes:
    size = len(data)
    return tag + (_VARINTS[size] if size < len(_VARINTS) else varint(size)) + data


def bytes_value(text: str) -> bytes:
    return delimited(b"\x0a", text.encode())


def bytes_entry(key: str, values: bytes) -> bytes:
    """Returns the map entry of a BytesList of concatenated `bytes_value`s."""
    return _entry(key, delimited(b"\x0a", values))


def float_entry(key: str, value: float | None) -> bytes:
    if value is None or value != value:
        return b""
    return _entry(key, delimited(b"\x12", delimited(b"\x0a", _FLOAT.pack(value))))


def int_entry(key: str, value: int) -> bytes:
    return _entry(key, delimited(b"\x1a", delimited(b"\x0a", varint(value))))


def text_entry(key: str, value: str | None) -> bytes:
    return b"" if not value else bytes_entry(key, bytes_value(value))


def list_entry(key: str, values: list[str] | None) -> bytes:
    if not values:
        return b""
    return bytes_entry(key, b"".join([bytes_value(value) for value in values]))


def _entry(key: str, feature_list: bytes) -> bytes:
    feature = delimited(b"\x12", feature_list)
    return delimited(b"\x0a", delimited(b"\x0a", key.encode()) + feature)


class Heads(dict):
    """What stands before a value in the entry of one key, by the value's size.

    Few sizes, many values: each head is made once.
    """

    def __init__(self, make: Callable[[bytes], bytes]):
        """`make` returns the whole entry of a value."""
        super().__init__()
        self._make = make

    def __missing__(self, size: int) -> bytes:
        whole = self._make(bytes(size))
        self[size] = whole[: len(whole) - size]
        return self[size]


def varints(values: np.ndarray) -> tuple[bytes, int]:
    """Returns [n] varints of one size, one after the other, and that size.

    Not checked: that all take as many bytes as the greatest.
    """
    size = len(varint(int(values.max(initial=0))))
    shifted = values[:, None] >> (7 * np.arange(size))
    out = (shifted & 0x7F).astype(np.uint8)
    out[:, :-1] |= 0x80
    return out.tobytes(), size


def _frame_head(size: int) -> bytes:
    length = struct.pack("<Q", size)
    crc = google_crc32c.value(length)
    masked = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
    return length + struct.pack("<I", masked)


class RecordWriter:
    """A gzipped TFRecord file, compressed as Tandem's are."""

    def __init__(self, path: Path):
        self._handle = path.open("wb")
        self._gzip = isal_zlib.compressobj(level=1, wbits=16 + isal_zlib.MAX_WBITS)
        self._heads = Heads(lambda entries: delimited(b"\x0a", entries))
        self._frames = Heads(lambda record: _frame_head(len(record)) + record)

    def write(self, examples: Iterable[bytes]) -> int:
        """Adds the entries of some rows as tf.Examples; returns their number."""
        parts: list[bytes] = []
        count = waiting = 0
        checksum, heads, frames = google_crc32c.value, self._heads, self._frames
        for entries in examples:
            record = heads[len(entries)] + entries
            crc = checksum(record)
            masked = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
            parts += (frames[len(record)], record, masked.to_bytes(4, "little"))
            count += 1
            waiting += len(record)
            if waiting > _WRITE_BYTES:
                self._handle.write(self._gzip.compress(b"".join(parts)))
                parts, waiting = [], 0
        self._handle.write(self._gzip.compress(b"".join(parts)))
        return count

    def close(self) -> None:
        self._handle.write(self._gzip.flush())
        self._handle.close()
