"""What was served: which files hold it, and whether they can be read."""

import hashlib
import itertools

import tensorflow as tf
from apache_beam.io.filesystem import BeamIOError, FileMetadata
from apache_beam.io.filesystems import FileSystems

from components.ingestion import tfrecord
from components.ingestion.errors import IngestionError
from components.validate_examples_settings import ValidationSettings

_PLACE = "gates.data.serving_examples"
_MEND = (
    "It should name TFRecord files (`.gz` where compressed) of tf.Examples of raw "
    "features, as `ranking` takes them."
)


def match_serving_examples(settings: ValidationSettings) -> list[FileMetadata]:
    """Returns the files of what was served, sorted by path.

    Raises:
        IngestionError: if no file matches, or the first record is no tf.Example.
    """
    pattern = settings.serving_examples
    if pattern is None:
        raise IngestionError(f"{_PLACE}: missing, and `gates.data.skew` needs it.")
    try:
        files = FileSystems.match([pattern])[0].metadata_list
    except (BeamIOError, ValueError) as error:
        raise IngestionError(f"{_PLACE}: cannot list `{pattern}`: {error}") from error
    if not files:
        raise IngestionError(
            f"{_PLACE}: no file matches `{pattern}`. Give the path of what was served, "
            "or take out `gates.data.skew`."
        )
    files = sorted(files, key=lambda file: file.path)
    _check_first_record(files[0].path)
    return files


def serving_fingerprint(settings: ValidationSettings) -> str:
    """Returns a digest that changes with the files; "" where none is asked for.

    It goes by path, size and time of change: what was served is only ever added to.

    Raises:
        IngestionError: as `match_serving_examples`.
    """
    if not settings.skew:
        return ""
    digest = hashlib.sha256()
    for file in match_serving_examples(settings):
        facts = (file.path, file.size_in_bytes, file.last_updated_in_seconds)
        digest.update(repr(facts).encode())
    return digest.hexdigest()


def _check_first_record(path: str) -> None:
    """Raises IngestionError unless the file is empty or starts with a tf.Example."""
    try:
        with FileSystems.open(path) as handle:
            for record in itertools.islice(tfrecord.read_records(handle), 1):
                if not tf.train.Example.FromString(record).features.feature:
                    raise ValueError("the first record holds no feature")
    # zlib, protobuf and the file systems each raise their own.
    except Exception as error:
        raise IngestionError(f"{_PLACE}: cannot read `{path}`: {error}. {_MEND}") from (
            error
        )
