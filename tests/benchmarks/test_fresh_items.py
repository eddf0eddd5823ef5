"""The figures that say what a refreshed index finds, on indexes right and wrong."""

import dataclasses

import numpy as np
import pytest

from benchmarks import fresh_items
from benchmarks.ann_world import World
from components.build_index import ItemVectors
from components.export_recommender import IndexedItems, release_index
from models.index import ExactIndex, IndexKind, IndexSettings

OLD, MOVED = 2000, 50


@pytest.fixture(scope="module")
def world():
    return World.draw(OLD + MOVED, 0, num_queries=40)


def vectors_of(world, first, last):
    return ItemVectors([f"i{n}" for n in range(first, last)], world.items[first:last])


def refreshed_index(world):
    """Returns the new vectors, and an index of them beside one that was built."""
    old, new = vectors_of(world, 0, OLD), vectors_of(world, MOVED, OLD + MOVED)
    settings = IndexSettings(kind=IndexKind.SCANN)
    main = release_index(old, world.tuning[:0], settings, 100).main
    return new, release_index(new, world.tuning[:0], settings, 100, main, False)


def check_figures(spoil, world, monkeypatch):
    monkeypatch.setattr(fresh_items, "ADDED", MOVED)
    new, index = refreshed_index(world)
    rebuilt = ExactIndex(new.embeddings)
    found = fresh_items.compared_indexes(spoil(index), rebuilt, new, world.measuring)
    assert found["main_answers_equal"] == 1.0
    assert found["fresh_found"] == 1.0
    # A 40th of the items is new, and so is about that share of what is nearest.
    assert 0.005 < found["fresh_in_truth"] < 0.1
    assert found["recall@100"] > 0.95
    assert found["recall@100_rebuilt"] == pytest.approx(1.0, abs=1e-3)


def test_refreshed_index_finds_what_it_should(world, monkeypatch):
    check_figures(lambda index: index, world, monkeypatch)


def _without_segment(index):
    index.built.index._fresh = None
    return index


def _of_another_main(index):
    vectors = np.asarray(index.main.vectors.embeddings)
    other = IndexedItems(index.main.vectors, ExactIndex(-vectors))
    return dataclasses.replace(index, main=other)


@pytest.mark.parametrize("spoil", [_without_segment, _of_another_main])
def test_check_of_the_figures_rejects(spoil, world, monkeypatch):
    with pytest.raises(AssertionError):
        check_figures(spoil, world, monkeypatch)
