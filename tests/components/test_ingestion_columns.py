"""Columns convert as their values would one by one; types decide, never neighbours."""

import datetime
import decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from components.ingestion import columns

TEXTS = [
    "1",
    "0",
    "-0",
    "+1",
    "007",
    "1.5",
    "1.",
    ".5",
    "1e3",
    "1E-3",
    "1e999",
    "1e-999",
    "1_000",
    "1,5",
    "0x10",
    " 1 ",
    "nan",
    "NaN",
    "-inf",
    "Infinity",
    "\u0661",
    "1.7976931348623157e308",
    "123456789012345678",
    "1234567890123456789",
    "99999999999999999999",
    "1700000000000",
    "1700000000000.0",
    "",
    " ",
    "soon",
    "2026-11-21",
    "20261121",
    "2026-11-21T10:11:12",
    "2026-11-21 10:11:12",
    "2026-11-21T10:11:12Z",
    "2026-11-21T10:11:12z",
    "2026-11-21T10:11:12.3Z",
    "2026-11-21T10:11:12.345678Z",
    "2026-11-21T10:11:12.3456789Z",
    "2026-11-21T10:11:12,345Z",
    "2026-11-21T10:11:12.345+01:00",
    "2026-11-21T10:11:12-23:59",
    "2026-11-21T10:11:12+0100",
    "2026-11-21T10:11Z",
    "2026-11-21T10Z",
    "2026-11-21T24:00:00Z",
    "2026-11-21T10:11:60Z",
    "2026-11-31T10:11:12Z",
    "2026-02-29T10:11:12Z",
    "2024-02-29T10:11:12Z",
    "2026-13-01T10:11:12Z",
    "0000-01-01T00:00:00Z",
    "0001-01-01T00:00:00+01:00",
    "1969-12-31T23:59:59.999999Z",
    "1970-01-01T00:00:00.000999Z",
    "9999-12-31T23:59:59.999Z",
    "9999-12-31T23:59:59.999-01:00",
    "10000-01-01T00:00:00Z",
    "2026-W47-6",
    "2026-11-21T10:11:12+24:00",
    "2026-11-21\n",
    "a\x00",
]
CONVERTERS = [
    columns.to_text,
    columns.to_ids,
    columns.to_numbers,
    columns.to_counts,
    columns.to_timestamps,
    lambda values: columns.to_lists(values, "|"),
]


def fates(converted):
    """Returns the value of each row, "wrong" for a wrong one."""
    array, wrong = converted
    values = array.to_pylist()
    return ["wrong" if w else repr(v) for v, w in zip(values, wrong, strict=True)]


def check_columns(convert, values):
    """The checker: a whole column gives what each value gives alone."""
    alone = [fates(convert([value]))[0] for value in values]
    assert fates(convert(pa.array(values))) == alone
    assert fates(convert(pa.array([None, *values, None])))[1:-1] == alone


@pytest.mark.parametrize("convert", CONVERTERS)
def test_texts_convert_as_they_do_one_by_one(convert):
    check_columns(convert, TEXTS)


@pytest.mark.parametrize("convert", CONVERTERS)
@pytest.mark.parametrize(
    "values",
    [
        [1, 0, -1, 2**53 + 1, 2**62, -(2**63), 1_700_000_000_000],
        [1.0, 0.5, -0.0, 1e15, 1e18, 1e300, float("nan"), float("-inf"), 1.7e12],
        [True, False],
        [b"a", b"1", b"\xff", b""],
        [["a", "b"], [], ["", "c"], ["a", None]],
        [datetime.datetime(2026, 11, 21, 1, 2, 3, 4567), datetime.datetime(1960, 1, 1)],
    ],
    ids=["int", "float", "bool", "bytes", "lists", "times"],
)
def test_types_convert_as_they_do_one_by_one(convert, values):
    check_columns(convert, values)


@hypothesis_settings(max_examples=100, deadline=None)
@given(
    values=st.lists(
        st.sampled_from(TEXTS)
        | st.integers().map(str)
        | st.floats().map(repr)
        | st.datetimes().map(str)
        | st.from_regex(r"[0-9]{1,4}-[0-9]{2}-[0-9]{2}[T ][0-9:.Z+-]{0,14}"),
        max_size=8,
    )
)
def test_any_texts_convert_as_they_do_one_by_one(values):
    for convert in (columns.to_numbers, columns.to_timestamps, columns.to_text):
        check_columns(convert, [v for v in values if v.isprintable()] + ["1"])


def all_or_nothing(values):
    """Lets one bad text spoil its column."""
    if isinstance(values, pa.Array):
        try:
            numbers = values.cast(pa.float64())
            return numbers, np.zeros(len(values), bool)
        except pa.ArrowInvalid:
            return pa.nulls(len(values), pa.float64()), np.ones(len(values), bool)
    return columns.to_numbers(values)


def letting_nan_pass(values):
    array, wrong = columns.to_numbers(values)
    is_array = isinstance(values, pa.Array)
    return array, wrong & ~np.isnan(array.to_numpy(False)) if is_array else wrong


@pytest.mark.parametrize("wrong", [all_or_nothing, letting_nan_pass])
def test_column_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_columns(wrong, TEXTS)
        check_columns(wrong, [float("nan"), 1.0])


def test_times_of_any_unit_are_rounded_down_to_ms():
    def ms(value, unit, zone=None):
        return fates(columns.to_timestamps(pa.array([value], pa.timestamp(unit, zone))))

    assert ms(1_700_000_000, "s") == ["1700000000000"]
    assert ms(1_700_000_000_123, "ms", "Europe/Berlin") == ["1700000000123"]
    assert ms(1_700_000_000_123_999, "us", "UTC") == ["1700000000123"]
    assert ms(1_700_000_000_123_999_999, "ns") == ["1700000000123"]
    # Half a millisecond before the epoch is before it, and so not in the range.
    assert ms(-500, "us") == ["wrong"]
    for unit in ("s", "ms", "us"):
        assert ms(2**62, unit) == ["wrong"]
        assert ms(-(2**62), unit) == ["wrong"]


def test_storage_does_not_matter():
    ids = ["a", None, "b"]
    array = pa.array(ids)
    large_lists = pa.array([["a"], None], pa.large_list(pa.large_string()))
    for stored in (
        array.dictionary_encode(),
        array.cast(pa.large_string()),
        array.cast(pa.binary()),
        array.cast(pa.large_binary()),
        array.cast(pa.binary()).dictionary_encode(),
        array.cast(pa.string_view()),
    ):
        assert columns.to_ids(stored)[0].to_pylist() == ids
    assert columns.to_lists(large_lists, "|")[0].to_pylist() == [["a"], None]
    decimals = pa.array([decimal.Decimal("1.25"), None])
    assert columns.to_numbers(decimals)[0].to_pylist() == [1.25, None]
    unsigned = pa.array([1, 2**64 - 1], pa.uint64())
    assert fates(columns.to_timestamps(unsigned)) == ["1", "wrong"]
    assert fates(columns.to_text(unsigned)) == ["'1'", "'18446744073709551615'"]


def test_text_that_is_not_utf8_is_wrong():
    offsets = pa.py_buffer(np.array([0, 1, 2], np.int32))
    texts = pa.Array.from_buffers(
        pa.string(), 2, [None, offsets, pa.py_buffer(b"1\xff")]
    )
    assert fates(columns.to_ids(texts)) == ["'1'", "wrong"]
    assert fates(columns.to_numbers(texts)) == ["1.0", "wrong"]
    assert fates(columns.to_timestamps(texts)) == ["1", "wrong"]
    lists = pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), texts)
    assert fates(columns.to_lists(lists, "|")) == ["['1']", "wrong"]
