import numpy as np
import pytest

from models.index import (
    ExactIndex,
    IndexKind,
    IndexSettings,
    IndexTuningError,
    ScannIndex,
    build_index,
    build_tuned_index,
    candidate_settings,
    choice,
    estimate_memory,
    recall_against_exact,
)
from tests.models.index.index_contract import clustered_vectors, unit_vectors

QUERIES = clustered_vectors(200, seed=1)


@pytest.mark.parametrize(
    ("kind", "num_items", "is_exact"),
    [
        (IndexKind.AUTO, 99, True),
        (IndexKind.AUTO, 100, False),
        (IndexKind.EXACT, 200, True),
        (IndexKind.SCANN, 50, False),
    ],
)
def test_build_index_follows_the_settings(kind, num_items, is_exact):
    settings = IndexSettings(kind=kind, exact_below=100)
    index = build_index(unit_vectors(num_items), settings)
    assert index.is_exact is is_exact
    assert index.num_items == num_items


def names(settings, num_items):
    """Returns what is compared: exact, or the number of leaves of a ScaNN index."""
    return [
        "exact"
        if one.kind is IndexKind.EXACT
        else ("tree" if num_items > one.tree_above else "flat")
        for one in settings
    ]


def check_candidates(candidates):
    auto, scann = IndexSettings(), IndexSettings(kind=IndexKind.SCANN)
    for num_items, expected in [
        (1, ["exact"]),
        (9_999, ["exact"]),
        (10_000, ["exact", "flat"]),
        (20_000, ["exact", "flat"]),
        (39_999, ["exact", "flat"]),
        (40_000, ["flat"]),
        (49_999, ["flat"]),
        (50_000, ["flat", "tree"]),
        (199_999, ["flat", "tree"]),
        (200_000, ["tree"]),
        (1_000_000, ["tree"]),
    ]:
        assert names(candidates(num_items, auto), num_items) == expected
        without = [name for name in expected if name != "exact"] or ["flat"]
        assert names(candidates(num_items, scann), num_items) == without
    exact = IndexSettings(kind=IndexKind.EXACT)
    assert names(candidates(10**6, exact), 10**6) == ["exact"]


def test_candidates_are_both_sides_of_a_near_bound():
    check_candidates(candidate_settings)


def always_compared(num_items, settings):
    return candidate_settings(20_000, settings)


def never_compared(num_items, settings):
    return candidate_settings(num_items, settings)[:1]


@pytest.mark.parametrize("wrong", [always_compared, never_compared])
def test_check_of_candidates_rejects(wrong):
    with pytest.raises(AssertionError):
        check_candidates(wrong)


def test_candidates_have_codes_of_each_size():
    candidates = candidate_settings(100_000, IndexSettings(), block_sizes=[2, 4])
    sizes = [candidate.dimensions_per_block for candidate in candidates]
    assert sizes == [2, 4, 2, 4]


def test_small_catalogue_is_exact_and_nothing_is_tuned():
    built = build_tuned_index(unit_vectors(2000), unit_vectors(5, seed=1))
    assert isinstance(built.index, ExactIndex)
    assert built.tuning is None
    assert built.reason == "exact, by its size"
    assert built.memory == estimate_memory(2000, 16, IndexSettings(), is_exact=True)


def test_named_kind_is_tuned():
    items = clustered_vectors(3000)
    built = build_tuned_index(items, QUERIES, IndexSettings(kind=IndexKind.SCANN))
    assert isinstance(built.index, ScannIndex)
    assert built.reason == "ScaNN with a scan of all codes, by its size"
    assert built.tuning is not None and built.tuning.best.reaches(0.95)
    recall = recall_against_exact(built.index, ExactIndex(items), QUERIES, 100)
    assert recall == pytest.approx(built.tuning.best.recall)


@pytest.mark.parametrize("fastest", [0, 1])
def test_near_a_bound_the_faster_one_is_taken(monkeypatch, fastest):
    speeds = [100.0, 100.0]
    speeds[fastest] = 200.0
    monkeypatch.setattr(choice, "queries_per_second", lambda *_: speeds)
    settings = IndexSettings(exact_below=3000)
    built = build_tuned_index(clustered_vectors(3000), QUERIES, settings)
    assert built.index.is_exact is (fastest == 0)
    assert "fastest of those compared (" in built.reason
    assert (built.tuning is None) == built.index.is_exact


def test_near_a_bound_the_one_that_reaches_the_target_is_taken():
    """Codes of 16 dimensions reach no recall: the exact index remains."""
    settings = IndexSettings(
        exact_below=3000, dimensions_per_block=16, recall_target=0.9999
    )
    random = unit_vectors(4000, dim=64)
    queries = unit_vectors(50, dim=64, seed=1)
    assert build_tuned_index(random, queries, settings).index.is_exact
    with pytest.raises(IndexTuningError):
        build_tuned_index(
            random, queries, settings.model_copy(update={"kind": IndexKind.SCANN})
        )


def test_table_of_all_builds_compared_is_kept(monkeypatch):
    monkeypatch.setattr(choice, "queries_per_second", lambda *_: [1.0, 2.0])
    settings = IndexSettings(kind=IndexKind.SCANN)
    built = build_tuned_index(clustered_vectors(3000), QUERIES, settings, [2, 4])
    assert built.tuning is not None
    sizes = {point.dimensions_per_block for point in built.tuning.points}
    assert sizes == {2, 4}
    assert built.tuning.best.dimensions_per_block == 4


def test_without_queries_the_size_decides():
    settings = IndexSettings(exact_below=300)
    built = build_tuned_index(unit_vectors(300), np.zeros([0, 16]), settings)
    assert not built.index.is_exact and built.tuning is None
    assert "no queries" in built.reason


def test_speed_is_of_all_queries_and_the_slower_index_is_the_slower():
    items = clustered_vectors(30_000)
    small, large = ExactIndex(items[:300]), ExactIndex(items)
    slow, fast = choice.queries_per_second([large, small], QUERIES)
    assert 0 < slow < fast
