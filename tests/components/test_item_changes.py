"""Which items differ between two catalogues, and which say too little of themselves."""

import numpy as np
import pytest
import tensorflow as tf

from components.item_changes import (
    Items,
    find_changes,
    incomplete_items,
    named,
    required_keys,
)
from schemas.features import Feature, FeatureCatalog, FeatureKind

CATALOG = FeatureCatalog(
    user=(Feature(name="age", kind=FeatureKind.NUMERIC),),
    item=(
        Feature(name="title", kind=FeatureKind.TEXT),
        Feature(name="price", kind=FeatureKind.NUMERIC),
        Feature(name="genres", kind=FeatureKind.MULTI_CATEGORICAL),
    ),
)


def check_changes(find):
    """Against Python's sets, over catalogues drawn at random."""
    random = np.random.default_rng(0)
    for _ in range(50):
        before, after = (
            {
                f"i{n}": bytes([random.integers(2)])
                for n in random.permutation(8)[: random.integers(9)]
            }
            for _ in range(2)
        )
        found = find(Items([*before], before), Items([*after], after))
        assert sorted(found.added) == sorted(set(after) - set(before))
        assert sorted(found.removed) == sorted(set(before) - set(after))
        common = set(after) & set(before)
        differ = {item for item in common if after[item] != before[item]}
        assert sorted(found.changed) == sorted(differ)
        assert found.unchanged == len(common - differ)
        share = len(found.removed) / len(before) if before else 0.0
        assert found.removed_share == pytest.approx(share)
        assert bool(found) is (before != after)


def test_changes_are_the_difference_of_two_catalogues():
    check_changes(find_changes)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda before, after: find_changes(after, before),
        lambda before, after: find_changes(before, Items(after.ids, before.examples)),
        lambda before, after: find_changes(Items(before.ids, after.examples), after),
    ],
)
def test_check_of_changes_rejects(wrong):
    with pytest.raises((AssertionError, KeyError)):
        check_changes(wrong)


def item(**features) -> bytes:
    example = tf.train.Example()
    for key, values in features.items():
        feature = example.features.feature[f"item_{key}"]
        if key == "price":
            feature.float_list.value.extend(values)
        else:
            feature.bytes_list.value.extend(text.encode() for text in values)
    return example.SerializeToString()


ITEMS = (
    ("whole", item(title=["Alien"], price=[2.0], genres=["x"])),
    ("free", item(title=["Alien"], price=[0.0])),
    ("untitled", item(price=[1.0], genres=["x"])),
    ("blank", item(title=[""], price=[1.0])),
    ("bare", item()),
    ("hollow", item(title=[], genres=[])),
)


def check_incomplete(find):
    assert find(ITEMS, CATALOG, {"item_title"}) == {
        "untitled": "`item_title`",
        "blank": "`item_title`",
        "bare": "any feature",
        "hollow": "any feature",
    }
    assert list(find(ITEMS, CATALOG, set())) == ["bare", "hollow"]
    # What the ids alone tell is all there is.
    assert find(ITEMS, FeatureCatalog(), set()) == {}


def test_incomplete_items_are_named_with_what_they_lack():
    check_incomplete(incomplete_items)


def _required_alone(examples, catalog, required):
    found = incomplete_items(examples, catalog, required)
    return {i: what for i, what in found.items() if what != "any feature"}


def _keys_alone(examples, catalog, required):
    named_in = [(i, e) for i, e in examples if b"item_title" not in e]
    return incomplete_items(named_in, catalog, required)


@pytest.mark.parametrize("wrong", [_required_alone, _keys_alone])
def test_check_of_incomplete_items_rejects(wrong):
    with pytest.raises(AssertionError):
        check_incomplete(wrong)


def test_required_are_the_item_features_that_every_row_must_have(tmp_path):
    schema = tmp_path / "schema.pbtxt"
    schema.write_text(
        'feature { name: "item_title" type: BYTES presence { min_fraction: 1 } }\n'
        'feature { name: "item_price" type: FLOAT presence { min_fraction: 0.9 } }\n'
        'feature { name: "item_id" type: BYTES presence { min_fraction: 1 } }\n'
        'feature { name: "user_age" type: FLOAT presence { min_fraction: 1 } }\n'
    )
    assert required_keys(schema, CATALOG) == {"item_title"}


def test_long_lists_are_cut_short_where_they_are_named():
    assert named(["a", "b"]) == "'a', 'b'"
    assert named(str(n) for n in range(1007)) == (
        "'0', '1', '2', '3', '4' and 1,002 more"
    )
