"""The op inside a graph answers as ScaNN's Python binding does."""

import numpy as np
import pytest
import tensorflow as tf

from models.index import IndexSettings, ScannIndex
from models.index.scann_state import Layout, parts_of, read_parts, state_of
from tests.models.index.index_contract import Served, clustered_vectors

ITEMS = clustered_vectors(6000)
QUERIES = clustered_vectors(60, seed=1)
K, NUM_REORDERED, NUM_LEAVES, LEAVES_TO_SEARCH = 20, 25, 40, 5
SETTINGS = IndexSettings(
    tree_above=0,
    num_leaves=NUM_LEAVES,
    leaves_to_search=LEAVES_TO_SEARCH / NUM_LEAVES,
    min_reordered=NUM_REORDERED,
    reordered_per_result=1,
)


def binding(settings=SETTINGS, soar_lambda=None):
    """Returns an index of the Python binding, set up by its own documentation."""
    from scann.scann_ops.py import scann_ops_pybind

    builder = scann_ops_pybind.builder(ITEMS, K, "dot_product")
    if settings.tree_above == 0:
        builder = builder.tree(
            NUM_LEAVES,
            LEAVES_TO_SEARCH,
            training_sample_size=100 * NUM_LEAVES,
            soar_lambda=soar_lambda,
        )
    return (
        builder.score_ah(
            settings.dimensions_per_block,
            anisotropic_quantization_threshold=settings.anisotropic_threshold,
        )
        .reorder(NUM_REORDERED)
        .build()
    )


@pytest.fixture(scope="module")
def answer():
    """Returns (rows, scores) of the binding."""
    return binding().search_batched(QUERIES)


def check_same_answers(search, answer):
    """Compares rows wherever scores are not tied, and scores everywhere."""
    scores, rows = (values.numpy() for values in search(tf.constant(QUERIES), K))
    expected_rows, expected_scores = answer
    np.testing.assert_allclose(scores, expected_scores, atol=1e-6)
    is_tied = np.isclose(np.diff(scores, axis=1), 0, atol=1e-6)
    is_tied = np.pad(is_tied, [[0, 0], [1, 0]]) | np.pad(is_tied, [[0, 0], [0, 1]])
    equal = (rows == expected_rows) | is_tied
    assert equal.all()


def test_index_answers_as_the_binding_does(answer):
    check_same_answers(ScannIndex(ITEMS, SETTINGS).search, answer)


def test_index_without_partitions_answers_as_the_binding_does():
    settings = SETTINGS.model_copy(
        update={"tree_above": len(ITEMS), "dimensions_per_block": 3}
    )
    answer = binding(settings).search_batched(QUERIES)
    check_same_answers(ScannIndex(ITEMS, settings).search, answer)


def test_saved_and_loaded_index_answers_as_the_binding_does(answer, tmp_path):
    options = tf.saved_model.SaveOptions(namespace_whitelist=["Scann"])
    served = Served(ScannIndex(ITEMS, SETTINGS), ITEMS.shape[1])
    tf.saved_model.save(served, str(tmp_path), options=options)
    loaded = tf.saved_model.load(str(tmp_path))
    check_same_answers(lambda q, k: loaded.search(q, tf.constant(k)), answer)


WRONG_SETTINGS = {
    "fewer leaves": {"leaves_to_search": 1 / NUM_LEAVES},
    "more candidates": {"min_reordered": 2 * NUM_REORDERED},
    "other codes": {"anisotropic_threshold": 0.7},
    "larger blocks": {"dimensions_per_block": 4},
}


@pytest.mark.parametrize("changed", WRONG_SETTINGS.values(), ids=WRONG_SETTINGS)
def test_check_of_answers_rejects(answer, changed):
    index = ScannIndex(ITEMS, SETTINGS.model_copy(update=changed))
    with pytest.raises(AssertionError):
        check_same_answers(index.search, answer)


def test_written_and_read_index_answers_alike(answer, tmp_path):
    ScannIndex(ITEMS, SETTINGS).write(tmp_path / "index")
    check_same_answers(ScannIndex.read(tmp_path / "index").search, answer)


def test_parts_of_a_state_make_it_again():
    state = ScannIndex(ITEMS[:500], SETTINGS)._state
    parts = parts_of(state)
    again = parts_of(state_of(parts, ITEMS[:500]))
    assert again.keys() == parts.keys()
    for name, part in parts.items():
        equal = np.array_equal(again[name], part)
        assert equal, name


def test_tf_op_has_no_place_for_the_second_codes_of_soar(tmp_path):
    """Why `build_state` leaves SOAR out; once this fails, it can come in."""
    binding(soar_lambda=1.5).serialize(str(tmp_path))
    state = state_of(read_parts(tmp_path), ITEMS)
    with pytest.raises(tf.errors.OpError, match="soar_hashed_dataset must be set"):
        state.recreate_handle()


@pytest.mark.parametrize(
    ("num_items", "num_leaves"), [(100, 0), (101, 10), (400, 20), (10_000, 100)]
)
def test_layout_has_as_many_leaves_as_the_root_of_the_items(num_items, num_leaves):
    layout = Layout.of(IndexSettings(tree_above=100), num_items)
    assert layout.num_leaves == num_leaves
    named = Layout.of(IndexSettings(tree_above=100, num_leaves=300), num_items)
    assert named.num_leaves == (min(300, num_items) if num_leaves else 0)
