"""Statistics of features as rows of a table, split beside split."""

import dataclasses
import datetime
from collections.abc import Mapping

from tensorflow_metadata.proto.v0 import statistics_pb2

from components.data_report.charts import (
    MAX_VALUES,
    Bar,
    number_bars,
    value_bars,
)
from components.feature_statistics import (
    Statistics,
    common_statistics,
    feature_statistics,
    num_rows,
)
from schemas.events import DAY_MS
from schemas.features import SESSION_START, TIMESTAMP

_TIMES = (TIMESTAMP, SESSION_START)
_SHOWN_VALUES = 4
_ALL_DIFFERENT = 0.9  # values that are no more frequent than this tell nothing
_QUANTILES = (0.1, 0.5, 0.9)
_FeatureStatistics = statistics_pb2.FeatureNameStatistics


@dataclasses.dataclass(frozen=True)
class NumberRow:
    """A numeric feature in one split, as texts."""

    split: str
    present: str
    missing: str
    mean: str
    deviation: str
    points: tuple[str, ...]  # min, 10 %, median, 90 %, max
    bars: list[Bar]


@dataclasses.dataclass(frozen=True)
class ValueRow:
    """A feature of strings in one split, as texts."""

    split: str
    present: str
    missing: str
    distinct: str
    per_row: str  # values in a row that has any
    top: list[tuple[str, str]]  # value and its share
    bars: list[Bar]


@dataclasses.dataclass(frozen=True)
class Feature:
    """One feature; its rows are of one kind."""

    key: str
    type: str
    rows: list[NumberRow] | list[ValueRow]


def feature_tables(
    by_split: Mapping[str, Statistics],
) -> tuple[list[Feature], list[Feature]]:
    """Returns the numeric features and those of strings, each with a row per split."""
    features = {
        split: feature_statistics(statistics) for split, statistics in by_split.items()
    }
    rows = {split: num_rows(statistics) for split, statistics in by_split.items()}
    keys = sorted({key for found in features.values() for key in found})
    numbers, values = [], []
    for key in keys:
        found = {split: known[key] for split, known in features.items() if key in known}
        kinds = {feature.WhichOneof("stats") for feature in found.values()}
        type_name = " / ".join(
            sorted({_FeatureStatistics.Type.Name(f.type) for f in found.values()})
        )
        if kinds == {"num_stats"}:
            numbers.append(Feature(key, type_name, _number_rows(key, found, rows)))
        else:
            values.append(Feature(key, type_name, _value_rows(found, rows)))
    return numbers, values


def _number_rows(
    key: str, found: Mapping[str, _FeatureStatistics], num_rows: Mapping[str, int]
) -> list[NumberRow]:
    bars = number_bars({split: f.num_stats for split, f in found.items()})
    show = _day if key in _TIMES else _number
    table = []
    for split, rows in num_rows.items():
        if split not in found or not common_statistics(found[split]).num_non_missing:
            table.append(NumberRow(split, "0", _share(rows, rows), "", "", (), []))
            continue
        numbers = found[split].num_stats
        present = numbers.common_stats.num_non_missing
        deviation = (
            f"{numbers.std_dev / DAY_MS:.3g} days"
            if key in _TIMES
            else _number(numbers.std_dev)
        )
        points = (numbers.min, *_quantiles(numbers), numbers.max)
        table.append(
            NumberRow(
                split,
                f"{present:,}",
                _share(rows - present, rows),
                show(numbers.mean),
                deviation,
                tuple(show(point) for point in points),
                bars.get(split, []),
            )
        )
    return table


def _value_rows(
    found: Mapping[str, _FeatureStatistics], num_rows: Mapping[str, int]
) -> list[ValueRow]:
    shares = {split: _value_shares(feature) for split, feature in found.items()}
    bars = value_bars(shares)
    table = []
    for split, rows in num_rows.items():
        common = common_statistics(found[split]) if split in found else None
        present = common.num_non_missing if common else 0
        if not present:
            table.append(ValueRow(split, "0", _share(rows, rows), "0", "", [], []))
            continue
        low, high = common.min_num_values, common.max_num_values
        per_row = f"{low}" if low == high else f"{low} to {high}"
        ranked = sorted(shares[split].items(), key=lambda item: (-item[1], item[0]))
        table.append(
            ValueRow(
                split,
                f"{present:,}",
                _share(rows - present, rows),
                f"{found[split].string_stats.unique:,}",
                per_row,
                [(value, f"{share:.2%}") for value, share in ranked[:_SHOWN_VALUES]],
                bars.get(split, []),
            )
        )
    return table


def _value_shares(feature: _FeatureStatistics) -> dict[str, float]:
    """Returns the shares of the most frequent values; of names that hardly recur, {}."""
    total = common_statistics(feature).tot_num_values
    text = feature.string_stats
    if text.unique > max(_ALL_DIFFERENT * total, MAX_VALUES):
        return {}
    return {value.value: value.frequency / total for value in text.top_values}


def _quantiles(numbers: statistics_pb2.NumericStatistics) -> list[float]:
    """Returns the quantiles, from the edges of TFDV's equally full buckets."""
    for histogram in numbers.histograms:
        if histogram.type == statistics_pb2.Histogram.QUANTILES and histogram.buckets:
            edges = [bucket.low_value for bucket in histogram.buckets]
            edges.append(histogram.buckets[-1].high_value)
            return [edges[round(q * (len(edges) - 1))] for q in _QUANTILES]
    return [float("nan")] * len(_QUANTILES)


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else ""


def _number(value: float) -> str:
    return f"{value:.5g}"


def _day(milliseconds: float) -> str:
    try:
        moment = datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC)
    except (OverflowError, ValueError, OSError):
        return _number(milliseconds)
    return f"{moment:%Y-%m-%d}"
