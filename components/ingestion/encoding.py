"""tf.Examples written at the wire level, a column at a time.

A tf.Example is a map from key to value list, and in the wire format a map is its entries
one after the other. So a row is the concatenation of one entry for each key, and a whole
chunk of rows is Arrow's element-wise concatenation of columns of entries: no Python runs
per value. What many rows share (an item's features, a user's) is encoded once and taken;
what stands before a value depends on its length alone, so there is one head a length. The
tests read every example back through TensorFlow's own parser.

Layout (field number in brackets):
    Example{[1] Features{[1] entry{[1] key, [2] Feature}*}}
    Feature{[1] BytesList | [2] FloatList | [3] Int64List}, each {[1] values}
"""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.features import RawColumn

_FIELD_1 = b"\x0a"  # field 1, length-delimited
_FIELD_2 = b"\x12"
_FIELD_3 = b"\x1a"
_NOTHING = pa.scalar(b"", pa.binary())
_ABSENT = -1


def varint(value: int) -> bytes:
    """Returns a base-128 varint; `value` >= 0."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def concat(*columns: pa.Array) -> pa.Array:
    """Returns the element-wise concatenation of [n] binary columns without nulls."""
    return pc.binary_join_element_wise(*columns, _NOTHING)


def by_size(sizes: np.ndarray, make: Callable[[int], bytes]) -> pa.Array:
    """Returns `make(size)` for each of [n] sizes; each distinct size is made once."""
    distinct, codes = np.unique(sizes, return_inverse=True)
    made = pa.array([make(int(size)) for size in distinct], pa.binary())
    return made.take(pa.array(codes))


def sizes_of(array: pa.Array) -> np.ndarray:
    """Returns the bytes of each value, `_ABSENT` for a null."""
    return np.asarray(pc.fill_null(pc.binary_length(array), _ABSENT))


def _head(tag: bytes, size: int) -> bytes:
    """Returns what stands before `size` bytes of a length-delimited field."""
    return tag + varint(size)


def _entry_head(key: str, kind: bytes, size: int) -> bytes:
    """Returns what stands before `size` bytes of values in the entry of `key`.

    Args:
        key: of the map.
        kind: _FIELD_1 for a BytesList, _FIELD_2 for floats, _FIELD_3 for integers.
        size: of what the list message holds, its values with their heads.
    """
    values = _head(kind, size)
    feature = _head(_FIELD_2, len(values) + size)
    name = _head(_FIELD_1, len(key.encode())) + key.encode()
    inside = len(name) + len(feature) + len(values) + size
    return _head(_FIELD_1, inside) + name + feature + values


def examples(entries: pa.Array) -> pa.Array:
    """Returns the tf.Example of each row's concatenated entries."""
    return concat(by_size(sizes_of(entries), lambda n: _head(_FIELD_1, n)), entries)


def bytes_values(values: pa.Array) -> pa.Array:
    """Returns each value as it stands in a BytesList; no nulls."""
    values = values.cast(pa.binary())
    return concat(by_size(sizes_of(values), lambda n: _head(_FIELD_1, n)), values)


def bytes_entries(key: str, values: pa.Array) -> pa.Array:
    """Returns the entry of each row's concatenated `bytes_values`, maybe none."""
    heads = by_size(sizes_of(values), lambda n: _entry_head(key, _FIELD_1, n))
    return concat(heads, values)


def text_entries(key: str, array: pa.Array) -> pa.Array:
    """Returns an entry for each string, b"" for a null."""

    def head(size: int) -> bytes:
        if size == _ABSENT:
            return b""
        value = _head(_FIELD_1, size)
        return _entry_head(key, _FIELD_1, len(value) + size) + value

    values = pc.fill_null(array.cast(pa.binary()), b"")
    return concat(by_size(sizes_of(array), head), values)


def list_entries(key: str, array: pa.ListArray) -> pa.Array:
    """Returns an entry for each list of strings, b"" for a null or an empty list."""
    values = bytes_values(array.flatten())
    lengths = pc.fill_null(pc.list_value_length(array), 0)
    ends = np.concatenate([[0], np.cumsum(lengths)])
    joined = _binary(offsets_of(values)[ends], values.buffers()[2])
    heads = by_size(
        sizes_of(joined), lambda n: _entry_head(key, _FIELD_1, n) if n else b""
    )
    return concat(heads, joined)


def float_entries(key: str, array: pa.Array) -> pa.Array:
    """Returns an entry with one float32 for each number, b"" for a null."""
    # A packed list of one: every entry has the same length.
    head = _entry_head(key, _FIELD_2, 6) + _head(_FIELD_1, 4)
    rows = np.empty((len(array), len(head) + 4), np.uint8)
    rows[:, : len(head)] = np.frombuffer(head, np.uint8)
    numbers = np.asarray(pc.fill_null(array.cast(pa.float64()), 0.0), "<f4")
    rows[:, len(head) :] = numbers.view(np.uint8).reshape(-1, 4)
    return _ragged(rows, np.ones(rows.shape, bool), _is_valid(array))


def int_entries(key: str, array: pa.Array) -> pa.Array:
    """Returns an entry with one int64 >= 0 for each number, b"" for a null."""
    numbers = np.asarray(pc.fill_null(array, 0), np.uint64)
    longest = len(varint(int(numbers.max(initial=0))))
    places = np.arange(longest)
    groups = numbers[:, None] >> (7 * places).astype(np.uint64)  # [n, longest]
    num_bytes = np.maximum(1, np.count_nonzero(groups, axis=1))
    is_last = places == num_bytes[:, None] - 1
    digits = (groups & np.uint64(0x7F)).astype(np.uint8) | np.where(
        is_last, 0, 0x80
    ).astype(np.uint8)
    valid = _is_valid(array)
    values = _ragged(digits, places < num_bytes[:, None], valid)

    def head(size: int) -> bytes:
        if size == 0:
            return b""
        value = _head(_FIELD_1, size)
        return _entry_head(key, _FIELD_3, len(value) + size) + value

    return concat(by_size(sizes_of(values), head), values)


def float_list_entries(key: str, array: pa.ListArray) -> pa.Array:
    """Returns an entry for each list of numbers, b"" for a null or an empty list."""
    numbers = np.asarray(array.flatten().cast(pa.float64()), "<f4")
    lengths = np.asarray(pc.fill_null(pc.list_value_length(array), 0), np.int64)
    offsets = np.concatenate([[0], np.cumsum(numbers.itemsize * lengths)])
    values = _binary(offsets, pa.py_buffer(numbers.tobytes()))

    def head(size: int) -> bytes:
        if not size:
            return b""
        packed = _head(_FIELD_1, size)
        return _entry_head(key, _FIELD_2, len(packed) + size) + packed

    return concat(by_size(sizes_of(values), head), values)


def feature_entries(table: pa.Table, columns: list[RawColumn]) -> pa.Array:
    """Returns, for each row, the entries of its declared features.

    Args:
        table: has a column named as each of `columns`.
        columns: as `FeatureCatalog.columns` gives them.
    """
    entries = []
    for column in columns:
        array = table[column.name].combine_chunks()
        if column.shape:
            encode = float_list_entries if column.is_number else list_entries
        else:
            encode = float_entries if column.is_number else text_entries
        entries.append(encode(column.key, array))
    if not entries:
        return pa.array([b""] * table.num_rows, pa.binary())
    return concat(*entries)


def slices(data: bytes, begin: np.ndarray, end: np.ndarray) -> pa.Array:
    """Returns `data[begin[i]:end[i]]` for each i."""
    spans = zip(begin.tolist(), end.tolist(), strict=True)
    joined = b"".join([data[first:last] for first, last in spans])
    offsets = np.concatenate([[0], np.cumsum(end - begin)])
    return _binary(offsets, pa.py_buffer(joined))


def offsets_of(array: pa.Array) -> np.ndarray:
    """Returns where each value of a binary array begins in its data, and the end."""
    offsets = np.frombuffer(array.buffers()[1], np.int32)
    return offsets[array.offset : array.offset + len(array) + 1]


def data_of(array: pa.Array) -> pa.Buffer:
    """Returns the values of a non-empty binary array, one after the other."""
    offsets = offsets_of(array)
    return array.buffers()[2].slice(int(offsets[0]), int(offsets[-1] - offsets[0]))


def _binary(offsets: np.ndarray, data: pa.Buffer) -> pa.Array:
    buffers = [None, pa.py_buffer(offsets.astype(np.int32)), data]
    return pa.Array.from_buffers(pa.binary(), len(offsets) - 1, buffers)


def _ragged(rows: np.ndarray, used: np.ndarray, valid: np.ndarray) -> pa.Array:
    """Returns the bytes of each row under `used`, b"" where it is not valid.

    Args:
        rows: [n, m] uint8.
        used: [n, m] bool.
        valid: [n] bool.
    """
    used = used & valid[:, None]
    offsets = np.concatenate([[0], np.cumsum(used.sum(axis=1))])
    return _binary(offsets, pa.py_buffer(rows[used]))


def _is_valid(array: pa.Array) -> np.ndarray:
    return np.asarray(array.is_valid())
