"""How far do two sets of rows lie apart, feature by feature?

Drift compares the newest rows with earlier ones, skew what was served with what is
learnt from. The distances are TFDV's own, asked for by comparators on a copy of the
curated schema.
"""

import dataclasses
import math
from collections.abc import Mapping

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from components.comparison import Comparison, Distance, Kind
from components.feature_statistics import (
    SCHEMA_TYPES,
    Statistics,
    common_statistics,
    feature_statistics,
    num_rows,
)
from components.validate_examples_settings import DistanceThresholds
from components.visible_text import visible

_MEASUREMENT = anomalies_pb2.DriftSkewInfo.Measurement
_MEASURES = {  # TFDV's name -> the setting's
    _MEASUREMENT.L_INFTY: "linf",
    _MEASUREMENT.JENSEN_SHANNON_DIVERGENCE: "jensen_shannon",
}
_MISSING = "missing"  # is not TFDV's: its two leave rows without a value out
_SHOWN_VALUE = 40  # characters of a value in a sentence


@dataclasses.dataclass(frozen=True)
class Rows:
    """One side of a comparison."""

    name: str
    statistics: Statistics


def compare(
    kind: Kind,
    base: Rows,
    current: Rows,
    schema: schema_pb2.Schema,
    thresholds: Mapping[str, DistanceThresholds],
) -> Comparison:
    """Measures the distance of each feature that has a threshold.

    Args:
        kind: what the distance is between.
        base: the earlier rows, or those that are learnt from.
        current: the newest rows, or those that were served.
        schema: the curated one.
        thresholds: by key.
    """
    with_comparators = _with_comparators(kind, base, schema, thresholds)
    if kind is Kind.DRIFT:
        anomalies = tfdv.validate_statistics(
            current.statistics,
            with_comparators,
            previous_statistics=base.statistics,
        )
    else:
        anomalies = tfdv.validate_statistics(
            base.statistics, with_comparators, serving_statistics=current.statistics
        )
    measured = {
        (info.path.step[0], _MEASURES[measurement.type]): measurement.value
        for info in anomalies.drift_skew_info
        for measurement in (*info.drift_measurements, *info.skew_measurements)
        if measurement.type in _MEASURES
    }
    for key in thresholds:
        before, after = (_missing(key, side.statistics) for side in (base, current))
        measured[key, _MISSING] = abs(after - before)
    distances = tuple(
        Distance(
            feature=key,
            measure=measure,
            seen=measured.get((key, measure)),
            threshold=threshold,
            detail=_difference(key, measure, base, current),
        )
        for key, limits in thresholds.items()
        for measure, threshold in limits.given().items()
    )
    return Comparison(
        kind=kind,
        base=base.name,
        current=current.name,
        base_rows=num_rows(base.statistics),
        current_rows=num_rows(current.statistics),
        distances=distances,
    )


def _with_comparators(
    kind: Kind,
    base: Rows,
    schema: schema_pb2.Schema,
    thresholds: Mapping[str, DistanceThresholds],
) -> schema_pb2.Schema:
    """Returns the compared part of the schema, with comparators."""
    curated = {feature.name: feature for feature in schema.feature}
    seen = feature_statistics(base.statistics)
    compared = schema_pb2.Schema(string_domain=schema.string_domain)
    for key, limits in thresholds.items():
        feature = compared.feature.add(name=key)
        if key in curated:
            feature.CopyFrom(curated[key])
        elif key in seen:
            # Without a type, TFDV measures nothing.
            feature.type = SCHEMA_TYPES.get(seen[key].type, schema_pb2.BYTES)
        feature.ClearField("drift_comparator")
        feature.ClearField("skew_comparator")
        comparator = getattr(feature, f"{kind.value}_comparator")
        if limits.linf is not None:
            comparator.infinity_norm.threshold = limits.linf
        if limits.jensen_shannon is not None:
            comparator.jensen_shannon_divergence.threshold = limits.jensen_shannon
    return compared


def _missing(key: str, statistics: Statistics) -> float:
    """Returns the share of rows without the feature; NaN without rows."""
    rows = num_rows(statistics)
    feature = feature_statistics(statistics).get(key)
    there = common_statistics(feature).num_non_missing if feature else 0
    return 1 - there / rows if rows else math.nan


def _difference(key: str, measure: str, base: Rows, current: Rows) -> str:
    """Returns what differs most, in words."""
    if measure == _MISSING:
        before, after = (_missing(key, side.statistics) for side in (base, current))
        return f"missing in {before:.2%} and {after:.2%}"
    pair = [feature_statistics(side.statistics).get(key) for side in (base, current)]
    for side, feature in zip((base, current), pair, strict=True):
        if feature is None or not common_statistics(feature).tot_num_values:
            return f"no values in {side.name}"
    if pair[0].WhichOneof("stats") != pair[1].WhichOneof("stats"):
        kinds = [statistics_pb2.FeatureNameStatistics.Type.Name(f.type) for f in pair]
        return f"{kinds[0]} in {base.name}, {kinds[1]} in {current.name}"
    if pair[0].HasField("num_stats"):
        return f"mean {pair[0].num_stats.mean:.4g} to {pair[1].num_stats.mean:.4g}"
    before, after = (_shares(feature) for feature in pair)
    value = max(
        before | after,
        key=lambda value: (abs(after.get(value, 0) - before.get(value, 0)), value),
    )
    name = visible(value, _SHOWN_VALUE)
    return f"most by `{name}`, {before.get(value, 0):.2%} to {after.get(value, 0):.2%}"


def _shares(feature: statistics_pb2.FeatureNameStatistics) -> dict[str, float]:
    """Returns the share of each value, of all values of the feature."""
    total = common_statistics(feature).tot_num_values
    buckets = feature.string_stats.rank_histogram.buckets
    return {bucket.label: bucket.sample_count / total for bucket in buckets}
