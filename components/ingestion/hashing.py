"""Hashes of ids: the same in every process, on every machine and in every run."""

import numpy as np
import pyarrow as pa

GAMMA = np.uint64(0x9E3779B97F4A7C15)  # odd, 2^64 / golden ratio
_WORD = 8  # bytes hashed at a time


def mixed(words: np.ndarray) -> np.ndarray:
    """Returns SplitMix64's output function of each word: [N] uint64, a permutation.

    References:
        [1] Steele, Lea and Flood. Fast Splittable Pseudorandom Number Generators.
            OOPSLA 2014. Figure 17, with the constants of Vigna's splitmix64.c.
    """
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def hashed(ids: pa.Array) -> np.ndarray:
    """Returns a hash of the bytes of each id.

    Python's own `hash` is salted anew in each process.

    Args:
        ids: [N] strings or binary values, without nulls.

    Returns:
        [N] uint64.
    """
    ids = ids.cast(pa.large_binary())
    _, offsets, data = ids.buffers()
    ends = np.frombuffer(offsets, np.int64)[ids.offset : ids.offset + len(ids) + 1]
    data = np.frombuffer(data or b"", np.uint8)
    padded = np.concatenate([data[ends[0] : ends[-1]], np.zeros(_WORD, np.uint8)])
    words = np.lib.stride_tricks.sliding_window_view(padded, _WORD)
    begin, size = ends[:-1] - ends[0], np.diff(ends)
    out = mixed(size.astype(np.uint64) + GAMMA)
    rows = np.arange(len(ids))
    for done in range(0, int(size.max(initial=0)), _WORD):
        rows = rows[size[rows] > done]
        word = words[begin[rows] + done].view("<u8")[:, 0].astype(np.uint64)
        spare = np.maximum(done + _WORD - size[rows], 0).astype(np.uint64)
        # The last word runs into the next id: its high bytes are cleared.
        word &= ~np.uint64(0) >> (spare * np.uint64(8))
        out[rows] = mixed((out[rows] ^ word) + GAMMA)
    return out
