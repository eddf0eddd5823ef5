import numpy as np
import pytest
import tensorflow as tf

from models.preprocessing import TransformGraph
from models.training_input import transformed_batches
from tests.models import training_world, transform_world

ROWS = [
    (number % 3 + 1, number + 1, list(range(1, number % 4 + 1))) for number in range(10)
]


@pytest.fixture
def files(tmp_path):
    """Returns two files of a split, which hold the first six rows and the others."""
    training_world.write(tmp_path / "data_tfrecord-00000-of-00002.gz", ROWS[:6])
    training_world.write(tmp_path / "data_tfrecord-00001-of-00002.gz", ROWS[6:])
    return [str(tmp_path / "*")]


def _read(files, **options):
    batches = transformed_batches(
        files, training_world.Transform(), **{"batch_size": 4, **options}
    )
    return list(batches.as_numpy_iterator())


def _items(batches):
    return [features["item_id_xf"].tolist() for features, _ in batches]


def check_batches(read):
    """Rows in the order of the files, whole, in batches of 4."""
    batches = read()
    assert _items(batches) == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]
    features, row = batches[0]
    assert features["history_item_ids_xf"].tolist() == [
        [0, 0, 0],
        [1, 0, 0],
        [1, 2, 0],
        [1, 2, 3],
    ]
    assert set(row) == {"item_id", "reward", "label"}
    assert row["item_id"].tolist() == [b"1", b"2", b"3", b"4"]
    assert row["reward"].tolist() == [0.5, 1.5, 2.5, 3.5]
    assert row["label"].tolist() == [0, 1, 0, 1]


def test_transformed_batches_value(files):
    check_batches(lambda: _read(files))


@pytest.mark.parametrize(
    "wrong",
    [
        {"drop_remainder": True},
        {"shuffle_seed": 3},
        {"batch_size": 5},
    ],
    ids=lambda options: next(iter(options)),
)
def test_batches_checker_rejects(wrong, files):
    with pytest.raises(AssertionError):
        check_batches(lambda: _read(files, **wrong))


def test_shuffling_is_repeatable_and_new_in_each_epoch(files):
    batches = transformed_batches(
        files, training_world.Transform(), batch_size=10, shuffle_seed=5
    )
    epochs = [_items(batches.as_numpy_iterator())[0] for _ in range(2)]
    again = _items(_read(files, batch_size=10, shuffle_seed=5))[0]
    other = _items(_read(files, batch_size=10, shuffle_seed=6))[0]
    assert epochs[0] == again
    assert epochs[1] != epochs[0] and other != epochs[0]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(1, 11))


def test_a_shuffled_row_stays_one_row(files):
    for features, row in _read(files, shuffle_seed=5):
        place_in_file = (features["item_id_xf"] - 1) % 6
        np.testing.assert_array_equal(row["reward"], place_in_file + 0.5)
        assert [int(item) for item in row["item_id"]] == features["item_id_xf"].tolist()


def test_drop_remainder_keeps_full_batches_only(files):
    assert [len(items) for items in _items(_read(files, drop_remainder=True))] == [4, 4]


def test_several_patterns_are_read_together(tmp_path):
    first = training_world.write(tmp_path / "b.gz", ROWS[:2])
    second = training_world.write(tmp_path / "a.gz", ROWS[2:4])
    assert _items(_read([first, second])) == [[3, 4, 1, 2]]


def test_no_matching_file_is_an_error_that_names_the_patterns(tmp_path):
    pattern = str(tmp_path / "nothing-*")
    with pytest.raises(FileNotFoundError, match=r"No training files match.*nothing-\*"):
        _read([pattern])


@pytest.mark.component
def test_transformed_batches_through_the_analysed_graph(transform_uri, tmp_path):
    records = transform_world.records()
    file = transform_world.write_split(tmp_path / "data.gz", records)
    graph = TransformGraph(transform_uri, transform_world.CATALOG)
    batches = list(transformed_batches([file], graph, batch_size=4))
    assert [len(row["label"]) for _, row in batches] == [4, 4, 2]
    whole = graph(
        tf.io.parse_example(
            [transform_world.serialized(record) for record in records], graph.raw_spec
        )
    )
    for name in ("item_id_xf", "user_age_xf", "item_price_xf"):
        joined = np.concatenate([features[name] for features, _ in batches])
        np.testing.assert_array_equal(joined, whole[name], err_msg=name)
