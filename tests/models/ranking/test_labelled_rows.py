import numpy as np
import pytest
import tensorflow as tf

from models.ranking.labelled_rows import NO_POSITION, LabelledRows
from models.ranking.settings import RankingSettings
from tests.models import training_world
from tests.models.ranking import labelled_world

ROWS = labelled_world.rows(num_rows=23)
SETTINGS = RankingSettings(batch_size=5, max_epochs=3, position_bias=True)


@pytest.fixture
def file(tmp_path):
    return labelled_world.write(tmp_path / "rows.gz", ROWS)


def _read(file, settings=SETTINGS, transform=None):
    transform = transform or labelled_world.Transform()
    return LabelledRows([file], transform, settings)


def _column(batches, name):
    return np.concatenate([features[name] for features, _ in batches]).tolist()


def _keys(batches):
    """Tells rows apart, well enough to see their order."""
    columns = ("user_id_xf", "item_id_xf", "position")
    return list(zip(*(_column(batches, name) for name in columns), strict=True))


def test_rows_in_order_hold_what_the_file_holds(file):
    rows = _read(file)
    batches = list(rows.in_order().as_numpy_iterator())
    assert rows.num_batches == 5
    assert [len(target) for _, target in batches] == [5, 5, 5, 5, 3]
    assert _keys(batches) == [
        (row["user_id"][0], row["item_id"][0], row.get("position", NO_POSITION))
        for row in ROWS
    ]
    targets = np.concatenate([target for _, target in batches])
    assert targets.tolist() == [row["label"] for row in ROWS]


@pytest.mark.parametrize("transform", [training_world.Transform, None])
def test_rows_of_a_log_without_positions_have_none(tmp_path, transform):
    """Whether the schema knows of positions or not."""
    rows = labelled_world.rows(num_rows=7, has_positions=False)
    file = labelled_world.write(tmp_path / "rows.gz", rows)
    read = _read(file, transform=transform and transform())
    batches = list(read.in_order().as_numpy_iterator())
    assert set(_column(batches, "position")) == {-1}


def test_positions_are_read_where_they_are_asked_for(file):
    settings = SETTINGS.model_copy(update={"position_bias": False})
    features, _ = next(iter(_read(file, settings).in_order()))
    assert "position" not in features


def test_target_may_be_the_reward(file):
    settings = RankingSettings(batch_size=23, target="reward")
    _, target = next(iter(_read(file, settings).in_order()))
    expected = [row["reward"] for row in ROWS]
    np.testing.assert_array_equal(target, np.float32(expected))


@pytest.mark.parametrize("reward", [-0.1, 1.5, float("nan")])
def test_reward_that_no_probability_fits_is_an_error(tmp_path, reward):
    rows = [*ROWS, ROWS[0] | {"reward": reward}]
    file = labelled_world.write(tmp_path / "bad.gz", rows)
    read = _read(file, RankingSettings(batch_size=99, target="reward"))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"in \[0, 1\]"):
        next(iter(read.in_order()))


def check_epochs(make):
    """Every epoch holds all rows, in an order that its number alone decides."""
    batches = list(make().epochs(0).as_numpy_iterator())
    assert [len(target) for _, target in batches] == [5, 5, 5, 5, 3] * 3
    epochs = [_keys(batches[first : first + 5]) for first in (0, 5, 10)]
    in_order = _keys(list(make().in_order().as_numpy_iterator()))
    for epoch in epochs:
        assert sorted(epoch) == sorted(in_order) and epoch != in_order
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    for first in (1, 2):
        later = list(make().epochs(first).as_numpy_iterator())
        assert _keys(later) == [key for epoch in epochs[first:] for key in epoch]


def test_epochs_are_shuffled_by_their_number(file):
    check_epochs(lambda: _read(file))


class ShufflesOnce(LabelledRows):
    def epochs(self, first):
        epochs = super().epochs(0).take(5)
        return epochs.repeat(3 - first)


class CountsFromTheFirst(LabelledRows):
    def epochs(self, first):
        return super().epochs(0).take(5 * (3 - first))


class NeverShuffles(LabelledRows):
    def epochs(self, first):
        return self.in_order().repeat(3 - first)


@pytest.mark.parametrize("wrong", [ShufflesOnce, CountsFromTheFirst, NeverShuffles])
def test_epochs_checker_rejects(wrong, file):
    with pytest.raises(AssertionError):
        check_epochs(lambda: wrong([file], labelled_world.Transform(), SETTINGS))


def test_files_are_read_once(tmp_path):
    file = labelled_world.write(tmp_path / "rows.gz", ROWS)
    rows = _read(file)
    (tmp_path / "rows.gz").unlink()
    assert len(list(rows.epochs(0))) == 15
    assert len(list(rows.in_order())) == 5


def test_another_seed_is_another_order(file):
    first, other = (
        _keys(list(_read(file, settings).epochs(0).take(5).as_numpy_iterator()))
        for settings in (SETTINGS, SETTINGS.model_copy(update={"seed": 8}))
    )
    assert first != other


def test_no_matching_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing"):
        _read(str(tmp_path / "nothing-*"))
