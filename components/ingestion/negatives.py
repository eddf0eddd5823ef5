"""Negatives for a log that has none: items drawn evenly from the catalogue.

A draw hangs on the event's id alone, so a row's negatives are the same on every runner,
in every shard and in every run.
"""

import numpy as np
import pyarrow as pa

_WORD = 8  # bytes hashed at a time


def sampled_items(
    event_ids: pa.Array,
    num_negatives: np.ndarray,
    excluded_offsets: np.ndarray,
    excluded_items: np.ndarray,
    num_items: int,
) -> np.ndarray:
    """Draws items for each event, uniformly over those not excluded for it.

    Draw j of event i is item number `hash(event_ids[i], j) mod A` of the A items that
    are allowed for i, so it takes one hash and no rejection. Draws are independent: an
    item can come twice. The modulus favours no item by more than num_items / 2^64.

    Args:
        event_ids: [R] string, large_string, binary or large_binary, without nulls.
        num_negatives: [R] integer, draws for each event, at least 0.
        excluded_offsets: [R + 1] integer; the items excluded for event i are
            `excluded_items[excluded_offsets[i]:excluded_offsets[i + 1]]`.
        excluded_items: [M] integer codes below `num_items`, in any order, possibly
            repeated; a negative code is an item that the catalogue lacks.
        num_items: items are the codes 0..num_items - 1.

    Returns:
        items: [sum(num_negatives)] int64, those of event 0 first, in the order of j.

    Raises:
        ValueError: if an event with draws has no item left, or a code is too high.
    """
    if len(excluded_items) and np.max(excluded_items) >= num_items:
        raise ValueError(
            f"`excluded_items` should be below num_items={num_items}. Received: "
            f"{np.max(excluded_items)}"
        )
    drawing = np.flatnonzero(num_negatives)
    if len(drawing) == 0:
        return np.zeros(0, np.int64)
    draws = np.asarray(num_negatives, np.int64)[drawing]
    begin, codes = _distinct_exclusions(
        drawing, excluded_offsets, excluded_items, num_items
    )
    num_excluded = np.diff(begin)
    if np.any(num_excluded >= num_items):
        event = event_ids[int(drawing[np.argmax(num_excluded >= num_items)])].as_py()
        raise ValueError(
            f"no item is left to draw a negative from for event {event!r}: all "
            f"{num_items} items of the catalogue are in its request or basket. Give a "
            "`data.items` table with more items, or set `sampled_negatives: 0`."
        )
    seeds = _hashes(event_ids.take(pa.array(drawing)))
    event = np.repeat(np.arange(len(drawing)), draws)
    first = np.repeat(np.cumsum(draws) - draws, draws)
    j = (np.arange(len(event)) - first + 1).astype(np.uint64)
    allowed = (num_items - num_excluded).astype(np.uint64)
    rank = (_mixed(seeds[event] + j * _GAMMA) % allowed[event]).astype(np.int64)
    # With its excluded codes e_0 < e_1 < ..., the allowed item of rank r is r plus the
    # number of m with e_m - m <= r; those differences do not fall, so it is a search.
    place = np.arange(len(codes)) - np.repeat(begin[:-1], num_excluded)
    owner = np.repeat(np.arange(len(drawing)), num_excluded)
    below = np.searchsorted(
        owner * num_items + codes - place, event * num_items + rank, side="right"
    )
    return rank + below - begin[event]


def _distinct_exclusions(
    events: np.ndarray, offsets: np.ndarray, codes: np.ndarray, num_items: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the exclusions of some events, sorted, without repetitions.

    Args:
        events: [E] int64 indices of events, rising.
        offsets, codes: as `sampled_items`.
        num_items: one more than the highest code.

    Returns:
        begin: [E + 1] int64 offsets.
        codes: [begin[E]] int64, rising within each event, none negative.
    """
    sizes = np.diff(offsets)[events]
    owner = np.repeat(np.arange(len(events)), sizes)
    first = np.repeat(np.cumsum(sizes) - sizes, sizes)
    at = np.asarray(offsets, np.int64)[events][owner] + np.arange(len(owner)) - first
    mine = np.asarray(codes, np.int64)[at]
    known = mine >= 0
    pairs = np.sort(owner[known] * num_items + mine[known])  # np.unique is 50x slower
    pairs = pairs[np.concatenate([[True], pairs[1:] != pairs[:-1]])[: len(pairs)]]
    begin = np.searchsorted(pairs, np.arange(len(events) + 1) * num_items)
    return begin, pairs % num_items


_GAMMA = np.uint64(0x9E3779B97F4A7C15)  # odd, 2^64 / golden ratio


def _mixed(words: np.ndarray) -> np.ndarray:
    """Returns SplitMix64's output function of each word: [N] uint64, a permutation.

    References:
        [1] Steele, Lea and Flood. Fast Splittable Pseudorandom Number Generators.
            OOPSLA 2014. Figure 17, with the constants of Vigna's splitmix64.c.
    """
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def _hashes(ids: pa.Array) -> np.ndarray:
    """Returns a hash of the bytes of each id: [N] uint64, the same on every machine.

    Python's own `hash` is salted anew in each process.
    """
    ids = ids.cast(pa.large_binary())
    _, offsets, data = ids.buffers()
    ends = np.frombuffer(offsets, np.int64)[ids.offset : ids.offset + len(ids) + 1]
    data = np.frombuffer(data or b"", np.uint8)
    padded = np.concatenate([data[ends[0] : ends[-1]], np.zeros(_WORD, np.uint8)])
    words = np.lib.stride_tricks.sliding_window_view(padded, _WORD)
    begin, size = ends[:-1] - ends[0], np.diff(ends)
    out = _mixed(size.astype(np.uint64) + _GAMMA)
    rows = np.arange(len(ids))
    for done in range(0, int(size.max(initial=0)), _WORD):
        rows = rows[size[rows] > done]
        word = words[begin[rows] + done].view("<u8")[:, 0].astype(np.uint64)
        spare = np.maximum(done + _WORD - size[rows], 0).astype(np.uint64)
        # The last word runs into the next id: its high bytes are cleared.
        word &= ~np.uint64(0) >> (spare * np.uint64(8))
        out[rows] = _mixed((out[rows] ^ word) + _GAMMA)
    return out
