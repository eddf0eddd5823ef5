"""What reading gives: records as columns, and those that are none."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

# A column is an Arrow array where its values share a type, else the values themselves.
Column = pa.Array | list[Any]


@dataclasses.dataclass(frozen=True)
class BrokenRecord:
    """A record that could not be split into fields."""

    position: int
    expected: str  # the rule it broke, the same text for each such record
    seen: str
    raw: str


@dataclasses.dataclass(frozen=True)
class RawBatch:
    """Some records of one file, by position.

    `columns` go by the service's own names and have `len(positions)` rows; a column
    that no record has is left out. `raw(i)` gives row i as it stood in the file.
    """

    columns: dict[str, Column]
    positions: np.ndarray  # int64, from 1: line of a text file, else record
    raw: Callable[[int], str]
    broken: list[BrokenRecord]

    @property
    def num_read(self) -> int:
        return len(self.positions) + len(self.broken)


def column(values: list[Any]) -> Column:
    """Returns an Arrow array where the values share one plain type, else the list."""
    types = {type(value) for value in values} - {type(None)}
    if len(types) != 1 or not types <= {str, int, float}:
        return values if types else pa.nulls(len(values))
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):
        return values


class Unreadable:
    """Stands for a value that Python cannot hold, such as the year 100,000."""

    def __init__(self, error: Exception):
        self._error = error

    def __repr__(self) -> str:
        return f"<unreadable: {self._error}>"


def value_of(scalar: pa.Scalar) -> Any:
    """Returns the plain value of an Arrow scalar."""
    try:
        return scalar.as_py()
    except (ValueError, OverflowError, pa.ArrowException) as error:
        return Unreadable(error)


def values_of(values: Column) -> list[Any]:
    """Returns the plain values of a column."""
    if not isinstance(values, pa.Array):
        return values
    try:
        return values.to_pylist()
    except (ValueError, OverflowError, pa.ArrowException):
        return [value_of(scalar) for scalar in values]


def text_of(data: bytes) -> str:
    """Returns `data` as text, with bytes that are not UTF-8 spelled out."""
    return data.decode("utf-8", "backslashreplace")
