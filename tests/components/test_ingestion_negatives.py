"""Draws of negatives: bit for bit beside a slow reference, and as statistics."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from components.ingestion.negatives import has_choice, sampled_items

GENERATED = settings(
    max_examples=150,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    report_multiple_bugs=False,
)
# A right implementation fails a statistical check in one of a million worlds; the ids
# are fixed, so it passes always or never.
CHANCE = 1e-6
WORD = 2**64
GAMMA = 0x9E3779B97F4A7C15


# ---------------------------------------------------------------- the slow reference


def mix(word):
    """SplitMix64's output function, in Python's integers."""
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB % WORD
    return word ^ (word >> 31)


def id_hash(name):
    data = name if isinstance(name, bytes) else name.encode()
    state = mix((len(data) + GAMMA) % WORD)
    for begin in range(0, len(data), 8):
        word = int.from_bytes(data[begin : begin + 8], "little")
        state = mix(((state ^ word) + GAMMA) % WORD)
    return state


def draw_by_rank(name, j, row, allowed, num_items):
    return allowed[mix((id_hash(name) + j * GAMMA) % WORD) % len(allowed)]


def slow_items(ids, numbers, offsets, codes, num_items, draw=draw_by_rank):
    """Draws one item after the other from the list of what is allowed."""
    out = []
    for row, (name, number) in enumerate(
        zip(ids.to_pylist(), np.asarray(numbers).tolist(), strict=True)
    ):
        excluded = set(codes[offsets[row] : offsets[row + 1]].tolist())
        allowed = [item for item in range(num_items) if item not in excluded]
        for j in range(1, number + 1):
            out.append(draw(name, j, row, allowed, num_items))
    return np.array(out, np.int64)


def test_reference_is_splitmix64():
    # First outputs for seed 1234567, as published with the generator's ports
    # (https://rosettacode.org/wiki/Pseudo-random_numbers/Splitmix64).
    outputs = [mix((1234567 + step * GAMMA) % WORD) for step in range(1, 6)]
    assert outputs == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


# ---------------------------------------------------------------- checkers


def excluding(sets):
    """Returns (offsets, codes) of one list of codes for each event."""
    sizes = [len(codes) for codes in sets]
    codes = np.array(list(itertools.chain(*sets)), np.int64)
    return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]), codes


def check_generated(sampled):
    event = st.tuples(
        st.text(max_size=20),
        st.integers(0, 4),
        st.lists(st.integers(-1, 8), max_size=8),  # of 10 items: some are left
    )

    @GENERATED
    @given(st.lists(event, max_size=8))
    def same_as_the_reference(events):
        ids = pa.array([name for name, _, _ in events], pa.string())
        numbers = np.array([number for _, number, _ in events], np.int64)
        offsets, codes = excluding([codes for _, _, codes in events])
        got = sampled(ids, numbers, offsets, codes, 10)
        assert got.tolist() == slow_items(ids, numbers, offsets, codes, 10).tolist()

    same_as_the_reference()


def check_uniform(sampled):
    """The checker: 60,000 draws over the 36 items left of 40 are even."""
    num_events, number, excluded = 3_000, 20, [0, 7, 8, 39]
    ids = pa.array([f"event-{row:08d}" for row in range(num_events)])
    offsets, codes = excluding([excluded] * num_events)
    items = sampled(ids, np.full(num_events, number), offsets, codes, 40)
    counts = np.bincount(items, minlength=40)
    assert counts[excluded].tolist() == [0] * 4
    assert is_even(np.delete(counts, excluded))


def check_independent(sampled):
    """The checker: neighbouring draws, of one event and of two, say nothing of each
    other: the 12 x 12 pairs of 12 items are even."""
    num_events = 10_000
    ids = pa.array([f"{row}" for row in range(num_events)])
    none = excluding([[]] * num_events)
    items = sampled(ids, np.full(num_events, 2), *none, 12).reshape(num_events, 2)
    for one, other in (items.T, (items[1:, 0], items[:-1, 0])):
        assert is_even(np.bincount(one * 12 + other, minlength=144))


def is_even(counts):
    """Pearson's test: sum of (seen - expected)^2 / expected, k - 1 free counts."""
    expected = counts.sum() / len(counts)
    statistic = np.sum((counts - expected) ** 2) / expected
    return statistic < chi2.ppf(1 - CHANCE, len(counts) - 1)


def check_alone_as_together(sampled):
    """The checker: an event's draws are its own, in whatever shard it lies."""
    rng = np.random.default_rng(0)
    names = [f"e{row}" for row in range(60)]
    sets = [rng.integers(0, 50, row % 5).tolist() for row in range(60)]
    numbers = np.arange(60) % 4
    together = sampled(pa.array(names), numbers, *excluding(sets), 50)
    parts = np.split(together, np.cumsum(numbers)[:-1])
    for row in reversed(range(60)):
        alone = sampled(
            pa.array([names[row]]), numbers[row : row + 1], *excluding([sets[row]]), 50
        )
        assert alone.tolist() == parts[row].tolist()


CHECKS = [check_generated, check_uniform, check_independent, check_alone_as_together]


@pytest.mark.parametrize("check", CHECKS)
def test_sampled_items(check):
    check(sampled_items)


@pytest.mark.parametrize("check", CHECKS)
def test_the_reference_keeps_the_rules(check):
    check(slow_items)


# ---------------------------------------------------------------- wrong variants


def wrong_draw(draw):
    def sampled(*arguments):
        return slow_items(*arguments, draw=draw)

    sampled.__name__ = draw.__name__
    return sampled


@wrong_draw
def next_allowed(name, j, row, allowed, num_items):
    """Steps on from an excluded item: the one after it comes twice as often."""
    item = mix((id_hash(name) + j * GAMMA) % WORD) % num_items
    return next((code for code in allowed if code >= item), allowed[0])


@wrong_draw
def excluded_too(name, j, row, allowed, num_items):
    return mix((id_hash(name) + j * GAMMA) % WORD) % num_items


@wrong_draw
def neighbours(name, j, row, allowed, num_items):
    """One hash an event; its j-th draw is the item j further."""
    return allowed[(id_hash(name) + j) % len(allowed)]


@wrong_draw
def same_for_every_j(name, j, row, allowed, num_items):
    return allowed[id_hash(name) % len(allowed)]


@wrong_draw
def by_row(name, j, row, allowed, num_items):
    return allowed[mix((row * 1000 + j) * GAMMA % WORD) % len(allowed)]


@wrong_draw
def by_one_stream(name, j, row, allowed, num_items):
    return allowed[np.random.default_rng(row).integers(len(allowed))]


@wrong_draw
def by_first_bytes(name, j, row, allowed, num_items):
    return draw_by_rank(name[:7], j, row, allowed, num_items)


@wrong_draw
def by_length_and_sum(name, j, row, allowed, num_items):
    total = sum(name.encode()) + 257 * len(name)
    return allowed[(total + j * GAMMA) % len(allowed)]


@pytest.mark.parametrize(
    "check, wrong",
    [
        *itertools.product(
            [check_generated],
            [
                next_allowed,
                excluded_too,
                neighbours,
                same_for_every_j,
                by_row,
                by_one_stream,
                by_first_bytes,
            ],
        ),
        *itertools.product(
            [check_uniform],
            [next_allowed, excluded_too, by_first_bytes],
        ),
        *itertools.product(
            [check_independent], [neighbours, same_for_every_j, by_length_and_sum]
        ),
        *itertools.product([check_alone_as_together], [by_row, by_one_stream]),
    ],
)
def test_checkers_reject(check, wrong):
    with pytest.raises(AssertionError):
        check(wrong)


# ---------------------------------------------------------------- forms and edges


IDS = ["", "a", "12345678", "123456789", "ключ-é", "x" * 1024, "\0", "\0\0"]


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary()]
)
def test_ids_of_every_length_and_type(kind):
    ids = pa.array([name.encode() for name in IDS], pa.binary()).cast(kind)
    none = excluding([[]] * len(IDS))
    items = sampled_items(ids, np.full(len(IDS), 3), *none, 10**6)
    expected = slow_items_of_a_million(IDS)
    assert items.tolist() == expected
    assert len(set(expected)) == len(expected)


def slow_items_of_a_million(names):
    return [
        mix((id_hash(name) + j * GAMMA) % WORD) % 10**6
        for name in names
        for j in (1, 2, 3)
    ]


def test_slices_of_a_longer_array():
    ids = pa.array(IDS)[2:6]
    items = sampled_items(ids, np.full(4, 3), *excluding([[]] * 4), 10**6)
    assert items.tolist() == slow_items_of_a_million(IDS[2:6])


def test_one_item_left_of_many():
    # One draw finds it, where drawing until one is allowed would take a million.
    num_items = 1_000_000
    codes = np.delete(np.arange(num_items), 123_456)
    items = sampled_items(
        pa.array(["a"]), np.array([3]), np.array([0, len(codes)]), codes, num_items
    )
    assert items.tolist() == [123_456] * 3


def test_repeated_and_unknown_codes_exclude_nothing_more():
    ids, numbers = pa.array(["a", "b"]), np.array([50, 50])
    plain = sampled_items(ids, numbers, *excluding([[3], [0, 1]]), 5)
    messy = sampled_items(ids, numbers, *excluding([[3, -1, 3], [1, 0, 1, -1]]), 5)
    assert plain.tolist() == messy.tolist()
    assert set(plain[:50]) == {0, 1, 2, 4}
    assert set(plain[50:]) == {2, 3, 4}


def test_nothing_left_is_refused():
    ids, numbers = pa.array(["a", "b"]), np.array([1, 1])
    sets = excluding([[0], [2, 0, 1, 1]])
    with pytest.raises(
        ValueError,
        match="no item is left to draw a negative from for event 'b': all 3 items of "
        "the catalogue .* set `sampled_negatives: 0`",
    ):
        sampled_items(ids, numbers, *sets, 3)
    # An event that draws nothing needs no item.
    assert sampled_items(ids, np.array([1, 0]), *sets, 3)[0] in (1, 2)


def test_codes_beyond_the_catalogue_are_refused():
    with pytest.raises(ValueError, match="below num_items=3. Received: 3"):
        sampled_items(pa.array(["a"]), np.array([1]), *excluding([[3]]), 3)


def test_no_events():
    items = sampled_items(pa.array([], pa.string()), np.zeros(0), *excluding([]), 3)
    assert items.dtype == np.int64 and len(items) == 0


def check_choice(implementation):
    """The checker: an event has a choice unless every item is excluded for it."""
    excluded = [[0, 1, 2], [2, 1, 1, 0, 0], [0, 1, 1, 1], [-1, 0, 1], [-1] * 5, []]
    offsets = np.cumsum([0, *(len(items) for items in excluded)])
    items = np.array([item for items in excluded for item in items], np.int64)
    expected = [False, False, True, True, True, True]
    assert implementation(offsets, items, 3).tolist() == expected


def test_choice():
    check_choice(has_choice)


def by_number(offsets, items, num_items):
    return np.diff(offsets) < num_items


def always(offsets, items, num_items):
    return np.ones(len(offsets) - 1, bool)


def counts_unknown_items(offsets, items, num_items):
    return has_choice(offsets, np.abs(items) + (items < 0), num_items)


@pytest.mark.parametrize("wrong", [by_number, always, counts_unknown_items])
def test_choice_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_choice(wrong)
