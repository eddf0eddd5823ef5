"""Attention over layers: interests by hand, and the rows that are shown."""

import numpy as np
import pytest
import tensorflow as tf

from components import layer_attention
from components.layer_attention import interest_of, measure_attention
from components.read_examples import JudgedRows


def history_of(text: str) -> np.ndarray:
    return np.array([letter.encode() for letter in text], object)


def check_interest(interest_of) -> None:
    """Of nine events, the newest three are recent; the oldest stands first."""
    for history, expected in {
        "xxxxxxxxa": "recent",
        "xxxxxxaxa": "recent",
        "xxxxxaxxx": "far",
        "axxxxxxxx": "far",
        "axxxxxaxx": "mixed",
        "aaaaaaaaa": "mixed",
        "xxxxxxxxx": "new",
        "": "new",
    }.items():
        assert interest_of(history_of(history), b"a") == expected, history


def test_interest_is_where_the_next_item_was_met():
    check_interest(interest_of)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda history, item: interest_of(history[::-1], item),
        lambda history, item: interest_of(history[1:], item),
        lambda history, item: interest_of(history[-3:], item),
    ],
    ids=["backwards", "oldest forgotten", "newest alone"],
)
def test_interest_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_interest(wrong)


# User, history, item liked or not. Layer 1 is read for what is recent, 2 for what is far.
ROWS = [
    ("r", "xxxxxxxxa", "a", 1.0),
    ("f", "axxxxxxxxx", "a", 1.0),
    ("f", "axxxxxxxx", "a", 1.0),
    ("m", "axxxxxxxa", "a", 1.0),
    ("n", "xxxxxx", "a", 1.0),
    ("short", "xxxxa", "a", 1.0),
    ("no", "xxxxxxxxa", "a", 0.0),
]
WEIGHTS = {
    "r": [1.0, 0.0],
    "f": [0.25, 0.75],
    "m": [0.5, 0.5],
    "n": [0.125, 0.875],
    "short": [0.0, 1.0],
    "no": [0.0, 1.0],
}


def rows_of(rows) -> JudgedRows:
    serialized = []
    for _, history, _, _ in rows:
        example = tf.train.Example()
        values = example.features.feature["history_item_ids"].bytes_list.value
        values.extend(letter.encode() for letter in history)
        serialized.append(example.SerializeToString())
    users, histories, items, labels = zip(*rows, strict=True)
    return JudgedRows(
        users=np.array([user.encode() for user in users], object),
        items=np.array([item.encode() for item in items], object),
        labels=np.array(labels, np.float32),
        timestamps=np.arange(len(rows)),
        positions=np.full(len(rows), -1),
        history_lengths=np.array([len(history) for history in histories]),
        serialized=np.array(serialized, object),
    )


def attention_of(rows):
    test = rows_of(rows)
    weights = dict(zip(test.serialized, (WEIGHTS[row[0]] for row in rows), strict=True))
    return test, lambda examples: np.array([weights[row] for row in examples])


def check_attention(measure) -> None:
    # "no" has the history of "r": the last row of a dict wins, so it is left out here.
    test, attention = attention_of(ROWS[:-1])
    found = measure(test, attention)
    assert found.users == (
        "r: recent, 9 events",
        "f: far, 10 events",  # the longer of the user's two
        "m: mixed, 9 events",
        "n: new, 6 events",
    )
    assert found.of_users.tolist() == [WEIGHTS[user] for user in "rfmn"]
    assert found.interests == ("recent (1)", "far (2)", "mixed (1)", "new (1)")
    assert found.of_interests.tolist() == [WEIGHTS[user] for user in "rfmn"]
    chosen = measure(test, attention, ("f", "n", "short", "nobody"))
    assert chosen.users == ("f: far, 9 events", "n: new, 6 events")
    assert chosen.of_users.tolist() == [WEIGHTS["f"], WEIGHTS["n"]]
    assert chosen.interests == found.interests


def _every_row_backwards(test, attention, *rest):
    return measure_attention(test, lambda rows: attention(rows)[::-1], *rest)


def _layers_swapped(test, attention, *rest):
    return measure_attention(test, lambda rows: attention(rows)[:, ::-1], *rest)


def _users_ignored(test, attention, *rest):
    return measure_attention(test, attention)


def test_rows_of_each_interest_are_shown_beside_the_means():
    check_attention(measure_attention)


@pytest.mark.parametrize(
    "wrong", [_every_row_backwards, _layers_swapped, _users_ignored]
)
def test_attention_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_attention(wrong)


def test_rows_that_were_not_liked_say_nothing():
    test, attention = attention_of(ROWS[-1:])
    assert measure_attention(test, attention) is None
    assert measure_attention(*attention_of(ROWS[5:6])) is None  # too short


def test_of_many_rows_some_are_read_the_chosen_always(monkeypatch):
    monkeypatch.setattr(layer_attention, "_MAX_ROWS", 1)
    test, attention = attention_of(ROWS[:-1])
    for seed in range(4):
        found = measure_attention(test, attention, ("m",), seed)
        assert found.users == ("m: mixed, 9 events",)
        assert found.of_users.tolist() == [WEIGHTS["m"]]
        assert len(found.interests) <= 2


def test_a_group_shows_three_users_at_most():
    rows = [(f"r{n}", "x" * (8 + n) + "a", "a", 1.0) for n in range(5)]
    found = measure_attention(rows_of(rows), lambda rows: np.ones([len(rows), 1]))
    assert [label.split(":")[0] for label in found.users] == ["r4", "r3", "r2"]
