"""Deduplication and partitioning: the outcome does not depend on arrival."""

import itertools

import pyarrow as pa
import pytest

from components.ingestion import tables
from components.ingestion.errors import IngestionError

# Of `a`, file 1 holds the earliest; of `b`, ties in time go to the earlier file; of
# `c`, to the earlier position.
ROWS = [
    {"id": "a", "time": 5, "_file": 0, "_position": 1, "x": "late"},
    {"id": "a", "time": 4, "_file": 1, "_position": 9, "x": "win a"},
    {"id": "b", "time": 7, "_file": 1, "_position": 1, "x": "second file"},
    {"id": "b", "time": 7, "_file": 0, "_position": 3, "x": "win b"},
    {"id": "c", "time": 7, "_file": 0, "_position": 8, "x": "below"},
    {"id": "c", "time": 7, "_file": 0, "_position": 2, "x": "win c"},
]


def check_winners(dedupe):
    """The checker: the same winners from every order of arrival."""
    for order in itertools.permutations(ROWS):
        kept = dedupe(pa.Table.from_pylist(list(order)), ("id", "time"))
        assert sorted(kept["x"].to_pylist()) == ["win a", "win b", "win c"]


def test_winner_is_the_earliest():
    check_winners(tables.without_duplicates)


def first_come(table, keys):
    seen = {}
    for row in table.to_pylist():
        seen.setdefault(row["id"], row)
    return pa.Table.from_pylist(list(seen.values()))


def by_file(table, keys):
    return tables.without_duplicates(table, ("id",))


@pytest.mark.parametrize("wrong", [first_come, by_file])
def test_winner_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_winners(wrong)


def test_partition_keeps_each_row_once_and_each_id_together():
    table = pa.table({"id": [f"u{i % 7}" for i in range(50)], "row": range(50)})
    parts = dict(tables.partition(table, "id", 4))
    rows = sorted(row for part in parts.values() for row in part["row"].to_pylist())
    assert rows == list(range(50))
    homes = {}
    for shard, part in parts.items():
        assert 0 <= shard < 4
        for name in part["id"].to_pylist():
            assert homes.setdefault(name, shard) == shard


def test_partition_is_even():
    table = pa.table({"id": [f"e{i:08d}" for i in range(40_000)]})
    sizes = [part.num_rows for _, part in tables.partition(table, "id", 8)]
    # Each is binomial with mean 5,000 and standard deviation 66.
    assert len(sizes) == 8
    assert max(abs(size - 5_000) for size in sizes) < 5 * 66


def test_tables_survive_the_way_between_stages():
    table = pa.table({"a": ["x", None], "b": pa.array([[1], None])}).slice(1, 1)
    assert tables.from_bytes(tables.to_bytes(table)).equals(table)


def test_types_that_do_not_go_together_are_an_error_with_its_mend():
    parts = [
        tables.to_bytes(pa.table({"a": [1]})),
        tables.to_bytes(pa.table({"a": ["x"]})),
    ]
    with pytest.raises(IngestionError, match="Write it with one type"):
        tables.concat(parts, pa.table({"a": pa.array([], pa.null())}))
