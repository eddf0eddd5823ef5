"""A decision becomes events that ingestion knows, and can be put together again."""

import pytest
from pydantic import ValidationError

from schemas.decisions import Decision, ShownItem, hash_of_request, read_decision
from schemas.events import EVENTS


def decision(**changes) -> Decision:
    facts = {
        "request_id": "r1",
        "timestamp": 1_700_000_000_000,
        "user_id": "ana",
        "slate": (
            ShownItem(item_id="i3", score=0.75, propensity=0.5),
            ShownItem(item_id="i1", score=0.5, propensity=0.25),
        ),
        "policy": "softmax T=0.1",
        "release": 17,
        "seed": 2**62,
        "request_hash": "abc",
        "context": {"device": "web", "hour": 3.5, "tags": ["a", "b"]},
    }
    return Decision(**facts | changes)


def test_each_shown_item_is_an_event_of_the_log_contract():
    events = decision().events()
    assert [event["event_id"] for event in events] == ["r1/0", "r1/1"]
    assert [event["item_id"] for event in events] == ["i3", "i1"]
    assert [event["position"] for event in events] == [0, 1]
    assert [event["propensity"] for event in events] == [0.5, 0.25]
    assert {event["request_id"] for event in events} == {"r1"}
    assert {event["event_type"] for event in events} == {"impression"}
    assert set(EVENTS.names) - {"value"} <= set(events[0])
    assert events[0]["device"] == "web"


def test_a_decision_is_read_back_from_its_events_in_any_order():
    shown = decision()
    assert read_decision(shown.events()[::-1]) == shown


def drop_first(events):
    return events[1:]


def drop_all(events):
    return []


def double(events):
    return [*events, events[0]]


def another_user(events):
    return [events[0], {**events[1], "user_id": "ben"}]


def another_seed(events):
    return [events[0], {**events[1], "seed": 1}]


def another_context(events):
    return [events[0], {**events[1], "device": "phone"}]


@pytest.mark.parametrize(
    "spoil",
    [drop_first, drop_all, double, another_user, another_seed, another_context],
)
def test_events_that_are_not_one_decision_are_refused(spoil):
    with pytest.raises(ValueError, match="decision"):
        read_decision(spoil(decision().events()))


@pytest.mark.parametrize(
    "changes",
    [
        {"slate": 2 * (ShownItem(item_id="i", score=0.5, propensity=0.5),)},
        {"timestamp": -1},
        {"user_id": ""},
        {"context": {"position": 3}},
        {"colour": "red"},
    ],
)
def test_a_decision_that_breaks_the_contract_is_refused(changes):
    with pytest.raises(ValidationError):
        decision(**changes)


@pytest.mark.parametrize("propensity", [0.0, -0.1, 1.1, float("nan")])
def test_a_propensity_is_a_chance_above_zero(propensity):
    with pytest.raises(ValidationError):
        ShownItem(item_id="i", score=0.5, propensity=propensity)


ASKED = ("ana", ["i1", "i2"], {"user_age": 3.0, "context_hour": 1.0}, ["i9", "i8"], 5)


def check_hash(implementation):
    """The same question has the same digest, whatever the order of what has none."""
    user, history, features, excluded, k = ASKED
    turned = dict(reversed(features.items()))
    same = implementation(user, tuple(history), turned, [*excluded[::-1], "i8"], k)
    assert implementation(*ASKED) == same
    others = [
        ("ben", history, features, excluded, k),
        (user, history[::-1], features, excluded, k),
        (user, history, {**features, "user_age": 4.0}, excluded, k),
        (user, history, features, ["i9"], k),
        (user, history, features, excluded, 6),
    ]
    assert same not in {implementation(*other) for other in others}


def as_given(user, history, features, excluded, k):
    return hash_of_request(user, history, {}, [], k) + str((features, excluded))


def without_history(user, history, features, excluded, k):
    return hash_of_request(user, [], features, excluded, k)


def test_hash_of_request():
    check_hash(hash_of_request)


@pytest.mark.parametrize("wrong", [as_given, without_history])
def test_checker_rejects_wrong_hashes(wrong):
    with pytest.raises(AssertionError):
        check_hash(wrong)
