"""One trial over labelled rows in files, trained for real but small."""

import contextlib
import math
import types

import numpy as np
import pytest
import tensorflow as tf

from models.ranking import trainer
from models.ranking.labelled_rows import LabelledRows
from models.ranking.settings import RankingSettings
from models.retrieval.settings import RetrievalSettings
from models.tuning import trials
from models.tuning.search import Deadline, OutOfTime, TrialError
from models.tuning.trials import Rows, row_losses, try_ranking, try_retrieval
from tests.models.ranking import labelled_world

NEVER = Deadline(None)
SETTINGS = RankingSettings.model_validate(
    {
        "deepfm": {"embedding_dim": 4, "hidden": [8]},
        "batch_size": 50,
        "max_epochs": 3,
        "patience": 3,
        "learning_rate": 0.03,
        "positive_weight": 2.0,  # counts in training, never in what is judged
    }
)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    files = [
        labelled_world.write(folder / name, labelled_world.rows(seed, num_rows))
        for name, seed, num_rows in (("train.gz", 0, 300), ("eval.gz", 1, 150))
    ]
    return Rows(labelled_world.Transform(), files[:1], files[1:])


@pytest.fixture(scope="module")
def fitted(rows, tmp_path_factory):
    """Returns the model that a trial fits: fits cost most of the seconds here."""
    fit, models = trainer.fit, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "fit", lambda *given: models.append(fit(*given)))
        with pytest.raises(AttributeError):
            try_ranking(SETTINGS, tmp_path_factory.mktemp("fitted"), rows, NEVER)
    return models[0]


def by_hand(model, rows):
    """Returns log loss, AUC and each row's loss, in plain loops."""
    scored = [
        (1 / (1 + math.exp(-float(logit))), bool(label))
        for features, labels in LabelledRows(
            rows.eval, rows.transform, SETTINGS
        ).in_order()
        for logit, label in zip(model(features), labels, strict=True)
    ]
    losses = [-math.log(prob if label else 1 - prob) for prob, label in scored]
    pairs = [
        (p > q) + (p == q) / 2 for p, yes in scored if yes for q, no in scored if not no
    ]
    return float(np.mean(losses)), float(np.mean(pairs)), losses


def check_judging(rows, model, folder, attempt):
    """Holds a trial's figures to the loops over the same model."""
    log_loss, auc, losses = by_hand(model, rows)
    (folder / "checkpoints").mkdir()
    metrics = attempt(SETTINGS, folder, rows, NEVER)
    np.testing.assert_allclose(metrics["log_loss"], log_loss, rtol=1e-4)
    np.testing.assert_allclose(metrics["auc"], auc, rtol=1e-6)
    users, kept = row_losses(folder)
    np.testing.assert_allclose(kept, losses, rtol=1e-3, atol=1e-6)
    assert set(users) == set(range(1, labelled_world.NUM_USERS + 1))
    assert not (folder / "checkpoints").exists()


def test_ranking_trial_value(rows, fitted, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "fit", lambda *given: fitted)
    check_judging(rows, fitted, tmp_path, try_ranking)


def judged_on_what_was_learnt(settings, folder, rows, deadline):
    swapped = Rows(rows.transform, rows.train, rows.train)
    return try_ranking(settings, folder, swapped, deadline)


def keeps_checkpoints(settings, folder, rows, deadline):
    metrics = try_ranking(settings, folder, rows, deadline)
    (folder / "checkpoints").mkdir()
    return metrics


@pytest.mark.parametrize("wrong", [judged_on_what_was_learnt, keeps_checkpoints])
def test_judging_checker_rejects(wrong, rows, fitted, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "fit", lambda *given: fitted)
    with pytest.raises(AssertionError):
        check_judging(rows, fitted, tmp_path, wrong)


class OverAfter:
    """A deadline that comes when it has been looked at so many times."""

    def __init__(self, looks):
        self._left = looks

    @property
    def is_over(self):
        self._left -= 1
        return self._left <= 0


def test_ranking_trial_goes_on_where_the_deadline_stopped_it(
    rows, fitted, tmp_path, monkeypatch
):
    with pytest.raises(OutOfTime):
        try_ranking(SETTINGS, tmp_path, rows, OverAfter(2))
    epochs = tf.keras.callbacks.History()
    monkeypatch.setattr(trials, "_StopInTime", lambda deadline: epochs)
    metrics = try_ranking(SETTINGS, tmp_path, rows, NEVER)
    assert epochs.epoch == [2]
    assert metrics["log_loss"] == pytest.approx(by_hand(fitted, rows)[0], rel=1e-4)


@pytest.mark.parametrize(
    ("epoch", "is_stopping", "is_stopped"),
    [(0, False, True), (1, False, False), (0, True, False)],
)
def test_deadline_leaves_a_fit_that_is_over_alone(epoch, is_stopping, is_stopped):
    callback = trials._StopInTime(OverAfter(0))
    callback.set_params({"epochs": 2})
    callback.set_model(types.SimpleNamespace(stop_training=is_stopping))
    expected = pytest.raises(OutOfTime) if is_stopped else contextlib.nullcontext()
    with expected:
        callback.on_epoch_end(epoch)


def test_training_that_diverges_is_the_trials_own_failure(rows, tmp_path, monkeypatch):
    def diverge(*arguments):
        raise ValueError("training\n diverged")

    monkeypatch.setattr(trainer, "fit", diverge)
    with pytest.raises(TrialError, match="^training diverged$"):
        try_ranking(SETTINGS, tmp_path, rows, NEVER)


def test_retrieval_trial_gives_the_best_recall(rows, tmp_path):
    settings = RetrievalSettings(embedding_dim=4, batch_size=50, max_epochs=2)
    metrics = try_retrieval(settings, tmp_path, rows, NEVER)
    assert metrics["recall@100"] == 1.0  # there are ten items
    assert metrics["epochs"] == 1
