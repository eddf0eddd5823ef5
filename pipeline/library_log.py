"""What the libraries log: into a file, while a command shows its own progress."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

_LIBRARY_LOGGERS = ("absl", "apache_beam", "tensorflow")


@contextlib.contextmanager
def library_log(log_file: Path) -> Iterator[None]:
    """Sends what the libraries log to a file, not the terminal, while they run."""
    to_file = logging.FileHandler(log_file)
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    loggers = [logging.getLogger(name) for name in _LIBRARY_LOGGERS]
    before = [(logger.handlers[:], logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers = [to_file]
        logger.propagate = False
    try:
        yield
    finally:
        for logger, (handlers, propagate) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagate
        to_file.close()
