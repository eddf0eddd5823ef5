"""Files of the ingestion, each written whole or not at all."""

import dataclasses
import uuid
import zlib
from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from components.ingestion import tfrecord


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

    def write(self, records: Iterable[bytes]) -> None:
        framed = b"".join([tfrecord.framed(record) for record in records])
        self._file.handle.write(self._gzip.compress(framed))

    def commit(self) -> None:
        self._file.handle.write(self._gzip.flush(zlib.Z_FINISH))
        self._file.commit()


def write_parquet(path: str, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
    """Writes tables one after the other."""
    file = AtomicFile(path)
    with pq.ParquetWriter(file.handle, schema) as writer:
        for table in tables:
            writer.write_table(table.cast(schema))
    file.commit()


def write_records(path: str, records: Sequence[bytes]) -> None:
    """Writes a gzipped TFRecord file."""
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
