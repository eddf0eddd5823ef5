"""Drift and training/serving skew of an ingested log: what is compared with what.

Drift sets the newest dated span beside the one before, told by the rows' timestamps; a
log without two dated spans has its test split set beside its train split. Skew sets
what was served beside the train split. Only what a comparison needs beyond the
statistics of the splits is read again, and only the features that have a threshold.
"""

import dataclasses
import datetime
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.io.filesystem import FileMetadata
from tensorflow_metadata.proto.v0 import schema_pb2

from components.comparison import Comparisons, Kind
from components.distribution_distance import Rows, compare
from components.feature_statistics import (
    SCHEMA_TYPES,
    Statistics,
    feature_statistics,
    read_statistics,
    row_source,
    statistics_options,
    write_statistics,
)
from components.ingestion.errors import IngestionError
from components.ingestion.summary import Summary
from components.serving_examples import match_serving_examples
from components.validate_examples_settings import ValidationSettings
from schemas.features import TIMESTAMP

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_SERVED = "served"
_DAY_MS = 24 * 3600 * 1000


@dataclasses.dataclass(frozen=True)
class Log:
    """What the comparisons are made of.

    Attributes:
        rows: glob of the labelled rows of all splits.
        statistics: of the labelled rows, by split.
        schema: the curated one.
        summary: the account of the ingestion.
    """

    rows: str
    statistics: Mapping[str, Statistics]
    schema: schema_pb2.Schema
    summary: Summary


def compare_log(
    pipeline: beam.Pipeline, log: Log, settings: ValidationSettings, folder: str
) -> Comparisons:
    """Makes the comparisons that the settings have thresholds for.

    Args:
        pipeline: runs where rows have to be read; otherwise it is left alone.
        log: what is compared.
        settings: thresholds, and the path of what was served.
        folder: receives the statistics that are worked out here.

    Raises:
        IngestionError: if what was served cannot be read.
    """
    days = newest_days(log.summary) if settings.drift else None
    served = match_serving_examples(settings) if settings.skew else []
    if days or served:
        try:
            with pipeline:
                if days:
                    _write_day_statistics(pipeline, log, settings, days, folder)
                if served:
                    _write_served_statistics(pipeline, served, settings.skew, folder)
        except Exception as error:
            if not served:
                raise
            raise IngestionError(
                "gates.data.serving_examples: cannot compare the files of "
                f"`{settings.serving_examples}`: {error}"
            ) from error
    comparisons = []
    if settings.drift:
        base, current = (
            [Rows(day, read_statistics(folder, day)) for day in days]
            if days
            else [_split(log, "train"), _split(log, "test")]
        )
        comparisons.append(
            compare(Kind.DRIFT, base, current, log.schema, settings.drift)
        )
    if settings.skew:
        current = Rows("what was served", read_statistics(folder, _SERVED))
        comparisons.append(
            compare(Kind.SKEW, _split(log, "train"), current, log.schema, settings.skew)
        )
    return Comparisons(comparisons=tuple(comparisons))


def newest_days(summary: Summary) -> tuple[str, str] | None:
    """Returns the last two dated spans of the events, older first, if there are two."""
    spans = summary.sources["events"].spans
    days = sorted(span for span in spans if _DATE.fullmatch(span))
    return (days[-2], days[-1]) if len(days) > 1 else None


def _split(log: Log, split: str) -> Rows:
    return Rows(f"the {split} split", log.statistics[split])


def _write_day_statistics(
    pipeline: beam.Pipeline,
    log: Log,
    settings: ValidationSettings,
    days: Sequence[str],
    folder: str,
) -> None:
    """Adds to a pipeline the statistics of each day's rows, called by the day."""
    compared = decoded_schema(settings.drift, log.statistics.values())
    decoded = schema_pb2.Schema()
    decoded.CopyFrom(compared)
    decoded.feature.add(name=TIMESTAMP, type=schema_pb2.INT)
    source = row_source([log.rows], decoded)
    batches = (
        pipeline
        | "ReadRows" >> source.RawRecordBeamSource()
        | "SampleRows" >> beam.Filter(is_sampled, sample_rate(log, settings, days))
        | "DecodeRows" >> source.RawRecordToRecordBatch()
    )
    keys = [feature.name for feature in compared.feature]
    for day in days:
        rows = batches | f"RowsOf[{day}]" >> beam.Map(rows_of_day, day, keys)
        write_statistics(rows, statistics_options(), folder, day)


def _write_served_statistics(
    pipeline: beam.Pipeline,
    files: Sequence[FileMetadata],
    keys: Iterable[str],
    folder: str,
) -> None:
    """Adds to a pipeline the statistics of what was served.

    Every feature is decoded as it is written: one of another type than the rows have
    is a finding, not an error.
    """
    source = row_source([file.path for file in files])
    rows = pipeline | "ReadServed" >> source.BeamSource()
    write_statistics(rows, statistics_options(list(keys)), folder, _SERVED)


def sample_rate(log: Log, settings: ValidationSettings, days: Sequence[str]) -> float:
    """Returns the share of the rows to look at, so that no day has too many."""
    events = log.summary.sources["events"]
    rows = sum(log.summary.rows["impressions"].values())
    largest = max(events.spans[day].accepted for day in days)
    if not rows or not largest:
        return 1.0
    return min(1.0, settings.max_compared_rows / (rows * largest / events.accepted))


def decoded_schema(
    keys: Iterable[str], statistics: Iterable[Statistics]
) -> schema_pb2.Schema:
    """Returns the features of the given keys with the types that they have in the rows.

    Args:
        keys: of the features wanted; those in none of the statistics are left out.
        statistics: of the splits.
    """
    schema = schema_pb2.Schema()
    by_key: dict = {}
    for split in statistics:
        by_key = dict(feature_statistics(split)) | by_key
    for key in keys:
        if key in by_key:
            seen = SCHEMA_TYPES.get(by_key[key].type, schema_pb2.BYTES)
            schema.feature.add(name=key, type=seen)
    return schema


def is_sampled(record: bytes, rate: float) -> bool:
    """Returns whether a row is in the sample: the same rows in each run."""
    return rate >= 1 or zlib.crc32(record) < rate * 2**32


def rows_of_day(batch: pa.RecordBatch, day: str, keys: Sequence[str]) -> pa.RecordBatch:
    """Returns the columns `keys` of the rows with a timestamp of the day, in UTC."""
    midnight = datetime.datetime.fromisoformat(f"{day}T00:00:00+00:00")
    start = int(midnight.timestamp()) * 1000
    times = batch.column(TIMESTAMP).flatten().to_numpy(zero_copy_only=False)
    within = (times >= start) & (times < start + _DAY_MS)
    rows = np.flatnonzero(within)
    return batch.select(list(keys)).take(pa.array(rows))
