"""Do requests as they were served equal rows as ingestion builds them?

A logged slate is scored anew: the user's history by the function that made the training
rows, features from the release's tables by ingestion's own encoding, scores by the
release's `ranking`. What a model was told, where that was logged, is compared feature by
feature.
"""

import collections
import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.ingestion import encoding
from schemas.decisions import Decision
from schemas.features import HISTORY, ITEM_ID, USER_ID, FeatureCatalog, RawColumn, Side
from schemas.history import history_at

SCORE = "score"
MAX_SHOWN = 20  # differences that are told in full
_BATCH = 4096


@dataclasses.dataclass(frozen=True)
class PastEvent:
    """A positive event since the release's log.

    Attributes:
        timestamp: ms.
        item_id: of the item.
        was_known: whether it was in the server's log when the slate was chosen.
    """

    timestamp: int
    item_id: str
    was_known: bool


@dataclasses.dataclass(frozen=True)
class ServedRequest:
    """One slate as it was served.

    Attributes:
        decision: what was shown.
        since: the user's positive events since the release's log, as ingestion orders
            them.
        inputs: what the model was told, one row by input name; None where that was not
            logged.
    """

    decision: Decision
    since: Sequence[PastEvent]
    inputs: dict[str, np.ndarray] | None


@dataclasses.dataclass(frozen=True)
class ReleaseFacts:
    """What a release knows.

    Attributes:
        catalog: the declared features.
        profiles: a row a user, as `profiles_schema`.
        items: a row an item.
        rank: [N] serialized tf.Examples -> [N] scores.
    """

    catalog: FeatureCatalog
    profiles: pa.Table
    items: pa.Table
    rank: Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Difference:
    """Where a request as served and as built offline differ."""

    request_id: str
    user_id: str
    what: str  # `history_item_ids`, a feature's key, or `score`
    served: str
    offline: str


@dataclasses.dataclass
class SkewReport:
    """What was compared, and what differs.

    Attributes:
        requests: slates that were scored anew.
        with_inputs: of them, those of which it is logged what the model was told.
        items: scores compared.
        late: slates before which an event happened that came after them: training will
            see it, the server could not.
        unknown_items: shown items that the release's table does not have.
        largest_score_difference: over all items.
        counts: requests that differ, by what differs.
        differences: some of them.
    """

    requests: int = 0
    with_inputs: int = 0
    items: int = 0
    late: int = 0
    unknown_items: int = 0
    largest_score_difference: float = 0.0
    counts: collections.Counter[str] = dataclasses.field(
        default_factory=collections.Counter
    )
    differences: list[Difference] = dataclasses.field(default_factory=list)

    @property
    def agrees(self) -> bool:
        """Whether nothing differs."""
        return not self.counts and not self.unknown_items

    def add(self, difference: Difference) -> None:
        """Notes a difference."""
        self.counts[difference.what] += 1
        if len(self.differences) < MAX_SHOWN:
            self.differences.append(difference)


def find_skew(
    requests: Sequence[ServedRequest],
    facts: ReleaseFacts,
    report: SkewReport,
    tolerance: float = 1e-5,
) -> None:
    """Compares slates that one release answered with what offline comes to.

    Args:
        requests: the slates.
        facts: of the release.
        report: receives what is found.
        tolerance: how far a score may lie from its like.
    """
    columns = facts.catalog.columns(Side.USER, Side.CONTEXT)
    context_columns = facts.catalog.columns(Side.CONTEXT)
    users = _user_rows(requests, facts)
    contexts = _context_rows(requests, facts.catalog)
    values = [
        {column.key: user[column.name] for column in facts.catalog.columns(Side.USER)}
        | {column.key: context[column.name] for column in context_columns}
        for user, context in zip(users.to_pylist(), contexts.to_pylist(), strict=True)
    ]
    histories = []
    for request, profile in zip(requests, users.to_pylist(), strict=True):
        known = [event for event in request.since if event.was_known]
        past = profile[HISTORY] or []
        length = facts.catalog.history_length
        history = history_of(past, known, request.decision.timestamp, length)
        everything = history_of(past, request.since, request.decision.timestamp, length)
        report.late += history != everything
        histories.append(history)
    report.requests += len(requests)
    for request, history, offline in zip(requests, histories, values, strict=True):
        if request.inputs is not None:
            report.with_inputs += 1
            _compare_inputs(request, history, offline, columns, report)
    queries = encoding.concat(
        encoding.text_entries(USER_ID, users[USER_ID].combine_chunks()),
        encoding.list_entries(HISTORY, pa.array(histories, pa.list_(pa.string()))),
        encoding.feature_entries(users, facts.catalog.columns(Side.USER)),
        encoding.feature_entries(contexts, facts.catalog.columns(Side.CONTEXT)),
    )
    _compare_scores(requests, queries, facts, report, tolerance)


def history_of(
    past: Sequence[str], since: Sequence[PastEvent], at: int, length: int
) -> list[str]:
    """Returns the history of a row made of an event at a moment.

    Args:
        past: the history at the end of the release's log, the oldest first.
        since: positive events at or after that end, by time.
        at: ms.
        length: the most items a history holds.
    """
    times = np.array([event.timestamp for event in since], np.int64)
    start, end = history_at(times, np.ones(len(since), bool), at, length)
    new = [event.item_id for event in since[start:end]]
    return [*past, *new][-length:]


def _compare_inputs(
    request: ServedRequest,
    history: list[str],
    offline: dict[str, object],
    columns: Sequence[RawColumn],
    report: SkewReport,
) -> None:
    """Notes what the model was told other than offline."""
    assert request.inputs is not None
    decision = request.decision

    def compare(what: str, served: object, expected: object) -> None:
        if served != expected:
            report.add(
                Difference(
                    decision.request_id,
                    decision.user_id,
                    what,
                    _short(served),
                    _short(expected),
                )
            )

    told = [item.decode() for item in request.inputs[HISTORY][0] if item]
    compare(HISTORY, told, history)
    for column in columns:
        if column.key not in request.inputs:
            compare(column.key, "no such input", _plain(column, offline[column.key]))
            continue
        served = request.inputs[column.key][0]
        value = served.tolist() if isinstance(served, np.ndarray) else served
        compare(column.key, _plain(column, value), _plain(column, offline[column.key]))


def _compare_scores(
    requests: Sequence[ServedRequest],
    queries: pa.Array,
    facts: ReleaseFacts,
    report: SkewReport,
    tolerance: float,
) -> None:
    """Notes slates whose scores are not those of the rows."""
    shown = [
        (place, item)
        for place, request in enumerate(requests)
        for item in request.decision.slate
    ]
    ids = pa.array([item.item_id for _, item in shown], pa.string())
    known = pc.index_in(ids, value_set=facts.items[ITEM_ID].combine_chunks())
    is_known = np.asarray(known.is_valid())
    report.unknown_items += int(np.count_nonzero(~is_known))
    items = facts.items.take(known)
    rows = encoding.examples(
        encoding.concat(
            queries.take(pa.array([place for place, _ in shown], pa.int64())),
            encoding.text_entries(ITEM_ID, ids),
            encoding.feature_entries(items, facts.catalog.columns(Side.ITEM)),
        )
    )
    examples = np.array(rows.to_pylist(), object)
    scores = [
        facts.rank(examples[begin : begin + _BATCH])
        for begin in range(0, len(examples), _BATCH)
    ]
    offline = np.concatenate([np.zeros(0), *scores])
    served = np.array([item.score for _, item in shown], np.float64)
    apart = np.where(is_known, np.abs(served - offline), 0.0)
    report.items += len(shown)
    report.largest_score_difference = float(
        max(report.largest_score_difference, apart.max(initial=0.0))
    )
    # NaN is within no tolerance.
    wrong: dict[int, int] = {}
    for row in np.flatnonzero(~(apart <= tolerance)).tolist():
        wrong.setdefault(shown[row][0], row)
    for place, row in wrong.items():
        decision = requests[place].decision
        item = shown[row][1].item_id
        report.add(
            Difference(
                decision.request_id,
                decision.user_id,
                SCORE,
                f"{served[row]:.7f} of {item}",
                f"{offline[row]:.7f}",
            )
        )


def _user_rows(requests: Sequence[ServedRequest], facts: ReleaseFacts) -> pa.Table:
    """Returns the profile of each request's user; nulls but for the id of a new one."""
    ids = pa.array([request.decision.user_id for request in requests], pa.string())
    known = facts.profiles[USER_ID].combine_chunks()
    rows = facts.profiles.take(pc.index_in(ids, value_set=known)).combine_chunks()
    return rows.set_column(rows.schema.get_field_index(USER_ID), USER_ID, ids)


def _context_rows(
    requests: Sequence[ServedRequest], catalog: FeatureCatalog
) -> pa.Table:
    """Returns the context of each request, in the types of an ingested log."""
    arrays = {}
    for column in catalog.columns(Side.CONTEXT):
        one = pa.float64() if column.is_number else pa.string()
        values = [request.decision.context.get(column.name) for request in requests]
        arrays[column.name] = pa.array(values, pa.list_(one) if column.shape else one)
    # A table without a column has no rows.
    return pa.table({"": pa.nulls(len(requests)), **arrays})


def _plain(column: RawColumn, value: object) -> object:
    """Returns a value as both sides can say it; None where it is missing."""
    values = value if isinstance(value, list) else [value]
    if column.is_number:
        numbers = [np.nan if x is None else float(np.float32(x)) for x in values]
        if column.is_list:
            numbers = [x for x in numbers if np.isfinite(x)]
        found: list = numbers if np.isfinite(numbers).all() else []
    else:
        texts = [x.decode() if isinstance(x, bytes) else x for x in values]
        found = [x for x in texts if x]
    if column.shape:
        return found or None
    return found[0] if found else None


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 300 else f"{text[:140]} ... {text[-140:]}"
