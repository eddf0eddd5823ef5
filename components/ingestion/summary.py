"""The exact account of one ingestion: what was read, and what became of it."""

import collections
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from components.ingestion.errors import IngestionError
from components.ingestion.spans import span_order
from components.ingestion.splits import SplitCuts
from schemas.events import SPLITS

# Counter names are joined by a character that no name, field or rule holds.
_SEPARATOR = "\0"
EXAMPLES = ("interactions", "impressions")
KINDS = ("read", "accepted", "duplicates", "dead_letters")

_DEFECT = (
    "This is a defect of the ingestion or of its runner, not of the data; nothing was "
    "published."
)


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Reason(_Record):
    """How often one rule refused a record; `field` is "" for whole records."""

    field: str
    rule: str
    count: int


class SpanCounts(_Record):
    """The account of one span of a source; read = accepted + duplicates + dead_letters.

    A duplicate is counted in the span of the copy that was dropped.
    """

    read: int
    accepted: int
    duplicates: int
    dead_letters: int


class SourceCounts(SpanCounts):
    """The account of one source, and of each of its spans."""

    files: int
    reasons: tuple[Reason, ...] = ()  # the most frequent first
    # By span, oldest first; "" holds what is in no span: the whole of an undated
    # source, and replayed dead letters.
    spans: dict[str, SpanCounts] = {}


class ResponseCounts(_Record):
    """What became of the events that answer others, and of those that are answered.

    joined + late + early + orphans is the number of responses that were not capped.
    """

    joined: int  # within the window of their impression
    late: int  # after the window
    early: int  # before every impression of their request and item
    orphans: int  # no impression of their request and item, or no request_id
    answered_impressions: int  # impressions with at least one joined response
    open_impressions: int  # window not over when the log ends: no row yet


class ImpressionFacts(_Record):
    """What the labelled rows of one split come to; all 0 for a split without rows."""

    rows: int
    sampled: int  # of the rows: negatives drawn from the catalogue
    label_min: float
    label_max: float
    label_mean: float
    propensities: int  # rows with one
    propensity_min: float
    # (sum of 1/p)^2 / sum of 1/p^2, in rows: how many rows of a uniform policy weigh as
    # much (Kish's effective sample size).
    effective_sample_size: float


class SplitTimes(_Record):
    """Where the splits lie, in ms; a row at a cut belongs to the later split."""

    first: int
    eval_from: int
    test_from: int
    last: int
    span_starts: dict[str, int] = {}  # oldest first; see `spans.span_starts`


class Summary(_Record):
    """`summary.json`."""

    sources: dict[str, SourceCounts]
    events: dict[str, int]  # accepted events by split
    rows: dict[str, dict[str, int]]  # interactions and impressions, by split
    users: int  # with an accepted event
    items: int  # of the catalogue
    unknown_item_events: int  # events kept (not capped) on items the table lacks
    unknown_user_events: int  # events kept (not capped) of users the table lacks
    split_times: SplitTimes
    responses: ResponseCounts = ResponseCounts(
        joined=0,
        late=0,
        early=0,
        orphans=0,
        answered_impressions=0,
        open_impressions=0,
    )
    capped_events: int = 0  # accepted, but over `max_events_per_user_per_day`
    capped_users: int = 0
    sessions: int = 0
    impressions: dict[str, ImpressionFacts] = {}  # by split


def counter(*names: str) -> str:
    """Returns the key of one counter."""
    return _SEPARATOR.join(names)


def summarise(
    counts: Mapping[str, int],
    files: Mapping[str, int],
    cuts: SplitCuts,
    impressions: Mapping[str, ImpressionFacts],
) -> Summary:
    """Turns the counters of a run into its summary, and checks that they add up.

    Args:
        counts: by `counter(table, "read" | "accepted" | "duplicates" | "dead_letters")`,
            the same with `"span", span` behind it, `counter(table, "reason", field,
            rule)`, `counter("split", split)`, `counter(examples, split)`,
            `counter("responses", fate)`, and `counter(name)` of "users", "catalog",
            "sessions", "capped_events", "capped_users", "unknown_items" and
            "unknown_users".
        files: number of files by source.
        cuts: the split.
        impressions: facts of the labelled rows, by split.

    Raises:
        IngestionError: if nothing was read, or records were lost or invented.
    """
    by_name = collections.Counter(counts)
    summary = Summary(
        sources={
            table: source_counts(by_name, table, num_files)
            for table, num_files in files.items()
        },
        events={split: by_name[counter("split", split)] for split in SPLITS},
        rows={
            name: {split: by_name[counter(name, split)] for split in SPLITS}
            for name in EXAMPLES
        },
        users=by_name[counter("users")],
        items=by_name[counter("catalog")],
        unknown_item_events=by_name[counter("unknown_items")],
        unknown_user_events=by_name[counter("unknown_users")],
        split_times=SplitTimes(
            first=cuts.first,
            eval_from=cuts.eval_from,
            test_from=cuts.test_from,
            last=cuts.last,
            span_starts=dict(cuts.span_starts),
        ),
        responses=ResponseCounts(
            joined=by_name[counter("responses", "joined")],
            late=by_name[counter("responses", "late")],
            early=by_name[counter("responses", "early")],
            orphans=by_name[counter("responses", "orphan")],
            answered_impressions=by_name[counter("responses", "answered")],
            open_impressions=by_name[counter("responses", "open")],
        ),
        capped_events=by_name[counter("capped_events")],
        capped_users=by_name[counter("capped_users")],
        sessions=by_name[counter("sessions")],
        impressions=dict(impressions),
    )
    check_accounts(summary)
    return summary


def source_counts(
    counts: collections.Counter[str], table: str, num_files: int
) -> SourceCounts:
    """Returns the account of one source out of the counters of a run."""
    reasons = []
    spans = set()
    for key, count in counts.items():
        names = key.split(_SEPARATOR)
        if names[0] != table or len(names) != 4:
            continue
        if names[1] == "reason":
            reasons.append(Reason(field=names[2], rule=names[3], count=count))
        else:
            spans.add(names[3])

    def of_span(*span: str) -> dict[str, int]:
        return {kind: counts[counter(table, kind, *span)] for kind in KINDS}

    return SourceCounts(
        files=num_files,
        **of_span(),
        reasons=tuple(sorted(reasons, key=lambda r: (-r.count, r.field, r.rule))),
        spans={
            span: SpanCounts(**of_span("span", span))
            for span in sorted(spans, key=span_order)
        },
    )


def check_accounts(summary: Summary) -> None:
    """Raises IngestionError unless every record read is accounted for once."""
    for table, source in summary.sources.items():
        _check_balance(f"`{table}`", source)
        for span, span_counts in source.spans.items():
            _check_balance(f"span `{span}` of `{table}`", span_counts)
        in_spans = sum(span.read for span in source.spans.values())
        if in_spans != source.read:
            raise IngestionError(
                f"the spans of `{table}` hold {in_spans} of {source.read} records. {_DEFECT}"
            )
        refused = sum(reason.count for reason in source.reasons)
        if refused != source.dead_letters:
            raise IngestionError(
                f"the reasons of `{table}` explain {refused} of "
                f"{source.dead_letters} dead letters. {_DEFECT}"
            )
    events = summary.sources["events"]
    if events.read == 0:
        raise IngestionError(
            f"the event log is empty: 0 records in {events.files} file(s) of "
            "`data.events.path`. Export the log again, or point the path at another one."
        )
    kept = events.accepted - summary.capped_events
    if sum(summary.events.values()) != kept:
        raise IngestionError(
            f"{kept} events were kept, but the splits hold "
            f"{sum(summary.events.values())}. {_DEFECT}"
        )


def _check_balance(what: str, counts: SpanCounts) -> None:
    accounted = counts.accepted + counts.duplicates + counts.dead_letters
    if counts.read != accounted:
        raise IngestionError(
            f"the accounts of {what} do not add up: read {counts.read}, accepted "
            f"{counts.accepted} + duplicates {counts.duplicates} + dead letters "
            f"{counts.dead_letters} = {accounted}. {_DEFECT}"
        )
