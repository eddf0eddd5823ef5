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

from components.ingestion.raw_batch import Column, values_of
from schemas.events import MAX_ID_BYTES, MAX_TIMESTAMP, MIN_TIMESTAMP

Converted = tuple[pa.Array, np.ndarray]

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MS = datetime.timedelta(milliseconds=1)

# Forms of text that Arrow reads as the functions of single values do.
_DATE = (
    "[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    "|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))"
)
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?"
_ZONE = "(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
_NUMBERS = (
    r"\A-?[0-9]{1,15}(?:\.[0-9]{1,17})?(?:[eE][+-]?[0-9]{1,2})?\z",
    lambda texts: texts.cast(pa.float64()),
)
_DIGITS = (r"\A[0-9]{1,18}\z", lambda texts: texts.cast(pa.int64()))
_ZONED = (
    rf"\A{_DATE}[T ]{_TIME}{_ZONE}\z",
    lambda texts: _in_ms(texts.cast(pa.timestamp("us", "UTC"))),
)
_LOCAL = (
    rf"\A{_DATE}(?:[T ]{_TIME})?\z",
    lambda texts: _in_ms(texts.cast(pa.timestamp("us"))),
)


def to_text(values: Column) -> Converted:
    """Strings; whole numbers become their digits, "" is missing, the rest is wrong."""
    array = decoded(values)
    if isinstance(array, pa.Array) and (
        (_is_string(array.type) and is_sound(array)) or pa.types.is_integer(array.type)
    ):
        array, wrong = array.cast(pa.string()), np.zeros(len(array), bool)
    else:
        array, wrong = by_value(array, _text, pa.string())
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
    numbers, wrong = _float64(decoded(values))
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
    moments, wrong = _moments(decoded(values))
    in_range = pc.and_(
        pc.greater_equal(moments, MIN_TIMESTAMP), pc.less_equal(moments, MAX_TIMESTAMP)
    )
    return moments, wrong | ~_true_or_null(in_range)


def to_lists(values: Column, separator: str) -> Converted:
    """Lists of strings; a single string is split at `separator`."""
    return listed(
        values, lambda value: [part for part in parts(value, separator) if part]
    )


def parts(value: Any, separator: str) -> list[str]:
    """Returns the strings of a list, or of a string split; "" where one is missing.

    Raises for all else.
    """
    if isinstance(value, str):
        return [part.strip() for part in value.split(separator)]
    if not isinstance(value, list):
        raise TypeError(type(value).__name__)
    return ["" if part is None else _text(part) for part in value]


def listed(values: Column, convert: Callable[[Any], list[str]]) -> Converted:
    """Lists of strings: as they are where they are plain, else value by value."""
    array = decoded(values)
    if isinstance(array, pa.Array) and _is_plain_list(array):
        return array.cast(pa.list_(pa.string())), np.zeros(len(array), bool)
    return by_value(values, convert, pa.list_(pa.string()))


def _float64(values: Column) -> Converted:
    if isinstance(values, pa.Array):
        if _is_string(values.type):
            return _by_pattern(values, [_NUMBERS], number, pa.float64())
        if pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
            numbers = values.cast(pa.float64(), safe=False)  # the nearest, as float()
            return numbers, np.zeros(len(values), bool)
        if pa.types.is_decimal(values.type):
            return values.cast(pa.float64()), np.zeros(len(values), bool)
    return by_value(values, number, pa.float64())


def _moments(values: Column) -> Converted:
    if not isinstance(values, pa.Array):
        return by_value(values, _moment, pa.int64())
    nothing_wrong = np.zeros(len(values), bool)
    try:
        if pa.types.is_timestamp(values.type):
            return _in_ms(values), nothing_wrong
        if pa.types.is_integer(values.type):
            return values.cast(pa.int64()), nothing_wrong
        if pa.types.is_floating(values.type):
            return values.cast(pa.float64()).cast(pa.int64()), nothing_wrong
    except pa.ArrowException:  # some are no whole number, or beyond int64
        return by_value(values, _moment, pa.int64())
    if _is_string(values.type):
        return _by_pattern(values, [_DIGITS, _ZONED, _LOCAL], _moment, pa.int64())
    return by_value(values, _moment, pa.int64())


def _in_ms(times: pa.Array) -> pa.Array:
    """Returns times as ms since the epoch, rounded down."""
    ticks = pc.fill_null(times.cast(pa.int64()), 0).to_numpy()
    if times.type.unit == "s":
        # Seconds that overflow as ms are as much out of range at the limit.
        ms = np.clip(ticks, MIN_TIMESTAMP - 1, MAX_TIMESTAMP + 1) * 1000
    else:
        ms = ticks // {"ms": 1, "us": 10**3, "ns": 10**6}[times.type.unit]
    return pa.array(ms, mask=_plain_mask(times.is_null()))


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
    """Returns a string, or the digits of a whole number; raises for all else."""
    if isinstance(value, bytes):
        value = value.decode("utf-8")
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise TypeError(type(value).__name__)
    value.encode("utf-8")  # raises for a lone surrogate
    return value


def number(value: Any) -> float:
    """Returns a number, from text as well; raises for all else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError(type(value).__name__)
    if isinstance(value, str) and "_" in value:  # Python's digit groups, not data
        raise ValueError(value)
    return float(value)


def _by_pattern(
    texts: pa.Array,
    forms: list[tuple[str, Callable[[pa.Array], pa.Array]]],
    convert: Callable[[Any], Any],
    arrow_type: pa.DataType,
) -> Converted:
    """Converts texts of the usual forms all at once, the others one by one.

    Args:
        texts: of Arrow's string type.
        forms: (pattern of a form, what converts texts of that form and agrees there
            with `convert`).
        convert: what each text means.
        arrow_type: of the result, with a fixed width.
    """
    out = np.zeros(len(texts), arrow_type.to_pandas_dtype())
    is_set = np.zeros(len(texts), bool)
    wrong = np.zeros(len(texts), bool)
    rows = np.flatnonzero(_plain_mask(texts.is_valid()))
    for pattern, cast in forms:
        left = texts if len(rows) == len(texts) else texts.take(pa.array(rows))
        has_form = _plain_mask(pc.match_substring_regex(left, pattern))
        if has_form.any():
            known = left if has_form.all() else left.filter(pa.array(has_form))
            out[rows[has_form]] = cast(known).to_numpy()
            is_set[rows[has_form]] = True
            rows = rows[~has_form]
    if len(rows):
        others, wrong[rows] = by_value(texts.take(pa.array(rows)), convert, arrow_type)
        out[rows] = pc.fill_null(others, 0).to_numpy()
        is_set[rows] = _plain_mask(others.is_valid())
    return pa.array(out, arrow_type, mask=~is_set), wrong


def by_value(
    values: Column, convert: Callable[[Any], Any], arrow_type: pa.DataType
) -> Converted:
    """Converts value by value; what `convert` refuses is null and wrong."""
    plain = values_of(values)
    wrong = np.zeros(len(plain), bool)
    out: list[Any] = []
    for row, value in enumerate(plain):
        converted = None
        if value is not None:
            try:
                converted = convert(value)
            except (ValueError, TypeError, OverflowError):
                wrong[row] = True
        out.append(converted)
    try:
        return pa.array(out, arrow_type), wrong
    except (ValueError, TypeError, OverflowError, pa.ArrowException):
        for row, converted in enumerate(out):  # find those that the type cannot hold
            try:
                pa.scalar(converted, arrow_type)
            except (ValueError, TypeError, OverflowError, pa.ArrowException):
                out[row], wrong[row] = None, True
        return pa.array(out, arrow_type), wrong


def is_sound(array: pa.Array) -> bool:
    """Returns whether all text in `array` is UTF-8, which Parquet does not ensure."""
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def decoded(values: Column) -> Column:
    """Undoes what only concerns storage: dictionaries, views, all-null types, bytes."""
    if not isinstance(values, pa.Array):
        return values
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_null(values.type) or pa.types.is_string_view(values.type):
        return values.cast(pa.string())
    if pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
        try:
            return values.cast(pa.string())
        except pa.ArrowInvalid:  # some are not UTF-8: find out which
            return values
    return values


def _is_string(arrow_type: pa.DataType) -> bool:
    return pa.types.is_string(arrow_type) or pa.types.is_large_string(arrow_type)


def _is_plain_list(array: pa.Array) -> bool:
    """Returns whether each row is null or a list of strings that are there."""
    is_list = pa.types.is_list(array.type) or pa.types.is_large_list(array.type)
    return (
        is_list
        and _is_string(array.type.value_type)
        and array.values.null_count == 0
        and is_sound(array)
        and not pc.any(pc.equal(array.values, "")).as_py()
    )


def _is_finite(numbers: pa.Array) -> pa.Array:
    narrow = numbers.cast(pa.float32(), safe=False)
    return pc.and_(pc.is_finite(numbers), pc.is_finite(narrow))


def _true_or_null(mask: pa.Array) -> np.ndarray:
    return _plain_mask(pc.fill_null(mask, True))


def _plain_mask(mask: pa.Array) -> np.ndarray:
    return mask.to_numpy(zero_copy_only=False).astype(bool)
