import math

import pytest
import tensorflow as tf

from models.ranking.progress import Progress


class OneWeight(tf.keras.Model):
    def __init__(self):
        super().__init__()
        self.weight = self.add_weight("weight", ())


def run(progress_class, losses, patience, folder=None):
    """Returns after which epoch a fit stops, and the epoch whose weight is kept."""
    model = OneWeight()
    model.compile(tf.keras.optimizers.SGD())
    model.optimizer.build(model.trainable_variables)
    progress = progress_class(patience, 0, folder)
    progress.set_model(model)
    first = progress.resume(model)
    model.stop_training = False
    last = first
    for last in range(first, len(losses)):
        progress.on_epoch_begin(last)
        model.weight.assign(last)
        progress.on_epoch_end(last, {"val_log_loss": losses[last]})
        if model.stop_training:
            break
    progress.keep_best(model)
    return last, int(model.weight)


def check_stops(progress_class):
    """By hand: (losses, patience) -> (last epoch, kept epoch)."""
    nan = math.nan
    for losses, patience, expected in (
        ([3, 2, 1, 0], 2, (3, 3)),
        ([3, 2, 2, 2, 1], 2, (3, 1)),  # as good is not better
        ([3, 2, 4, 1, 5, 5, 0], 2, (5, 3)),
        ([3, 2, 4, 1], 0, (2, 1)),
        ([3, 2, 4, 1], 1, (2, 1)),
        ([nan, 2, nan, 1], 2, (3, 3)),
    ):
        assert run(progress_class, losses, patience) == expected, (losses, patience)


class KeepsTheLatest(Progress):
    def keep_best(self, model):
        pass


class TakesAsGood(Progress):
    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, {"val_log_loss": logs["val_log_loss"] - epoch / 99})


class CountsAllBadEpochs(Progress):
    """Never starts to count anew."""

    def on_epoch_end(self, epoch, logs=None):
        waited = int(self._waited)
        super().on_epoch_end(epoch, logs)
        self._waited.assign(max(waited, int(self._waited)))


def test_progress_stops_and_keeps_the_best():
    check_stops(Progress)


@pytest.mark.parametrize("wrong", [KeepsTheLatest, TakesAsGood, CountsAllBadEpochs])
def test_stops_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_stops(wrong)


def test_progress_goes_on_with_what_it_had_waited(tmp_path):
    losses = [3, 2, 4, 4]
    assert run(Progress, losses[:3], 2, tmp_path) == (2, 1)
    assert run(Progress, losses, 2, tmp_path) == (3, 1)


def test_training_that_diverged_is_an_error():
    with pytest.raises(ValueError, match="after each of 2 epochs.*learning_rate"):
        run(Progress, [math.nan, math.inf], 5)
