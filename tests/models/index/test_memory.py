import pytest

from models.index import IndexMemory, IndexSettings, ScannIndex, estimate_memory
from tests.models.index.index_contract import clustered_vectors

PARTS = {
    "vectors": "dataset",
    "codes": "hashed_dataset",
    "codebook": "ah_codebook",
    "centroids": "serialized_partitioner",
    "lists": "datapoint_to_token",
}
CASES = {
    "partitions": (3000, 64, IndexSettings(tree_above=0, num_leaves=60)),
    "no partitions": (3000, 20, IndexSettings(dimensions_per_block=3)),
    "large blocks": (
        3000,
        32,
        IndexSettings(tree_above=0, num_leaves=30, dimensions_per_block=4),
    ),
}


@pytest.fixture(scope="module")
def real():
    """Returns the bytes of each part of an index of each case."""
    return {
        case: ScannIndex(clustered_vectors(size, dim), settings).serialized_bytes()
        for case, (size, dim, settings) in CASES.items()
    }


def check_estimate(estimate, real):
    for case, (num_items, dim, settings) in CASES.items():
        memory = estimate(num_items, dim, settings, False)
        sizes = real[case]
        for ours, scanns in PARTS.items():
            size = sizes.get(scanns, 0)
            assert getattr(memory, ours) == pytest.approx(size, rel=0.2), (case, ours)
        assert memory.total == pytest.approx(sum(sizes.values()), rel=0.2)


def test_estimate_is_within_a_fifth_of_the_real_size(real):
    check_estimate(estimate_memory, real)


def packed(num_items, dim, settings, is_exact):
    memory = estimate_memory(num_items, dim, settings, is_exact)
    return IndexMemory(memory.vectors, memory.codes // 2, *_rest(memory))


def no_lists(num_items, dim, settings, is_exact):
    memory = estimate_memory(num_items, dim, settings, is_exact)
    return IndexMemory(memory.vectors, memory.codes, *_rest(memory)[:2])


def always_partitioned(num_items, dim, settings, is_exact):
    settings = settings.model_copy(update={"tree_above": 0})
    return estimate_memory(num_items, dim, settings, is_exact)


def _rest(memory):
    return memory.codebook, memory.centroids, memory.lists


@pytest.mark.parametrize("wrong", [packed, no_lists, always_partitioned])
def test_check_of_the_estimate_rejects(wrong, real):
    with pytest.raises(AssertionError):
        check_estimate(wrong, real)


def test_exact_index_is_its_vectors():
    memory = estimate_memory(1000, 64, IndexSettings(), is_exact=True)
    assert memory == IndexMemory(vectors=256_000)
    assert str(memory) == "0.3 MB (vectors 0.3)"
