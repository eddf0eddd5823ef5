"""No row knows what happened at its moment or after: random logs against the oracle.

Two checks that know nothing of each other. `check_log` compares every row with the slow
oracle, which is handed the past alone. `check_travel` needs no oracle for the features:
it rewrites what happens from some moment on, and no row up to then may change.
"""

import dataclasses
import pathlib
import random
import tempfile

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.components import ingestion_leaks as leaks
from tests.components import ingestion_logs as logs
from tests.components import ingestion_oracle as oracle
from tests.components import ingestion_runs as runs
from tests.components import ingestion_world as world
from tests.components.ingestion_account import LogFile, account

OUTCOME = ("label", "reward", "value")
SLOW = {"deadline": None, "suppress_health_check": list(HealthCheck)}


def check_log(log, replay=runs.replayed):
    """The checker: what comes out is what the oracle says, row for row."""
    done = account(log.files, log.declared)
    as_of = (done.accepted, log.declared, done.closed_at)
    outcome = replay(log)
    assert sorted(outcome.dead) == done.dead
    oracle.check_rows(outcome.rows, oracle.replay(*as_of))
    assert outcome.profiles == oracle.profiles(*as_of)


@hypothesis_settings(max_examples=150, **SLOW)
@given(log=logs.logs())
def test_every_row_equals_the_oracle(log):
    check_log(log)


# --- Time travel ------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Travel:
    """A log, a moment, and the same log with what came from then on rewritten."""

    before: logs.Log
    after: logs.Log
    cut: int
    changed: frozenset  # ids of events that are not the same


@st.composite
def travels(draw):
    events = draw(logs.event_lists(sizes=(3, 10)))
    declared = dataclasses.replace(
        draw(logs.declarations()), closed_at=logs.MIDNIGHT + logs.DAY_MS
    )
    moments = sorted({event["timestamp"] for event in events})
    shift = draw(st.sampled_from((0, 0, 1, world.MINUTE, logs.WINDOW)))
    cut = draw(st.sampled_from(moments)) + shift
    unsettled = unsettled_responses(events, declared, cut)
    acts = draw(st.lists(st.integers(0, 15), min_size=5, max_size=5))
    rewritten, changed = [], set()
    for number, event in enumerate(events):
        act = acts[number % len(acts)]
        other = event
        if event["timestamp"] >= cut:
            other = _rewritten(event, act)
        elif event["event_id"] in unsettled:
            other = _answered_otherwise(event, act)
        if other != event:
            changed.add(event["event_id"])
        if other is not None:
            rewritten.append(other)
    for number, event in enumerate(draw(st.lists(logs.records(), max_size=3))):
        name = f"new{number}"
        moment = cut + abs(event["timestamp"] - logs.MIDNIGHT)
        rewritten.append(event | {"event_id": name, "timestamp": moment})
        changed.add(name)
    shards = draw(st.integers(1, 2))
    before = logs.Log(declared, [LogFile(events)], shards)
    after = logs.Log(declared, [LogFile(rewritten)], shards)
    return Travel(before, after, cut, frozenset(changed))


def unsettled_responses(events, declared, cut):
    """Returns the ids of joined responses whose impression's window ends from `cut` on."""
    capped = oracle.replay(events, declared, declared.closed_at).capped
    kept = [event for event in events if event["event_id"] not in capped]
    answers = {
        event["event_id"]: oracle.answer(event, kept, declared)
        for event in kept
        if "answers" in declared.kind(event)
    }
    return {
        name
        for name, (fate, impression) in answers.items()
        if fate == "joined" and declared.known_at(impression) >= cut
    }


def _rewritten(event, act):
    """Keeps an event, deletes it, or makes it another one, at its moment or later."""
    if act >= 8:
        return event
    return (
        None,
        None,
        event | {"item_id": "i2", "device": "rewritten"},
        event | {"event_type": "rating", "value": 4.0},
        event | {"event_type": "mute", "request_id": "r1"},
        event | {"timestamp": event["timestamp"] + logs.WINDOW},
        event | {"user_id": "u1"},
        event | {"value": 5.0 - event["value"]},
    )[act]


def _answered_otherwise(response, act):
    """Changes what a response says, and nothing that histories or sessions see."""
    if response["event_type"] == "click" and act % 2:
        said = {"event_type": "like", "value": 1.0}
    elif response["event_type"] == "like" and act % 2:
        said = {"value": 5.0 - response["value"]}
    else:
        said = {"request_id": None}
    return response | said | {"device": "rewritten"}


def check_travel(travel, replay=runs.replayed):
    """The checker: up to the cut no row comes, goes or has another feature."""
    before, after = (
        known_by(replay(log), travel) for log in (travel.before, travel.after)
    )
    for name in before.keys() | after.keys():
        if name in before and name in after:
            assert before[name] == after[name]
        else:
            # At the cut itself the order of ids decides who is over a cap.
            row = before.get(name) or after[name]
            assert row["timestamp"] == [travel.cut], f"{name} is in one of the two"


def known_by(outcome, travel):
    """Returns (examples, event_id) -> features of the rows up to the cut.

    A negative's item is left out: the items of its request are not drawn, and those are
    met later.
    """
    out = {}
    for (examples, _), found in outcome.rows.items():
        for name, row in found.items():
            event_id, _, negative = name.partition("~")
            if row["timestamp"][0] > travel.cut or event_id in travel.changed:
                continue
            out[examples, name] = {
                key: value
                for key, value in row.items()
                if key not in OUTCOME and not (negative and key.startswith("item_"))
            }
    return out


@hypothesis_settings(max_examples=100, **SLOW)
@given(travel=travels())
def test_no_row_changes_with_what_comes_later(travel):
    check_travel(travel)


@hypothesis_settings(max_examples=30, **SLOW)
@given(travel=travels())
def test_the_oracle_passes_the_test_of_time_travel(travel):
    def by_oracle(log):
        done = account(log.files, log.declared)
        found = oracle.replay(done.accepted, log.declared, done.closed_at)
        return runs.Outcome(found.rows, done.dead, {})

    check_travel(travel, by_oracle)


# --- Planted leaks ----------------------------------------------------------------------

SEEN_IN_FEATURES = (
    leaks.same_basket,
    leaks.basket_lines_above,
    leaks.next_event,
    leaks.late_join,
    leaks.label_at_window_end,
    leaks.label_of_all_time,
    leaks.session_end,
    leaks.cap_by_whole_day,
    leaks.label_in_context,
    leaks.context_of_the_response,
    leaks.history_of_the_response,
)
SEEN_BY_ORACLE_ALONE = (
    leaks.own_item,
    leaks.window_without_end,
    leaks.open_impressions,
    leaks.split_by_rank,
    leaks.negatives_among_the_seen,
)


def check_is_caught(check, strategy, replay):
    """Raises unless the check finds fault with `replay` on some random log."""

    @hypothesis_settings(
        max_examples=400, phases=[Phase.generate], derandomize=True, **SLOW
    )
    @given(strategy)
    def property_of(case):
        check(case, replay)

    with pytest.raises(AssertionError):
        property_of()


@pytest.mark.parametrize("leak", SEEN_IN_FEATURES + SEEN_BY_ORACLE_ALONE)
def test_comparison_with_the_oracle_catches(monkeypatch, leak):
    check_is_caught(check_log, logs.logs(), leak(monkeypatch))


@pytest.mark.parametrize("leak", SEEN_IN_FEATURES)
def test_time_travel_catches(monkeypatch, leak):
    check_is_caught(check_travel, travels(), leak(monkeypatch))


# --- Negatives --------------------------------------------------------------------------


def plays(number, **changes):
    played = {"event_type": "play", "device": "tv", "timestamp": logs.MIDNIGHT}
    return [
        world.event(f"p{row}", user_id=f"v{row}", **played | changes)
        for row in range(number)
    ]


def drawn(events, num_shards=1):
    """Returns event_id -> item of the sampled negatives."""
    log = logs.Log(world.FULL, [LogFile(events)], num_shards)
    return {
        name: row["item_id"][0]
        for (examples, _), found in runs.replayed(log).rows.items()
        for name, row in found.items()
        if "~" in name
    }


def check_negatives_are_uniform(draw):
    """600 draws of the 5 items other than i0: each within 5 deviations of 120."""
    items = list(draw(plays(300)).values())
    counts = {item: items.count(item) for item in world.FULL_ITEMS}
    assert counts.pop("i0") == 0
    assert sum(counts.values()) == 600
    deviation = (600 * 0.2 * 0.8) ** 0.5
    assert all(abs(count - 120) < 5 * deviation for count in counts.values()), counts


def test_negatives_are_drawn_evenly():
    check_negatives_are_uniform(drawn)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda events: dict.fromkeys(drawn(events), "i1"),
        lambda events: {k: "i2" if v == "i1" else v for k, v in drawn(events).items()},
        lambda events: {k: "i0" if v == "i1" else v for k, v in drawn(events).items()},
        lambda events: {k: v for k, v in drawn(events).items() if k.endswith("~1")},
    ],
    ids=["one item", "never i1", "its own item", "too few"],
)
def test_uneven_negatives_are_rejected(wrong):
    with pytest.raises(AssertionError):
        check_negatives_are_uniform(wrong)


def test_negatives_hang_on_the_event_id_alone():
    whole = drawn(plays(40))
    assert drawn(plays(40), num_shards=3) == whole
    company = [world.event("x", user_id="v1", event_type="rating", value=4.0)]
    later = drawn([*company, *plays(20, timestamp=logs.MIDNIGHT + 1, device=None)])
    assert later == {name: whole[name] for name in later}
    assert len(later) == 40


# --- On a runner ------------------------------------------------------------------------


def write(folder, log):
    """Writes the log as files; returns the settings that read them."""
    world.write(folder, [], items=log.declared.items)
    spans = sorted({file.span for file in log.files})
    pattern = "{SPAN}" if spans[-1].isdecimal() else "{YYYY-MM-DD}"
    path = f"{folder}/span-{pattern}/*.jsonl" if spans[-1] else f"{folder}/*.jsonl"
    replayed = None
    for number, file in enumerate(log.files):
        if spans[-1] and not file.span:
            replayed, place = f"{folder}/replayed.jsonl", folder / "replayed.jsonl"
        else:
            place = folder / (f"span-{file.span}" if file.span else "")
            place.mkdir(exist_ok=True)
            place /= f"part-{number}.jsonl"
        place.write_text("".join(world.line_of(record) for record in file.records))
    (folder / "events.jsonl").unlink()
    return world.settings_of(
        log.declared,
        folder,
        events={"path": path, "replayed": replayed},
        shards=log.num_shards,
    )


def check_run(folder, log):
    """The checker: the artifacts of a run hold the oracle's rows and profiles."""
    done = account(log.files, log.declared)
    runs.run(folder, write(folder, log))
    expected = oracle.replay(done.accepted, log.declared, done.closed_at)
    oracle.check_rows(runs.written_rows(folder / "out"), expected)
    known = runs.profiles_of(pq.read_table(folder / "out/profiles"))
    assert known == oracle.profiles(done.accepted, log.declared, done.closed_at)


def check_runs(log):
    with tempfile.TemporaryDirectory() as folder:
        check_run(pathlib.Path(folder), log)


@pytest.mark.component
@hypothesis_settings(max_examples=8, phases=[Phase.generate], **SLOW)
@given(log=logs.logs(sizes=(20, 40)))
def test_whole_runs_equal_the_oracle(log):
    check_runs(log)


@pytest.mark.component
@pytest.mark.parametrize(
    "leak", [None, leaks.same_basket, leaks.late_join, leaks.session_end]
)
def test_whole_runs_that_leak_are_caught(monkeypatch, leak):
    chance = random.Random(1)
    events = [logs.record(chance) | {"event_id": f"e{row}"} for row in range(80)]
    declared = dataclasses.replace(world.FULL, session_gap_ms=world.MINUTE)
    log = logs.Log(declared, [LogFile(events)], 2)
    if leak is None:  # so that it is the leak that is caught
        check_runs(log)
        return
    leak(monkeypatch)
    with pytest.raises(AssertionError):
        check_runs(log)
