"""Which index a release is served with."""

import numpy as np
import pytest

from components.build_index import ItemVectors
from components.export_recommender import IndexedItems, release_index
from models.index import IndexKind, IndexSettings, build_tuned_index
from tests.models.index.index_contract import clustered_vectors

ITEMS = clustered_vectors(1000)
QUERIES = clustered_vectors(60, seed=1)
SETTINGS = IndexSettings(kind=IndexKind.SCANN)


def item_vectors(rows):
    return ItemVectors([f"item{row}" for row in rows], ITEMS[rows])


@pytest.fixture(scope="module")
def previous():
    vectors = item_vectors(range(900))
    built = build_tuned_index(vectors.embeddings, QUERIES, SETTINGS)
    return IndexedItems(vectors, built.index)


def test_first_release_is_tuned():
    built = release_index(item_vectors(range(1000)), QUERIES, SETTINGS, 50)
    assert built.tuning is not None and built.tuning.k == 50
    assert built.index.num_items == 1000


def test_previous_index_is_reused_where_little_changed(previous):
    built = release_index(item_vectors(range(40, 940)), QUERIES, SETTINGS, 50, previous)
    assert built.reason == "built before; 40 items are fresh, 40 are passed over"
    assert built.index.num_items == 900
    rows = built.index.search(ITEMS[[40, 939]], 1)[1].numpy()[:, 0]
    np.testing.assert_array_equal(rows, [0, 899])


def test_index_is_built_anew_where_much_changed(previous):
    built = release_index(
        item_vectors(range(50, 1000)), QUERIES, SETTINGS, 50, previous
    )
    assert "by its size" in built.reason
    assert built.index.num_items == 950


def test_index_is_built_anew_where_the_towers_changed(previous):
    vectors = item_vectors(range(900))
    trained = ItemVectors(vectors.item_ids, -vectors.embeddings)
    built = release_index(trained, QUERIES, SETTINGS, 50, previous)
    assert "by its size" in built.reason
