"""Bytes of a source's files, decompressed, on any Beam file system.

Beam's own reader of compressed files takes a truncated one for a whole one, and drops
what it had decompressed when it meets damage; this one gives out every byte before the
damage, then says so. A storage that fails is no damage: that is an OSError, so that no
part of a log is given up for a moment without network.
"""

import zlib
from collections.abc import Iterator
from typing import Any, Protocol

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from components.ingestion.errors import IngestionError

_COMPRESSED_BYTES = 64 << 10
_PIECE_BYTES = 1 << 20
_GZIP = 16 + zlib.MAX_WBITS


class DamagedError(Exception):
    """The compressed data are not whole from here on."""


# What reading raises: at damage, and where the storage fails.
READ_ERRORS = (DamagedError, OSError)


class Stream(Protocol):
    """What is read of an open file."""

    def read(self, num_bytes: int, /) -> bytes: ...

    def close(self) -> Any: ...


def is_plain(path: str) -> bool:
    """Returns whether the file at `path` is read as it is stored."""
    kind = CompressionTypes.detect_compression_type(path)
    return kind == CompressionTypes.UNCOMPRESSED


def open_plain(path: str) -> Any:
    """Opens the file at `path` as it is stored, as a seekable binary file.

    Raises:
        IngestionError: if it cannot be opened.
    """
    try:
        return FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
    except OSError as error:
        raise IngestionError(f"cannot open `{path}`: {error}") from error


def open_stream(path: str) -> Stream:
    """Opens the file at `path`, decompressed by its ending.

    Reading raises DamagedError at damage, and OSError where the storage fails.

    Raises:
        IngestionError: if it cannot be opened, or is compressed by anything but gzip.
    """
    kind = CompressionTypes.detect_compression_type(path)
    if kind == CompressionTypes.GZIP:
        return GzipStream(open_plain(path))
    if kind == CompressionTypes.UNCOMPRESSED:
        return open_plain(path)
    raise IngestionError(
        f"`{path}` is compressed with {kind}, where a file that ends early passes for a "
        "whole one. Compress it with gzip, or not at all."
    )


class GzipStream:
    """The content of a gzip file, member after member, up to the damage if any."""

    def __init__(self, file: Any):
        self._file = file
        self._chunks = self._decompressed()
        self._chunk, self._at = b"", 0  # what is decompressed, and read of it
        self._error: DamagedError | None = None

    def read(self, num_bytes: int) -> bytes:
        """Returns `num_bytes`, fewer only before the end or the damage.

        Raises:
            DamagedError: at damage, or if the file ends within a member.
            OSError: if the storage fails.
        """
        parts = []
        while num_bytes > 0:
            part = self._chunk[self._at : self._at + num_bytes]
            if part:
                parts.append(part)
                self._at += len(part)
                num_bytes -= len(part)
                continue
            try:
                if self._error is not None:
                    raise self._error
                self._chunk, self._at = next(self._chunks), 0
            except StopIteration:
                break
            except DamagedError as error:
                self._error = error
                if parts:
                    break
                raise
        return b"".join(parts)

    def close(self) -> None:
        self._file.close()

    def _decompressed(self) -> Iterator[bytes]:
        member = None
        rest = b""
        while True:
            data = rest or self._file.read(_COMPRESSED_BYTES)
            rest = b""
            if not data:
                break
            if member is None:
                data = data.lstrip(b"\0")  # padding between and after members
                if not data:
                    continue
                member = zlib.decompressobj(wbits=_GZIP)
            yield from self._inflated(member, data)
            if member.eof:
                rest, member = member.unused_data, None
        if member is not None:
            raise DamagedError("the file ends within its compressed data")

    def _inflated(self, member: Any, data: bytes) -> Iterator[bytes]:
        # In bounded pieces: a megabyte of zeros compresses to a kilobyte.
        while True:
            try:
                piece = member.decompress(data, _PIECE_BYTES)
            except zlib.error as error:
                raise DamagedError(str(error)) from error
            data = member.unconsumed_tail
            if piece:
                yield piece
            if not data and len(piece) < _PIECE_BYTES:
                return
