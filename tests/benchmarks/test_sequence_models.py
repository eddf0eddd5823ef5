"""Figures by hand; the tables that models read; a model trained for a few steps."""

import dataclasses

import numpy as np
import pytest

from benchmarks import sequence_models
from benchmarks.sequence_data import ID_BUCKETS, draw_rows, histories
from benchmarks.sequence_models import Figures, Outcome, Scale, Tables, kept
from models.ranking.settings import Model
from tests.benchmarks.test_sequence_data import LOG

TINY = Scale(("dnn", "hpmn"), (100, 30, 40), 1, 5, 30, (1, 2))


def rows_of(split, positives, seed=0):
    return draw_rows(LOG, split, positives, 5, 30, np.random.default_rng(seed))


def test_full_run_has_every_model_that_learns_by_gradients():
    names = {model.value for model in Model} - {"bayesian_fm"}
    assert set(sequence_models.FULL.models) == names
    for name in names:
        assert sequence_models.ranking_settings(name, TINY).model.value == name


def test_tables_read_each_row_as_the_log_has_it():
    tables, rows = Tables(LOG), rows_of(LOG.is_train, 20)
    features = {name: values.numpy() for name, values in tables.features(rows).items()}
    assert set(features) >= {*tables.space.query_names, *tables.space.candidate_names}
    ids = LOG.ids("items")
    found = histories(LOG.items, rows)
    for row in range(len(rows)):
        assert features["item_id_xf"][row] == ids[rows.candidates[row]]
        kind = LOG.item_features["kind"][rows.candidates[row]]
        assert features["item_kind_xf"][row] == kind
        expected = [ids[item] if item >= 0 else 0 for item in found[row]]
        assert features["history_item_ids_xf"][row].tolist() == expected
    assert features["item_id_xf"].max() < tables.space.item_id.num_ids
    # What histories know of items: ascending by id, known ones alone.
    known = tables.items["item_id_xf"].numpy()
    assert (np.diff(known) > 0).all() and known[0] == ID_BUCKETS + 1


def check_figures(figures_class):
    """The checker: HPMN knows more than DNN, by what pairs and means say."""
    rng = np.random.default_rng(1)
    rows = rows_of(~LOG.is_train, 150)
    noise = rng.normal(size=len(rows))
    logits = {"dnn": rows.labels + noise, "hpmn": 3 * rows.labels + noise}
    outcomes = {
        name: Outcome(values, np.zeros(1), np.array(3.0), np.array(7))
        for name, values in logits.items()
    }
    figures = figures_class(rows, outcomes, {"popularity": noise})
    values, intervals = figures.values, figures.intervals
    is_positive = rows.labels == 1
    for name, scores in (*logits.items(), ("popularity", noise)):
        wins = scores[is_positive][:, None] > scores[~is_positive][None]
        assert values[f"auc_{name}"] == pytest.approx(wins.mean())
    for name, scores in logits.items():
        prob = 1 / (1 + np.exp(-scores))
        losses = -np.log(np.where(is_positive, prob, 1 - prob))
        assert values[f"logloss_{name}"] == pytest.approx(losses.mean())
    assert "logloss_popularity" not in values
    gain = values["auc_hpmn"] - values["auc_dnn"]
    assert values["auc_hpmn_minus_best_other"] == pytest.approx(gain)
    low, high = intervals["auc_hpmn_minus_best_other"]
    # Paired: the same noise is in both, so the difference is surer than either.
    own_low, own_high = intervals["auc_dnn"]
    assert 0 < low < gain < high < 1 and high - low < own_high - own_low
    assert values["logloss_hpmn_minus_best_other"] == pytest.approx(
        values["logloss_hpmn"] - values["logloss_dnn"]
    )
    assert (values["train_cpu_s_dnn"], values["parameters_hpmn"]) == (3.0, 7.0)


class AgainstTheWorst(Figures):
    def _note(self, key, value, resampled):
        sign = -1 if "minus" in key else 1
        super()._note(key, sign * value, sign * resampled)


class RowsApart(Figures):
    """Draws each model's households anew."""

    def _measure(self, name, predictions, is_probability=True):
        from models.retrieval.intervals import UserBootstrap

        self._draws = UserBootstrap(self._rows.users, len(name), 1000)
        return super()._measure(name, predictions, is_probability)


def test_figures_are_as_by_hand():
    check_figures(Figures)


@pytest.mark.parametrize("wrong", [AgainstTheWorst, RowsApart])
def test_figures_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_figures(wrong)


def test_model_is_trained_once_and_kept(tmp_path, monkeypatch):
    splits = tuple(
        rows_of(split, size)
        for split, size in zip(
            (LOG.is_train, LOG.is_validation, ~LOG.is_train),
            TINY.positives,
            strict=True,
        )
    )
    file = tmp_path / "fm.npz"
    monkeypatch.setattr(sequence_models, "BATCH_SIZE", 64)
    found = kept(file, "fm", Tables(LOG), TINY, 0, splits)
    assert found.logits.shape == (len(splits[2]),)
    assert np.isfinite(found.logits).all() and len(found.learning) >= 1
    assert found.parameters > 0 and found.train_s > 0
    again = kept(file)  # no model is made
    for field in dataclasses.fields(Outcome):
        np.testing.assert_array_equal(
            getattr(found, field.name), getattr(again, field.name)
        )


def test_outcomes_of_other_facts_are_not_mixed_up():
    keys = {
        sequence_models.sources_key(fact) for fact in (TINY, sequence_models.QUICK, 1)
    }
    assert len(keys) == 3
