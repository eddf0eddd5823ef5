"""Files of the ingestion, each written whole or not at all."""

import dataclasses
import uuid

import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from components.ingestion import tfrecord
from components.ingestion.parsing import DeadLetter
from components.ingestion.sources import SourceFile
from schemas.events import DEAD_LETTERS


@dataclasses.dataclass(frozen=True)
class OutputPaths:
    """The folders that the artifacts of one run fill."""

    interactions: str
    impressions: str
    catalog: str
    profiles: str
    dead_letters: str
    summary: str

    def examples(self, name: str, split: str, shard: int, num_shards: int) -> str:
        """Returns the path of one file of `interactions` or `impressions`."""
        file_name = f"data_tfrecord-{shard:05d}-of-{num_shards:05d}.gz"
        return FileSystems.join(getattr(self, name), f"Split-{split}", file_name)

    def profile(self, shard: int, num_shards: int) -> str:
        """Returns the path of one file of the profiles."""
        return self.file(
            "profiles", f"profiles-{shard:05d}-of-{num_shards:05d}.parquet"
        )

    def dead_letter(self, table: str, file: int, block: int) -> str:
        """Returns the path of the dead letters of one block of a source's file."""
        name = f"dead_letters-{table}-{file:05d}-{block:05d}.parquet"
        return self.file("dead_letters", name)

    def file(self, name: str, file_name: str) -> str:
        """Returns the path of a file in the folder called `name` here."""
        return FileSystems.join(getattr(self, name), file_name)


class AtomicFile:
    """A file that appears under its name when `commit` is called.

    A bundle that Beam tries again writes the same bytes under the same name, so an
    output never holds half a file, nor a row twice.
    """

    def __init__(self, path: str):
        folder, name = FileSystems.split(path)
        parent, _ = FileSystems.split(folder)
        # Beside the folder: readers take every file within it.
        self._temp = FileSystems.join(parent, f".{uuid.uuid4().hex}-{name}")
        self._path = path
        make_folder(folder)
        self.handle = FileSystems.create(
            self._temp, compression_type=CompressionTypes.UNCOMPRESSED
        )

    def commit(self) -> None:
        self.handle.close()
        if FileSystems.exists(self._path):
            FileSystems.delete([self._path])
        FileSystems.rename([self._temp], [self._path])


class RecordFile:
    """A gzipped TFRecord file."""

    def __init__(self, path: str):
        self._file = AtomicFile(path)
        self._gzip = tfrecord.gzip_compressor()

    def write(self, records: pa.Array) -> None:
        """Adds [n] binary records without nulls."""
        self._file.handle.write(self._gzip.compress(tfrecord.framed_all(records)))

    def commit(self) -> None:
        self._file.handle.write(self._gzip.flush())
        self._file.commit()


class TableFile:
    """A Parquet file of tables of one schema; without a table there is no file."""

    def __init__(self, path: str):
        self._path = path
        self._file: AtomicFile | None = None
        self._writer: pq.ParquetWriter | None = None

    def write(self, table: pa.Table) -> None:
        if self._writer is None:
            self._file = AtomicFile(self._path)
            self._writer = pq.ParquetWriter(self._file.handle, table.schema)
        self._writer.write_table(table)

    def commit(self) -> None:
        if self._writer is not None and self._file is not None:
            self._writer.close()
            self._file.commit()


def write_parquet(path: str, table: pa.Table) -> None:
    """Writes a table."""
    file = TableFile(path)
    file.write(table)
    file.commit()


def write_records(path: str, records: pa.Array) -> None:
    """Writes [n] binary records without nulls to a gzipped TFRecord file."""
    file = RecordFile(path)
    file.write(records)
    file.commit()


def write_text(path: str, text: str) -> None:
    """Writes UTF-8 text."""
    file = AtomicFile(path)
    file.handle.write(text.encode())
    file.commit()


def make_folder(path: str) -> None:
    """Makes a folder and those above it, if they are not there."""
    if not FileSystems.exists(path):
        try:
            FileSystems.mkdirs(path)
        except OSError:  # another worker made it meanwhile
            if not FileSystems.exists(path):
                raise


def dead_letter_table(file: SourceFile, letters: list[DeadLetter]) -> pa.Table:
    """Returns `DEAD_LETTERS` of some records of one file."""
    return pa.table(
        {
            "source": [file.table] * len(letters),
            "span": [file.span] * len(letters),
            "file": [file.path] * len(letters),
            "position": [letter.position for letter in letters],
            "reason": [letter.reason for letter in letters],
            "raw": [letter.raw for letter in letters],
        },
        schema=DEAD_LETTERS,
    )
