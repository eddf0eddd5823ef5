"""One pass in the order of time: each row once, and a killed one goes on."""

import numpy as np
import pytest
import tensorflow as tf

from models.ranking import one_pass
from models.ranking.labelled_rows import LabelledRows
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
    return LabelledRows([labelled_world.write(path, table)], TRANSFORM, SETTINGS), table


def check_order(batches_of, rows):
    """Every row comes once, the earliest first."""
    labelled, table = rows
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


def learnt(rows, folder):
    return one_pass.learn_in_order(
        TRANSFORM.space, SETTINGS, rows[0], rows[0], folder / "logs", folder / "kept"
    )


def test_a_killed_pass_goes_on_to_the_same_posterior(rows, tmp_path, monkeypatch):
    whole = learnt(rows, tmp_path / "whole").get_weights()
    monkeypatch.setattr(one_pass, "_BATCHES_A_CHECKPOINT", 2)
    monkeypatch.setattr(one_pass, "_BATCHES_A_POINT", 1)
    scalar = tf.summary.scalar
    seen = []

    def killing(name, value, step):
        seen.append(step)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return scalar(name, value, step)

    with monkeypatch.context() as patch:
        patch.setattr(tf.summary, "scalar", killing)
        with pytest.raises(KeyboardInterrupt):
            learnt(rows, tmp_path / "killed")
        resumed = learnt(rows, tmp_path / "killed").get_weights()
    assert seen[:6] == [1, 2, 3, 3, 4, 5]
    for weight, other in zip(resumed, whole, strict=True):
        np.testing.assert_array_equal(weight, other)


def test_the_posterior_is_drawn_in_tensorboard(rows, tmp_path):
    ranker = learnt(rows, tmp_path)
    assert (tmp_path / "logs" / "validation").is_dir()
    drawn = ranker.distributions()
    assert set(drawn) == {
        "posterior/weights",
        "posterior/vectors",
        "posterior/weight_deviations_of_prior",
        "posterior/vector_deviations_of_prior",
    }
    shares = drawn["posterior/weight_deviations_of_prior"].numpy()
    assert shares.min() < 0.9 and shares.max() <= 1.0 + 1e-6
