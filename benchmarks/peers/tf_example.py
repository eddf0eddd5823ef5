"""tf.Examples and TFRecord files by hand, the fastest straightforward way in Python.

Needs google-crc32c and the standard library. What many rows share is encoded once; each
row is then one concatenation of bytes and one checksum.
"""

import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import google_crc32c

_FRAME_HEAD = struct.Struct("<QI")
_CRC = struct.Struct("<I")
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


def _masked_crc(data: bytes) -> int:
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


class RecordWriter:
    """A gzipped TFRecord file, compressed as fast as zlib can."""

    def __init__(self, path: Path):
        self._handle = path.open("wb")
        self._gzip = zlib.compressobj(level=1, wbits=16 + zlib.MAX_WBITS)
        self._heads: dict[int, bytes] = {}  # by length: few lengths, many records

    def write(self, examples: Iterable[bytes]) -> int:
        """Adds the entries of some rows as tf.Examples; returns their number."""
        parts: list[bytes] = []
        count = waiting = 0
        for entries in examples:
            record = delimited(b"\x0a", entries)
            size = len(record)
            head = self._heads.get(size)
            if head is None:
                length = struct.pack("<Q", size)
                head = _FRAME_HEAD.pack(size, _masked_crc(length))
                self._heads[size] = head
            parts += (head, record, _CRC.pack(_masked_crc(record)))
            count += 1
            waiting += size
            if waiting > _WRITE_BYTES:
                self._handle.write(self._gzip.compress(b"".join(parts)))
                parts, waiting = [], 0
        self._handle.write(self._gzip.compress(b"".join(parts)))
        return count

    def close(self) -> None:
        self._handle.write(self._gzip.flush())
        self._handle.close()
