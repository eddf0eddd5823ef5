"""A vocabulary that has grown gives every known value the id that it had."""

from pathlib import Path

import pytest
import tensorflow as tf
import tensorflow_transform as tft

from models.growing_vocabulary import grow_transform_graph, grown
from models.preprocessing import TransformGraph
from tests.models.transform_graphs import with_vocabularies
from tests.models.transform_world import CATALOG, records, serialized


def check_grown(grown):
    """The checker: a later analysis with another order, a new value and a lost one."""
    known = [b"a", b"b", b"c"]
    assert grown(known, [b"d", b"c", b"e", b"a"]) == [b"a", b"b", b"c", b"d", b"e"]
    assert grown(known, known) == known
    assert grown([], [b"x", b"w"]) == [b"x", b"w"]
    # Transform found no value at all.
    assert grown(known, [b"49d0cd50-04bb-48c0-bc6f-5b575dce351a"]) == known
    twice = grown(known, [b"e", b"a"])
    assert grown(twice, [b"f", b"e"]) == [b"a", b"b", b"c", b"e", b"f"]


def test_grown():
    check_grown(grown)


def newest_first(known, newer):
    return list(dict.fromkeys([*newer, *known]))


def in_order(known, newer):
    return sorted(grown(known, newer), reverse=True)


def lost_ones_out(known, newer):
    return [value for value in grown(known, newer) if value in newer]


def placeholder_kept(known, newer):
    return list(dict.fromkeys([*known, *newer]))


@pytest.mark.parametrize(
    "wrong", [newest_first, in_order, lost_ones_out, placeholder_kept]
)
def test_grown_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_grown(wrong)


def ids(graph: Path) -> dict[str, list]:
    """Returns the transformed rows."""
    transform = TransformGraph(str(graph), CATALOG)
    rows = tf.constant([serialized(record) for record in records()])
    raw = tf.io.parse_example(rows, transform.raw_spec)
    tensors = {name: values.numpy().tolist() for name, values in transform(raw).items()}
    return tensors | {"num_items": transform.space.item_id.num_ids}


def test_known_ids_stay_and_new_values_come_behind(transform_uri, tmp_path):
    analysed = Path(transform_uri)
    known = with_vocabularies(
        analysed, tmp_path / "known", {"item_id": ["d", "b"], "user_city": ["oslo"]}
    )
    out = tmp_path / "grown"
    assert grow_transform_graph(known, analysed, out) == {
        "user_id": 0,
        "item_id": 2,
        "user_city": 1,
        "user_club": 0,
        "item_genres": 0,
        "context_device": 0,
    }
    assert tft.TFTransformOutput(str(out)).vocabulary_by_name("item_id") == [
        b"d",
        b"b",
        b"a",
        b"c",
    ]
    before, after = ids(known), ids(out)
    first = 1 + CATALOG.id_hash_buckets
    place = {"d": 0, "b": 1, "a": 2, "c": 3}
    items = [record["item_id"] for record in records()]
    assert after["item_id_xf"] == [first + place[item] for item in items]
    for item, old, new in zip(
        items, before["item_id_xf"], after["item_id_xf"], strict=True
    ):
        if item in "db":
            assert new == old
        else:
            assert old < first  # a hash bucket of unknown ids
    assert after["num_items"] == before["num_items"] + 2
    # What is no vocabulary is as it was.
    for name in ("user_age_xf", "item_price_xf", "item_title_xf"):
        assert after[name] == before[name]


def test_graph_of_other_features_cannot_grow(transform_uri, tmp_path):
    known = with_vocabularies(Path(transform_uri), tmp_path / "known", {})
    (known / "transformed_metadata" / "asset_map").write_text('{"item_id": "item_id"}')
    with pytest.raises(ValueError, match="only a graph of the same features can grow"):
        grow_transform_graph(known, Path(transform_uri), tmp_path / "out")
