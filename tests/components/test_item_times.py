"""Times in the items table: every form that ingestion takes, missing, wrong."""

import datetime

import pyarrow as pa
import pytest

from components.ingestion.errors import IngestionError
from components.item_times import column_times, times_of

UTC = datetime.UTC
MOMENT = datetime.datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)
MS = 1577934245000


@pytest.mark.parametrize(
    "values",
    [
        pa.array([MS, None]),
        pa.array(["2020-01-02T03:04:05Z", None]),
        pa.array(["2020-01-02 03:04:05", ""]),
        pa.array(["2020-01-02T05:04:05+02:00", None]),
        pa.array([str(MS), None]),
        pa.array([MOMENT, None], pa.timestamp("us", "UTC")),
        pa.array([MOMENT.replace(tzinfo=None), None], pa.timestamp("s")),
        pa.array([float(MS), None]),
    ],
    ids=["ms", "zone", "none", "offset", "digits", "arrow utc", "arrow", "float"],
)
def test_times_are_ms_whatever_their_form(values):
    assert column_times(pa.table({"t": values}), "t").tolist() == [MS, -1]


def test_column_without_a_value_is_unknown():
    table = pa.table({"t": pa.nulls(2), "u": pa.array([None, None], pa.string())})
    assert column_times(table, "t").tolist() == [-1, -1]
    assert column_times(table, "u").tolist() == [-1, -1]


def test_value_that_is_no_time_is_named_with_its_row_and_the_mend():
    table = pa.table({"until": ["2020-01-01", "soon", "later"]})
    with pytest.raises(ValueError, match=r"`until` holds 2 .*'soon' in row 2.*ISO"):
        column_times(table, "until")


def test_default_column_may_be_absent_and_another_must_not():
    table = pa.table({"item_id": ["a"], "came": [MS]})
    assert times_of(table, "at.key", "came", "default").tolist() == [MS]
    assert times_of(table, "at.key", "default", "default").tolist() == [-1]
    with pytest.raises(IngestionError, match=r"at.key: .*no column `cam`.*'came'"):
        times_of(table, "at.key", "cam", "default")
    wrong = pa.table({"default": ["soon"]})
    with pytest.raises(IngestionError, match=r"at.key: .*'soon' in row 1"):
        times_of(wrong, "at.key", "default", "default")
