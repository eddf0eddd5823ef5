"""TFDV statistics of ingested rows: with which options, and of which files."""

from collections.abc import Mapping, Sequence

import tensorflow_data_validation as tfdv
from apache_beam.io.filesystems import FileSystems
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2
from tfx_bsl.public import tfxio

Statistics = statistics_pb2.DatasetFeatureStatisticsList
SCHEMA_TYPES = {  # of a feature's statistics -> of the schema; all others are BYTES
    statistics_pb2.FeatureNameStatistics.INT: schema_pb2.INT,
    statistics_pb2.FeatureNameStatistics.FLOAT: schema_pb2.FLOAT,
}

# TFDV's own 10 and 1000 are too coarse to compare by. Two samples of 20,000 from one
# log-normal distribution lie 0.10 apart in 10 buckets, 0.02 in 50 (Jensen-Shannon);
# two of one Zipf distribution over 3,000 ids 0.10 where the ids beyond 1000 are cut
# off, and 0.06, which is right, where they are not.
_HISTOGRAM_BUCKETS, _RANKED_VALUES = 50, 10_000


def statistics_options(
    keys: Sequence[str] | None = None, sample_share: float = 1.0
) -> tfdv.StatsOptions:
    """Returns the options of all statistics that may be compared with each other.

    Args:
        keys: of the features wanted; None is all.
        sample_share: of the rows that are looked at, drawn anew in each run.
    """
    return tfdv.StatsOptions(
        sample_rate=None if sample_share == 1.0 else sample_share,
        feature_allowlist=None if keys is None else list(keys),
        num_histogram_buckets=_HISTOGRAM_BUCKETS,
        num_rank_histogram_buckets=_RANKED_VALUES,
        # Exact counts gather every event id. Sketches count up to 10,000 values
        # exactly, and estimate the number of more in bounded memory.
        use_sketch_based_topk_uniques=True,
    )


def row_source(
    files: Sequence[str], schema: schema_pb2.Schema | None = None
) -> tfxio.TFExampleRecord:
    """Returns the source of tf.Examples in TFRecord files, as Arrow record batches.

    Args:
        files: paths or globs; `.gz` files are decompressed.
        schema: of the features to decode, with their types; None decodes all.
    """
    return tfxio.TFExampleRecord(
        list(files), schema=schema, telemetry_descriptors=["tandem", "statistics"]
    )


def write_statistics(rows, options: tfdv.StatsOptions, folder: str, name: str) -> None:
    """Adds to a pipeline what works out and writes the statistics of `rows`.

    Args:
        rows: a collection of record batches.
        options: see `statistics_options`.
        folder: where; `read_statistics` reads it once the pipeline is done.
        name: of these statistics.
    """
    _ = (
        rows
        | f"GenerateStatistics[{name}]" >> tfdv.GenerateStatistics(options)
        | f"WriteStatistics[{name}]"
        >> tfdv.WriteStatisticsToBinaryFile(FileSystems.join(folder, f"{name}.pb"))
    )


def read_statistics(folder: str, name: str) -> Statistics:
    """Reads what `write_statistics` wrote."""
    return parse_statistics(FileSystems.join(folder, f"{name}.pb"))


def parse_statistics(path: str) -> Statistics:
    """Reads a file of TFDV statistics, on any file system that Beam knows."""
    with FileSystems.open(path) as handle:
        return Statistics.FromString(handle.read())


def num_rows(statistics: Statistics) -> int:
    """Returns how many rows the statistics are of."""
    return sum(dataset.num_examples for dataset in statistics.datasets)


def feature_statistics(
    statistics: Statistics,
) -> Mapping[str, statistics_pb2.FeatureNameStatistics]:
    """Returns the statistics of each feature by its key."""
    return {
        ".".join(feature.path.step) or feature.name: feature
        for dataset in statistics.datasets
        for feature in dataset.features
    }


def common_statistics(
    feature: statistics_pb2.FeatureNameStatistics,
) -> statistics_pb2.CommonStatistics:
    """Returns what the statistics of numbers and of strings have in common."""
    return getattr(feature, feature.WhichOneof("stats")).common_stats
