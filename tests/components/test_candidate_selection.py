"""What may be recommended: each rule at its edges, the account, and errors that help."""

import datetime
import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from components.candidate_selection import (
    candidates_fingerprint,
    read_deny_list,
    select_candidates,
    write_candidates,
)
from components.candidate_selection_settings import CandidateSettings
from components.ingestion.errors import IngestionError
from tests.components.memory_file_system import FILES

NOW = 1_000_000
IDS = ["a", "b", "c", "d", "e", "f", "g"]
BEGIN = [None, NOW - 1, NOW, NOW + 1, None, None, NOW + 9]
END = [None, None, None, None, NOW, NOW + 1, NOW + 5]


def catalogue(**columns) -> pa.Table:
    return pa.table({"item_id": IDS, **columns})


WINDOWS = catalogue(
    available_from=pa.array(BEGIN, pa.int64()),
    available_until=pa.array(END, pa.int64()),
)


def check_selection(select, folder) -> None:
    """The checker, by hand: `from` is within the window, `until` is not."""
    denied = folder / "denied.txt"
    denied.write_text("b\n\ngone\nd\r\nb\nnever\n")
    stays, account = select(WINDOWS, CandidateSettings(deny_list=str(denied)), NOW)
    left = [item for item, kept in zip(IDS, stays, strict=True) if kept]
    assert left == ["a", "c", "f"]
    assert account.model_dump(exclude={"at"}) == {
        "items": 7,
        "selected": 3,
        "removed": 4,
        "not_yet_available": 2,  # d, g
        "no_longer_available": 1,  # e
        "denied": 2,  # b, and d once more
        "empty_windows": 1,  # g ends before it begins
        "first_empty_window": "g",
        "unknown_denied": 2,
        "unknown_denied_ids": ("gone", "never"),
    }
    assert account.at.timestamp() * 1000 == NOW


def _moved(by):
    def select(table, settings, newest):
        return select_candidates(table, settings, newest + by)

    return select


def _without_the_list(table, settings, newest):
    return select_candidates(table, CandidateSettings(), newest)


def _sides_swapped(table, settings, newest):
    changed = settings.model_copy(
        update={
            "available_from_column": settings.available_until_column,
            "available_until_column": settings.available_from_column,
        }
    )
    return select_candidates(table, changed, newest)


def _the_rest(table, settings, newest):
    stays, account = select_candidates(table, settings, newest)
    return ~stays, account


def test_items_are_selected_by_window_and_deny_list(tmp_path):
    check_selection(select_candidates, tmp_path)


@pytest.mark.parametrize(
    "wrong", [_moved(1), _moved(-1), _without_the_list, _sides_swapped, _the_rest]
)
def test_selection_checker_rejects(wrong, tmp_path):
    with pytest.raises((AssertionError, IngestionError)):
        check_selection(wrong, tmp_path)


def test_catalogue_without_windows_stays_whole():
    stays, account = select_candidates(catalogue(), CandidateSettings(), NOW)
    assert stays.all()
    assert account.removed == account.denied == account.empty_windows == 0


@pytest.mark.parametrize(
    "at", ["1970-01-01T00:16:40Z", "1970-01-01T00:16:40", "1970-01-01T02:16:40+02:00"]
)
def test_moment_of_the_config_stands_before_the_newest_event(at):
    settings = CandidateSettings.model_validate({"at": at})
    again = CandidateSettings.model_validate_json(settings.model_dump_json())
    stays, account = select_candidates(WINDOWS, again, 10**12)
    assert stays.tolist() == [True, True, True, False, False, True, False]
    assert account.at == datetime.datetime(1970, 1, 1, 0, 16, 40, tzinfo=datetime.UTC)


def test_columns_can_be_called_otherwise():
    table = WINDOWS.rename_columns(["item_id", "on", "off"])
    settings = CandidateSettings(
        available_from_column="on", available_until_column="off"
    )
    stays, _ = select_candidates(table, settings, NOW)
    assert stays.tolist() == [True, True, True, False, False, True, False]


def test_column_that_is_not_there_is_named_with_those_that_are():
    settings = CandidateSettings(available_until_column="of")
    message = r"candidates.available_until_column: .*no column `of`.*'available_from'"
    with pytest.raises(IngestionError, match=message):
        select_candidates(WINDOWS, settings, NOW)


def test_value_that_is_no_time_is_named():
    table = catalogue(available_from=["soon", *[""] * 6])
    message = r"candidates.available_from_column: .*'soon' in row 1"
    with pytest.raises(IngestionError, match=message):
        select_candidates(table, CandidateSettings(), NOW)


def test_rules_that_leave_no_item_say_which_and_where_to_look(tmp_path):
    denied = tmp_path / "denied.txt"
    denied.write_text("\n".join(IDS))
    with pytest.raises(
        IngestionError, match=r"no item is left.*of 7, 2 are.*7 are den"
    ):
        select_candidates(WINDOWS, CandidateSettings(deny_list=str(denied)), NOW)


def test_many_unknown_ids_are_counted_and_some_named(tmp_path):
    denied = tmp_path / "denied.txt"
    denied.write_text("\n".join(f"x{number:03d}" for number in range(500)))
    settings = CandidateSettings(deny_list=str(denied))
    stays, account = select_candidates(catalogue(), settings, NOW)
    assert stays.all()
    assert account.unknown_denied == 500
    assert account.unknown_denied_ids == tuple(f"x{n:03d}" for n in range(10))


def test_deny_list_may_be_compressed_marked_and_elsewhere(tmp_path):
    text = "﻿ä b\n c\u2028d \n\n  \n"  # a byte order mark; ids keep their blanks
    expected = {"ä b", " c\u2028d "}
    packed = tmp_path / "denied.txt.gz"
    packed.write_bytes(gzip.compress(text.encode()))
    FILES["memory://bucket/denied.txt"] = text.encode()
    assert read_deny_list(str(packed)) == expected
    assert read_deny_list("memory://bucket/denied.txt") == expected


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("missing", None),
        ("binary", b"\xff\xfe\x00"),
        ("f.gz", b"x"),
        # Of no moment: the parameter is in the test's name, which all processes must share.
        ("cut.gz", gzip.compress(b"a" * 999, mtime=0)[:-9]),
    ],
)
def test_deny_list_that_cannot_be_read_is_named_with_the_mend(tmp_path, name, content):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(
        IngestionError, match=rf"candidates.deny_list: .*{name}.*a line"
    ):
        read_deny_list(str(path))


def check_fingerprint(fingerprint, folder) -> None:
    denied = folder / "denied.txt"
    settings = CandidateSettings(deny_list=str(denied))
    seen = []
    for text in ("a\nb\n", "b\r\na\n\n", "a\nc\n", "ab\n"):
        denied.write_text(text)
        seen.append(fingerprint(settings))
    assert seen[0] == seen[1]  # the same ids
    assert len(set(seen)) == 3
    assert fingerprint(CandidateSettings()) == ""


@pytest.mark.parametrize(
    "wrong",
    [
        lambda settings: settings.deny_list or "",
        lambda settings: settings.deny_list and Path(settings.deny_list).read_bytes(),
        lambda settings: (
            settings.deny_list and "".join(sorted(read_deny_list(settings.deny_list)))
        ),
    ],
    ids=["of the path", "of the bytes", "of the letters"],
)
def test_fingerprint_follows_the_ids_and_the_checker_rejects(wrong, tmp_path):
    check_fingerprint(candidates_fingerprint, tmp_path)
    with pytest.raises(AssertionError):
        check_fingerprint(wrong, tmp_path)


def write_catalogue(folder, table: pa.Table) -> str:
    folder.mkdir()
    pq.write_table(table, folder / "items.parquet")
    with tf.io.TFRecordWriter(str(folder / "items.tfrecord.gz"), "GZIP") as writer:
        for item in table.column("item_id").to_pylist():
            writer.write(f"example of {item}".encode())
    return str(folder)


@pytest.mark.parametrize("batch", [1, 2, 4096])
def test_written_catalogue_has_the_same_items_in_both_files(
    tmp_path, monkeypatch, batch
):
    monkeypatch.setattr("components.candidate_selection._BATCH", batch)
    titles = pa.array([f"Title {item}" for item in IDS])
    whole = write_catalogue(tmp_path / "all", WINDOWS.append_column("title", titles))
    (tmp_path / "some").mkdir()
    account = write_candidates(whole, str(tmp_path / "some"), CandidateSettings(), NOW)
    assert (account.items, account.selected) == (7, 4)
    table = pq.read_table(tmp_path / "some" / "items.parquet")
    assert table.column("item_id").to_pylist() == ["a", "b", "c", "f"]
    assert table.column("title").to_pylist()[3] == "Title f"
    records = tf.data.TFRecordDataset(
        str(tmp_path / "some" / "items.tfrecord.gz"), compression_type="GZIP"
    )
    assert [record.decode() for record in records.as_numpy_iterator()] == [
        f"example of {item}" for item in ("a", "b", "c", "f")
    ]


def test_nothing_is_asked_of_the_clock(monkeypatch):
    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            raise AssertionError("asked for the time")

    monkeypatch.setattr(datetime, "datetime", Clock)
    stays, _ = select_candidates(WINDOWS, CandidateSettings(), NOW)
    assert np.count_nonzero(stays) == 4
