"""Drift and training/serving skew of an ingested log: what is compared with what.

Drift sets the newest dated span beside the one before, told by the rows' timestamps; a
log without two dated spans has its test split set beside its train split. Skew sets
what was served beside the train split. Only what a comparison needs beyond the
statistics of the splits is read again, of which only the features with a threshold.
"""

import dataclasses
import zlib
from collections.abc import Iterable, Mapping, Sequence

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.io.filesystem import FileMetadata
from tensorflow_metadata.proto.v0 import schema_pb2

from components.beam_data_plane import send_whole_buffers
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
from components.ingestion.spans import day_bounds
from components.ingestion.summary import Summary
from components.serving_examples import match_serving_examples
from components.validate_examples_settings import ValidationSettings
from schemas.features import TIMESTAMP

_SERVED = "served"


@dataclasses.dataclass(frozen=True)
class Log:
    """What the comparisons are made of.

    Attributes:
        uri: folder of the labelled rows, `Split-<split>/` each.
        statistics: of the labelled rows, by split.
        schema: the curated one.
        summary: the account of the ingestion.
    """

    uri: str
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
    sampled = sampled_splits(settings, days)
    if days or served or sampled:
        send_whole_buffers()
        try:
            with pipeline:
                if days:
                    _write_day_statistics(pipeline, log, settings, days, folder)
                for split in sampled:
                    _write_split_statistics(pipeline, log, settings, split, folder)
                if served:
                    _write_served_statistics(pipeline, served, settings.skew, folder)
        except Exception as error:
            if not served:
                raise
            raise IngestionError(
                "gates.data.serving_examples: cannot compare the files of "
                f"`{settings.serving_examples}`: {error}"
            ) from error

    def rows_of_split(split: str) -> Rows:
        own = read_statistics(folder, split) if split in sampled else None
        return Rows(f"the {split} split", own or log.statistics[split])

    comparisons = []
    if settings.drift:
        base, current = (
            [Rows(day, read_statistics(folder, day)) for day in days]
            if days
            else [rows_of_split("train"), rows_of_split("test")]
        )
        comparisons.append(
            compare(Kind.DRIFT, base, current, log.schema, settings.drift)
        )
    if settings.skew:
        base = rows_of_split("train")
        current = Rows("what was served", read_statistics(folder, _SERVED))
        comparisons.append(compare(Kind.SKEW, base, current, log.schema, settings.skew))
    return Comparisons(comparisons=tuple(comparisons))


def sampled_splits(
    settings: ValidationSettings, days: tuple[str, str] | None
) -> tuple[str, ...]:
    """Returns the splits whose own statistics will not do, and that are read again.

    TFDV's sample is of whole batches, each of the rows of a few users: on a year of
    receipts, 5 % of the batches set the stores of train and test 0.065 to 0.086 apart
    (Jensen-Shannon), 5 % of the rows 0.033, and all rows 0.031.
    """
    if settings.statistics_sample_share == 1:
        return ()
    if settings.drift and not days:
        return ("train", "test")
    return ("train",) if settings.skew else ()


def newest_days(summary: Summary) -> tuple[str, str] | None:
    """Returns the last two dated spans of the events, older first, if there are two."""
    spans = summary.sources["events"].spans
    days = sorted(span for span in spans if day_bounds(span))
    return (days[-2], days[-1]) if len(days) > 1 else None


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
    events = log.summary.sources["events"]
    largest = max(events.spans[day].accepted for day in days)
    rows = sum(log.summary.rows["impressions"].values())
    rate = sample_rate(settings, rows * largest / max(events.accepted, 1))
    batches = _sampled_rows(pipeline, "days", f"{log.uri}/Split-*/*", decoded, rate)
    keys = [feature.name for feature in compared.feature]
    for day in days:
        of_day = batches | f"RowsOf[{day}]" >> beam.Map(rows_of_day, day, keys)
        write_statistics(of_day, statistics_options(), folder, day)


def _write_split_statistics(
    pipeline: beam.Pipeline,
    log: Log,
    settings: ValidationSettings,
    split: str,
    folder: str,
) -> None:
    """Adds to a pipeline the statistics of a split's rows, called by the split."""
    keys = {**settings.drift, **settings.skew}
    decoded = decoded_schema(keys, log.statistics.values())
    rate = sample_rate(settings, log.summary.rows["impressions"][split])
    files = f"{log.uri}/Split-{split}/*"
    rows = _sampled_rows(pipeline, split, files, decoded, rate)
    write_statistics(rows, statistics_options(), folder, split)


def _sampled_rows(
    pipeline: beam.Pipeline,
    name: str,
    files: str,
    decoded: schema_pb2.Schema,
    rate: float,
) -> beam.PCollection:
    """Returns record batches of a share of the rows."""
    source = row_source([files], decoded)
    return (
        pipeline
        | f"Read[{name}]" >> source.RawRecordBeamSource()
        | f"Sample[{name}]" >> beam.Filter(is_sampled, rate)
        | f"Decode[{name}]" >> source.RawRecordToRecordBatch()
    )


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


def sample_rate(settings: ValidationSettings, num_rows: float) -> float:
    """Returns the share of the rows to look at, so that a side has not too many."""
    return min(1.0, settings.max_compared_rows / max(num_rows, 1))


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
    start, end = day_bounds(day) or (0, 0)
    times = batch.column(TIMESTAMP).flatten().to_numpy(zero_copy_only=False)
    within = (times >= start) & (times < end)
    rows = np.flatnonzero(within)
    return batch.select(list(keys)).take(pa.array(rows))
