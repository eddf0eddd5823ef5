"""The usual shape of a log's JSON records, learnt from some of them.

From the shape come a regular expression and an Arrow schema. A line that matches the
expression is one JSON object, in which each column that is wanted is null or of the one
type that the schema gives it; of such lines Arrow's reader and Python's say the same:

* No text looks like anything else: the schema names the type, so nothing is inferred.
* Escapes are well-formed, surrogates come in pairs, control characters do not occur.
* A whole number beyond 64 bits is an error to Arrow, which never goes unnoticed. Where
  a whole number may stand in a column of fractions, it fits 53 bits and is not -0.
  Exponents neither overflow nor underflow; NaN is not matched.
* Keys were seen before and are spelled without escapes, so that none passes for another.
  A key that is wanted and occurs twice is an error to Arrow.

The expression does not check UTF-8, nor for the thousands of digits that Python refuses
to read as a number; the caller does.
"""

import collections
import enum
import math
import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from components.ingestion.sources import ColumnMap

_SPACE = r"[ \t]*"
_HEX = "[0-9a-fA-F]"
_ESCAPED = (
    r'\\(?:["\\/bfnrt]'
    rf"|u(?:[0-9a-cA-CefEF]{_HEX}{{3}}|[dD][0-7]{_HEX}{{2}}"
    rf"|[dD][89abAB]{_HEX}{{2}}\\u[dD][c-fC-F]{_HEX}{{2}}))"
)
_TEXT = rf'"(?:[^"\\\x00-\x1f]|{_ESCAPED})*"'
_WHOLE = r"-?(?:0|[1-9][0-9]*)"
_FRACTION = r"\.[0-9]+"
_EXPONENT = r"[eE][+-]?[0-9]{1,2}"
_FLOAT = rf"{_WHOLE}(?:{_FRACTION}(?:{_EXPONENT})?|{_EXPONENT})"
_NUMBER = rf"(?:{_FLOAT}|0|-?[1-9][0-9]{{0,14}})"
_FLAG = "true|false"
_UNPLAIN = re.compile(r'["\\\x00-\x1f\ud800-\udfff]')  # needs an escape in a key
_MAX_OTHER_KEYS = 1000
_MAX_PATTERN = 40_000  # characters; a longer expression costs more than it saves
_NESTED = 2  # levels of lists and objects in values that are not read


class Kind(enum.Enum):
    """The kinds of values that records are told apart by."""

    TEXT = "text"
    WHOLE = "whole"
    FLOAT = "float"
    FLAG = "flag"
    TEXTS = "texts"
    NUMBERS = "numbers"
    OTHER = "other"


_TYPES = {
    Kind.TEXT: pa.string(),
    Kind.WHOLE: pa.int64(),
    Kind.FLOAT: pa.float64(),
    Kind.FLAG: pa.bool_(),
    Kind.TEXTS: pa.list_(pa.string()),
    Kind.NUMBERS: pa.list_(pa.float64()),
}


_NUMBER_KINDS = {Kind.WHOLE, Kind.FLOAT}


class JsonShape:
    """What the records seen so far looked like."""

    def __init__(self, column_map: ColumnMap):
        """Begins without knowing any key.

        Args:
            column_map: the keys that are read, and those where 1 and 1.0 mean the same;
                of other keys it is enough that they are well-formed.
        """
        self._wanted = frozenset(column_map.own.values())
        self._numbers = column_map.numbers
        self._kinds: dict[str, Kind | None] = {}  # None: only null was seen
        self._others: dict[str, None] = {}  # keys that are not read
        self._depth = 0  # of lists and objects in their values
        self.pattern = ""
        self.schema = pa.schema([])

    @property
    def is_known(self) -> bool:
        """Whether there is an expression worth its cost."""
        return len(self.pattern) <= _MAX_PATTERN

    def learn(self, records: Sequence[dict[str, Any]], share: float = 1.0) -> None:
        """Goes by what most of the recent records hold.

        Args:
            records: a sample of those that do not have the shape.
            share: that those have among all the recent ones.
        """
        seen: dict[str, collections.Counter[Kind]] = {}
        for record in records:
            for key, value in record.items():
                if _UNPLAIN.search(key):
                    continue
                if key in self._wanted:
                    kinds = seen.setdefault(key, collections.Counter())
                    if value is not None:
                        kinds[_kind_of(value, key in self._numbers)] += 1
                elif key in self._others or len(self._others) < _MAX_OTHER_KEYS:
                    self._others[key] = None
                    if isinstance(value, list | dict):
                        self._depth = _NESTED
        usual = len(records) * (1 - share) / share  # records that have the shape
        for key, kinds in seen.items():
            known = self._kinds.get(key)
            if known is not None:
                kinds[known] += usual
            self._kinds[key] = self._most_frequent(key, kinds)
        self._build()

    def _most_frequent(self, key: str, kinds: collections.Counter[Kind]) -> Kind | None:
        if key in self._numbers and kinds[Kind.FLOAT]:  # which take whole ones as well
            kinds[Kind.FLOAT] += kinds[Kind.WHOLE]
        return max(kinds, key=lambda kind: kinds[kind]) if kinds else None

    def _build(self) -> None:
        by_value: dict[str, list[str]] = {}
        for key, kind in self._kinds.items():
            by_value.setdefault(self._value(key, kind), []).append(key)
        if self._others:
            by_value[_anything(self._depth)] = list(self._others)
        members = [
            f'"(?:{"|".join(map(re.escape, keys))})"{_SPACE}:{_SPACE}(?:{value})'
            for value, keys in by_value.items()
        ]
        member = f"(?:{'|'.join(members)})"
        pairs = f"{member}(?:{_SPACE},{_SPACE}{member})*" if members else ""
        self.pattern = rf"\A{_SPACE}\{{{_SPACE}(?:{pairs})?{_SPACE}\}}[ \t\r]*\n?\z"
        self.schema = pa.schema(
            [
                pa.field(key, _TYPES.get(kind, pa.null()))
                for key, kind in self._kinds.items()
            ]
        )

    def _value(self, key: str, kind: Kind | None) -> str:
        """Returns the expression of a value that is read; without a type, only null."""
        regex = {
            Kind.TEXT: _TEXT,
            Kind.WHOLE: _WHOLE,
            Kind.FLOAT: _NUMBER if key in self._numbers else _FLOAT,
            Kind.FLAG: _FLAG,
            Kind.TEXTS: _listed(_TEXT),
            Kind.NUMBERS: _listed(_NUMBER),
        }.get(kind)
        return "null" if regex is None else f"{regex}|null"


def _kind_of(value: Any, of_numbers: bool) -> Kind:
    """Returns the kind of a value, of a column that is read as numbers or not."""
    if isinstance(value, list):
        if all(isinstance(part, str) for part in value):
            return Kind.TEXTS
        kinds = {_kind_of(part, of_numbers) for part in value}
        return Kind.NUMBERS if of_numbers and kinds <= _NUMBER_KINDS else Kind.OTHER
    if isinstance(value, float) and not math.isfinite(value):
        return Kind.OTHER
    by_type = {str: Kind.TEXT, bool: Kind.FLAG, int: Kind.WHOLE, float: Kind.FLOAT}
    return by_type.get(type(value), Kind.OTHER)


def _anything(depth: int) -> str:
    """Returns the expression of any value in which lists and objects nest so deep."""
    scalar = f"{_TEXT}|{_FLOAT}|{_WHOLE}|{_FLAG}|null"
    if not depth:
        return scalar
    inner = f"(?:{_anything(depth - 1)})"
    pairs = f"{_TEXT}{_SPACE}:{_SPACE}{inner}"
    members = rf"\{{{_SPACE}(?:{pairs}(?:{_SPACE},{_SPACE}{pairs})*)?{_SPACE}\}}"
    return f"{scalar}|{_listed(inner)}|{members}"


def _listed(value: str) -> str:
    return rf"\[{_SPACE}(?:{value}(?:{_SPACE},{_SPACE}{value})*)?{_SPACE}\]"
