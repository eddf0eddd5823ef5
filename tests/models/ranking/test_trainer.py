import math

import numpy as np
import pytest
import tensorflow as tf

from models.ranking import trainer
from models.ranking.labelled_rows import LabelledRows
from models.ranking.progress import Progress
from models.ranking.settings import RankingSettings
from models.ranking.trainer import fit, items_of, learning_rate
from tests.models.ranking import labelled_world

TRANSFORM = labelled_world.Transform()
# All at once that makes a step draw numbers or depend on what came before.
SETTINGS = RankingSettings.model_validate(
    {
        "deepfm": {"embedding_dim": 4, "hidden": [8], "dropout": 0.2},
        "batch_size": 50,
        "max_epochs": 4,
        "patience": 4,
        "learning_rate": 0.03,
        "schedule": "cosine",
        "positive_weight": 3.0,
        "position_bias": True,
    }
)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Returns a train and an eval file."""
    folder = tmp_path_factory.mktemp("rows")
    return [
        labelled_world.write(folder / name, labelled_world.rows(seed, num_rows))
        for name, seed, num_rows in (("train.gz", 0, 300), ("eval.gz", 1, 150))
    ]


def fit_to(files, folder, settings=SETTINGS, **options):
    train, validation = (LabelledRows([f], TRANSFORM, settings) for f in files)
    space = TRANSFORM.space
    return fit(space, settings, train, validation, folder / "logs", **options)


class Kill(tf.keras.callbacks.Callback):
    """Stops in the middle of the third epoch, as a machine might."""

    class Killed(Exception):
        pass

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.optimizer.iterations) == 14:
            raise self.Killed


@pytest.fixture(scope="module")
def whole(files, tmp_path_factory):
    """Returns the weights that a fit ends in which nothing stops."""
    seen = tf.keras.callbacks.History()
    model = fit_to(files, tmp_path_factory.mktemp("whole"), callbacks=[seen])
    assert np.argmin(seen.history["val_log_loss"]) == 3  # so all epochs count
    return model.get_weights()


def assert_equal(weights, others):
    for weight, other in zip(weights, others, strict=True):
        np.testing.assert_array_equal(weight, other)


def test_fit_gives_the_same_weights_to_the_bit(files, whole, tmp_path):
    tf.random.normal([3])  # what was drawn before changes nothing
    assert_equal(fit_to(files, tmp_path).get_weights(), whole)


def check_resuming(files, whole, folder, monkeypatch, progress):
    """Holds the weights after a kill and a second attempt to those without."""
    monkeypatch.setattr(trainer, "Progress", progress)
    with pytest.raises(Kill.Killed):
        fit_to(files, folder, checkpoints=folder / "resume", callbacks=[Kill()])
    epochs = tf.keras.callbacks.History()
    model = fit_to(files, folder, checkpoints=folder / "resume", callbacks=[epochs])
    assert epochs.epoch == [2, 3]
    assert_equal(model.get_weights(), whole)


class DrawsOn(Progress):
    """What is dropped after a kill is not what would have been."""

    def on_epoch_begin(self, epoch, logs=None):
        pass


class ForgetsTheOptimizer(Progress):
    def resume(self, model):
        slots = [tf.identity(slot) for slot in model.optimizer.variables]
        first = super().resume(model)
        for slot, fresh in zip(model.optimizer.variables, slots, strict=True):
            slot.assign(fresh)
        return first


class StartsAnew(Progress):
    def __init__(self, patience, seed, folder, average):
        super().__init__(patience, seed, None, average)


class ForgetsTheAverage(Progress):
    def resume(self, model):
        first = super().resume(model)
        self._average._average = []
        return first


class GoesOnFromTheAverage(Progress):
    def resume(self, model):
        first = super().resume(model)
        self._average._latest = []
        return first


def test_fit_that_was_killed_resumes_to_the_same_weights(
    files, whole, tmp_path, monkeypatch
):
    check_resuming(files, whole, tmp_path, monkeypatch, Progress)


@pytest.mark.component
@pytest.mark.parametrize(
    "wrong",
    [
        *(DrawsOn, ForgetsTheOptimizer, StartsAnew),
        *(ForgetsTheAverage, GoesOnFromTheAverage),
    ],
)
def test_resuming_checker_rejects(wrong, files, whole, tmp_path, monkeypatch):
    with pytest.raises(AssertionError):
        check_resuming(files, whole, tmp_path, monkeypatch, wrong)


@pytest.mark.component
def test_fit_that_was_over_when_killed_learns_no_more(files, whole, tmp_path):
    """It was killed between the last epoch and the saved model."""
    fit_to(files, tmp_path, checkpoints=tmp_path / "resume")
    epochs = tf.keras.callbacks.History()
    again = fit_to(files, tmp_path, checkpoints=tmp_path / "resume", callbacks=[epochs])
    assert not hasattr(epochs, "epoch") or epochs.epoch == []
    assert_equal(again.get_weights(), whole)


def log_loss(model, file):
    """Returns the log loss of a ranker's logits on a file, in plain loops."""
    rows = LabelledRows([file], TRANSFORM, SETTINGS)
    losses = []
    for features, labels in rows.in_order():
        for logit, label in zip(model(features).numpy(), labels, strict=True):
            prob = 1 / (1 + math.exp(-logit))
            losses.append(-math.log(prob if label else 1 - prob))
    return np.mean(losses)


def check_stopping(files, folder, settings):
    """Holds a fit to stop `patience` epochs after the best, and to keep that."""
    seen = tf.keras.callbacks.History()
    model = fit_to(files, folder, settings, callbacks=[seen])
    losses = seen.history["val_log_loss"]
    best = int(np.argmin(losses))
    assert len(losses) == best + 1 + 2 < settings.max_epochs
    np.testing.assert_allclose(log_loss(model, files[1]), losses[best], rtol=1e-4)


OVERFITS = SETTINGS.model_copy(
    update={"learning_rate": 0.1, "max_epochs": 30, "patience": 2}
)


def test_fit_stops_on_the_eval_split_and_keeps_what_was_best(files, tmp_path):
    check_stopping(files, tmp_path, OVERFITS)


class KeepsTheLast(Progress):
    def keep_best(self, model):
        pass


class StopsAtOnce(Progress):
    def __init__(self, patience, seed, folder, average):
        super().__init__(1, seed, folder, average)


@pytest.mark.component
@pytest.mark.parametrize("wrong", [KeepsTheLast, StopsAtOnce])
def test_stopping_checker_rejects(wrong, files, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "Progress", wrong)
    with pytest.raises(AssertionError):
        check_stopping(files, tmp_path, OVERFITS)


def check_schedule(rate_of):
    """By hand, for a rate of 0.3 over 2 epochs of 10 steps."""
    settings = RankingSettings(max_epochs=2, warmup_steps=3)
    expected = {
        "constant": [(0, 0.3), (20, 0.3)],
        "cosine": [(0, 0.3), (5, 0.3 * (1 + 0.5**0.5) / 2), (10, 0.15), (20, 0.0)],
        "warmup": [(0, 0.1), (1, 0.1 + 0.2 / 3), (3, 0.3), (20, 0.3)],
    }
    for name, points in expected.items():
        of_name = RankingSettings.model_validate(
            settings.model_dump() | {"schedule": name}
        )
        rate = rate_of(of_name, 0.3, 10)
        for step, value in points:
            seen = rate(step) if callable(rate) else rate
            np.testing.assert_allclose(seen, value, atol=1e-7, err_msg=name)


def test_learning_rate_value():
    check_schedule(learning_rate)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda settings, rate, steps: rate,
        lambda settings, rate, steps: learning_rate(settings, rate, 2 * steps),
        lambda settings, rate, steps: learning_rate(
            settings.model_copy(update={"warmup_steps": 5}), rate, steps
        ),
    ],
)
def test_schedule_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_schedule(wrong)


def test_fit_in_16_bits_is_served_in_32(files, tmp_path):
    # What slows learning down is left out: there are four epochs of six steps.
    deepfm = SETTINGS.deepfm.model_copy(update={"shrinkage": 0.0, "id_dropout": 0.0})
    update = {"mixed_precision": True, "averaged_epochs": 0.0, "deepfm": deepfm}
    settings = SETTINGS.model_copy(update=update)
    before = tf.keras.mixed_precision.global_policy().name
    model = fit_to(files, tmp_path, settings)
    assert tf.keras.mixed_precision.global_policy().name == before
    assert {layer.compute_dtype for layer in model.submodules if _is_layer(layer)} == {
        "float32"
    }
    assert log_loss(model, files[1]) < 0.67


def _is_layer(module):
    return isinstance(module, tf.keras.layers.Layer)


@pytest.mark.component
def test_fit_in_16_bits_computes_in_16_bits(files, tmp_path):
    seen = []

    class Look(tf.keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            layers = filter(_is_layer, self.model.ranker.submodules)
            seen.extend(layer.compute_dtype for layer in layers)

    settings = SETTINGS.model_copy(update={"mixed_precision": True, "max_epochs": 1})
    fit_to(files, tmp_path, settings, callbacks=[Look()])
    assert set(seen) == {"bfloat16"}


@pytest.mark.parametrize(
    ("update", "is_read"),
    [
        ({"model": "dnn"}, True),
        ({"model": "dnn", "history_content": False}, False),
        ({"model": "deepfm"}, False),
    ],
)
def test_items_are_collected_for_the_models_that_read_them(files, update, is_read):
    settings = RankingSettings.model_validate(SETTINGS.model_dump() | update)
    items = items_of(settings, TRANSFORM, files[:1])
    assert (items is not None) == is_read
    if is_read:
        assert items["item_id_xf"].numpy().tolist() == list(range(1, 11))
