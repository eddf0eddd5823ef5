"""Spans: the days or numbers by which the paths of a log's files divide it.

`{YYYY-MM-DD}`, or `{YYYY}`, `{MM}` and `{DD}` apart, stand for a day; `{SPAN}` for a
number; `{VERSION}` for the export of a span, of which the highest counts. `{SPAN:2}` and
`{VERSION:2}` have that many digits. These are TFX's conventions, but for the first.
"""

import collections
import dataclasses
import datetime
import difflib
import enum
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from apache_beam.io.filesystem import FileSystem

from components.ingestion.errors import IngestionError
from components.ingestion.settings import DataSettings, SpanSettings
from schemas.events import DAY_MS

if TYPE_CHECKING:
    from components.ingestion.sources import SourceFile

_PLACEHOLDER = re.compile(r"\{([A-Za-z][A-Za-z0-9:_-]*)\}")
_DAY_PARTS = {"YYYY": "year", "MM": "month", "DD": "day"}
_DIGITS = {"YYYY": 4, "MM": 2, "DD": 2}
_DAY = "YYYY-MM-DD"
_KNOWN = (_DAY, *_DAY_PARTS, "SPAN", "VERSION")
_SHOWN = 10  # missing spans that an error names
_MILLISECOND = datetime.timedelta(milliseconds=1)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


class SpanKind(enum.Enum):
    """What a span is."""

    NONE = "none"  # the path names no spans
    DAY = "day"  # written 2026-11-21
    NUMBER = "number"  # written 17


@dataclasses.dataclass(frozen=True)
class SpanPattern:
    """A path with placeholders, ready to list files by and to read their spans from."""

    kind: SpanKind
    glob: str  # what a file system lists; it may list too much
    regex: re.Pattern[str]

    def parse(self, path: str) -> tuple[str, int] | None:
        """Returns (span, version) of a listed path, None for one that only looks so."""
        if self.kind is SpanKind.NONE:  # the file system's own match is enough
            return "", 0
        match = self.regex.match(path)
        if match is None:
            return None
        found = match.groupdict()
        version = int(found.get("version") or 0)
        if self.kind is SpanKind.NUMBER:
            return str(int(found["span"])), version
        try:
            day = datetime.date(*(int(found[part]) for part in _DAY_PARTS.values()))
        except ValueError:  # such as 2026-02-30
            return None
        return day.isoformat(), version


def parse_pattern(path: str, place: str) -> SpanPattern:
    """Reads the placeholders of `path`.

    Args:
        path: as configured, with globs or without.
        place: of the path in the config, for messages.

    Raises:
        IngestionError: for a placeholder that is not known, or placeholders that do not
            go together.
    """
    if path.endswith("/"):
        path += "*"
    pieces = _PLACEHOLDER.split(path)
    literals, names = pieces[::2], [_checked(name, place) for name in pieces[1::2]]
    kind = _kind_of(names, path, place)
    # The file system's own translation of the globs, around marks for the placeholders.
    first, *others = FileSystem.translate_pattern("\0".join(literals)).split("\0")
    regex = first
    groups: set[str] = set()
    for index, (name, part) in enumerate(zip(names, others, strict=True)):
        before = literals[index][-1:] in ("*", "?", "]")
        after = literals[index + 1][:1] in ("*", "?", "[")
        regex += _group(name, groups, before, after) + part
    return SpanPattern(kind, "*".join(literals), re.compile(regex))


def newest_versions(parsed: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Returns the highest version of each span."""
    newest: dict[str, int] = {}
    for span, version in parsed:
        newest[span] = max(version, newest.get(span, version))
    return newest


def span_order(span: str) -> tuple[int, str]:
    """Returns the key by which spans of one kind sort: oldest first, "" before all."""
    return (int(span), "") if span.isdecimal() else (0, span)


def chosen_spans(
    available: Iterable[str], settings: SpanSettings, kind: SpanKind, place: str
) -> list[str]:
    """Returns the spans of a log that are read, oldest first.

    Args:
        available: the spans there are.
        settings: which of them.
        kind: of the spans.
        place: of the path in the config, for messages.

    Raises:
        IngestionError: if `until` is not there, or a span between is missing.
    """
    spans = sorted(available, key=span_order)
    if kind is SpanKind.NONE:
        if settings.last is not None or settings.until is not None:
            raise IngestionError(
                f"data.spans chooses among spans, but {place} names none. Write the "
                "span into the path, such as `events-{YYYY-MM-DD}.jsonl` or "
                "`span-{SPAN}/*`, or leave `last` and `until` out."
            )
        return spans
    if settings.until is not None:
        until = _read_until(settings.until, kind, place)
        if until not in spans:
            raise IngestionError(
                f"data.spans.until: {place} has no span {until}; the nearest is "
                f"{_nearest(until, spans)}. Set `until` to a span that is there, or "
                "leave it out for the newest."
            )
        spans = spans[: spans.index(until) + 1]
    if settings.last is not None:
        spans = spans[-settings.last :]
    missing = _missing(spans)
    if missing and not settings.allow_gaps:
        named = ", ".join(missing[:_SHOWN])
        if len(missing) > _SHOWN:
            named += f" and {len(missing) - _SHOWN} more"
        raise IngestionError(
            f"{place}: no file of span {named}, between {spans[0]} and {spans[-1]}. "
            "Export what is missing, or set `data.spans.allow_gaps: true`."
        )
    return spans


def snapshot_span(available: Iterable[str], newest: str, place: str) -> str:
    """Returns the newest span of a side table at or before the log's newest one.

    Args:
        available: the spans of the side table, "" for one without.
        newest: the newest span read of the event log, "" if it has none.
        place: of the side table's path in the config, for messages.

    Raises:
        IngestionError: if there is none, or one has days and the other numbers.
    """
    spans = sorted(available, key=span_order)
    if not newest or not spans[-1]:
        return spans[-1]
    if spans[0].isdecimal() != newest.isdecimal():
        raise IngestionError(
            f"{place}: its spans are such as {spans[0]}, those of the events such as "
            f"{newest}, so none can be told to be the other's. Name both by days or "
            "both by numbers."
        )
    earlier = [span for span in spans if span_order(span) <= span_order(newest)]
    if not earlier:
        raise IngestionError(
            f"{place}: its oldest span is {spans[0]}, after {newest}, the newest of the "
            "events; what it says was not known then. Export an earlier one, or take the "
            "span out of the path."
        )
    return earlier[-1]


def day_bounds(span: str) -> tuple[int, int] | None:
    """Returns [begin, end) of a day's span in ms UTC, None for what is no day."""
    if not span or span.isdecimal():
        return None
    midnight = datetime.datetime.fromisoformat(span).replace(tzinfo=datetime.UTC)
    begin = (midnight - _EPOCH) // _MILLISECOND
    return begin, begin + DAY_MS


def span_starts(spans: Iterable[str], earliest: Mapping[str, int]) -> dict[str, int]:
    """Returns when each span begins, in ms, the oldest first.

    A day begins at its midnight. A number says nothing of time: its span begins with the
    earliest event of it or of a later span, so that no event of a span, however late it
    was exported, lies before the span's beginning.

    Args:
        spans: of the log's files; "" is none.
        earliest: the earliest accepted event of each span that has any.

    Returns:
        starts; an empty span of numbers has none.
    """
    starts: dict[str, int] = {}
    for span in sorted(set(spans) - {""}, key=span_order, reverse=True):
        bounds = day_bounds(span)
        if bounds is not None:
            starts[span] = bounds[0]
        elif span in earliest:
            starts[span] = min(earliest[span], *starts.values(), earliest[span])
    return dict(reversed(starts.items()))


def newest_span_start(spans: Iterable[str], starts: Mapping[str, int]) -> int:
    """Returns when the newest span begins, for a log whose test split it is.

    Args:
        spans: of the log's files.
        starts: `span_starts` of them.

    Raises:
        IngestionError: if it has no events, or no span lies before it.
    """
    newest = max(spans, key=span_order)
    if len(starts) < 2 or newest not in starts:
        raise IngestionError(
            "data.split.newest_span: to test on the newest span and to learn from those "
            f"before, the log should have events in both. The newest span is `{newest}`; "
            f"with events are {list(starts)}. Write the span into `data.events.path`, "
            "such as `events-{YYYY-MM-DD}.jsonl`, and choose a later one than the first."
        )
    return starts[newest]


def closed_at(settings: DataSettings, files: Iterable["SourceFile"]) -> int | None:
    """Returns the moment in ms, rounded up, as of which the log is whole.

    The configured one, else the end of the newest dated span of `files`, else None.
    """
    if settings.closed_at is not None:
        return -((_EPOCH - settings.closed_at) // _MILLISECOND)
    bounds = [day_bounds(file.span) for file in files]
    return max((end for _, end in filter(None, bounds)), default=None)


def _checked(name: str, place: str) -> str:
    base, colon, width = name.partition(":")
    has_width = base in ("SPAN", "VERSION") and re.fullmatch("[1-9][0-9]?", width)
    if base in _KNOWN and (not colon or has_width):
        return name
    close = difflib.get_close_matches(name.upper(), _KNOWN, n=1, cutoff=0.5)
    hint = f" Did you mean `{{{close[0]}}}`?" if close else ""
    raise IngestionError(
        f"{place}: `{{{name}}}` is no placeholder.{hint} Known: "
        + ", ".join(f"`{{{known}}}`" for known in _KNOWN)
        + "; SPAN and VERSION may have a number of digits, such as `{SPAN:2}`."
    )


def _kind_of(names: list[str], path: str, place: str) -> SpanKind:
    bases = {name.partition(":")[0] for name in names}
    parts = bases & _DAY_PARTS.keys()
    kinds = [_DAY in bases, bool(parts), "SPAN" in bases]
    if sum(kinds) > 1:
        raise IngestionError(
            f"{place}: `{path}` names its spans in two ways. Keep one: `{{{_DAY}}}`; "
            "`{YYYY}`, `{MM}` and `{DD}`; or `{SPAN}`."
        )
    if parts and len(parts) < len(_DAY_PARTS):
        missing = ", ".join(f"`{{{x}}}`" for x in _DAY_PARTS if x not in parts)
        raise IngestionError(
            f"{place}: `{path}` lacks {missing}: a span is a day, so `{{YYYY}}`, "
            "`{MM}` and `{DD}` go together."
        )
    if "VERSION" in bases and not any(kinds):
        raise IngestionError(
            f"{place}: `{path}` has versions, but names no span that they are of. Add "
            f"`{{{_DAY}}}` or `{{SPAN}}`, or write `*` for the version."
        )
    if not any(kinds):
        return SpanKind.NONE
    return SpanKind.NUMBER if "SPAN" in bases else SpanKind.DAY


def _group(name: str, groups: set[str], before: bool, after: bool) -> str:
    """Returns the regex of one placeholder; one named again must hold the same.

    A number beside a glob is a whole one, not the end or the start of a longer one.
    """
    base, _, width = name.partition(":")
    if base == _DAY:
        regex = "-".join(_named(_DAY_PARTS[x], _DIGITS[x], groups) for x in _DAY_PARTS)
    elif base in _DAY_PARTS:
        regex = _named(_DAY_PARTS[base], _DIGITS[base], groups)
    else:
        regex = _named(base.lower(), int(width) if width else None, groups)
    return ("(?<![0-9])" if before else "") + regex + ("(?![0-9])" if after else "")


def _named(group: str, digits: int | None, groups: set[str]) -> str:
    if group in groups:
        return f"(?P={group})"
    groups.add(group)
    return f"(?P<{group}>[0-9]{'+' if digits is None else f'{{{digits}}}'})"


def _read_until(text: str, kind: SpanKind, place: str) -> str:
    if kind is SpanKind.NUMBER and text.isdecimal() and text.isascii():
        return str(int(text))
    if kind is SpanKind.DAY:
        try:
            return datetime.date.fromisoformat(text).isoformat()
        except ValueError:
            pass
    expected = "a day such as 2026-11-21" if kind is SpanKind.DAY else "a number"
    raise IngestionError(
        f"data.spans.until: should be {expected}, as the spans of {place} are. "
        f"Received: {text}"
    )


def _number(span: str) -> int:
    if span.isdecimal():
        return int(span)
    return datetime.date.fromisoformat(span).toordinal()


def _nearest(span: str, spans: list[str]) -> str:
    return min(spans, key=lambda other: abs(_number(other) - _number(span)))


def _missing(spans: list[str]) -> list[str]:
    """Returns what lies between the first and the last of `spans`, but not among them."""
    if not spans:
        return []
    have = collections.Counter(map(_number, spans))
    missing = [n for n in range(min(have), max(have)) if n not in have]
    if spans[0].isdecimal():
        return [str(n) for n in missing]
    return [datetime.date.fromordinal(n).isoformat() for n in missing]
