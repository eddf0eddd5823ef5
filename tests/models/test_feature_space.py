import dataclasses

import pytest

from models.feature_space import FeatureSpace
from schemas.features import Feature, FeatureCatalog, FeatureKind

CATALOG = FeatureCatalog(
    user=(
        Feature(name="age", kind=FeatureKind.NUMERIC),
        Feature(name="city", kind=FeatureKind.CATEGORICAL, hash_buckets=3),
    ),
    item=(
        Feature(name="genres", kind=FeatureKind.MULTI_CATEGORICAL),
        Feature(name="title", kind=FeatureKind.TEXT, hash_buckets=100),
        Feature(name="plot", kind=FeatureKind.TEXT),
    ),
    context=(Feature(name="device", kind=FeatureKind.CATEGORICAL),),
    history_length=7,
    id_hash_buckets=5,
)
SIZES = {
    "user_id": 40,
    "item_id": 30,
    "user_city": 2,
    "item_genres": 6,
    "context_device": 0,
}


def check_num_ids(from_vocabulary_sizes):
    """One id pads, then the hash buckets, then the vocabulary; numbers have no ids."""
    space = from_vocabulary_sizes(CATALOG, SIZES)
    sizes = {
        feature.name: feature.num_ids
        for feature in (
            space.user_id,
            space.item_id,
            *space.user,
            *space.item,
            *space.context,
        )
    }
    assert sizes == {
        "user_id_xf": 1 + 5 + 40,
        "item_id_xf": 1 + 5 + 30,
        "user_age_xf": 0,
        "user_city_xf": 1 + 3 + 2,
        "item_genres_xf": 1 + 8 + 6,
        "item_title_xf": 1 + 100,
        "item_plot_xf": 1 + 4096,
        "context_device_xf": 1 + 8 + 0,
    }


def _without_padding(catalog, sizes):
    space = FeatureSpace.from_vocabulary_sizes(catalog, sizes)
    shorter = dataclasses.replace(space.item_id, num_ids=space.item_id.num_ids - 1)
    return dataclasses.replace(space, item_id=shorter)


def _ids_hashed_as_features(catalog, sizes):
    catalog = catalog.model_copy(update={"id_hash_buckets": 8})
    return FeatureSpace.from_vocabulary_sizes(catalog, sizes)


def test_from_vocabulary_sizes_counts_ids():
    check_num_ids(FeatureSpace.from_vocabulary_sizes)


@pytest.mark.parametrize("wrong", [_without_padding, _ids_hashed_as_features])
def test_num_ids_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_num_ids(wrong)


def test_query_and_candidate_names_split_the_features():
    space = FeatureSpace.from_vocabulary_sizes(CATALOG, SIZES)
    assert space.query_names == [
        "user_id_xf",
        "history_item_ids_xf",
        "user_age_xf",
        "user_city_xf",
        "context_device_xf",
    ]
    assert space.candidate_names == [
        "item_id_xf",
        "item_genres_xf",
        "item_title_xf",
        "item_plot_xf",
    ]
    assert space.history_length == 7


def test_a_growing_vocabulary_extends_the_range_and_nothing_else():
    before = FeatureSpace.from_vocabulary_sizes(CATALOG, SIZES)
    after = FeatureSpace.from_vocabulary_sizes(CATALOG, {**SIZES, "item_id": 31})
    assert after.item_id.num_ids == before.item_id.num_ids + 1
    assert dataclasses.replace(after, item_id=before.item_id) == before


EVERY_KIND = FeatureCatalog.model_validate(
    {
        "user": [
            {"name": "taste", "kind": "vector", "size": 3},
            {"name": "idol", "kind": "item_id"},
        ],
        "item": [{"name": "tags", "kind": "multi_categorical", "weights": "counts"}],
        "context": [
            {"name": "seed", "kind": "item_id"},
            {"name": "hour", "kind": "categorical"},
        ],
        "id_hash_buckets": 5,
    }
)
EVERY_SIZE = {"user_id": 40, "item_id": 30, "item_tags": 6, "context_hour": 24}


def check_seed_items(space_of):
    """Seed items are the features that name an item; their ids are those of items."""
    space = space_of(EVERY_KIND, EVERY_SIZE)
    seeds = [(feature.name, feature.num_ids) for feature in space.seed_items]
    assert seeds == [("user_idol_xf", 36), ("context_seed_xf", 36)]


def _seeds_of_the_context(catalog, sizes):
    space = FeatureSpace.from_vocabulary_sizes(catalog, sizes)
    return dataclasses.replace(space, user=space.user[:1])


def _seeds_in_a_space_of_their_own(catalog, sizes):
    space = FeatureSpace.from_vocabulary_sizes(catalog, sizes)
    seed = dataclasses.replace(space.context[0], num_ids=9)
    return dataclasses.replace(space, context=(seed, space.context[1]))


def test_seed_items_value():
    check_seed_items(FeatureSpace.from_vocabulary_sizes)


@pytest.mark.parametrize(
    "wrong", [_seeds_of_the_context, _seeds_in_a_space_of_their_own]
)
def test_seed_items_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_seed_items(wrong)


def test_weights_follow_their_feature_and_vectors_have_their_size():
    space = FeatureSpace.from_vocabulary_sizes(EVERY_KIND, EVERY_SIZE)
    assert space.candidate_names == ["item_id_xf", "item_tags_xf", "item_counts_xf"]
    assert [feature.name for feature in space.candidate_features] == [
        *("item_id_xf", "item_tags_xf"),
    ]
    (tags,) = space.item
    assert tags.is_weighted and tags.num_ids == 1 + 8 + 6
    tensors = {"item_tags_xf": "ids", "item_counts_xf": "weights", "other": "x"}
    assert tags.of(tensors) == ("ids", "weights")
    taste = space.user[0]
    assert (taste.size, taste.num_ids, taste.is_weighted) == (3, 0, False)
    assert taste.of({"user_taste_xf": "numbers"}) == "numbers"
    assert space.history in space.query_features
    assert space.history.num_ids == space.item_id.num_ids
