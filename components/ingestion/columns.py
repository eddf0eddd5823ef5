"""Conversion of raw columns to canonical types: whole columns first, values on trouble.

Each converter returns the canonical array, null where a value is missing or wrong, and
a mask of the rows that are wrong.
"""

import datetime
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.ingestion.raw_batch import Column
from schemas.events import MAX_ID_BYTES, MAX_TIMESTAMP, MIN_TIMESTAMP

Converted = tuple[pa.Array, np.ndarray]

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MS = datetime.timedelta(milliseconds=1)


def to_text(values: Column) -> Converted:
    """Strings; whole numbers become their digits, "" is missing, the rest is wrong."""
    array = _decoded(values)
    if isinstance(array, pa.Array) and (
        _is_string(array.type) or pa.types.is_integer(array.type)
    ):
        array, wrong = array.cast(pa.string()), np.zeros(len(array), bool)
    else:
        array, wrong = _by_value(values, _text, pa.string())
    empty = pc.equal(array, "")
    return pc.if_else(empty, pa.scalar(None, pa.string()), array), wrong


def to_ids(values: Column) -> Converted:
    """Strings that name something: not blank, at most MAX_ID_BYTES long."""
    array, wrong = to_text(values)
    filled = pc.not_equal(pc.utf8_trim_whitespace(array), "")
    short = pc.less_equal(pc.binary_length(array), MAX_ID_BYTES)
    return array, wrong | ~_true_or_null(pc.and_(filled, short))


def to_numbers(values: Column) -> Converted:
    """Float64, finite also as the float32 of a tf.Example."""
    array = _decoded(values)
    if isinstance(array, pa.Array) and not pa.types.is_boolean(array.type):
        try:
            numbers = array.cast(pa.float64())
            return numbers, ~_true_or_null(_is_finite(numbers))
        except pa.ArrowException:
            pass  # some value is no number: find out which
    numbers, wrong = _by_value(values, _number, pa.float64())
    return numbers, wrong | ~_true_or_null(_is_finite(numbers))


def to_counts(values: Column) -> Converted:
    """Whole numbers from 0 on, as int64."""
    numbers, wrong = to_numbers(values)
    in_range = pc.and_(
        pc.and_(pc.greater_equal(numbers, 0), pc.less(numbers, 2.0**53)),
        pc.equal(numbers, pc.floor(numbers)),
    )
    wrong |= ~_true_or_null(in_range)
    whole = pc.if_else(pa.array(wrong), pa.scalar(None, pa.float64()), numbers)
    return whole.cast(pa.int64()), wrong


def to_timestamps(values: Column) -> Converted:
    """Int64 ms since the epoch, UTC, from whole numbers, ISO 8601 or Arrow times.

    A time without a zone is UTC; what is finer than a millisecond is cut off.
    """
    array = _decoded(values)
    wrong = np.zeros(len(values), bool)
    if isinstance(array, pa.Array) and pa.types.is_timestamp(array.type):
        array = array.cast(pa.timestamp("ms", array.type.tz), safe=False)
        moments = array.cast(pa.int64())
    elif isinstance(array, pa.Array) and pa.types.is_integer(array.type):
        moments, wrong = _int64(array)
    else:
        moments, wrong = _moments(values)
    in_range = pc.and_(
        pc.greater_equal(moments, MIN_TIMESTAMP), pc.less_equal(moments, MAX_TIMESTAMP)
    )
    return moments, wrong | ~_true_or_null(in_range)


def to_lists(values: Column, separator: str) -> Converted:
    """Lists of strings; a single string is split at `separator`."""

    def listed(value: Any) -> list[str]:
        if isinstance(value, str):
            parts = [part.strip() for part in value.split(separator)]
        elif not isinstance(value, list):
            raise TypeError(type(value).__name__)
        else:
            parts = [_text(part) for part in value if part is not None]
        return [part for part in parts if part]

    array = _decoded(values)
    if isinstance(array, pa.Array) and _is_plain_list(array):
        return array.cast(pa.list_(pa.string())), np.zeros(len(array), bool)
    return _by_value(values, listed, pa.list_(pa.string()))


def _int64(array: pa.Array) -> Converted:
    try:
        return array.cast(pa.int64()), np.zeros(len(array), bool)
    except pa.ArrowException:  # uint64 beyond int64
        return _by_value(array, int, pa.int64())


def _moments(values: Column) -> Converted:
    array = _decoded(values)
    if isinstance(array, pa.Array) and _is_string(array.type):
        # A column of digits is the common case of CSV.
        digits = pc.match_substring_regex(array, r"^[0-9]{1,18}$")
        if pc.all(digits).as_py() is not False:
            return array.cast(pa.int64()), np.zeros(len(array), bool)
    return _by_value(values, _moment, pa.int64())


def _moment(value: Any) -> int:
    if isinstance(value, datetime.datetime):
        moment = value
    elif isinstance(value, str):
        text = value.strip()
        if text.removeprefix("-").isdecimal() and text.isascii():
            return int(text)
        moment = datetime.datetime.fromisoformat(text)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if value != math.floor(value):
            raise ValueError("not a whole number of milliseconds")
        return int(value)
    else:
        raise TypeError(type(value).__name__)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return (moment - _EPOCH) // _MS


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8")
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise TypeError(type(value).__name__)
    value.encode("utf-8")  # raises for a lone surrogate
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError(type(value).__name__)
    if isinstance(value, str) and "_" in value:  # Python's digit groups, not data
        raise ValueError(value)
    return float(value)


def _by_value(
    values: Column, convert: Callable[[Any], Any], arrow_type: pa.DataType
) -> Converted:
    """Converts value by value; what `convert` refuses is null and wrong."""
    plain = values.to_pylist() if isinstance(values, pa.Array) else values
    wrong = np.zeros(len(plain), bool)
    out: list[Any] = []
    for row, value in enumerate(plain):
        converted = None
        if value is not None:
            try:
                converted = convert(value)
                pa.scalar(converted, arrow_type)
            except (ValueError, TypeError, OverflowError, pa.ArrowException):
                converted, wrong[row] = None, True
        out.append(converted)
    return pa.array(out, arrow_type), wrong


def _decoded(values: Column) -> Column:
    """Undoes what only concerns storage: dictionaries, views, all-null types."""
    if not isinstance(values, pa.Array):
        return values
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    return values.cast(pa.string()) if pa.types.is_null(values.type) else values


def _is_string(arrow_type: pa.DataType) -> bool:
    return pa.types.is_string(arrow_type) or pa.types.is_large_string(arrow_type)


def _is_plain_list(array: pa.Array) -> bool:
    is_list = pa.types.is_list(array.type) or pa.types.is_large_list(array.type)
    return (
        is_list
        and _is_string(array.type.value_type)
        and array.values.null_count == 0
        and not pc.any(pc.equal(array.values, "")).as_py()
    )


def _is_finite(numbers: pa.Array) -> pa.Array:
    narrow = numbers.cast(pa.float32(), safe=False)
    return pc.and_(pc.is_finite(numbers), pc.is_finite(narrow))


def _true_or_null(mask: pa.Array) -> np.ndarray:
    return pc.fill_null(mask, True).to_numpy(zero_copy_only=False).astype(bool)
