"""A ranker's figures beside the baselines': against loops, sklearn and by hand."""

import json

import numpy as np
import pytest
import sklearn.metrics

from components.evaluate_ranking import (
    baselines,
    curves_of,
    evaluate_ranking,
    mean_label_predictions,
    without_nan,
)
from components.ranking_gate import RankingGateSettings
from components.read_examples import JudgedRows
from models.retrieval.slices import Slicing
from tests.models.ranking import evaluation_reference as reference

TRAIN_ITEMS = np.array([b"b", b"a", b"a", b"b", b"a"], object)
TRAIN_LABELS = np.array([0.0, 1.0, 1.0, 0.0, 0.0])


def check_popularity(predict) -> None:
    """The checker, by hand: mean 2/5, so a = (2 + 4) / (3 + 10), b = (0 + 4) / 12."""
    unknown = [b"", b"aa", b"zzz"]  # before, between and after the known ids
    test_items = np.array([b"a", b"b", *unknown, b"a"], object)
    predicted = predict(TRAIN_ITEMS, TRAIN_LABELS, test_items)
    expected = [6 / 13, 4 / 12, 0.4, 0.4, 0.4, 6 / 13]
    np.testing.assert_allclose(predicted, expected, rtol=1e-12)


def test_popularity_is_drawn_towards_the_mean_by_ten_rows():
    check_popularity(mean_label_predictions)


def _shrunk(weight, mean=None):
    def predict(train_items, train_labels, test_items):
        centre = train_labels.mean() if mean is None else mean
        values = []
        for item in test_items:
            labels = train_labels[train_items == item]
            values.append((labels.sum() + weight * centre) / (len(labels) + weight))
        return np.array(values)

    return predict


def _counts(train_items, train_labels, test_items):
    return np.array([(train_items == item).mean() for item in test_items])


def test_popularity_equals_a_loop_on_random_rows():
    rng = np.random.default_rng(0)
    items = np.array([b"i%d" % i for i in rng.integers(30, size=400)], object)
    labels = rng.integers(2, size=400).astype(np.float32)
    test_items = np.array([b"i%d" % i for i in range(40)], object)
    np.testing.assert_allclose(
        mean_label_predictions(items, labels, test_items),
        _shrunk(10.0)(items, labels, test_items),
        rtol=1e-6,
    )


@pytest.mark.parametrize(
    "wrong",
    [_shrunk(1e-9), _shrunk(1.0), _shrunk(10.0, mean=0.5), _counts],
    ids=["no prior", "weak prior", "prior of one half", "number of rows"],
)
def test_popularity_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_popularity(wrong)


SETTINGS = RankingGateSettings(num_resamples=50)
NAN = float("nan")


def rows_of(labels, users, items=None, positions=None) -> JudgedRows:
    size = len(labels)
    return JudgedRows(
        users=np.array(users),
        items=np.full(size, b"a", object) if items is None else np.array(items, object),
        labels=np.array(labels, np.float32),
        timestamps=np.zeros(size, np.int64),
        positions=np.full(size, -1) if positions is None else np.array(positions),
        history_lengths=np.zeros(size, np.int64),
        serialized=np.zeros(0, object),
    )


def sample(seed=0, rows=300, users=12) -> tuple[JudgedRows, dict[str, np.ndarray]]:
    """Returns rows, and the predictions of a good model and a worse one."""
    rng = np.random.default_rng(seed)
    predictions = np.round(rng.random(rows), 2)  # rounded, so that some tie
    labels = rng.random(rows) < predictions
    worse = 0.7 * predictions + 0.3 * rng.random(rows)
    test = rows_of(labels, rng.integers(users, size=rows))
    return test, {"good": predictions, "worse": worse}


TEST, PREDICTIONS = sample()
PLACES = np.arange(300) % 3 - 1
SLICINGS = {"place": Slicing(("left", "right", "nowhere"), PLACES)}


def check_figures(evaluate) -> None:
    """The checker: figures by loops and sklearn; intervals around them."""
    figures = evaluate(TEST, PREDICTIONS, SLICINGS, SETTINGS)
    assert set(figures) == {"good", "worse", "gain", "test"}
    assert figures["test"]["rows"] == 300 and figures["test"]["users"] == 12
    assert figures["test"]["rows_with_position"] == 0
    assert figures["test"]["rows_of_gauc"] == 300
    assert figures["test"]["positive_share"] == pytest.approx(TEST.labels.mean())
    labels = TEST.labels
    for name, predictions in PREDICTIONS.items():
        row = figures[name]
        assert row["rows_without_prediction"] == 0
        auc = reference.auc(labels, predictions)
        assert row["auc"] == pytest.approx(auc, abs=1e-12)
        gauc = reference.gauc(labels, predictions, TEST.users)
        assert row["gauc"] == pytest.approx(gauc, rel=1e-9)
        loss = sklearn.metrics.log_loss(labels, np.clip(predictions, 1e-7, 1 - 1e-7))
        assert row["logloss"] == pytest.approx(loss, rel=1e-6)
        ratio = predictions.sum() / labels.sum()
        assert row["calibration"] == pytest.approx(ratio, rel=1e-6)
        for figure in ("auc", "gauc", "logloss", "calibration"):
            low, high = row[f"{figure}_interval"]
            assert low < row[figure] < high
        assert set(row["slices"]["place"]) == {"left", "right"}
        for group, label in enumerate(("left", "right")):
            inside = group == PLACES
            part = row["slices"]["place"][label]
            here = labels[inside], predictions[inside]
            assert part["rows"] == 100
            assert part["auc"] == pytest.approx(reference.auc(*here), abs=1e-12)
            assert part["logloss"] == pytest.approx(reference.log_loss(*here), rel=1e-6)
            ratio = here[1].sum() / here[0].sum()
            assert part["calibration"] == pytest.approx(ratio, rel=1e-6)
            low, high = part["auc_interval"]
            assert low < part["auc"] < high
    # Ahead in every resample, as both are measured on the same users.
    assert set(figures["gain"]) == {"worse"}
    assert figures["gain"]["worse"]["auc"][0] > 0
    assert figures["gain"]["worse"]["logloss"][1] < 0
    low, high = figures["good"]["auc_interval"]
    assert figures["worse"]["auc_interval"][1] > low  # apart, the two overlap


def _with_labels(test, labels):
    return rows_of(labels, test.users)


def _predictions_changed(change):
    def wrong(test, predictions, slicings, settings):
        changed = {name: change(values) for name, values in predictions.items()}
        return evaluate_ranking(test, changed, slicings, settings)

    return wrong


def _labels_swapped(test, predictions, slicings, settings):
    swapped = _with_labels(test, 1 - test.labels)
    return evaluate_ranking(swapped, predictions, slicings, settings)


def _every_row_a_user(test, predictions, slicings, settings):
    alone = rows_of(test.labels, np.arange(len(test.labels)))
    return evaluate_ranking(alone, predictions, slicings, settings)


def _slices_moved(test, predictions, slicings, settings):
    moved = {
        name: Slicing(slicing.labels, np.roll(slicing.groups, 1))
        for name, slicing in slicings.items()
    }
    return evaluate_ranking(test, predictions, moved, settings)


def _last_named_is_the_model(test, predictions, slicings, settings):
    backwards = dict(reversed(predictions.items()))
    return evaluate_ranking(test, backwards, slicings, settings)


def test_figures_equal_loops_and_sklearn():
    check_figures(evaluate_ranking)


@pytest.mark.parametrize(
    "wrong",
    [
        _predictions_changed(lambda values: values**2),
        _predictions_changed(lambda values: np.round(values, 1)),
        _predictions_changed(lambda values: np.roll(values, 1)),
        *(_labels_swapped, _every_row_a_user, _slices_moved, _last_named_is_the_model),
    ],
)
def test_figure_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_figures(wrong)


def figures_of(labels, predictions, users, settings=SETTINGS, slicings=None) -> dict:
    test = rows_of(labels, users)
    found = evaluate_ranking(
        test, {"m": np.array(predictions)}, slicings or {}, settings
    )
    return found["m"]


def test_four_rows_by_hand():
    row = figures_of([1.0, 0.0, 1.0, 0.0], [0.8, 0.5, 0.5, 0.1], [1, 1, 2, 2])
    assert row["auc"] == 3.5 / 4  # of four pairs three in order and one tied
    assert row["gauc"] == 1.0
    loss = -(np.log(0.8) + np.log(0.5) + np.log(0.5) + np.log(0.9)) / 4
    assert row["logloss"] == pytest.approx(loss, rel=1e-12)
    assert row["calibration"] == pytest.approx(1.9 / 2, rel=1e-12)


def test_soft_label_is_a_part_of_both_classes():
    row = figures_of([1.0, 0.5, 0.0], [0.9, 0.5, 0.1], np.arange(3))
    assert row["auc"] == pytest.approx(2.125 / 2.25, rel=1e-12)


def test_what_one_class_does_not_tell_is_left_out_of_the_file():
    slicing = {"place": Slicing(("here",), np.zeros(2, int))}
    row = figures_of([0.0, 0.0], [0.2, 0.4], [0, 1], slicings=slicing)
    known = without_nan(row)
    assert {"auc", "gauc", "calibration", "auc_interval"}.isdisjoint(known)
    assert np.isnan([row["auc"], row["gauc"], row["calibration"]]).all()
    assert known["logloss"] > 0
    assert set(known["slices"]["place"]["here"]) == {"rows", "logloss"}
    json.dumps(known, allow_nan=False)


def check_diverged(evaluate) -> None:
    """A model that says NaN has no figure, however right the rest of it is."""
    broken = PREDICTIONS["good"].copy()
    broken[7] = NAN
    models = {"broken": broken, "good": PREDICTIONS["good"]}
    figures = evaluate(TEST, models, SLICINGS, SETTINGS)
    assert figures["broken"]["rows_without_prediction"] == 1
    for figure in ("auc", "gauc", "logloss", "calibration"):
        assert np.isnan(figures["broken"][figure])
    assert "slices" not in figures["broken"]
    assert figures["good"]["auc"] > 0.7
    assert figures["gain"] == {}


def _nan_is_least(test, predictions, slicings, settings):
    filled = {name: np.nan_to_num(values) for name, values in predictions.items()}
    return evaluate_ranking(test, filled, slicings, settings)


def _nan_rows_dropped(test, predictions, slicings, settings):
    kept = ~np.isnan(predictions["broken"])
    part = rows_of(test.labels[kept], test.users[kept])
    filled = {name: values[kept] for name, values in predictions.items()}
    return evaluate_ranking(part, filled, {}, settings)


def test_model_that_diverged_has_figures_that_are_nan():
    check_diverged(evaluate_ranking)


@pytest.mark.parametrize("wrong", [_nan_is_least, _nan_rows_dropped])
def test_diverged_checker_rejects(wrong):
    with pytest.raises((AssertionError, KeyError)):
        check_diverged(wrong)


def test_without_a_test_row_there_is_nothing_but_their_number():
    figures = evaluate_ranking(rows_of([], []), {}, {}, SETTINGS)
    assert figures == {
        "test": {"rows": 0, "users": 0, "rows_with_position": 0, "rows_of_gauc": 0}
    }


def check_curves(curves_of) -> None:
    models = PREDICTIONS | {"broken": np.full(300, NAN)}
    curves = curves_of(TEST, models, SETTINGS)
    assert set(curves) == {"good", "worse"}
    for name in curves:
        bins = curves[name]["calibration"]
        assert sum(inside["rows"] for inside in bins) == 300
        mean = sum(inside["rows"] * inside["label"] for inside in bins) / 300
        assert mean == pytest.approx(TEST.labels.mean())
        roc = np.array(curves[name]["roc"])
        area = np.sum(np.diff(roc[:, 0]) * (roc[1:, 1] + roc[:-1, 1]) / 2)
        auc = reference.auc(TEST.labels, PREDICTIONS[name])
        assert area == pytest.approx(auc, abs=1e-3)
    json.dumps(curves, allow_nan=False)


@pytest.mark.parametrize(("rows", "bins"), [(200, 5), (700, 7), (5000, 20)])
def test_bins_of_calibration_hold_enough_rows_to_say_something(rows, bins):
    test, predictions = sample(rows=rows)
    curves = curves_of(test, {"m": predictions["worse"]}, SETTINGS)
    assert len(curves["m"]["calibration"]) == bins


def _one_curve(test, predictions, settings):
    known = curves_of(test, predictions, settings)
    return dict.fromkeys(known, known["good"])


def _of_other_labels(test, predictions, settings):
    return curves_of(_with_labels(test, 1 - test.labels), predictions, settings)


def test_curves_are_of_each_model_that_has_predictions():
    check_curves(curves_of)
    assert curves_of(rows_of([], []), {}, SETTINGS) == {}


@pytest.mark.parametrize("wrong", [_one_curve, _of_other_labels])
def test_curve_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_curves(wrong)


def check_intervals(figures_of) -> None:
    """The checker: users are drawn, so two users can only give three AUCs and losses.

    One user is ranked rightly and one wrongly. A draw is twice the first (a quarter of
    the time), twice the second, or both: the 95 % interval spans all of it. Drawing
    rows would hardly ever take one user alone.
    """
    labels = np.tile([1.0, 0.0], 50)
    good = np.where(labels[:50] == 1, 0.9, 0.1)
    predictions = np.concatenate([good, good[::-1]])
    figures = figures_of(labels, predictions, np.repeat([b"x", b"y"], 50))
    assert figures["auc"] == 0.5
    assert figures["auc_interval"] == [0.0, 1.0]
    assert figures["gauc_interval"] == [0.0, 1.0]
    low, high = figures["logloss_interval"]
    assert low == pytest.approx(-np.log(0.9), rel=1e-6)
    assert high == pytest.approx(-np.log(0.1), rel=1e-6)


def test_intervals_draw_users_not_rows():
    check_intervals(figures_of)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda labels, p, users: figures_of(labels, p, np.arange(len(labels))),
        lambda labels, p, users: figures_of(labels, p, np.zeros(len(labels))),
    ],
    ids=["every row a user", "one user"],
)
def test_interval_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_intervals(wrong)


def test_settings_say_how_often_users_are_drawn_and_from_which_seed():
    labels, users = TEST.labels, TEST.users
    first, again, other = (
        figures_of(labels, PREDICTIONS["good"], users, RankingGateSettings(**settings))[
            "auc_interval"
        ]
        for settings in ({"seed": 1}, {"seed": 1}, {"seed": 2})
    )
    assert first == again != other


def check_baselines(baselines) -> None:
    seen = rows_of(
        [1, 1, 0, 0, 0], [0] * 5, TRAIN_ITEMS[[1, 2, 4, 0, 3]], [0, 0, 1, 1, 1]
    )
    shown = rows_of([0, 1], [0, 1], [b"a", b"new"], [1, -1])
    found = baselines(seen, shown)
    np.testing.assert_allclose(found["constant"], [0.4, 0.4], rtol=1e-6)
    np.testing.assert_allclose(found["popularity"], [6 / 13, 0.4], rtol=1e-6)
    np.testing.assert_allclose(found["position"], [4 / 13, 0.4], rtol=1e-6)
    nowhere = baselines(seen, rows_of([0, 1], [0, 1], [b"a", b"new"]))
    assert set(nowhere) == {"constant", "popularity"}


def _test_labels_known(seen, test):
    return baselines(test, test)


def _position_from_test(seen, test):
    return baselines(seen, test) | {
        "position": mean_label_predictions(test.positions, test.labels, test.positions)
    }


def test_baselines_are_mean_labels_of_all_of_the_item_and_of_the_position():
    check_baselines(baselines)


@pytest.mark.parametrize("wrong", [_test_labels_known, _position_from_test])
def test_baseline_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_baselines(wrong)


def test_users_are_counted_by_group_auc_where_they_have_both_labels():
    test = rows_of([1, 0, 1, 1], [0, 0, 1, 2])
    figures = evaluate_ranking(test, {"m": np.full(4, 0.5)}, {}, SETTINGS)
    assert figures["test"]["rows_of_gauc"] == 2
    assert figures["m"]["gauc"] == 0.5
