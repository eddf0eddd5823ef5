"""One pass in the order of time: each row once, and a killed one goes on."""

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from models.ranking import one_pass, trainer
from models.ranking.labelled_rows import LabelledRows
from models.ranking.registry import make_ranker
from models.ranking.settings import RankingSettings
from tests.models.ranking import labelled_world

TRANSFORM = labelled_world.Transform()
SETTINGS = RankingSettings.model_validate(
    {
        "model": "bayesian_fm",
        "bayesian_fm": {"embedding_dim": 2, "newton_steps": 1, "solver_steps": 3},
        "batch_size": 40,
    }
)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Returns rows in files whose order is not that of time: row n is at 7 n mod 200."""
    table = labelled_world.rows(0, 200)
    for number, row in enumerate(table):
        row["timestamp"] = 7 * number % 200
    path = tmp_path_factory.mktemp("rows") / "train.gz"
    files = [labelled_world.write(path, table)]
    return LabelledRows(files, TRANSFORM, SETTINGS), table, files


def check_order(batches_of, rows):
    """Every row comes once, the earliest first."""
    labelled, table, _ = rows
    features, targets = zip(*batches_of(labelled), strict=True)
    users = np.concatenate([batch["user_id_xf"] for batch in features])
    early_first = sorted(table, key=lambda row: row["timestamp"])
    assert users.tolist() == [row["user_id"][0] for row in early_first]
    labels = [row["label"] for row in early_first]
    assert np.concatenate(targets).tolist() == labels


def test_rows_come_by_time(rows):
    check_order(LabelledRows.by_time, rows)


@pytest.mark.parametrize(
    "wrong", [LabelledRows.in_order, lambda r: r.epochs(0).take(5)]
)
def test_order_checker_rejects(wrong, rows):
    with pytest.raises(AssertionError):
        check_order(wrong, rows)


def learnt(rows, folder, validation=None, learns_validation=True):
    return one_pass.learn_in_order(
        TRANSFORM.space,
        SETTINGS,
        rows[0],
        validation or rows[0],
        folder / "logs",
        folder / "kept",
        learns_validation=learns_validation,
    )


@pytest.fixture(scope="module")
def later(tmp_path_factory):
    """Returns validation rows, three batches of them."""
    table = labelled_world.rows(1, 120)
    path = tmp_path_factory.mktemp("later") / "eval.gz"
    return LabelledRows([labelled_world.write(path, table)], TRANSFORM, SETTINGS)


@pytest.fixture(scope="module")
def whole(rows, later, tmp_path_factory):
    """Returns a ranker, and the folder that its pass left."""
    folder = tmp_path_factory.mktemp("whole")
    return learnt(rows, folder, later), folder


@pytest.fixture(scope="module")
def batch_by_batch(rows):
    """Returns parts of rows -> the tables after learning them in turn."""
    tf.keras.utils.set_random_seed(SETTINGS.seed)
    model = make_ranker(TRANSFORM.space, SETTINGS)
    fresh = model.get_weights()
    learn = tf.function(model.learn, input_signature=rows[0].by_time().element_spec)

    def tables(parts):
        model.set_weights(fresh)
        for part in parts:
            for features, targets in part.by_time():
                learn(features, targets)
        return model.get_weights()

    return tables


def check_pass(ranker, tables):
    for table, expected in zip(ranker.get_weights(), tables, strict=True):
        np.testing.assert_allclose(table, expected, rtol=1e-4, atol=1e-5)


def test_validation_rows_are_learnt_last(rows, later, whole, batch_by_batch):
    check_pass(whole[0], batch_by_batch([rows[0], later]))


@pytest.mark.parametrize(
    "wrong", [lambda t, v: [t], lambda t, v: [v, t], lambda t, v: [t, v, v]]
)
def test_pass_checker_rejects(wrong, rows, later, whole, batch_by_batch):
    with pytest.raises(AssertionError):
        check_pass(whole[0], batch_by_batch(wrong(rows[0], later)))


def test_what_a_trial_is_judged_on_was_learnt(rows, later, batch_by_batch, tmp_path):
    """Tuning trains by `fit` and measures the eval rows behind it."""
    judged = trainer.fit(TRANSFORM.space, SETTINGS, rows[0], later, tmp_path / "logs")
    check_pass(judged, batch_by_batch([rows[0]]))
    with pytest.raises(AssertionError):
        check_pass(judged, batch_by_batch([rows[0], later]))


def test_vectors_of_towers_that_nobody_gave_are_an_error(rows, later, tmp_path):
    section = SETTINGS.bayesian_fm.model_copy(update={"two_tower_features": True})
    settings = SETTINGS.model_copy(update={"bayesian_fm": section})
    with pytest.raises(ValueError, match="leave it out here"):
        trainer.fit(TRANSFORM.space, settings, rows[0], later, tmp_path / "logs")


def test_a_killed_pass_goes_on_to_the_same_posterior(
    rows, later, whole, tmp_path, monkeypatch
):
    """Killed among the validation rows, which it does not measure itself on again."""
    monkeypatch.setattr(one_pass, "_BATCHES_A_CHECKPOINT", 2)
    draw = one_pass._Pass.draw
    seen, measured = [], []

    def killing(self):
        seen.append(self.num_learnt)
        if len(seen) == 7:
            raise KeyboardInterrupt
        draw(self)

    monkeypatch.setattr(one_pass._Pass, "draw", killing)
    monkeypatch.setattr(
        one_pass._Pass, "measure", lambda self: measured.append(self.num_learnt)
    )
    with pytest.raises(KeyboardInterrupt):
        learnt(rows, tmp_path, later)
    resumed = learnt(rows, tmp_path, later).get_weights()
    assert seen[:9] == [1, 2, 3, 4, 5, 6, 7, 7, 8]
    assert measured == [5]
    for weight, other in zip(resumed, whole[0].get_weights(), strict=True):
        np.testing.assert_array_equal(weight, other)


def read_board(folder):
    """Returns {tag: [(step, value)]} of the scalars, and {tag: [step]} of histograms."""
    events = EventAccumulator(str(folder), {"tensors": 0})
    events.Reload()
    scalars, histograms = {}, {}
    for tag in events.Tags()["tensors"]:
        points = [
            (e.step, tf.make_ndarray(e.tensor_proto)) for e in events.Tensors(tag)
        ]
        if points[0][1].ndim:
            histograms[tag] = [step for step, _ in points]
        else:
            scalars[tag] = [(step, float(value)) for step, value in points]
    return scalars, histograms


def test_the_posterior_is_drawn_in_tensorboard_as_it_is_learnt(whole):
    ranker, folder = whole
    scalars, histograms = read_board(folder / "logs" / "train")
    steps = list(range(1, 9))
    for field in ("user_id_xf", "item_id_xf", "history_item_ids_xf", "item_genres_xf"):
        for part in ("weight", "vector"):
            for what in ("means", "log10_precisions"):
                assert histograms[f"posterior/{field}/{part}_{what}"] == steps
    assert [step for step, _ in scalars["posterior/bias/mean"]] == steps
    precisions = [value for _, value in scalars["posterior/bias/precision"]]
    assert precisions == sorted(precisions) and precisions[0] > 0.01
    # Every one of the eight users and ten items has been seen by the end; no other id.
    touched = {
        name: [value for _, value in scalars[f"posterior/{name}_id_xf/touched"]]
        for name in ("user", "item")
    }
    assert touched["user"][-1] == labelled_world.NUM_USERS
    assert touched["item"][-1] == labelled_world.NUM_ITEMS
    assert touched["item"] == sorted(touched["item"])
    validation, _ = read_board(folder / "logs" / "validation")
    assert [step for step, _ in validation["auc"]] == [5]
    deviations = [value for _, value in validation["posterior/logit_deviation"]]
    assert len(deviations) == 8 and deviations == sorted(deviations, reverse=True)
    last = ranker.distributions()["posterior/item_id_xf/weight_means"].numpy()
    items = ranker._first_row["item_id_xf"] + np.arange(1, 11)
    np.testing.assert_array_equal(last, ranker.means.numpy()[items, 0])


def test_a_pass_without_rows_leaves_the_prior(rows, tmp_path):
    nothing = LabelledRows(rows[2], TRANSFORM, SETTINGS, after=10**6)
    assert (nothing.num_rows, nothing.num_batches, nothing.newest) == (0, 0, 10**6)
    ranker = learnt([nothing], tmp_path)
    tf.keras.utils.set_random_seed(SETTINGS.seed)
    prior = make_ranker(TRANSFORM.space, SETTINGS)
    for weight, other in zip(ranker.weights, prior.weights, strict=True):
        np.testing.assert_array_equal(weight, other)
