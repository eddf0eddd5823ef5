"""What a server shows and users answer is a log that ingestion reads back as it was."""

import datetime

import pyarrow.parquet as pq
import pytest

from components.ingestion.settings import DataSettings
from schemas.decisions import Decision, ShownItem
from schemas.events import PROFILES_AS_OF
from serving.event_store import EventStore
from tests.components import ingestion_runs as runs

pytestmark = pytest.mark.component

START, MINUTE = 1_700_000_000_000, 60_000
CLOSED_AT = datetime.datetime.fromtimestamp(START / 1000, datetime.UTC)
CLOSED_AT += datetime.timedelta(hours=1)  # every response window is over by then
PROPENSITIES = (0.5, 0.25, 0.125)


def shown(number: int) -> Decision:
    """Returns a slate of three items, a minute after the one before."""
    return Decision(
        request_id=f"r{number}",
        timestamp=START + number * MINUTE,
        user_id=f"u{number % 2}",
        slate=tuple(
            ShownItem(item_id=f"i{number + place}", score=0.5, propensity=propensity)
            for place, propensity in enumerate(PROPENSITIES)
        ),
        policy="softmax",
        release=17,
        seed=number,
        request_hash="abc",
        context={"device": "web"},
    )


def click(decision: Decision, place: int) -> dict:
    return {
        "event_id": f"{decision.request_id}-click",
        "timestamp": decision.timestamp + 1000,
        "user_id": decision.user_id,
        "item_id": decision.slate[place].item_id,
        "event_type": "click",
        "request_id": decision.request_id,
    }


@pytest.fixture(scope="module")
def ingested(tmp_path_factory):
    """Returns (folder, decisions, summary) of a log that came out of an event store."""
    folder = tmp_path_factory.mktemp("log")
    store = EventStore(folder / "events.db")
    decisions = [shown(number) for number in range(20)]
    for decision in decisions:
        store.append(decision.events())
        store.append(decision.events())  # the acknowledgement was lost
    store.append([click(decision, 1) for decision in decisions[::2]])
    store.write_segments(folder, most=25)
    settings = DataSettings.model_validate(
        {
            "events": {"path": f"{folder}/events-*.jsonl"},
            "event_types": {
                "impression": {"reward": 0.5, "positive": False, "label": 0.0},
                "click": {"reward": 1.0, "label": 1.0, "answers": "impression"},
            },
            "closed_at": CLOSED_AT.isoformat(),
            "shards": 2,
        }
    )
    summary, _ = runs.run(folder, settings)
    return folder, decisions, summary


def test_every_shown_item_is_an_impression_with_its_propensity(ingested):
    folder, decisions, summary = ingested
    events = summary.sources["events"]
    assert (events.read, events.accepted) == (70, 70)
    rows = {
        name: row
        for (examples, _), split in runs.written_rows(folder / "out").items()
        if examples == "impressions"
        for name, row in split.items()
    }
    assert len(rows) == 60
    for number, decision in enumerate(decisions):
        for place, item in enumerate(decision.slate):
            row = rows[f"{decision.request_id}/{place}"]
            assert row["item_id"] == [item.item_id]
            assert row["position"] == [place]
            assert row["propensity"] == [item.propensity]
            assert row["request_id"] == [decision.request_id]
            assert row["label"] == [float(number % 2 == 0 and place == 1)]


def test_profiles_say_of_which_moment_they_are(ingested):
    folder, _, _ = ingested
    for file in (folder / "out" / "profiles").glob("*.parquet"):
        assert int(pq.read_schema(file).metadata[PROFILES_AS_OF]) == START + 60 * MINUTE
