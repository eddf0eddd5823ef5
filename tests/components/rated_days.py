"""Rows of a few days whose distributions are known: what drift and skew are told by."""

import datetime
from pathlib import Path

import apache_beam as beam
import numpy as np
import tensorflow as tf

from components.compare_statistics import Log
from components.feature_statistics import (
    read_statistics,
    row_source,
    statistics_options,
    write_statistics,
)
from components.ingestion.summary import SourceCounts, SpanCounts, Summary

DAYS = ("2026-11-20", "2026-11-21")
RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"


def rows(
    day,
    num_rows=600,
    seed=0,
    mean_age=30.0,
    favourite=0.2,
    label_rate=0.25,
    without_age=0.0,
    age_type=float,
):
    """Returns rows of one day as tf.Examples.

    Args:
        day: e.g. "2026-11-21"; timestamps spread over all of it.
        num_rows: how many.
        seed: of the draws.
        mean_age: of the users; the deviation is 5.
        favourite: share of item `hit`; the rest is spread over 20 others.
        label_rate: share of labels that are 1.
        without_age: share of rows without an age.
        age_type: how ages are written.
    """
    rng = np.random.default_rng([seed, int(day[-2:])])
    midnight = datetime.datetime.fromisoformat(f"{day}T00:00:00+00:00")
    start = int(midnight.timestamp()) * 1000
    records = []
    for row in range(num_rows):
        is_hit = rng.random() < favourite
        columns = {
            "event_id": f"{day}-{seed}-{row}",
            "timestamp": start + row * (86_400_000 // num_rows),
            "item_id": "hit" if is_hit else f"i{rng.integers(20)}",
            "label": float(rng.random() < label_rate),
            "user_age": age_type(rng.normal(mean_age, 5)),
            "history_item_ids": [f"i{item}" for item in rng.integers(20, size=row % 4)],
        }
        if rng.random() < without_age:
            del columns["user_age"]
        records.append(example(columns))
    return records


def example(columns):
    """Returns a serialized tf.Example."""
    features = {}
    for key, values in columns.items():
        values = values if isinstance(values, list) else [values]
        if all(isinstance(value, str) for value in values):
            encoded = [value.encode() for value in values]
            feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=encoded))
        elif isinstance(values[0], int):
            feature = tf.train.Feature(int64_list=tf.train.Int64List(value=values))
        else:
            feature = tf.train.Feature(float_list=tf.train.FloatList(value=values))
        features[key] = feature
    message = tf.train.Example(features=tf.train.Features(feature=features))
    return message.SerializeToString()


def write_records(path, records):
    """Writes TFRecords, gzipped where the name ends in .gz."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    compression = "GZIP" if str(path).endswith(".gz") else ""
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for record in records:
            writer.write(record)


def beam_pipeline():
    options = beam.options.pipeline_options.PipelineOptions([f"--runner={RUNNER}"])
    return beam.Pipeline(options=options)


def make_log(folder, schema, statistics, train, test, spans=DAYS, accepted=600):
    """Writes the rows of two splits; returns the log that they are of.

    Args:
        folder: receives them.
        schema: the curated one.
        statistics: by split; see `split_statistics`.
        train, test: records.
        spans: of the events, as the summary names them.
        accepted: events of each span.
    """
    write_records(folder / "Split-train/data_tfrecord-00000-of-00001.gz", train)
    write_records(folder / "Split-test/data_tfrecord-00000-of-00001.gz", test)
    return Log(str(folder), statistics, schema, summary(spans, accepted))


def split_statistics(folder, train, test):
    """Returns the statistics of two splits, as StatisticsGen works them out."""
    with beam_pipeline() as pipeline:
        for split, records in (("train", train), ("test", test)):
            write_records(folder / split, records)
            source = row_source([str(folder / split)]).BeamSource()
            read = pipeline | f"Read[{split}]" >> source
            write_statistics(read, statistics_options(), str(folder), split)
    return {split: read_statistics(str(folder), split) for split in ("train", "test")}


def summary(spans, accepted):
    """Returns the account of a log of so many events in each span."""
    counts = {"read": accepted, "accepted": accepted, "duplicates": 0}
    by_span = {span: SpanCounts(dead_letters=0, **counts) for span in spans}
    total = accepted * max(len(spans), 1)
    events = SourceCounts(
        files=1, read=total, accepted=total, duplicates=0, dead_letters=0, spans=by_span
    )
    by_split = {"train": total, "eval": 0, "test": 0}
    return Summary.model_validate(
        {
            "sources": {"events": events},
            "events": by_split,
            "rows": {"interactions": by_split, "impressions": by_split},
            "users": 1,
            "items": 21,
            "unknown_item_events": 0,
            "unknown_user_events": 0,
            "split_times": {"first": 0, "eval_from": 0, "test_from": 0, "last": 0},
        }
    )
