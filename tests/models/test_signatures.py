import pytest
import tensorflow as tf

from models.feature_space import FeatureSpace
from models.signatures import example_spec, input_signature, transformed_signature
from schemas.features import Feature, FeatureCatalog, FeatureKind, Side

CATALOG = FeatureCatalog(
    user=(
        Feature(name="age", kind=FeatureKind.NUMERIC),
        Feature(name="taste", kind=FeatureKind.VECTOR, size=3),
    ),
    item=(
        Feature(name="genres", kind=FeatureKind.MULTI_CATEGORICAL),
        Feature(name="tags", kind=FeatureKind.MULTI_CATEGORICAL, weights="counts"),
        Feature(name="title", kind=FeatureKind.TEXT),
    ),
    context=(
        Feature(name="device", kind=FeatureKind.CATEGORICAL),
        Feature(name="seed", kind=FeatureKind.ITEM_ID),
    ),
)
VOCABULARIES = ("user_id", "item_id", "item_genres", "item_tags", "context_device")
SPACE = FeatureSpace.from_vocabulary_sizes(CATALOG, dict.fromkeys(VOCABULARIES, 1))


def _seen(spec):
    return {
        key: (one.shape.as_list(), one.dtype, one.name) for key, one in spec.items()
    }


def check_input_signature(signature):
    assert _seen(signature(CATALOG, Side.USER, Side.CONTEXT)) == {
        "user_id": ([None], tf.string, "user_id"),
        "history_item_ids": ([None, None], tf.string, "history_item_ids"),
        "user_age": ([None], tf.float32, "user_age"),
        "user_taste": ([None, 3], tf.float32, "user_taste"),
        "context_device": ([None], tf.string, "context_device"),
        "context_seed": ([None], tf.string, "context_seed"),
    }
    assert _seen(signature(CATALOG, Side.ITEM)) == {
        "item_id": ([None], tf.string, "item_id"),
        "item_genres": ([None, None], tf.string, "item_genres"),
        "item_tags": ([None, None], tf.string, "item_tags"),
        "item_counts": ([None, None], tf.float32, "item_counts"),
        "item_title": ([None], tf.string, "item_title"),
    }


WRONG_SIGNATURES = {
    "every side": lambda catalog, *sides: input_signature(catalog, *Side),
    "numbers as text": lambda catalog, *sides: {
        key: tf.TensorSpec(spec.shape, tf.string, key)
        for key, spec in input_signature(catalog, *sides).items()
    },
    "lists as scalars": lambda catalog, *sides: {
        key: tf.TensorSpec([None], spec.dtype, key)
        for key, spec in input_signature(catalog, *sides).items()
    },
    "without names": lambda catalog, *sides: {
        key: tf.TensorSpec(spec.shape, spec.dtype)
        for key, spec in input_signature(catalog, *sides).items()
    },
}


def test_input_signature_value():
    check_input_signature(input_signature)


@pytest.mark.parametrize("wrong", WRONG_SIGNATURES.values(), ids=WRONG_SIGNATURES)
def test_input_signature_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_input_signature(wrong)


@pytest.mark.parametrize("rank", [1, 2])
def test_transformed_signature_adds_the_leading_axes(rank):
    leading = [None] * rank
    names = [*SPACE.query_names, *SPACE.candidate_names]
    assert _seen(transformed_signature(SPACE, names, rank)) == {
        "user_id_xf": (leading, tf.int64, "user_id_xf"),
        "history_item_ids_xf": ([*leading, None], tf.int64, "history_item_ids_xf"),
        "user_age_xf": (leading, tf.float32, "user_age_xf"),
        "user_taste_xf": ([*leading, 3], tf.float32, "user_taste_xf"),
        "context_device_xf": (leading, tf.int64, "context_device_xf"),
        "context_seed_xf": (leading, tf.int64, "context_seed_xf"),
        "item_id_xf": (leading, tf.int64, "item_id_xf"),
        "item_genres_xf": ([*leading, None], tf.int64, "item_genres_xf"),
        "item_tags_xf": ([*leading, None], tf.int64, "item_tags_xf"),
        "item_counts_xf": ([*leading, None], tf.float32, "item_counts_xf"),
        "item_title_xf": ([*leading, None], tf.int64, "item_title_xf"),
    }


def test_transformed_signature_holds_the_asked_names_only():
    assert list(transformed_signature(SPACE, ["item_id_xf"])) == ["item_id_xf"]


def test_example_spec_picks_the_sides_keys_and_never_the_label():
    raw = {
        key: tf.io.VarLenFeature(tf.string)
        for key in (
            *("event_id", "user_id", "item_id", "history_item_ids", "label", "reward"),
            *("user_age", "item_genres", "item_title", "context_device"),
            *("user_taste", "item_tags", "item_counts", "context_seed"),
        )
    }
    query = example_spec(raw, CATALOG, Side.USER, Side.CONTEXT)
    assert set(query) == {
        *("user_id", "history_item_ids", "user_age", "user_taste"),
        *("context_device", "context_seed"),
    }
    item = example_spec(raw, CATALOG, Side.ITEM)
    assert set(item) == {
        *("item_id", "item_genres", "item_tags", "item_counts", "item_title"),
    }
    both = example_spec(raw, CATALOG, *Side)
    assert set(both) == set(query) | set(item)
