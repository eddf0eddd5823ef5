"""Which index a release is served with, and what its policy asks of the ranker."""

from types import SimpleNamespace

import numpy as np
import pytest

from components.build_index import ItemVectors
from components.export_recommender import (
    IndexedItems,
    RebuildDueError,
    beliefs_of,
    release_index,
)
from models.index import ExactIndex, IndexKind, IndexSettings, build_tuned_index
from models.policy_settings import PolicySettings
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
    made = release_index(item_vectors(range(1000)), QUERIES, SETTINGS, 50)
    assert made.built.tuning is not None and made.built.tuning.k == 50
    assert made.built.index.num_items == 1000
    assert made.main.index is made.built.index and not made.is_reused


def test_previous_index_is_reused_where_little_changed(previous):
    made = release_index(item_vectors(range(40, 940)), QUERIES, SETTINGS, 50, previous)
    built = made.built
    assert built.reason == "built before; 40 items are fresh, 40 are passed over"
    assert (made.num_fresh, made.num_tombstones, made.is_reused) == (40, 40, True)
    assert made.main is previous
    assert built.index.num_items == 900
    rows = built.index.search(ITEMS[[40, 939]], 1)[1].numpy()[:, 0]
    np.testing.assert_array_equal(rows, [0, 899])


def check_builds_anew(vectors, previous, reason):
    made = release_index(vectors, QUERIES, SETTINGS, 50, previous)
    assert reason in made.built.reason
    assert made.built.index.num_items == len(vectors.item_ids)
    assert made.main.vectors is vectors and not made.is_reused
    assert (made.num_fresh, made.num_tombstones) == (0, 0)


def test_index_is_built_anew_where_much_changed(previous):
    check_builds_anew(item_vectors(range(50, 1000)), previous, "by its size")


def test_index_is_built_anew_where_the_towers_changed(previous):
    vectors = item_vectors(range(900))
    trained = ItemVectors(vectors.item_ids, -vectors.embeddings)
    check_builds_anew(trained, previous, "by its size")


def test_index_that_may_not_be_built_is_an_error(previous):
    vectors = item_vectors(range(50, 1000))
    message = "100 fresh and 50 gone items are 16.7% of the 900 it was built from"
    with pytest.raises(RebuildDueError, match=message):
        release_index(vectors, QUERIES, SETTINGS, 50, previous, may_build=False)
    little = item_vectors(range(40, 940))
    made = release_index(little, QUERIES, SETTINGS, 50, previous, may_build=False)
    assert made.is_reused


AUTO = IndexSettings(exact_below=800)


def exact_before(rows):
    vectors = item_vectors(rows)
    return IndexedItems(vectors, ExactIndex(vectors.embeddings))


def test_exact_index_stays_exact_where_its_size_allows_that():
    vectors = item_vectors(range(700))
    made = release_index(vectors, QUERIES, AUTO, 50, exact_before(range(600)))
    assert made.built.index.is_exact and made.built.tuning is None
    assert made.built.index.num_items == 700


def test_exact_index_gives_way_where_it_is_too_large():
    vectors, small = item_vectors(range(1000)), exact_before(range(600))
    settings = AUTO.model_copy(update={"exact_below": 400})
    assert not release_index(vectors, QUERIES, settings, 50, small).built.index.is_exact
    with pytest.raises(RebuildDueError, match="1000 items are too many for an exact"):
        release_index(vectors, QUERIES, settings, 50, small, may_build=False)


def test_policy_that_needs_a_posterior_refuses_a_ranker_without_one():
    ranker = SimpleNamespace(score_candidates=None)
    for name in ("thompson", "ucb"):
        with pytest.raises(ValueError, match="Set `ranking.model: bayesian_fm`"):
            beliefs_of(ranker, PolicySettings(name=name))
    assert beliefs_of(ranker, PolicySettings(name="softmax")) is None


def test_policy_asks_for_the_posterior_that_it_draws_from():
    ranker = SimpleNamespace(posterior="posterior", shared_posterior="shared")
    thompson = PolicySettings(name="thompson")
    assert beliefs_of(ranker, thompson) == "shared"
    by_logit = PolicySettings(name="thompson", draw="logit")
    assert beliefs_of(ranker, by_logit) == "posterior"
    assert beliefs_of(ranker, PolicySettings(name="ucb")) == "posterior"
