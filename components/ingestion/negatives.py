"""Negatives for a log that has none: items drawn evenly from the catalogue.

A draw hangs on the event's id alone, so a row's negatives are the same on every runner,
in every shard and in every run.
"""

import numpy as np
import pyarrow as pa

from components.ingestion.hashing import GAMMA, hashed, mixed


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
    seeds = hashed(event_ids.take(pa.array(drawing)))
    event = np.repeat(np.arange(len(drawing)), draws)
    first = np.repeat(np.cumsum(draws) - draws, draws)
    j = (np.arange(len(event)) - first + 1).astype(np.uint64)
    allowed = (num_items - num_excluded).astype(np.uint64)
    rank = (mixed(seeds[event] + j * GAMMA) % allowed[event]).astype(np.int64)
    # With its excluded codes e_0 < e_1 < ..., the allowed item of rank r is r plus the
    # number of m with e_m - m <= r; those differences do not fall, so it is a search.
    place = np.arange(len(codes)) - np.repeat(begin[:-1], num_excluded)
    owner = np.repeat(np.arange(len(drawing)), num_excluded)
    below = np.searchsorted(
        owner * num_items + codes - place, event * num_items + rank, side="right"
    )
    return rank + below - begin[event]


def has_choice(
    excluded_offsets: np.ndarray, excluded_items: np.ndarray, num_items: int
) -> np.ndarray:
    """Returns for which events an item is left to draw.

    Args:
        excluded_offsets, excluded_items, num_items: as `sampled_items`.

    Returns:
        [R] bool.
    """
    out = np.diff(excluded_offsets) < num_items
    doubtful = np.flatnonzero(~out)
    begin, _ = _distinct_exclusions(
        doubtful, excluded_offsets, excluded_items, num_items
    )
    out[doubtful] = np.diff(begin) < num_items
    return out


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
