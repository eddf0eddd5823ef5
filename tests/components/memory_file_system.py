"""A Beam file system in this process's memory, without folders, as object stores are."""

import io
import time

from apache_beam.io.filesystem import (
    BeamIOError,
    CompressedFile,
    CompressionTypes,
    FileMetadata,
    FileSystem,
)

FILES: dict[str, bytes] = {}  # by URL, such as memory://bucket/name


class MemoryFileSystem(FileSystem):
    @classmethod
    def scheme(cls):
        return "memory"

    def join(self, basepath, *paths):
        return "/".join([basepath.rstrip("/"), *paths])

    def split(self, path):
        head, _, tail = path.rpartition("/")
        return head, tail

    def has_dirs(self):
        return False

    def mkdirs(self, path):
        raise NotImplementedError

    def _list(self, dir_or_prefix):
        for path in FILES:
            if path.startswith(dir_or_prefix):
                yield self.metadata(path)

    def open(
        self, path, mime_type="", compression_type=CompressionTypes.AUTO
    ) -> io.BytesIO:
        if path not in FILES:
            raise BeamIOError("no such file", {path: "missing"})
        handle = io.BytesIO(FILES[path])
        if compression_type == CompressionTypes.AUTO:
            compression_type = CompressionTypes.detect_compression_type(path)
        if compression_type == CompressionTypes.UNCOMPRESSED:
            return handle
        handle.mode = "rb"
        return CompressedFile(handle, compression_type)

    def metadata(self, path):
        return FileMetadata(path, len(FILES[path]), self.last_updated(path))

    def exists(self, path):
        return path in FILES

    def size(self, path):
        return len(FILES[path])

    def last_updated(self, path):
        return time.time()

    def checksum(self, path):
        return str(hash(FILES[path]))

    def create(self, path, mime_type="", compression_type=CompressionTypes.AUTO):
        raise NotImplementedError

    def copy(self, source_file_names, destination_file_names):
        raise NotImplementedError

    def rename(self, source_file_names, destination_file_names):
        raise NotImplementedError

    def delete(self, paths):
        raise NotImplementedError
