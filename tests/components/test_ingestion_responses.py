"""The join of responses to impressions, by hand and beside a slow reference."""

import collections
import functools
import operator

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from components.ingestion.responses import Fate, join_responses

GENERATED = settings(
    max_examples=300,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    report_multiple_bugs=False,
)
# What the account calls them, spelled out again.
NONE, JOINED, LATE, EARLY, ORPHAN = 0, 1, 2, 3, 4


def in_event_order(time, row):
    return time, row


def by_declaration(kind, time, row):
    return kind, time, row


def slow_join(
    keys,
    timestamps,
    types,
    answers,
    window,
    *,
    may_answer=lambda impression, response: impression[0] <= response[0],
    order=in_event_order,
    latest=max,
    is_within=operator.le,
    precedence=by_declaration,
    same_type=True,
    without_request=-1,
    joins_late=False,
):
    """Looks each response's impression up in plain dictionaries.

    The keywords are the rules; a wrong join differs in one of them.
    """
    keys, times, types = keys.tolist(), timestamps.tolist(), types.tolist()
    answers = answers.tolist()
    answered = {kind for kind in answers if kind >= 0}
    impressions = collections.defaultdict(list)
    for row, (key, kind) in enumerate(zip(keys, types, strict=True)):
        if kind in answered:
            impressions[key, kind if same_type else None].append(row)
    fate = [NONE] * len(keys)
    answering = collections.defaultdict(list)
    for row, (key, kind) in enumerate(zip(keys, types, strict=True)):
        if answers[kind] < 0:
            continue
        shown = impressions[key, answers[kind] if same_type else None]
        if key == without_request or not shown:
            fate[row] = ORPHAN
            continue
        shown = [
            other
            for other in shown
            if may_answer((times[other], other), (times[row], row))
        ]
        if not shown:
            fate[row] = EARLY
            continue
        impression = latest(shown, key=lambda other: order(times[other], other))
        is_late = not is_within(times[row] - times[impression], window)
        fate[row] = LATE if is_late else JOINED
        if joins_late or not is_late:
            answering[impression].append(row)
    answer = [-1] * len(keys)
    for impression, rows in answering.items():
        answer[impression] = min(
            rows, key=lambda row: precedence(types[row], *order(times[row], row))
        )
    return np.array(answer, np.int64), np.array(fate, np.int8)


# click answers view, mute answers view, view, open answers mail, mail, purchase
CLICK, MUTE, VIEW, OPEN, MAIL, PURCHASE = range(6)
ANSWERS = np.array([VIEW, VIEW, -1, MAIL, -1, -1])

# (key, timestamp, type, row that answers it, fate); the window is 10.
BY_HAND = [
    (0, 100, VIEW, 2, NONE),  # 0: the click at the window's end counts, before the mute
    (0, 101, MUTE, -1, JOINED),
    (0, 110, CLICK, -1, JOINED),
    (1, 100, VIEW, -1, NONE),  # 3: its only click is late
    (1, 111, CLICK, -1, LATE),
    (2, 99, CLICK, -1, EARLY),  # 5: before the view
    (2, 100, VIEW, -1, NONE),
    (3, 100, CLICK, -1, ORPHAN),  # 7: never shown
    (-1, 100, VIEW, -1, NONE),  # 8: without a request nothing joins
    (-1, 101, CLICK, -1, ORPHAN),
    (4, 100, CLICK, -1, JOINED),  # 10: at the moment of the view that stands below
    (4, 100, VIEW, 10, NONE),
    (5, 100, VIEW, 14, NONE),  # 12: shown twice; each click is of the latest view
    (5, 105, VIEW, 16, NONE),
    (5, 104, CLICK, -1, JOINED),
    (5, 107, CLICK, -1, JOINED),
    (5, 106, CLICK, -1, JOINED),  # 16: the earlier of two clicks counts
    (6, 100, VIEW, -1, NONE),  # 17: of two views in one moment the lower is the latest
    (6, 100, VIEW, 20, NONE),
    (6, 101, MUTE, -1, JOINED),
    (6, 101, CLICK, -1, JOINED),
    (6, 101, CLICK, -1, JOINED),  # 21: after its twin above
    (7, 100, VIEW, 25, NONE),  # 22: a view and a mail of one request and item
    (7, 101, MAIL, 24, NONE),
    (7, 102, OPEN, -1, JOINED),
    (7, 103, CLICK, -1, JOINED),
    (7, 104, PURCHASE, -1, NONE),  # 26: answers nothing
    (8, 100, MAIL, -1, NONE),  # 27: a click answers no mail
    (8, 101, CLICK, -1, ORPHAN),
    (9, 100, VIEW, -1, NONE),  # 29: late for the latest, however early the others
    (9, 102, VIEW, -1, NONE),
    (9, 113, MUTE, -1, LATE),
]


def check_by_hand(join):
    keys, times, types, answer, fate = np.array(BY_HAND).T
    got_answer, got_fate = join(keys, times, types, ANSWERS, 10)
    assert got_answer.tolist() == answer.tolist()
    assert got_fate.tolist() == fate.tolist()


def check_generated(join):
    # Few keys and moments, so that all of the rules meet.
    row = st.tuples(
        st.sampled_from([0, 0, 0, 1, -1]),
        st.integers(0, 7),
        st.sampled_from([CLICK, CLICK, MUTE, VIEW, VIEW, OPEN, MAIL, PURCHASE]),
    )

    @GENERATED
    @given(st.lists(row, max_size=24), st.integers(0, 5))
    def same_as_the_reference(rows, window):
        keys, times, types = np.array(rows, np.int64).reshape(-1, 3).T
        answer, fate = join(keys, times, types, ANSWERS, window)
        expected_answer, expected_fate = slow_join(keys, times, types, ANSWERS, window)
        assert answer.tolist() == expected_answer.tolist()
        assert fate.tolist() == expected_fate.tolist()

    same_as_the_reference()


def large_log():
    """50,000 rows over keys as large as int64 allows, some of them one apart."""
    rng = np.random.default_rng(0)
    size = 50_000
    names = rng.integers(0, 2**63 - 1, 6_000)
    names[:2_000] = np.arange(2_000)
    names[2_000] = -1
    return (
        rng.choice(names, size),
        rng.integers(0, 10**6, size) + 1_700_000_000_000,
        rng.integers(0, len(ANSWERS), size),
    )


def check_large(join):
    expected = slow_join(*large_log(), ANSWERS, 50_000)
    got = join(*large_log(), ANSWERS, 50_000)
    np.testing.assert_array_equal(got[0], expected[0])
    np.testing.assert_array_equal(got[1], expected[1])
    assert set(expected[1].tolist()) == {NONE, JOINED, LATE, EARLY, ORPHAN}


CHECKS = [check_by_hand, check_generated, check_large]


@pytest.mark.parametrize("check", CHECKS)
def test_join_responses(check):
    check(join_responses)


@pytest.mark.parametrize("check", CHECKS[:2])
def test_the_reference_keeps_the_rules(check):
    check(slow_join)


def without_early(*log):
    """Counts what came before its impression as never shown."""
    answer, fate = slow_join(*log)
    return answer, np.where(fate == EARLY, ORPHAN, fate)


def every_response_joins(*log):
    """Says joined of the late ones too, although none of them counts."""
    answer, fate = slow_join(*log)
    return answer, np.where(fate == LATE, JOINED, fate)


def first_answer_only(*log):
    """Says joined of the one response that counts alone."""
    answer, fate = slow_join(*log)
    counts = np.isin(np.arange(len(fate)), answer)
    return answer, np.where((fate == JOINED) & ~counts, ORPHAN, fate)


WRONG = {
    "impression strictly earlier": dict(may_answer=lambda a, b: a[0] < b[0]),
    "impression in a row above": dict(may_answer=lambda a, b: a < b),
    "impression at any time": dict(may_answer=lambda a, b: True),
    "oldest impression": dict(latest=min),
    "upper of two impressions": dict(order=lambda time, row: (time, -row)),
    "window without its end": dict(is_within=operator.lt),
    "late ones count": dict(joins_late=True),
    "time before declaration": dict(precedence=lambda kind, *when: (when, kind)),
    "last declared": dict(precedence=lambda kind, *when: (-kind, when)),
    "latest of a type": dict(precedence=lambda kind, time, row: (kind, -time, -row)),
    "impression of any type": dict(same_type=False),
    "no request is a request": dict(without_request=None),
}
WRONG_JOINS = {
    name: functools.partial(slow_join, **rule) for name, rule in WRONG.items()
}
WRONG_JOINS |= {
    wrong.__name__: wrong
    for wrong in (without_early, every_response_joins, first_answer_only)
}


@pytest.mark.parametrize("check", CHECKS[:2])
@pytest.mark.parametrize("wrong", WRONG_JOINS.values(), ids=WRONG_JOINS.keys())
def test_checkers_reject(check, wrong):
    with pytest.raises(AssertionError):
        check(wrong)


@pytest.mark.parametrize("wrong", ["oldest impression", "last declared"])
def test_large_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_large(WRONG_JOINS[wrong])


def test_each_impression_has_one_answer_that_joined_it():
    keys, times, types = large_log()
    answer, fate = join_responses(keys, times, types, ANSWERS, 50_000)
    impressions = np.flatnonzero(answer >= 0)
    responses = answer[impressions]
    assert len(np.unique(responses)) == len(responses) > 1_000
    assert set(fate[responses].tolist()) == {JOINED}
    np.testing.assert_array_equal(keys[impressions], keys[responses])
    np.testing.assert_array_equal(ANSWERS[types[responses]], types[impressions])


def test_order_of_rows_matters_only_at_one_moment():
    keys, times, types = large_log()
    times = np.arange(len(times))  # no ties
    shuffled = np.random.default_rng(1).permutation(len(times))
    answer, fate = join_responses(keys, times, types, ANSWERS, 50_000)
    answer_2, fate_2 = join_responses(
        keys[shuffled], times[shuffled], types[shuffled], ANSWERS, 50_000
    )
    back = np.where(answer_2 >= 0, shuffled[answer_2], -1)
    np.testing.assert_array_equal(back, answer[shuffled])
    np.testing.assert_array_equal(fate_2, fate[shuffled])


def test_fates_are_what_the_account_calls_them():
    assert {fate.name: fate.value for fate in Fate} == {
        "NONE": NONE,
        "JOINED": JOINED,
        "LATE": LATE,
        "EARLY": EARLY,
        "ORPHAN": ORPHAN,
    }


@pytest.mark.parametrize("answers", [ANSWERS, np.full(6, -1)])
def test_no_rows(answers):
    none = np.zeros(0, np.int64)
    answer, fate = join_responses(none, none, none, answers, 10)
    assert answer.dtype == np.int64 and fate.dtype == np.int8
    assert len(answer) == len(fate) == 0


@pytest.mark.parametrize("kind, expected", [(CLICK, ORPHAN), (VIEW, NONE)])
def test_one_side_alone(kind, expected):
    rows = np.arange(3)
    answer, fate = join_responses(rows, rows, np.full(3, kind), ANSWERS, 10)
    assert answer.tolist() == [-1] * 3
    assert fate.tolist() == [expected] * 3


def test_a_log_without_responses_joins_nothing():
    rows = np.arange(3)
    answer, fate = join_responses(rows, rows, rows, np.full(3, -1), 10)
    assert answer.tolist() == [-1] * 3
    assert fate.tolist() == [NONE] * 3


def test_bad_input_is_refused():
    rows = np.arange(3)
    with pytest.raises(ValueError, match="`window_ms` should be >= 0"):
        join_responses(rows, rows, rows, np.full(3, -1), -1)
    with pytest.raises(ValueError, match="should not answer another. Received"):
        join_responses(rows, rows, rows, np.array([1, 2, -1]), 10)
