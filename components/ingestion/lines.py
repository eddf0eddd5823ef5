"""Lines of a stream, many at a time."""

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from components.ingestion.raw_batch import BrokenRecord, text_of
from components.ingestion.streams import DamagedError, Stream

MAX_RECORD_BYTES = 64 << 20
_READ_BYTES = 8 << 20
_KEPT_BYTES = 1 << 20  # of a record that is too long to be kept whole
_WHOLE_RULE = "the file should be whole"
_LENGTH_RULE = f"a record should have at most {MAX_RECORD_BYTES >> 20} MiB"


@dataclasses.dataclass(frozen=True)
class Lines:
    """Consecutive lines, or other records of bytes, each with what ends it."""

    data: bytes
    offsets: np.ndarray  # [n + 1] int64 within `data`: line i is [i, i + 1)
    first: int  # position of the first one

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def line(self, index: int) -> bytes:
        """Returns one line with its end."""
        return self.data[self.offsets[index] : self.offsets[index + 1]]

    def record(self, index: int) -> bytes:
        """Returns one line without its end."""
        return self.line(index).removesuffix(b"\n")

    def text(self, index: int) -> str:
        """Returns `record` as text."""
        return text_of(self.record(index))

    def slice(self, begin: int, end: int) -> "Lines":
        return Lines(self.data, self.offsets[begin : end + 1], self.first + begin)

    def in_parts(self, most: int) -> "Iterator[Lines]":
        """Yields the lines in parts of about one size, of at most `most` lines."""
        number = -(-len(self) // most)
        bounds = [len(self) * i // number for i in range(number + 1)]
        for begin, end in itertools.pairwise(bounds):
            yield self.slice(begin, end)

    def as_array(self) -> pa.Array:
        """Returns the lines as an Arrow array, without a copy and without a check."""
        offsets = pa.py_buffer(self.offsets.astype(np.int32))
        buffers = [None, offsets, pa.py_buffer(self.data)]
        return pa.Array.from_buffers(pa.string(), len(self), buffers)

    def chosen(self, rows: np.ndarray) -> pa.Buffer:
        """Returns the lines at `rows`, one behind the other."""
        array = self.as_array()
        if len(rows) < len(self):
            array = array.take(pa.array(rows))
        _, offsets, data = array.buffers()
        begin, end = np.frombuffer(offsets, np.int32)[[0, len(array)]].tolist()
        return data.slice(begin, end - begin)

    def is_utf8(self) -> np.ndarray:
        """Returns [n] bool, whether each line is UTF-8."""
        data = self.data[self.offsets[0] : self.offsets[-1]]
        if data.isascii() or _is_utf8(data):
            return np.ones(len(self), bool)
        begins = (self.offsets[:-1] - self.offsets[0]).astype(np.intp)
        highest = np.maximum.reduceat(np.frombuffer(data, np.uint8), begins)
        valid = highest < 0x80
        for index in np.flatnonzero(~valid):
            valid[index] = _is_utf8(self.line(index))
        return valid


def read_lines(
    stream: Stream, size: int | None = None, first: int = 1
) -> Iterator[Lines | BrokenRecord]:
    """Yields lines, and in the place of what is no line, a broken record.

    Args:
        stream: what to read, from where it stands.
        size: bytes to read; None reads to the end.
        first: number of the first line.
    """
    rest: list[bytes] = []  # of a line whose end is not read yet
    length, number = 0, first
    while size is None or size > 0:
        wanted = _READ_BYTES if size is None else min(_READ_BYTES, size)
        try:
            chunk = stream.read(wanted)
        except DamagedError as error:
            yield damage(number, error, b"".join(rest))
            return
        if not chunk:
            break
        size = None if size is None else size - len(chunk)
        if length > MAX_RECORD_BYTES:  # a line of which only the start is kept
            end = chunk.find(b"\n") + 1
            length += end or len(chunk)
            if not end:
                continue
            yield _too_long(number, length, b"".join(rest))
            number, rest, length, chunk = number + 1, [], 0, chunk[end:]
        cut = chunk.rfind(b"\n") + 1
        if cut:
            lines = _split(b"".join([*rest, chunk[:cut]]), number)
            yield from _without_too_long(lines)
            number, rest, length = number + len(lines), [], 0
        rest.append(chunk[cut:])
        length += len(chunk) - cut
        if length > MAX_RECORD_BYTES:
            rest = [b"".join(rest)[:_KEPT_BYTES]]
    if length > MAX_RECORD_BYTES:
        yield _too_long(number, length, b"".join(rest))
    elif length:
        yield from _without_too_long(_split(b"".join(rest), number))


def joined(records: list[bytes], first: int) -> Lines:
    """Returns records as lines, each with a line end behind it."""
    lengths = np.fromiter((len(record) + 1 for record in records), np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Lines(b"".join(record + b"\n" for record in records), offsets, first)


def damage(position: int, error: Exception, rest: bytes) -> BrokenRecord:
    """Returns the record at which a file turned out to be damaged."""
    return BrokenRecord(position, _WHOLE_RULE, f"damage: {error}", text_of(rest))


def _without_too_long(lines: Lines) -> Iterator[Lines | BrokenRecord]:
    lengths = np.diff(lines.offsets)
    begin = 0
    for index in np.flatnonzero(lengths > MAX_RECORD_BYTES).tolist():
        if index > begin:
            yield lines.slice(begin, index)
        start = lines.line(index)[:_KEPT_BYTES]
        yield _too_long(lines.first + index, int(lengths[index]), start)
        begin = index + 1
    if len(lines) > begin:
        yield lines.slice(begin, len(lines))


def _too_long(position: int, length: int, start: bytes) -> BrokenRecord:
    seen = f"about {length >> 20} MiB, of which the start is kept"
    return BrokenRecord(position, _LENGTH_RULE, seen, text_of(start))


def _split(data: bytes, first: int) -> Lines:
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")) + 1
    if not data.endswith(b"\n"):
        ends = np.append(ends, len(data))
    return Lines(data, np.concatenate([[0], ends]), first)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
