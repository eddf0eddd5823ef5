import numpy as np
import pytest
import tensorflow as tf

from models.layers.item_table import ItemTable

ID, NUM_IDS = "item_id_xf", 7
ITEMS = {
    "item_id_xf": np.array([2, 5, 3], np.int64),
    "item_genres_xf": np.array([[1, 2], [3, 0], [0, 0]], np.int64),
    "item_price_xf": np.array([0.5, -1.0, 2.0], np.float32),
}
ASKED = np.array([3, 0, 5, 6, 5, 2], np.int64)


def check_item_table(lookup):
    """Rows by id, in any order and repeated; zeros for padding and an unknown id."""
    found = lookup(ITEMS, tf.constant(ASKED))
    assert set(found) == set(ITEMS)
    np.testing.assert_array_equal(found["item_id_xf"], ASKED)
    genres = [[0, 0], [0, 0], [3, 0], [0, 0], [3, 0], [1, 2]]
    np.testing.assert_array_equal(found["item_genres_xf"], genres)
    np.testing.assert_allclose(found["item_price_xf"], [2.0, 0, -1.0, 0, -1.0, 0.5])
    assert {name: values.dtype for name, values in found.items()} == {
        name: tf.as_dtype(values.dtype) for name, values in ITEMS.items()
    }


def in_order_of_rows(items, asked):
    rows = items | {"item_id_xf": 1 + np.arange(len(items["item_id_xf"]))}
    return ItemTable(ID, NUM_IDS, rows)(asked)


def unknown_is_the_last_known(items, asked):
    return ItemTable(ID, NUM_IDS, items)(tf.where(asked == 6, 5, asked)) | {
        "item_id_xf": asked
    }


def test_item_table_value():
    check_item_table(lambda items, asked: ItemTable(ID, NUM_IDS, items)(asked))


@pytest.mark.parametrize("wrong", [in_order_of_rows, unknown_is_the_last_known])
def test_item_table_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_item_table(wrong)


@pytest.mark.parametrize("ids", [[0, 1], [7, 1]])
def test_an_id_outside_the_table_is_an_error(ids):
    items = {"item_id_xf": np.array(ids)}
    with pytest.raises(ValueError, match=r"ids in \[1, 7\)"):
        ItemTable(ID, NUM_IDS, items)
