"""Hashes against a slow reference and published values."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from components.ingestion.hashing import GAMMA, hashed, mixed

MASK = 2**64 - 1


def slow_mixed(word):
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB & MASK
    return word ^ (word >> 31)


def slow_hash(text):
    data = text.encode()
    out = slow_mixed(len(data) + int(GAMMA) & MASK)
    for begin in range(0, len(data), 8):
        word = int.from_bytes(data[begin : begin + 8], "little")
        out = slow_mixed((out ^ word) + int(GAMMA) & MASK)
    return out


def check_hashes(implementation, texts):
    """The checker: each id's hash is the reference's, wherever it stands."""
    expected = [slow_hash(text) for text in texts]
    assert implementation(pa.array(texts, pa.string())).tolist() == expected
    assert implementation(pa.array(["x", *texts], pa.string()).slice(1)).tolist() == (
        expected
    )


TEXTS = st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=40))


@hypothesis_settings(max_examples=100, deadline=None)
@given(texts=TEXTS)
def test_hashes_equal_the_reference(texts):
    check_hashes(hashed, texts)


def ignores_offsets(ids):
    return hashed(pa.array(ids.to_pylist()[::-1], pa.string()))


def reads_into_the_next_id(ids):
    joined = "".join(ids.to_pylist())
    return hashed(pa.array([joined] * len(ids), pa.string()))


def first_word_alone(ids):
    return hashed(pa.array([text[:8] for text in ids.to_pylist()], pa.string()))


@pytest.mark.parametrize(
    "wrong", [ignores_offsets, reads_into_the_next_id, first_word_alone]
)
def test_hash_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_hashes(wrong, ["a", "bb", "a longer identifier", "é"])


def test_splitmix_gives_its_published_values():
    # The first outputs of splitmix64.c with the seed 1234567.
    states = np.uint64(1234567) + GAMMA * np.arange(1, 4, dtype=np.uint64)
    assert mixed(states).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]
