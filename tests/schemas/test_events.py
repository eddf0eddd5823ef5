"""The canonical tables, and the curated schema beside the code that fills it."""

from pathlib import Path

import pyarrow as pa
import pytest

from schemas import events
from schemas.features import FeatureCatalog

CATALOG = FeatureCatalog.model_validate(
    {
        "user": [{"name": "age", "kind": "numeric"}],
        "item": [{"name": "genres", "kind": "multi_categorical"}],
        "context": [{"name": "hour", "kind": "categorical"}],
    }
)


def test_tables_hold_the_declared_features():
    assert events.events_schema(CATALOG).names[-1] == "hour"
    assert events.items_schema(CATALOG).field("genres").type == pa.list_(pa.string())
    assert events.users_schema(CATALOG).field("age").type == pa.float64()
    assert events.profiles_schema(CATALOG).names == [
        "user_id",
        "age",
        "history_item_ids",
        "seen_item_ids",
    ]


def test_tables_hold_vectors_and_weights_as_float32():
    catalog = FeatureCatalog.model_validate(
        {
            "user": [{"name": "taste", "kind": "vector", "size": 3}],
            "item": [
                {"name": "tags", "kind": "multi_categorical", "weights": "shares"}
            ],
            "context": [{"name": "seed", "kind": "item_id"}],
        }
    )
    numbers = pa.list_(pa.float32())
    assert events.items_schema(catalog) == pa.schema(
        [
            ("item_id", pa.string()),
            ("tags", pa.list_(pa.string())),
            ("shares", numbers),
        ]
    )
    assert events.profiles_schema(catalog).field("taste").type == numbers
    assert events.events_schema(catalog).field("seed").type == pa.string()


def test_weights_cannot_take_the_name_of_a_canonical_column():
    feature = {"name": "tags", "kind": "multi_categorical", "weights": "item_id"}
    catalog = FeatureCatalog.model_validate({"item": [feature]})
    with pytest.raises(ValueError, match=r"features.item: `item_id` is a column"):
        events.check_names(catalog)


@pytest.mark.parametrize(
    ("side", "name"),
    [("context", "propensity"), ("item", "item_id"), ("user", "user_id")],
)
def test_feature_cannot_take_the_name_of_a_canonical_column(side, name):
    catalog = FeatureCatalog.model_validate({side: [{"name": name, "kind": "text"}]})
    with pytest.raises(ValueError, match=f"features.{side}: `{name}` is a column"):
        events.check_names(catalog)


def test_movielens_schema_gives_dense_keys_to_what_every_row_has():
    from google.protobuf import text_format
    from tensorflow_metadata.proto.v0 import schema_pb2

    text = (Path(events.__file__).parent / "movielens.pbtxt").read_text()
    schema = text_format.Parse(text, schema_pb2.Schema())
    dense = {f.name for f in schema.feature if f.HasField("shape")}
    assert dense == {
        "event_id",
        "user_id",
        "item_id",
        "timestamp",
        "event_type",
        "label",
        "reward",
    }
    for feature in schema.feature:
        if feature.name in dense:
            assert feature.presence.min_fraction == 1, feature.name
            assert not feature.shape.dim, feature.name
    names = {f.name for f in schema.feature}
    assert len(names) == len(schema.feature)
    assert names - dense == {
        "history_item_ids",
        "value",
        "position",
        "propensity",
        "request_id",
        "user_age",
        "user_mean_label",
        "user_gender",
        "user_occupation",
        "user_zip_code",
        "item_title",
        "item_genres",
        "item_release_year",
    }
