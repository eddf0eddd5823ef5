"""The slow oracle itself, against cases worked by hand: a sentence of the rules each."""

import dataclasses

import pytest

from tests.components import ingestion_oracle as oracle
from tests.components import ingestion_world as world
from tests.components.ingestion_account import DAY_MS, Declared, LogFile, account

# A window of 10 ms, and one type of each sort.
TYPES = {
    "shown": {"reward": 0.5, "positive": False, "label": 0.0},
    "mute": {"reward": 0.0, "positive": False, "label": 0.0, "answers": "shown"},
    "click": {"reward": 1.0, "positive": True, "label": 1.0, "answers": "shown"},
    "rate": {"reward": 2.0, "positive": True, "at_least": 4.0},
}
DECLARED = Declared(TYPES, window_ms=10, closed_at=1000)


def event(event_id, timestamp, event_type="click", **changes):
    plain = {"user_id": "u", "item_id": "i", "request_id": "r", "value": None}
    return {
        **plain,
        "event_id": event_id,
        "timestamp": timestamp,
        "event_type": event_type,
        **changes,
    }


def replay(*events, declared=DECLARED):
    done = account([LogFile(list(events))], declared)
    return oracle.replay(done.accepted, declared, done.closed_at)


def rows(replayed, examples):
    return {
        name: row
        for (which, _), found in replayed.rows.items()
        for name, row in found.items()
        if which == examples
    }


def outcomes(*events, **changes):
    """Returns the labelled rows' (label, reward, value), [] where absent."""
    declared = dataclasses.replace(DECLARED, **changes)
    return {
        name: tuple(row.get(key, []) for key in ("label", "reward", "value"))
        for name, row in rows(replay(*events, declared=declared), "impressions").items()
    }


def column(key, *events, examples="interactions", **changes):
    declared = dataclasses.replace(DECLARED, **changes)
    found = rows(replay(*events, declared=declared), examples)
    return {name: row[key] for name, row in found.items()}


SHOWN = event("s", 100, "shown")


@pytest.mark.parametrize(
    ("response", "fate", "label"),
    [
        (event("c", 100), "joined", 1.0),  # at the same moment
        (event("a", 100), "joined", 1.0),  # ... whatever the ids' order
        (event("c", 110), "joined", 1.0),  # at the very end of the window
        (event("c", 111), "late", 0.0),
        (event("c", 99), "early", 0.0),
        (event("c", 105, item_id="j"), "orphan", 0.0),
        (event("c", 105, user_id="v"), "orphan", 0.0),
        (event("c", 105, request_id="q"), "orphan", 0.0),
        (event("c", 105, request_id=None), "orphan", 0.0),
        (event("c", 105, request_id=""), "orphan", 0.0),
    ],
)
def test_a_response_has_one_fate(response, fate, label):
    shown = dict(SHOWN)
    if not response["request_id"]:  # no request is equal to no other, itself included
        shown["request_id"] = response["request_id"]
    assert replay(shown, response).fates == {response["event_id"]: fate}
    assert outcomes(shown, response)["s"][0] == [label]
    # A response stays an event: it gives its row whatever its fate.
    assert column("label", shown, response) == {response["event_id"]: [1.0]}


def test_the_latest_impression_not_after_the_response_is_answered():
    again = event("s2", 106, "shown")
    assert outcomes(SHOWN, again, event("c", 107)) == {
        "s": ([0.0], [0.5], []),
        "s2": ([1.0], [1.0], []),
    }
    # The latest of two at one moment is that of the greater id.
    twin = event("t", 100, "shown")
    assert outcomes(SHOWN, twin, event("c", 107))["s"][0] == [0.0]
    assert outcomes(SHOWN, twin, event("c", 107))["t"][0] == [1.0]
    # Late for the latest is late, though no other is in the way.
    assert replay(SHOWN, again, event("c", 117)).fates == {"c": "late"}


def test_the_type_declared_first_counts_then_the_earliest():
    click, mute = event("c", 101), event("m", 109, "mute")
    assert outcomes(SHOWN, click, mute)["s"] == ([0.0], [0.0], [])
    first = event("c1", 103, value=1.0)
    assert outcomes(SHOWN, event("c2", 104, value=9.0), first)["s"][2] == [1.0]
    # A counting response without a value leaves the impression's own.
    shown = {**SHOWN, "value": 7.0}
    assert outcomes(shown, click, event("c2", 104, value=9.0))["s"][2] == [7.0]


def test_an_impression_is_open_until_its_window_is_over():
    assert replay(event("s", 989, "shown")).open == set()
    assert replay(event("s", 990, "shown"), event("c", 995)).open == {"s"}
    assert outcomes(event("s", 990, "shown"), event("c", 995)) == {}
    # Without a declared end it is 1 ms after the last event.
    found = replay(
        SHOWN, event("x", 110), declared=dataclasses.replace(DECLARED, closed_at=None)
    )
    assert found.open == set()
    found = replay(
        SHOWN, event("x", 109), declared=dataclasses.replace(DECLARED, closed_at=None)
    )
    assert found.open == {"s"}


def test_history_is_strictly_earlier_positive_events_latest_last():
    basket = [
        event("b", 1, item_id="i1"),
        event("a", 1, item_id="i2"),
        event("m", 1, "mute", item_id="no"),
        event("c", 2, item_id="i3"),
        event("d", 3, item_id="i4"),
        event("e", 4, "rate", item_id="i5", value=1.0),
        event("o", 2, user_id="v", item_id="i6"),
    ]
    assert column("history_item_ids", *basket) == {
        "a": [],
        "b": [],
        "c": ["i2", "i1"],
        "d": ["i2", "i1", "i3"],
        "e": ["i1", "i3", "i4"],
        "o": [],
    }


def test_labelled_row_has_the_impressions_history_not_the_responses():
    log = [event("x", 50, "rate", item_id="z", value=5.0), SHOWN, event("c", 105)]
    found = column("history_item_ids", *log, examples="impressions")
    assert found == {"x": [], "s": ["z"]}


def test_a_label_is_known_after_its_window_alone():
    log = [SHOWN, event("c", 101), event("x", 110, "rate", value=0.0)]
    at = {moment: event(f"p{moment}", moment, item_id="z") for moment in (110, 111)}
    means = column("user_mean_label", *log, *at.values())
    assert means["c"] == means["x"] == means["p110"] == [0.5]
    # By 111 both the impression (label 1) and the rating (0) are known.
    assert means["p111"] == [pytest.approx(2.5 / 5)]
    means = column("user_mean_label", SHOWN, event("c", 101), at[111])
    assert means["p111"] == [2.5 / 4]


def test_a_late_response_never_moves_the_mean():
    log = [SHOWN, event("c", 111), event("p", 200)]
    assert column("user_mean_label", *log)["p"] == [1.5 / 4]


def test_responses_are_no_labels_of_their_own():
    log = [event("c", 1, request_id=None), event("m", 2, "mute"), event("p", 9)]
    assert column("user_mean_label", *log)["p"] == [0.5]
    assert outcomes(*log) == {}


def test_a_session_starts_after_more_than_the_gap():
    log = [event("a", 10), event("m", 15, "mute"), event("b", 20), event("c", 26)]
    starts = column("session_start", *log, session_gap_ms=5)
    assert starts == {"a": [10], "b": [10], "c": [26]}
    declared = dataclasses.replace(DECLARED, session_gap_ms=5)
    assert replay(*log, declared=declared).sessions == {("u", 10), ("u", 26)}
    assert "session_start" not in rows(replay(*log), "interactions")["a"]


def test_over_the_cap_an_event_is_nothing_but_counted():
    declared = dataclasses.replace(DECLARED, daily_cap=2, closed_at=3 * DAY_MS)
    day = [
        event("b", 5, "shown"),
        event("c", 5),  # the second in order, by its id
        event("d", 5, item_id="j"),
        event("e", 9, "mute"),
        event("f", DAY_MS - 1, "rate", value=5.0),
    ]
    after = [event("g", DAY_MS), event("v", 7, user_id="v")]
    found = replay(*day, *after, declared=declared)
    assert found.capped == {"d", "e", "f"}
    assert found.fates == {"c": "joined", "g": "late", "v": "orphan"}
    labelled = rows(found, "impressions")
    assert {name: row["label"] for name, row in labelled.items()} == {"b": [1.0]}
    made = rows(found, "interactions")
    assert {name: row["history_item_ids"] for name, row in made.items()} == {
        "c": [],
        "g": ["i"],
        "v": [],
    }
    assert sum(found.events.values()) == 4


def test_negatives_share_all_but_item_and_outcome():
    types = {
        "play": {"reward": 1, "positive": True, "label": 1, "sampled_negatives": 2}
    }
    items = {name: {"kind": name} for name in ("i", "j", "k", "l", "m")}
    declared = dataclasses.replace(
        DECLARED, event_types=types, items=items, context=("hour",)
    )
    log = [
        event("p", 5, "play", request_id="r", item_id="i", value=3.0, hour=7.0),
        event("q", 5, "play", request_id=None, item_id="j"),
        event("x", 9, "play", request_id="r", item_id="k"),
        event("y", 9, "play", request_id="r", item_id="l", user_id="v"),
    ]
    sampled = replay(*log, declared=declared).sampled
    assert sampled["p"].excluded == {"i", "j", "k"}
    assert sampled["q"].excluded == {"i", "j"}
    assert sampled["y"].excluded == {"l"}
    assert sampled["p"].number == 2
    assert sampled["p"].row == {
        "timestamp": [5],
        "user_id": ["u"],
        "event_type": ["play"],
        "history_item_ids": [],
        "user_mean_label": [0.5],
        "context_hour": [7.0],
        "label": [0.0],
        "reward": [0.0],
    }
    found = {
        key: dict(rows) for key, rows in replay(*log, declared=declared).rows.items()
    }
    with pytest.raises(AssertionError, match="has no negative 1"):
        oracle.check_rows(found, replay(*log, declared=declared))


def test_without_an_items_table_the_catalogue_is_what_was_accepted():
    declared = dataclasses.replace(DECLARED, items=None, daily_cap=1)
    log = [event("a", 1, item_id="x"), event("b", 2, item_id="y")]
    assert set(replay(*log, declared=declared).catalogue) == {"x", "y"}


def test_splits_go_by_rank_and_never_part_a_moment():
    moments = (1, 2, 2, 2, 2, 3, 3, 3, 3)
    log = [event(f"t{row}", moment) for row, moment in enumerate(moments)]
    found = replay(*log)
    assert found.events == {"train": 1, "eval": 4, "test": 4}


def test_the_earliest_copy_stays_and_a_record_has_one_fate():
    files = [
        LogFile([event("a", 9), None, event("b", 4, "unheard of")], "17"),
        LogFile([event("a", 8, item_id="kept"), event("c", 1000)], "18"),
        LogFile([event("a", 8, item_id="replayed")]),
    ]
    done = account(files, DECLARED)
    assert [kept["item_id"] for kept in done.accepted] == ["kept"]
    assert done.dead == [(0, 1), (0, 2), (1, 1)]
    assert done.by_span == {
        "17": {"read": 3, "duplicates": 1, "dead_letters": 2},
        "18": {"read": 2, "accepted": 1, "dead_letters": 1},
        "": {"read": 1, "duplicates": 1},
    }


def test_a_dated_span_takes_late_events_and_fast_clocks_so_far():
    declared = dataclasses.replace(
        DECLARED, closed_at=None, max_late_days=1, max_early_ms=50
    )
    day = 20_000 * DAY_MS  # 2024-10-04
    edges = (day - DAY_MS - 1, day - DAY_MS, day + DAY_MS + 50, day + DAY_MS + 51)
    file = LogFile([event(f"e{t}", t) for t in edges], "2024-10-04")
    assert account([file], declared).dead == [(0, 0), (0, 3)]
    # The newest day closes the log, unless the config does.
    assert account([file], declared).closed_at == day + DAY_MS
    declared = dataclasses.replace(declared, closed_at=day + DAY_MS)
    assert account([file], declared).dead == [(0, 0), (0, 2), (0, 3)]


def test_profiles_hold_what_is_known_once_the_log_is_closed():
    log = [
        SHOWN,
        event("c", 105, item_id="i"),
        event("s2", 995, "shown"),
        event("x", 996, item_id="z"),
        event("y", 997, item_id="z"),
        event("z", 998, item_id="z"),
    ]
    found = oracle.profiles(
        log, dataclasses.replace(DECLARED, users={"quiet": {}}), 1000
    )
    assert found == {
        "u": {
            "mean_label": 2.5 / 4,  # the open impression is not known to be a miss
            "history_item_ids": ["z", "z", "z"],
            "seen_item_ids": ["i", "z", "z", "z"],
        },
        "quiet": {"mean_label": 0.5, "history_item_ids": [], "seen_item_ids": []},
    }


def test_rows_carry_the_tables_features_where_they_are():
    declared = dataclasses.replace(
        DECLARED, items=world.ITEMS, users=world.USERS, context=("device",)
    )
    log = [event("a", 1, user_id="u0", item_id="i0", device="tv", position=0)]
    found = rows(replay(*log, declared=declared), "interactions")
    assert found["a"] == {
        "event_id": ["a"],
        "timestamp": [1],
        "user_id": ["u0"],
        "item_id": ["i0"],
        "event_type": ["click"],
        "history_item_ids": [],
        "label": [1.0],
        "reward": [1.0],
        "position": [0],
        "request_id": ["r"],
        "user_mean_label": [0.5],
        "user_age": [31.0],
        "item_genres": ["drama", "war"],
        "item_title": ["The Zeroth"],
        "context_device": ["tv"],
    }


def test_the_oracle_refuses_to_be_shown_the_future():
    with pytest.raises(AssertionError):
        oracle.features(SHOWN, [event("c", 100)], DECLARED)
