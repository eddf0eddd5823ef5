"""Checks what a root's server showed against the rows that training would make of it."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from components.serving_skew import (
    PastEvent,
    ReleaseFacts,
    ServedRequest,
    SkewReport,
    find_skew,
)
from pipeline.config import TandemConfig
from pipeline.layout import Layout
from schemas.decisions import Decision
from schemas.features import FeatureCatalog
from serving.decision_log import DecisionLog, LoggedDecision, asked_requests
from serving.profiles import snapshot_of
from serving.release_layout import (
    ITEMS,
    PROFILES,
    list_releases,
    model_dir,
    release_dir,
)
from serving.release_tables import ReleaseTables
from serving.saved_model import SavedModel

_RANKING = "ranking"
_DEFAULT = "serving_default"


class SkewError(Exception):
    """There is nothing to check, and what to do about it."""


def check_skew(
    root: Path, most: int, request_logs: Sequence[Path] = ()
) -> tuple[SkewReport, int]:
    """Scores the latest slates of a root's server anew.

    Args:
        root: the root folder.
        most: how many slates, the latest.
        request_logs: files of what the model was asked, beside those of the root.

    Returns:
        The report, and how many slates were left out as their release is gone.

    Raises:
        SkewError: if nothing was shown, or all of it by releases that are gone.
    """
    layout = Layout(root)
    if not layout.event_store.is_file() or not layout.config.is_file():
        raise SkewError(
            f"Nothing was shown from {root}. Serve it by `tandem serve --root {root} "
            "--log-requests 0.1`, and ask its HTTP API."
        )
    config = TandemConfig.model_validate_json(layout.config.read_text())
    log = DecisionLog(layout.event_store)
    try:
        decisions = log.latest(most)
        if not decisions:
            raise SkewError(
                f"No slate is in {layout.event_store}. Ask the HTTP API of "
                f"`tandem serve --root {root}` for some first."
            )
        asked = asked_requests(
            [*sorted(layout.request_log.glob("*.tfrecord")), *request_logs]
        )
        report, num_gone = SkewReport(), 0
        for release, shown in _by_release(decisions).items():
            if release not in list_releases(layout.serving):
                num_gone += len(shown)
                continue
            tables = ReleaseTables(release, release_dir(layout.serving, release))
            as_of = snapshot_of(tables).as_of
            types = [n for n, t in config.data.event_types.items() if t.positive]
            requests = []
            for one in shown:
                found = asked.get((one.decision.user_id, one.decision.seed))
                inputs = found.inputs if found else None
                since = _since(log, one, types, as_of)
                requests.append(ServedRequest(one.decision, since, inputs))
            _check_release(layout, tables, requests, config.features, report)
    finally:
        log.close()
    if not report.requests:
        raise SkewError(
            f"All {num_gone} slates are of releases that are gone; keep more of them by "
            "`push.keep_releases`, or check sooner."
        )
    return report, num_gone


def _check_release(
    layout: Layout,
    tables: ReleaseTables,
    requests: Sequence[ServedRequest],
    catalog: FeatureCatalog,
    report: SkewReport,
) -> None:
    users = {request.decision.user_id for request in requests}
    profiles = pq.read_table(
        tables.directory / PROFILES, filters=[("user_id", "in", users)]
    )
    items = pq.read_table(tables.directory / ITEMS)
    model = SavedModel(model_dir(layout.serving, _RANKING, tables.version))
    try:

        def rank(examples):
            return model.run(_DEFAULT, {"examples": examples})["scores"]

        find_skew(requests, ReleaseFacts(catalog, profiles, items, rank), report)
    finally:
        model.close()


def _since(
    log: DecisionLog, shown: LoggedDecision, types: Sequence[str], as_of: int
) -> list[PastEvent]:
    return [
        PastEvent(event.timestamp, event.item_id, event.number < shown.number)
        for event in log.past(shown.decision.user_id, types)
        if event.timestamp >= as_of
    ]


def _by_release(decisions: Sequence[LoggedDecision]) -> dict[int, list[LoggedDecision]]:
    found: dict[int, list[LoggedDecision]] = {}
    for one in decisions:
        decision: Decision = one.decision
        found.setdefault(decision.release, []).append(one)
    return found
