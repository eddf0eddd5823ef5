import pytest
from pydantic import ValidationError

from schemas.features import (
    Feature,
    FeatureCatalog,
    FeatureKind,
    RawColumn,
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


EVERY_KIND = FeatureCatalog.model_validate(
    {
        "user": [{"name": "taste", "kind": "vector", "size": 3}],
        "item": [
            {"name": "genres", "kind": "multi_categorical", "weights": "shares"},
            {"name": "tags", "kind": "multi_categorical"},
            {"name": "title", "kind": "text"},
        ],
        "context": [
            {"name": "seed", "kind": "item_id"},
            {"name": "hour", "kind": "numeric"},
            {"name": "device", "kind": "categorical"},
        ],
        "user_statistics": ["mean_label"],
    }
)


def check_columns(columns):
    """By hand: what tables, rows and requests hold for each kind."""
    assert columns(EVERY_KIND) == [
        RawColumn("user_taste", "taste", True, (3,)),
        RawColumn("user_mean_label", "mean_label", True, ()),
        RawColumn("item_genres", "genres", False, (None,)),
        RawColumn("item_shares", "shares", True, (None,)),
        RawColumn("item_tags", "tags", False, (None,)),
        RawColumn("item_title", "title", False, ()),
        RawColumn("context_seed", "seed", False, ()),
        RawColumn("context_hour", "hour", True, ()),
        RawColumn("context_device", "device", False, ()),
    ]
    keys = [column.key for column in columns(EVERY_KIND, Side.CONTEXT, Side.USER)]
    assert keys == [
        *("context_seed", "context_hour", "context_device"),
        *("user_taste", "user_mean_label"),
    ]


def _without_weights(catalog, *sides):
    return [c for c in FeatureCatalog.columns(catalog, *sides) if c.name != "shares"]


def _declared_only(catalog, *sides):
    return [c for side in sides or Side for c in catalog.declared_columns(side)]


def test_columns_value():
    check_columns(FeatureCatalog.columns)


@pytest.mark.parametrize("wrong", [_without_weights, _declared_only])
def test_columns_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_columns(wrong)


def test_declared_columns_are_those_of_the_table():
    names = [column.name for column in EVERY_KIND.declared_columns(Side.USER)]
    assert names == ["taste"]


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        ({"kind": "vector"}, "a feature of the kind `vector` needs its `size`"),
        ({"kind": "vector", "size": -1}, "size"),
        ({"kind": "numeric", "size": 2}, "`size` belongs to the kind `vector`"),
        ({"kind": "vector", "size": 2, "weights": "w"}, "belongs to the kind `multi_c"),
        (
            {"kind": "text", "weights": "w"},
            "`weights` belongs to the kind `multi_categ",
        ),
        ({"kind": "multi_categorical", "weights": "W"}, "weights"),
        ({"kind": "item_id", "hash_buckets": 3}, "share the `id_hash_buckets`"),
    ],
)
def test_feature_refuses_options_of_another_kind(feature, message):
    with pytest.raises(ValidationError, match=message):
        Feature.model_validate({"name": "f", **feature})


WEIGHTED = {"name": "tags", "kind": "multi_categorical", "weights": "w"}


@pytest.mark.parametrize(
    "other",
    [
        {"name": "w", "kind": "numeric"},
        {"name": "genres", "kind": "multi_categorical", "weights": "w"},
    ],
)
def test_catalog_refuses_weights_that_are_another_features(other):
    with pytest.raises(ValidationError, match="`w` holds its `weights` and is no feat"):
        FeatureCatalog.model_validate({"item": [WEIGHTED, other]})
    FeatureCatalog.model_validate({"item": [WEIGHTED], "user": [other]})


def test_catalog_refuses_weights_with_the_key_of_an_id_or_a_statistic():
    for weights, message in (("id", "named `id`"), ("mean_label", "user_mean_label")):
        with pytest.raises(ValidationError, match=message):
            FeatureCatalog.model_validate(
                {
                    "user": [WEIGHTED | {"weights": weights}],
                    "user_statistics": ["mean_label"],
                }
            )
    with pytest.raises(ValidationError, match="`tags` holds its `weights`"):
        FeatureCatalog.model_validate({"item": [WEIGHTED | {"weights": "tags"}]})


def test_catalog_refuses_an_item_that_names_an_item():
    with pytest.raises(ValidationError, match=r"Received for items: \['twin'\]"):
        FeatureCatalog.model_validate({"item": [{"name": "twin", "kind": "item_id"}]})


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
