"""From raw batches to canonical tables; what fails a rule becomes a dead letter."""

import dataclasses
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.ingestion import columns, number_lists, spans
from components.ingestion.raw_batch import Column, RawBatch, value_of, values_of
from components.ingestion.settings import DataSettings, Source, SpanSettings
from components.ingestion.sources import ColumnMap, SourceFile
from schemas.events import DAY_MS, MAX_ID_BYTES, MINUTE_MS, events_schema
from schemas.features import (
    EVENT_ID,
    EVENT_TYPE,
    ITEM_ID,
    POSITION,
    PROPENSITY,
    TIMESTAMP,
    USER_ID,
    VALUE,
    Feature,
    FeatureCatalog,
    FeatureKind,
)

# Where an accepted row came from; the tie-breaker among duplicates.
SOURCE_FILE = "_file"
SOURCE_POSITION = "_position"

_ID_RULE = f"should be a non-empty string of at most {MAX_ID_BYTES} bytes"
_TIME_RULE = "should be whole ms since 1970 (UTC) or ISO 8601, up to the year 9999"
_NUMBER_RULE = "should be a finite number"
_LIST_RULE = "should be a list of strings"
_PROPENSITY_RULE = "should lie in (0, 1]"
_SEEN_CHARACTERS = 80


@dataclasses.dataclass(frozen=True)
class DeadLetter:
    """A record that was not accepted.

    `rule` is the same text for each record that broke it; `reason` adds what was seen.
    """

    position: int
    field: str  # "" where the record as a whole is at fault
    rule: str
    reason: str
    raw: str


class _Checks:
    """Finds the first rule that each row breaks."""

    def __init__(self, batch: RawBatch, column_map: ColumnMap):
        self._batch = batch
        self._map = column_map
        self._failed = np.zeros(len(batch.positions), np.int16)  # 0: none so far
        self._rules: list[tuple[str, str]] = []

    def raw_column(self, name: str) -> Column:
        """Returns the raw values of a canonical column, nulls where there is none."""
        found = self._batch.columns.get(self._map.own[name])
        return pa.nulls(len(self._batch.positions)) if found is None else found

    def _value(self, name: str, row: int) -> Any:
        """Returns one raw value, a number alike whatever its column made of it."""
        value = self.raw_column(name)[row]
        if isinstance(value, pa.Scalar):
            value = value_of(value)
        if self._map.own[name] not in self._map.numbers:
            return value
        return [_whole(x) for x in value] if isinstance(value, list) else _whole(value)

    def refuse(self, wrong: np.ndarray, field: str, rule: str) -> None:
        """Refuses the rows under `wrong` that no earlier rule refused."""
        self._rules.append((field, rule))
        self._failed[(self._failed == 0) & wrong] = len(self._rules)

    @property
    def accepted(self) -> np.ndarray:
        return self._failed == 0

    def dead_letters(self) -> list[DeadLetter]:
        """Returns the refused rows and the broken records, by position."""
        letters = [
            DeadLetter(
                record.position,
                "",
                record.expected,
                f"{record.expected}. Received: {record.seen}",
                record.raw,
            )
            for record in self._batch.broken
        ]
        for row in np.flatnonzero(self._failed).tolist():
            field, rule = self._rules[self._failed[row] - 1]
            seen = _shown(self._value(field, row))
            letters.append(
                DeadLetter(
                    int(self._batch.positions[row]),
                    field,
                    rule,
                    f"`{field}` {rule}. Received: {seen}",
                    self._batch.raw(row),
                )
            )
        return sorted(letters, key=lambda letter: letter.position)


def parse_events(
    batch: RawBatch,
    column_map: ColumnMap,
    settings: DataSettings,
    catalog: FeatureCatalog,
    file: SourceFile,
) -> tuple[pa.Table, list[DeadLetter]]:
    """Checks a batch of the event log.

    Args:
        batch: raw records.
        column_map: canonical names beside the log's own.
        settings: the event types and their label rules, and what times may be.
        catalog: the declared context features.
        file: what the batch was read from.

    Returns:
        accepted: `events_schema(catalog)` and the two columns of origin; at most one
            row for each record, in the file's order.
        dead_letters: each other record, with the first rule that it broke.
    """
    checks = _Checks(batch, column_map)
    out: dict[str, pa.Array] = {}
    for name in (EVENT_ID, USER_ID, ITEM_ID):
        out[name] = _required(checks, name, columns.to_ids, _ID_RULE)
    out[TIMESTAMP] = _required(checks, TIMESTAMP, columns.to_timestamps, _TIME_RULE)
    _check_span(checks, out[TIMESTAMP], settings.spans, file)
    _check_closed(checks, out[TIMESTAMP], settings)
    out[EVENT_TYPE] = _event_types(checks, settings)
    out[VALUE] = _optional(checks, VALUE, columns.to_numbers, _NUMBER_RULE)
    by_value = [
        name for name, kind in settings.event_types.items() if kind.label_from_value
    ]
    needs_value = pc.is_in(out[EVENT_TYPE], value_set=pa.array(by_value, pa.string()))
    checks.refuse(
        _mask(pc.and_(needs_value, pc.is_null(out[VALUE]))),
        VALUE,
        "should be present, as the label of this event type is made from it",
    )
    out[POSITION] = _optional(
        checks, POSITION, columns.to_counts, "should be a whole number from 0 on"
    )
    out[PROPENSITY] = _propensities(checks)
    out["request_id"] = _optional(
        checks, "request_id", columns.to_text, "should be a string"
    )
    out |= _features(checks, catalog.context, settings.events.list_separator)
    table = pa.table(
        [out[field.name] for field in events_schema(catalog)],
        schema=events_schema(catalog),
    )
    table = _with_origin(table, batch, file.index)
    return table.filter(pa.array(checks.accepted)), checks.dead_letters()


def parse_side_table(
    batch: RawBatch,
    column_map: ColumnMap,
    source: Source,
    id_column: str,
    features: tuple[Feature, ...],
    file_index: int = 0,
    keep_extra: bool = False,
) -> tuple[pa.Table, list[DeadLetter]]:
    """Checks a batch of the items or users table.

    Args:
        batch: raw records.
        column_map: canonical names beside the table's own.
        source: the table's declaration.
        id_column: ITEM_ID or USER_ID.
        features: the declared features of that side.
        file_index: of the batch's file among the source's.
        keep_extra: whether columns that nothing declares come along, under their own
            names; without a plain Arrow type they come as JSON text.

    Returns:
        accepted, dead_letters: as `parse_events`.
    """
    checks = _Checks(batch, column_map)
    out = {id_column: _required(checks, id_column, columns.to_ids, _ID_RULE)}
    out |= _features(checks, features, source.list_separator)
    if keep_extra:
        mapped = {*column_map.own.values(), *out}
        for name, values in batch.columns.items():
            if name not in mapped:
                out[name] = _extra(values)
    table = _with_origin(pa.table(out), batch, file_index)
    return table.filter(pa.array(checks.accepted)), checks.dead_letters()


def _required(checks: _Checks, name: str, convert: Any, rule: str) -> pa.Array:
    array, wrong = convert(checks.raw_column(name))
    checks.refuse(wrong | _mask(pc.is_null(array)), name, rule)
    return array


def _optional(checks: _Checks, name: str, convert: Any, rule: str) -> pa.Array:
    array, wrong = convert(checks.raw_column(name))
    checks.refuse(wrong, name, rule)
    return array


def _check_span(
    checks: _Checks, timestamps: pa.Array, settings: SpanSettings, file: SourceFile
) -> None:
    """Refuses what a dated span should not hold: too late a delivery, a fast clock."""
    bounds = spans.day_bounds(file.span)
    if bounds is None or file.replayed:
        return
    begin, end = bounds
    late = pc.less(timestamps, begin - settings.max_late_days * DAY_MS)
    checks.refuse(
        _mask(late),
        TIMESTAMP,
        f"should be at most {settings.max_late_days} day(s) (`max_late_days`) before the "
        "day of its file's span",
    )
    early = pc.greater(timestamps, end + settings.max_early_minutes * MINUTE_MS)
    checks.refuse(
        _mask(early),
        TIMESTAMP,
        f"should be at most {settings.max_early_minutes} minute(s) "
        "(`max_early_minutes`) past the day of its file's span",
    )


def _check_closed(
    checks: _Checks, timestamps: pa.Array, settings: DataSettings
) -> None:
    """Refuses what is dated after the configured moment of the export."""
    closed_at = spans.closed_at(settings, ())
    if settings.closed_at is None or closed_at is None:
        return
    checks.refuse(
        _mask(pc.greater_equal(timestamps, closed_at)),
        TIMESTAMP,
        "should be before the log was closed "
        f"(`closed_at`, {settings.closed_at.isoformat()})",
    )


def _event_types(checks: _Checks, settings: DataSettings) -> pa.Array:
    array, wrong = columns.to_text(checks.raw_column(EVENT_TYPE))
    known = pa.array(list(settings.event_types), pa.string())
    checks.refuse(
        wrong | ~_mask(pc.is_in(array, value_set=known)),
        EVENT_TYPE,
        f"should be one of the declared types ({', '.join(settings.event_types)})",
    )
    return array


def _propensities(checks: _Checks) -> pa.Array:
    array, wrong = columns.to_numbers(checks.raw_column(PROPENSITY))
    narrow = array.cast(pa.float32(), safe=False)  # what a tf.Example holds
    outside = pc.or_(pc.less_equal(narrow, 0), pc.greater(array, 1))
    checks.refuse(wrong | _mask(outside), PROPENSITY, _PROPENSITY_RULE)
    return array


def _features(
    checks: _Checks, features: tuple[Feature, ...], separator: str
) -> dict[str, pa.Array]:
    out = {}
    for feature in features:
        name = feature.name
        if feature.kind is FeatureKind.NUMERIC:
            out[name] = _optional(checks, name, columns.to_numbers, _NUMBER_RULE)
        elif feature.kind is FeatureKind.VECTOR:
            out[name] = _vectors(checks, feature, separator)
        elif feature.weights:
            out |= _weighted_lists(checks, feature, feature.weights, separator)
        elif feature.kind is FeatureKind.MULTI_CATEGORICAL:
            array, wrong = columns.to_lists(checks.raw_column(name), separator)
            checks.refuse(wrong, name, _LIST_RULE)
            out[name] = array
        elif feature.kind is FeatureKind.ITEM_ID:
            out[name] = _optional(checks, name, columns.to_ids, _ID_RULE)
        else:
            out[name] = _optional(checks, name, columns.to_text, "should be a string")
    return out


def _vectors(checks: _Checks, feature: Feature, separator: str) -> pa.Array:
    raw = checks.raw_column(feature.name)
    array, wrong = number_lists.to_vectors(raw, feature.size, separator)
    rule = f"should be a list of finite numbers, `size` = {feature.size} of them"
    checks.refuse(wrong, feature.name, rule)
    return array


def _weighted_lists(
    checks: _Checks, feature: Feature, weights: str, separator: str
) -> dict[str, pa.Array]:
    values, numbers, wrong_values, wrong_weights = number_lists.to_weighted_lists(
        checks.raw_column(feature.name), checks.raw_column(weights), separator
    )
    checks.refuse(wrong_values, feature.name, _LIST_RULE)
    checks.refuse(
        wrong_weights,
        weights,
        f"should be a list with a finite number >= 0 for each value of `{feature.name}`",
    )
    return {feature.name: values, weights: numbers}


def _extra(values: Column) -> pa.Array:
    if isinstance(values, pa.Array) and columns.is_sound(values):
        return values
    texts = [
        value
        if value is None or isinstance(value, str)
        else json.dumps(value, ensure_ascii=False, default=repr)
        for value in values_of(values)
    ]
    return pa.array(
        [text and text.encode("utf-8", "backslashreplace").decode() for text in texts],
        pa.string(),
    )


def _with_origin(table: pa.Table, batch: RawBatch, file_index: int) -> pa.Table:
    files = pa.array(np.full(len(batch.positions), file_index, np.int32))
    table = table.append_column(SOURCE_FILE, files)
    return table.append_column(SOURCE_POSITION, pa.array(batch.positions))


def _whole(value: Any) -> Any:
    """Returns 1 for 1.0, and what is no whole number as it is."""
    is_whole = isinstance(value, float) and value.is_integer()
    return int(value) if is_whole else value


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    text = ascii(value) if isinstance(value, str | bytes) else repr(value)
    if len(text) > _SEEN_CHARACTERS:
        text = text[:_SEEN_CHARACTERS] + "..."
    return text.encode("utf-8", "backslashreplace").decode()


def _mask(array: pa.Array) -> np.ndarray:
    return pc.fill_null(array, False).to_numpy(zero_copy_only=False).astype(bool)
