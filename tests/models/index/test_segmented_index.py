import time

import numpy as np
import pytest
import tensorflow as tf

from models.index import (
    ExactIndex,
    IndexSettings,
    ScannIndex,
    SegmentedIndex,
    recall_against_exact,
    refreshed_index,
)
from tests.models.index.index_contract import (
    IndexContract,
    clustered_vectors,
    unit_vectors,
)

NUM_ITEMS, NUM_CHANGED, K = 20_000, 1000, 100
QUERIES = clustered_vectors(50, seed=5)
SCANN = IndexSettings(tree_above=0, leaves_to_search=0.3)


def segmented(embeddings, make_main):
    """Returns an index of `embeddings`, a third of which came after the main index.

    The main index holds as many deleted vectors besides, each close to a live one.
    """
    num_items = len(embeddings)
    is_fresh = np.arange(num_items) % 3 == 2
    kept = embeddings[~is_fresh]
    main = np.stack([kept, kept * 1.001], axis=1).reshape(-1, embeddings.shape[1])
    main_rows = np.stack(
        [np.flatnonzero(~is_fresh), np.full(len(kept), -1)], axis=1
    ).ravel()
    return SegmentedIndex(
        make_main(main), main_rows, embeddings[is_fresh], np.flatnonzero(is_fresh)
    )


class SegmentedContract(IndexContract):
    def test_index_refuses_bad_embeddings(self):
        main = self.make(unit_vectors(9))
        rows, fresh = np.arange(9), np.array([9])
        with pytest.raises(ValueError, match=r"should have shape \[N, D\]"):
            SegmentedIndex(main, rows, np.zeros([1]), fresh)
        with pytest.raises(ValueError, match="should be finite"):
            SegmentedIndex(main, rows, np.full([1, 16], np.nan), fresh)


class TestSegmentedIndexOnAnExactOne(SegmentedContract):
    def make(self, embeddings):
        return segmented(embeddings, ExactIndex)


class TestSegmentedIndexOnScann(SegmentedContract):
    min_recall = 0.98
    needs_scann = True

    def make(self, embeddings):
        return segmented(embeddings, ScannIndex)


class TestSegmentedIndexMadeExact(SegmentedContract):
    """What a served graph falls back on shares the vectors of both segments."""

    needs_scann = True

    def make(self, embeddings):
        index = segmented(embeddings, ScannIndex).exact()
        assert index.is_exact
        return index


class World:
    """A catalogue and what became of it: 1,000 gone, 1,000 changed, 1,000 new."""

    def __init__(self):
        self.old = clustered_vectors(NUM_ITEMS)
        self.old_ids = [f"item{row}" for row in range(NUM_ITEMS)]
        order = np.random.default_rng(3).permutation(NUM_ITEMS)
        gone = set(order[:NUM_CHANGED].tolist())
        changed = order[NUM_CHANGED : 2 * NUM_CHANGED]
        vectors = self.old.copy()
        vectors[changed] = clustered_vectors(NUM_CHANGED, seed=6)
        kept = [row for row in range(NUM_ITEMS) if row not in gone]
        self.new_ids = [self.old_ids[row] for row in kept]
        self.new_ids += [f"new{row}" for row in range(NUM_CHANGED)]
        self.new = np.concatenate(
            [vectors[kept], clustered_vectors(NUM_CHANGED, seed=7)]
        )

    def refreshed(self, main):
        return refreshed_index(main, self.old_ids, self.old, self.new_ids, self.new)


@pytest.fixture(scope="module")
def world():
    return World()


@pytest.fixture(scope="module")
def exact_main(world):
    return ExactIndex(world.old)


@pytest.fixture(scope="module")
def scann_main(world):
    return ScannIndex(world.old, SCANN)


def check_equals_a_rebuild(index, rebuilt, queries, k):
    scores, rows = (values.numpy() for values in index.search(queries, k))
    expected_scores, expected_rows = rebuilt.search(queries, k)
    equal = np.array_equal(rows, expected_rows)
    assert equal
    np.testing.assert_allclose(scores, expected_scores, atol=1e-6)


def test_refreshed_exact_index_equals_a_rebuild(world, exact_main):
    index = world.refreshed(exact_main)
    assert (index.num_fresh, index.num_tombstones) == (2000, 2000)
    assert index.is_exact and index.num_items == NUM_ITEMS
    check_equals_a_rebuild(index, ExactIndex(world.new), QUERIES, K)


def test_refreshed_scann_index_finds_as_much_as_a_rebuild(world, scann_main):
    index, exact = world.refreshed(scann_main), ExactIndex(world.new)
    rebuilt = recall_against_exact(ScannIndex(world.new, SCANN), exact, QUERIES, K)
    assert not index.is_exact
    assert recall_against_exact(index, exact, QUERIES, K) >= rebuilt - 0.005
    scores, rows = (values.numpy() for values in index.search(QUERIES, K))
    true = np.take_along_axis(QUERIES @ world.new.T, rows, axis=1)
    np.testing.assert_allclose(scores, true, atol=1e-6)
    check_equals_a_rebuild(index.exact(), exact, QUERIES, K)


def test_refreshing_takes_seconds(world, scann_main):
    begin = time.perf_counter()
    world.refreshed(scann_main).search(QUERIES, K)
    assert time.perf_counter() - begin < 5


def _no_tombstones(world, main):
    old_row = {item: row for row, item in enumerate(world.old_ids)}
    fresh = [row for row, item in enumerate(world.new_ids) if item not in old_row]
    return SegmentedIndex(
        main,
        np.arange(NUM_ITEMS),
        world.new[fresh],
        NUM_ITEMS + np.arange(len(fresh)),
    )


def _no_fresh_items(world, main):
    index = world.refreshed(main)
    index._fresh = None
    return index


def _old_numbering(world, main):
    index = world.refreshed(main)
    index._main_rows = tf.range(NUM_ITEMS)
    return index


@pytest.mark.parametrize("wrong", [_no_tombstones, _no_fresh_items, _old_numbering])
def test_check_against_a_rebuild_rejects(wrong, world, exact_main):
    with pytest.raises(AssertionError):
        check_equals_a_rebuild(
            wrong(world, exact_main), ExactIndex(world.new), QUERIES, K
        )


def check_deleted_neighbourhood(index_of):
    """Everything that one query found is deleted; another query lost nothing."""
    items = clustered_vectors(3000)
    queries = np.stack([items[0], -items[0]])
    lost = ExactIndex(items).search(queries[:1], 500)[1].numpy()[0]
    kept = np.setdiff1d(np.arange(3000), lost)
    index = index_of(items, kept)
    check_equals_a_rebuild(index, ExactIndex(items[kept]), queries, 50)
    for query in range(2):  # alone as in a batch
        one = queries[query : query + 1]
        check_equals_a_rebuild(index, ExactIndex(items[kept]), one, 50)


def _without_deleted(items, kept):
    ids = np.arange(len(items)).astype(str)
    return refreshed_index(ExactIndex(items), ids, items, ids[kept], items[kept])


def test_search_reaches_k_where_all_neighbours_are_deleted():
    check_deleted_neighbourhood(_without_deleted)


def _never_again(items, kept):
    index = _without_deleted(items, kept)
    index._num_live = 0
    return index


def _nothing_deleted(items, kept):
    return ExactIndex(items)


@pytest.mark.parametrize("wrong", [_never_again, _nothing_deleted])
def test_check_of_a_deleted_neighbourhood_rejects(wrong):
    with pytest.raises(AssertionError):
        check_deleted_neighbourhood(wrong)


def test_item_that_is_deleted_and_taken_back_is_found_in_the_main_index(
    world, exact_main
):
    without = refreshed_index(
        exact_main, world.old_ids, world.old, world.old_ids[1:], world.old[1:]
    )
    assert (without.num_fresh, without.num_tombstones) == (0, 1)
    again = refreshed_index(
        exact_main,
        world.old_ids,
        world.old,
        [*world.old_ids[1:], world.old_ids[0]],
        np.roll(world.old, -1, axis=0),
    )
    assert (again.num_fresh, again.num_tombstones) == (0, 0)
    query = world.old[:1]
    assert again.search(query, 1)[1].numpy().item() == NUM_ITEMS - 1
    assert without.search(query, 1)[1].numpy().item() != NUM_ITEMS - 1


def test_item_with_another_vector_is_found_by_that_alone(world, exact_main):
    vectors = world.old.copy()
    vectors[7] = -world.old[7]
    index = refreshed_index(
        exact_main, world.old_ids, world.old, world.old_ids, vectors
    )
    assert (index.num_fresh, index.num_tombstones) == (1, 1)
    assert index.search(vectors[7:8], 1)[1].numpy().item() == 7
    assert index.search(world.old[7:8], 1)[1].numpy().item() != 7
    check_equals_a_rebuild(index, ExactIndex(vectors), QUERIES, K)


def test_equal_scores_come_in_the_order_of_rows():
    """As in an exact index: rows 0 .. 5 all have the same vector."""
    same = np.ones([6, 2], np.float32)
    index = SegmentedIndex(
        ExactIndex(same[:4]), np.array([1, -1, 2, 5]), same[:3], np.array([0, 3, 4])
    )
    check_equals_a_rebuild(index, ExactIndex(same), same[:1], 6)


def test_index_of_fresh_items_alone_searches_those():
    items = unit_vectors(30)
    index = SegmentedIndex(
        ExactIndex(unit_vectors(4, seed=2)), np.full(4, -1), items, np.arange(30)
    )
    check_equals_a_rebuild(index, ExactIndex(items), unit_vectors(5, seed=1), 12)


@pytest.mark.parametrize(
    ("main_rows", "fresh_rows", "message"),
    [
        ([0, 1], [2], "2 for 3 vectors of the main index"),
        ([0, 1, 2], [3, 4], "2 for 1 fresh ones"),
        ([0, 1, 1], [2], "4 rows, 3 distinct, up to 2"),
        ([0, 1, 2], [4], "4 rows, 4 distinct, up to 4"),
    ],
)
def test_index_refuses_rows_that_do_not_number_its_items(
    main_rows, fresh_rows, message
):
    main, fresh = ExactIndex(unit_vectors(3)), unit_vectors(1)
    with pytest.raises(ValueError, match=message):
        SegmentedIndex(main, np.array(main_rows), fresh, np.array(fresh_rows))


def test_index_refuses_to_hold_nothing():
    with pytest.raises(ValueError, match="0 rows"):
        SegmentedIndex(
            ExactIndex(unit_vectors(1)), np.array([-1]), np.zeros([0, 16]), np.array([])
        )


def test_refreshing_refuses_an_id_twice():
    items = unit_vectors(2)
    with pytest.raises(ValueError, match="`item_ids`.*2 ids, 1 distinct"):
        refreshed_index(ExactIndex(items), ["a", "b"], items, ["a", "a"], items)
