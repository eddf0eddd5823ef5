import pytest
from pydantic import ValidationError

from schemas.features import (
    Feature,
    FeatureCatalog,
    FeatureKind,
    Side,
    transformed_name,
)

AGE = Feature(name="age", kind=FeatureKind.NUMERIC)
GENRES = Feature(name="genres", kind=FeatureKind.MULTI_CATEGORICAL)
TITLE = Feature(name="title", kind=FeatureKind.TEXT)
CATALOG = FeatureCatalog(
    user=(AGE,),
    item=(GENRES, TITLE),
    context=(Feature(name="age", kind=FeatureKind.CATEGORICAL),),
)


def check_features(features):
    """Keys are "<side>_<name>"; sides come as asked, or user, item, context."""
    keys = [key for key, _ in features(CATALOG)]
    assert keys == ["user_age", "item_genres", "item_title", "context_age"]
    assert features(CATALOG, Side.ITEM) == [
        ("item_genres", GENRES),
        ("item_title", TITLE),
    ]
    keys = [key for key, _ in features(CATALOG, Side.CONTEXT, Side.USER)]
    assert keys == ["context_age", "user_age"]
    assert features(FeatureCatalog()) == []


def _of_the_first_side(catalog, *sides):
    return FeatureCatalog.features(catalog, *sides[:1])


def _without_the_side(catalog, *sides):
    return [(key[key.index("_") + 1 :], f) for key, f in catalog.features(*sides)]


def test_features_value():
    check_features(FeatureCatalog.features)


@pytest.mark.parametrize("wrong", [_of_the_first_side, _without_the_side])
def test_features_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_features(wrong)


@pytest.mark.parametrize(
    ("kind", "hash_buckets", "expected"),
    [
        (FeatureKind.CATEGORICAL, 0, 8),
        (FeatureKind.MULTI_CATEGORICAL, 0, 8),
        (FeatureKind.TEXT, 0, 4096),
        (FeatureKind.TEXT, 10, 10),
        (FeatureKind.CATEGORICAL, 1, 1),
    ],
)
def test_num_hash_buckets_takes_the_kinds_default_for_0(kind, hash_buckets, expected):
    feature = Feature(name="f", kind=kind, hash_buckets=hash_buckets)
    assert feature.num_hash_buckets == expected


@pytest.mark.parametrize("name", ["", "Age", "2nd", "a-b", "a b", "_a", "é", "a\n"])
def test_feature_refuses_a_name_that_is_no_column(name):
    with pytest.raises(ValidationError, match="name"):
        Feature(name=name, kind=FeatureKind.NUMERIC)


def test_feature_refuses_a_kind_that_does_not_exist():
    with pytest.raises(ValidationError, match="'categorical', 'multi_categorical'"):
        Feature(name="age", kind="integer")


def test_catalog_refuses_an_unknown_key():
    with pytest.raises(ValidationError, match="items"):
        FeatureCatalog(items=(AGE,))


@pytest.mark.parametrize("side", list(Side))
def test_catalog_refuses_a_feature_declared_twice(side):
    with pytest.raises(ValidationError, match=r"declared twice: \['age'\]"):
        FeatureCatalog(**{side.value: (AGE, GENRES, AGE)})


@pytest.mark.parametrize("side", ["user", "item"])
def test_catalog_refuses_a_feature_whose_key_is_the_rows_id(side):
    """A feature `id` of the users has the key `user_id`; its values replaced the ids."""
    feature = Feature(name="id", kind=FeatureKind.CATEGORICAL)
    with pytest.raises(ValidationError, match=rf"`id`.*\['{side}_id'\]"):
        FeatureCatalog(**{side: (feature,)})


def test_catalog_takes_an_id_of_the_context():
    feature = Feature(name="id", kind=FeatureKind.CATEGORICAL)
    assert FeatureCatalog(context=(feature,)).features() == [("context_id", feature)]


@pytest.mark.parametrize(
    "limits",
    [{"history_length": 0}, {"history_length": 2001}, {"id_hash_buckets": 0}],
)
def test_catalog_refuses_sizes_out_of_range(limits):
    with pytest.raises(ValidationError, match=next(iter(limits))):
        FeatureCatalog(**limits)


def test_catalog_survives_json():
    assert FeatureCatalog.model_validate_json(CATALOG.model_dump_json()) == CATALOG


def test_transformed_name_appends_the_suffix():
    assert transformed_name("item_genres") == "item_genres_xf"
