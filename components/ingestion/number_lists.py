"""Conversion of raw columns to lists of numbers: vectors, and weights beside values.

As in `columns`: a canonical array, null where a value is missing or wrong, and a mask of
the rows that are wrong.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.ingestion.columns import (
    Converted,
    by_value,
    decoded,
    listed,
    number,
    parts,
)
from components.ingestion.raw_batch import Column


def to_vectors(values: Column, size: int, separator: str) -> Converted:
    """Lists of `size` numbers, finite as float32; an empty list is missing.

    A single string is split at `separator`; a single number is a list of one.
    """
    vectors, wrong = _number_lists(values, separator)
    lengths = _lengths(vectors)
    wrong |= (lengths > 0) & (lengths != size)
    return _kept(vectors, (lengths > 0) & ~wrong), wrong


def to_weighted_lists(
    values: Column, weights: Column, separator: str
) -> tuple[pa.ListArray, pa.ListArray, np.ndarray, np.ndarray]:
    """Lists of strings, each value with a weight of its own.

    A value that is null or "" is left out, and its weight with it. A row may have no
    weights at all.

    Args:
        values: as `columns.to_lists` takes them.
        weights: lists of numbers, as long as those of the values.
        separator: at which a single string is split.

    Returns:
        values, weights: lists of strings and of float32, alike in length where there
            are weights; null where missing or wrong.
        wrong_values, wrong_weights: [n] bool; weights are wrong where one is no finite
            number or below 0, and where there are more or fewer than values.
    """
    texts, wrong_values = _with_gaps(values, separator)
    numbers, wrong_weights = _number_lists(weights, separator)
    lengths, num_weights = _lengths(texts), _lengths(numbers)
    negative = np.asarray(numbers.flatten()) < 0
    wrong_weights |= _any(negative, num_weights)
    wrong_weights |= (num_weights > 0) & (num_weights != lengths) & ~wrong_values
    is_weighted = (num_weights > 0) & ~wrong_values & ~wrong_weights
    numbers = _kept(numbers, is_weighted)
    flat = texts.flatten()
    is_value = np.asarray(pc.not_equal(flat, ""))
    kept_weights = is_value[np.repeat(is_weighted, lengths)]
    return (
        _list_array(
            flat.filter(pa.array(is_value)),
            _counts(is_value, lengths),
            texts.is_valid(),
        ),
        _list_array(
            numbers.flatten().filter(pa.array(kept_weights)),
            _counts(is_value, lengths) * is_weighted,
            pa.array(is_weighted),
        ),
        wrong_values,
        wrong_weights,
    )


def _with_gaps(values: Column, separator: str) -> tuple[pa.ListArray, np.ndarray]:
    """Returns lists of strings in which "" stands for what is left out."""

    def with_gaps(value: Any) -> list[str]:
        found = parts(value, separator)
        is_blank = isinstance(value, str) and not any(found)
        return [] if is_blank else found

    return listed(values, with_gaps)


def _number_lists(values: Column, separator: str) -> tuple[pa.ListArray, np.ndarray]:
    """Returns lists of float32, all of them finite."""

    def numbers_of(value: Any) -> list[float]:
        if isinstance(value, str):
            value = value.split(separator) if value.strip() else []
        elif isinstance(value, int | float):  # of a tf.Example: a list of one
            value = [value]
        elif not isinstance(value, list):
            raise TypeError(type(value).__name__)
        return [number(part) for part in value]

    array = decoded(values)
    wrong = np.zeros(len(values), bool)
    if not (isinstance(array, pa.Array) and _is_number_list(array)):
        array, wrong = by_value(values, numbers_of, pa.list_(pa.float64()))
    lengths = _lengths(array)
    numbers = array.flatten().cast(pa.float32(), safe=False)
    wrong = wrong | _any(~np.isfinite(np.asarray(numbers)), lengths)
    return _kept(_list_array(numbers, lengths, array.is_valid()), ~wrong), wrong


def _is_number_list(array: pa.Array) -> bool:
    is_list = (
        pa.types.is_list(array.type)
        or pa.types.is_large_list(array.type)
        or pa.types.is_fixed_size_list(array.type)
    )
    if not is_list:
        return False
    kind = array.type.value_type
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    return is_number and array.flatten().null_count == 0


def _lengths(lists: pa.Array) -> np.ndarray:
    return np.asarray(pc.fill_null(pc.list_value_length(lists), 0), np.int64)


def _counts(chosen: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Returns how many of each list's members are chosen."""
    rows = np.repeat(np.arange(len(lengths)), lengths)
    return np.bincount(rows[chosen], minlength=len(lengths))


def _any(chosen: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Returns whether any of each list's members is chosen."""
    return _counts(chosen, lengths) > 0


def _kept(lists: pa.ListArray, keep: np.ndarray) -> pa.ListArray:
    """Returns the lists under `keep`, null elsewhere."""
    lengths = _lengths(lists)
    members = lists.flatten().filter(pa.array(np.repeat(keep, lengths)))
    valid = np.asarray(lists.is_valid()) & keep
    return _list_array(members, lengths * keep, pa.array(valid))


def _list_array(
    members: pa.Array, lengths: np.ndarray, valid: pa.Array
) -> pa.ListArray:
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    return pa.ListArray.from_arrays(offsets, members, mask=pc.invert(valid))
