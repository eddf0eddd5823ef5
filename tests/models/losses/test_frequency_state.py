"""What the estimator leaves behind: checkpoints, warm starts, its config."""

import numpy as np
import pytest
import tensorflow as tf

from models.losses.frequency import StreamingFrequencyEstimator
from models.losses.options import SamplingMeasure

BATCHES = [[1, 2], [1, 1], [3, 1], [2], [1, 2, 3, 3], [1], [4], [1, 4, 2], [5, 1]]
LATER = [[3, 1, 1], [6], [4, 3]]
ITEMS = tf.constant([1, 2, 3, 4, 5, 6, 7], tf.int64)


def _model(**arguments):
    model = tf.keras.Model()
    model.frequency = StreamingFrequencyEstimator(1000, num_hashes=2, **arguments)
    return model


def _count(estimator, batches):
    for batch in batches:
        estimator(tf.constant(batch, tf.int64), training=True)


def _estimates(estimator):
    """Returns the presence, the measured log_q and which items were seen."""
    return np.stack(
        [
            estimator.log_presence(ITEMS),
            estimator(ITEMS, training=False),
            estimator.log_q_of_drawn(ITEMS),
        ]
    )


class StepInPython(StreamingFrequencyEstimator):
    """Counts steps in an attribute, which no checkpoint holds."""

    def _hit(self, buckets, occurrences):
        self.steps_so_far = getattr(self, "steps_so_far", 0)
        self.step.assign(self.steps_so_far)
        super()._hit(buckets, occurrences)
        self.steps_so_far += 1


class ForgetsLastSteps(StreamingFrequencyEstimator):
    """Keeps A in a list, which no checkpoint holds."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._hidden = {"last": np.zeros(self.last_step.shape, np.int64)}

    def _hit(self, buckets, occurrences):
        self.last_step.assign(self._hidden["last"])
        super()._hit(buckets, occurrences)
        self._hidden = {"last": self.last_step.numpy()}


def check_continues_after_a_checkpoint(make, folder):
    """An estimator restored between two batches equals one that never stopped."""
    first, second = tf.keras.Model(), tf.keras.Model()
    for model in (first, second):
        model.frequency = make(
            1000, num_hashes=2, alpha=0.2, measure=SamplingMeasure.EXPECTED_COUNT
        )
    _count(first.frequency, BATCHES)
    path = tf.train.Checkpoint(model=first).save(str(folder / "checkpoint"))
    status = tf.train.Checkpoint(model=second).restore(path)
    status.assert_existing_objects_matched()
    _count(first.frequency, LATER)
    _count(second.frequency, LATER)
    np.testing.assert_array_equal(
        _estimates(second.frequency), _estimates(first.frequency)
    )


def test_estimator_state_survives_a_checkpoint_inside_a_model(tmp_path):
    check_continues_after_a_checkpoint(StreamingFrequencyEstimator, tmp_path)


@pytest.mark.parametrize("wrong", [StepInPython, ForgetsLastSteps])
def test_checker_of_checkpoints_rejects(wrong, tmp_path):
    with pytest.raises(AssertionError):
        check_continues_after_a_checkpoint(wrong, tmp_path)


def test_warm_start_goes_on_with_other_settings(tmp_path):
    """A later span may have another learning rate and measure: the arrays are kept.

    Item 1 was in each of 3 batches, thrice in the last; with alpha = 1 the gap and the
    count are the latest seen ones.
    """
    first = _model(alpha=1.0)
    _count(first.frequency, [[1], [1], [1, 1, 1]])
    path = tf.train.Checkpoint(model=first, other=tf.Variable(1.0)).save(
        str(tmp_path / "span-1")
    )
    second = _model(alpha=0.5, measure="expected_count", initial_gap=7.0)
    status = tf.train.Checkpoint(model=second).restore(path)
    status.assert_existing_objects_matched()
    status.expect_partial()
    _count(second.frequency, [[2], [2], [1, 2]])
    gap, count = (1 + 3) / 2, (3 + 1) / 2
    item = tf.constant([1], tf.int64)
    np.testing.assert_allclose(second.frequency.log_presence(item), [-np.log(gap)])
    np.testing.assert_allclose(second.frequency(item), [np.log(count / gap)], atol=1e-7)
    assert int(second.frequency.step) == 6


def test_warm_start_from_arrays_of_another_size_is_refused(tmp_path):
    path = tf.train.Checkpoint(model=_model()).save(str(tmp_path / "checkpoint"))
    other = tf.keras.Model()
    other.frequency = StreamingFrequencyEstimator(500, num_hashes=2)
    with pytest.raises(ValueError, match="shape"):
        tf.train.Checkpoint(model=other).restore(path)


def test_estimator_config_round_trip_behaves_alike():
    first = StreamingFrequencyEstimator(
        50,
        num_hashes=3,
        alpha=0.3,
        initial_gap=9.0,
        measure=SamplingMeasure.EXPECTED_COUNT,
    )
    second = StreamingFrequencyEstimator.from_config(first.get_config())
    _count(first, BATCHES)
    _count(second, BATCHES)
    np.testing.assert_array_equal(_estimates(first), _estimates(second))
