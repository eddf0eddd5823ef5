"""Files of lines on this machine that appear whole or not at all."""

import hashlib
import os
import uuid
from pathlib import Path
from types import TracebackType
from typing import BinaryIO


class LineFile:
    """Lines on their way into a file; what is not published is gone when it closes.

    Nothing is made, the folder neither, before the first line.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        # Globs of the folder's files pass over hidden ones and unknown endings.
        self._temp = folder / f".{uuid.uuid4().hex}.part"
        self._handle: BinaryIO | None = None
        self._digest = hashlib.sha256()
        self.num_lines = 0

    def __enter__(self) -> "LineFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._handle is not None:
            self._handle.close()
            self._temp.unlink(missing_ok=True)

    def write(self, line: str) -> None:
        """Adds one line; `line` holds no end of line."""
        if self._handle is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._handle = self._temp.open("xb")
        data = line.encode() + b"\n"
        self._handle.write(data)
        self._digest.update(data)
        self.num_lines += 1

    @property
    def content_hash(self) -> str:
        """Of the lines so far, in 16 hexadecimal digits."""
        return self._digest.hexdigest()[:16]

    def publish(self, name: str) -> Path:
        """Gives the file its name, after at least one line; again is no error.

        A file of that name with other content is not overwritten: a person may be at
        work on it.

        Raises:
            FileExistsError: if there is one.
        """
        if self._handle is None:
            raise ValueError(f"`{name}` would hold no line.")
        path = self._folder / name
        self._handle.flush()
        os.fsync(self._handle.fileno())
        if path.exists():
            with path.open("rb") as existing:
                other = hashlib.file_digest(existing, "sha256").hexdigest()
            if other != self._digest.hexdigest():
                raise FileExistsError(f"`{path}` is there already, with other content")
        else:
            os.replace(self._temp, path)
        return path
