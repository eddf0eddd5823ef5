"""A first curated schema for a new log: what TFDV sees in it, held to what is known.

TFDV describes the rows that were there. The log contract and the feature catalogue say
what rows may be: which keys are in every row, which values a label may take, which ids
are open-ended. Where the two differ, what is known stands.
"""

import dataclasses
import datetime
import json
from collections.abc import Mapping, Sequence

import apache_beam as beam
import tensorflow_data_validation as tfdv
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from components.feature_statistics import (
    Statistics,
    common_statistics,
    feature_statistics,
    num_rows,
    read_statistics,
    row_source,
    statistics_options,
    write_statistics,
)
from components.ingestion.errors import IngestionError
from components.ingestion.output import OutputPaths
from components.ingestion.pipeline import ingest
from components.ingestion.settings import DataSettings
from schemas.events import DAY_MS, SPLITS
from schemas.features import (
    EVENT_ID,
    EVENT_TYPE,
    HISTORY,
    ITEM_ID,
    LABEL,
    POSITION,
    PROPENSITY,
    REQUEST_ID,
    REWARD,
    SESSION_START,
    TIMESTAMP,
    USER_ID,
    VALUE,
    Feature,
    FeatureCatalog,
    FeatureKind,
    Side,
    UserStatistic,
)

MAX_DOMAIN_SIZE = 100  # a feature with more values is taken to be open-ended
_SLACK = 0.95  # of the share of rows that have a feature: the least to expect
_YEAR_MS = 366 * DAY_MS
_REQUIRED = "presence { min_fraction: 1 min_count: 1 } shape { }"
_SINGLE = "value_count { min: 1 max: 1 }"
_FINITE = "disallow_nan: true disallow_inf: true"
_KINDS = {
    FeatureKind.CATEGORICAL: f"type: BYTES {_SINGLE}",
    FeatureKind.MULTI_CATEGORICAL: "type: BYTES value_count { min: 1 }",
    FeatureKind.TEXT: f"type: BYTES {_SINGLE}",
    FeatureKind.NUMERIC: f"type: FLOAT float_domain {{ {_FINITE} }} {_SINGLE}",
    FeatureKind.ITEM_ID: f"type: BYTES {_SINGLE}",
}
_WEIGHTS = f"type: FLOAT float_domain {{ min: 0 {_FINITE} }} value_count {{ min: 1 }}"
_CLOSED_KINDS = (FeatureKind.CATEGORICAL, FeatureKind.MULTI_CATEGORICAL)


@dataclasses.dataclass(frozen=True)
class InferredSchema:
    """A schema, and the file to keep it in.

    Attributes:
        schema: what rows must look like.
        text: the same as text protobuf, with comments.
        rows: that it was inferred from, of the train split.
        domains: keys of the features with a closed set of values.
        open_ended: keys of the categorical features without one.
    """

    schema: schema_pb2.Schema
    text: str
    rows: int
    domains: tuple[str, ...]
    open_ended: tuple[str, ...]


def infer_from_log(
    settings: DataSettings,
    catalog: FeatureCatalog,
    folder: str,
    origin: tuple[str, str],
    beam_pipeline_args: Sequence[str] = (),
) -> InferredSchema:
    """Ingests a log and infers the schema of its labelled rows.

    Args:
        settings: the log.
        catalog: the declared features.
        folder: receives what the ingestion writes; the caller removes it.
        origin: name of the config and path of its log, for the file's first lines.
        beam_pipeline_args: any runner and its options; its workers must reach `folder`.

    Raises:
        IngestionError: for what the user can mend, and if no row has a label.
    """
    fields = dataclasses.fields(OutputPaths)
    outputs = OutputPaths(
        **{field.name: FileSystems.join(folder, field.name) for field in fields}
    )
    options = PipelineOptions(list(beam_pipeline_args))
    ingest(beam.Pipeline(options=options), settings, catalog, outputs)
    with beam.Pipeline(options=options) as pipeline:
        for split in SPLITS:
            files = FileSystems.join(outputs.impressions, f"Split-{split}", "*")
            rows = pipeline | f"Read[{split}]" >> row_source([files]).BeamSource()
            write_statistics(rows, statistics_options(), folder, split)
    statistics = {split: read_statistics(folder, split) for split in SPLITS}
    return infer_schema(statistics, settings, catalog, origin)


def infer_schema(
    statistics: Mapping[str, Statistics],
    settings: DataSettings,
    catalog: FeatureCatalog,
    origin: tuple[str, str],
) -> InferredSchema:
    """Infers the schema of the train split and tightens it.

    The later splits widen it where they differ: a value that only they have makes its
    feature open-ended, and the least share of rows with a feature is expected.

    Args:
        statistics: of the labelled rows, by split.
        settings: the log.
        catalog: the declared features.
        origin: name of the config and path of its log, for the file's first lines.

    Raises:
        IngestionError: if no row of the train split has a label.
    """
    rows = num_rows(statistics["train"])
    if not rows:
        raise IngestionError(
            "there is nothing to infer a schema from: 0 rows of the train split have a "
            "label. Give an event type of `data.event_types` a `label` or "
            "`label_from_value`, or a longer log."
        )
    features = _contract_features(statistics, settings, catalog)
    schema = schema_pb2.Schema()
    schema.string_domain.add(name=EVENT_TYPE, value=sorted(settings.event_types))
    for key, feature in catalog.features():
        message = _parsed(key, f"{_rules(feature)} {_presence(key, statistics)}")
        features.append((message, _tighten(message, key, feature, statistics, schema)))
    for side in Side:
        for feature in catalog.declared(side):
            for column in feature.columns(side)[1:]:
                rules = f"{_WEIGHTS} {_presence(column.key, statistics)}"
                comment = f"One for each value of `{side.value}_{feature.name}`."
                features.append((_parsed(column.key, rules), comment))
    features += _unforeseen(statistics["train"], {f.name for f, _ in features})
    schema.feature.extend(feature for feature, _ in features)
    categorical = [k for k, f in catalog.features() if f.kind in _CLOSED_KINDS]
    closed = {domain.name for domain in schema.string_domain}
    text = _header(statistics, *origin) + "".join(
        _block("feature", message, comment) for message, comment in features
    )
    text += "".join(_block("string_domain", x, "") for x in schema.string_domain)
    return InferredSchema(
        schema,
        text,
        rows,
        domains=tuple(key for key in categorical if key in closed),
        open_ended=tuple(key for key in categorical if key not in closed),
    )


def _rules(feature: Feature) -> str:
    """Returns what the values of a feature's own column must be."""
    if feature.kind is FeatureKind.VECTOR:
        number = f"value_count {{ min: {feature.size} max: {feature.size} }}"
        return f"type: FLOAT float_domain {{ {_FINITE} }} {number}"
    return _KINDS[feature.kind]


def _contract_features(
    statistics: Mapping[str, Statistics],
    settings: DataSettings,
    catalog: FeatureCatalog,
) -> list[tuple[schema_pb2.Feature, str]]:
    """Returns the features that rows have whatever the catalogue declares."""
    optional = {key: _presence(key, statistics) for key in (VALUE, POSITION)}
    propensity = _presence(PROPENSITY, statistics)
    times = feature_statistics(statistics["train"])[TIMESTAMP].num_stats
    earliest = max(int(times.min) - _YEAR_MS, 0)
    with_session = settings.session_gap_minutes is not None
    rules = [
        (EVENT_ID, f"type: BYTES {_REQUIRED}", ""),
        (USER_ID, f"type: BYTES {_REQUIRED}", "Open-ended: no domain."),
        (ITEM_ID, f"type: BYTES {_REQUIRED}", "Open-ended: no domain."),
        (
            TIMESTAMP,
            f"type: INT int_domain {{ min: {earliest} }} {_REQUIRED}",
            f"{_day(earliest)}, a year before the first row. Seconds in place of ms fall below it.",
        ),
        (
            EVENT_TYPE,
            f'type: BYTES domain: "{EVENT_TYPE}" {_REQUIRED}',
            "Those that the config declares.",
        ),
        (LABEL, f"type: FLOAT {_range(0, 1)} {_REQUIRED}", ""),
        (REWARD, f"type: FLOAT float_domain {{ min: 0 {_FINITE} }} {_REQUIRED}", ""),
        (
            HISTORY,
            f"type: BYTES value_count {{ min: 0 max: {catalog.history_length} }}",
            "Oldest first, strictly before `timestamp`; at most `history_length`.",
        ),
        (VALUE, f"{_KINDS[FeatureKind.NUMERIC]} {optional[VALUE]}", ""),
        (
            POSITION,
            f"type: INT int_domain {{ min: 0 }} {_SINGLE} {optional[POSITION]}",
            "",
        ),
        (
            PROPENSITY,
            f"type: FLOAT {_range(1e-30, 1)} {_SINGLE} {propensity}",
            "In (0, 1].",
        ),
        (
            REQUEST_ID,
            f"type: BYTES {_SINGLE} presence {{ min_count: 0 }}",
            "Open-ended: no domain.",
        ),
        (
            SESSION_START,
            f"type: INT int_domain {{ min: {earliest} }} "
            + (_REQUIRED if with_session else f"{_SINGLE} presence {{ min_count: 0 }}"),
            "",
        ),
    ]
    return [(_parsed(key, text), comment) for key, text, comment in rules]


def _tighten(
    message: schema_pb2.Feature,
    key: str,
    feature: Feature,
    statistics: Mapping[str, Statistics],
    schema: schema_pb2.Schema,
) -> str:
    """Adds what a declared feature's values and meaning say; returns a comment."""
    if key in {f"user_{statistic.value}" for statistic in UserStatistic}:
        message.float_domain.min, message.float_domain.max = 0, 1
        message.presence.min_fraction = 1
        return "Worked out by ingestion."
    if feature.kind is FeatureKind.ITEM_ID:
        return "An item's id. Open-ended: no domain."
    if feature.kind not in _CLOSED_KINDS:
        return ""
    train, *later = (_value_set(statistics[split], key) for split in SPLITS)
    if not train or train.size > MAX_DOMAIN_SIZE:
        return f"About {train.size:,} values: no domain." if train else "Never there."
    new = set().union(*(values.seen for values in later)) - train.seen
    if new:
        return f"{len(new)} value(s) came up after the train split: no domain."
    schema.string_domain.add(name=key, value=sorted(train.seen))
    message.domain = key
    return ""


@dataclasses.dataclass(frozen=True)
class _ValueSet:
    """The values of a feature: all of them, as far as `size` is small."""

    seen: frozenset[str]
    size: int

    def __bool__(self) -> bool:
        return self.size > 0


def _value_set(statistics: Statistics, key: str) -> _ValueSet:
    feature = feature_statistics(statistics).get(key)
    if feature is None:
        return _ValueSet(frozenset(), 0)
    buckets = feature.string_stats.rank_histogram.buckets
    return _ValueSet(
        frozenset(bucket.label for bucket in buckets), feature.string_stats.unique
    )


def _presence(key: str, statistics: Mapping[str, Statistics]) -> str:
    """Returns how often a feature is to be there, by how often it was."""
    shares = []
    for split in statistics.values():
        feature = feature_statistics(split).get(key)
        if num_rows(split):
            there = common_statistics(feature).num_non_missing if feature else 0
            shares.append(there / num_rows(split))
    least = int(min(shares) * _SLACK * 100) / 100
    if not least:
        return "presence { min_count: 0 }"
    return f"presence {{ min_fraction: {least} min_count: 1 }}"


def _day(timestamp: float) -> datetime.date:
    return datetime.datetime.fromtimestamp(timestamp / 1000, datetime.UTC).date()


def _unforeseen(
    statistics: Statistics, known: set[str]
) -> list[tuple[schema_pb2.Feature, str]]:
    """Returns TFDV's own view of keys that neither contract nor catalogue name."""
    inferred = tfdv.infer_schema(statistics, infer_feature_shape=False)
    return [
        (feature, "As TFDV sees it.")
        for feature in inferred.feature
        if feature.name not in known
    ]


def _parsed(key: str, text: str) -> schema_pb2.Feature:
    message = text_format.Parse(text, schema_pb2.Feature())
    message.name = key
    return message


def _range(low: float, high: float) -> str:
    return f"float_domain {{ min: {low} max: {high} disallow_nan: true }}"


def _header(statistics: Mapping[str, Statistics], name: str, source: str) -> str:
    numbers = ", ".join(f"{split} {num_rows(statistics[split]):,}" for split in SPLITS)
    source = json.dumps(source, ensure_ascii=False)
    times = feature_statistics(statistics["train"])[TIMESTAMP].num_stats
    first, last = _day(times.min), _day(times.max)
    return f"""\
# What the ingested rows of `{name}` must look like, in every split.
#
# Inferred by `tandem schema infer` from the train split ({first} to {last}) of
# {source}, and widened where the later splits differ.
# Rows: {numbers}.
# Review it: a domain holds the values seen so far, and the range of a numeric feature
# is yours to add.
#
# Keys with a `shape` are in every row and become dense tensors; all others may be absent
# and become sparse ones.

"""


def _block(name: str, message, comment: str) -> str:
    """Returns a field of the schema as text, a comment above its content."""
    lines = text_format.MessageToString(message, as_utf8=True).splitlines()
    head = f"# {comment}\n" if comment else ""
    body = "".join(f"  {line}\n" for line in lines)
    return f"{head}{name} {{\n{body}}}\n"
