"""A ranker's figures against loops over pairs, users and bins, and by hand."""

import itertools

import numpy as np
import pytest
import sklearn.metrics

from models.ranking import evaluation
from models.ranking.evaluation import GroupAuc, calibration_curve, roc_curve
from models.retrieval.intervals import UserBootstrap
from tests.models.ranking import evaluation_reference as reference


def sample(seed=0, rows=300, users=25):
    """Returns labels, predictions of which some tie, and users, some of one class."""
    rng = np.random.default_rng(seed)
    predictions = np.round(rng.random(rows), 2)
    user = np.minimum(rng.geometric(0.12, size=rows), users)
    labels = (rng.random(rows) < predictions).astype(np.float32)
    labels[user == 2] = 0.0
    labels[user == 3] = 1.0
    return labels, predictions, np.char.add("u", user.astype(str)).astype("S")


LABELS, PREDICTIONS, USERS = sample()
IS_POSITIVE = LABELS > 0.5


def check_group_auc(make) -> None:
    """Groups 1 and 4 have no AUC: one class, and no row; -1 is no group."""
    rng = np.random.default_rng(1)
    groups = rng.choice([-1, 0, 2, 3, 5], p=[0.3, 0.3, 0.2, 0.1, 0.1], size=300)
    groups[np.flatnonzero(IS_POSITIVE)[:3]] = 1
    weights = rng.integers(4, size=(5, 300)).astype(float)
    of_groups = make(IS_POSITIVE, PREDICTIONS, groups, 6)
    expected = reference.auc_of_groups(LABELS, PREDICTIONS, groups, 6)
    assert np.isnan(expected)[[1, 4]].all()
    np.testing.assert_allclose(of_groups(), expected, rtol=0, atol=1e-12)
    expected = [
        reference.auc_of_groups(LABELS, PREDICTIONS, groups, 6, row) for row in weights
    ]
    np.testing.assert_allclose(of_groups(weights), expected, rtol=0, atol=1e-12)


def test_auc_of_groups_equals_counting_pairs():
    check_group_auc(GroupAuc)


def _wrong_auc(change):
    """Returns what makes a GroupAuc that `change` computes."""

    def make(is_positive, predictions, groups, num_groups):
        def call(weights=None):
            return change(is_positive, predictions, groups, num_groups, weights)

        return call

    return make


def _ties_by_place(labels, predictions, groups, num_groups, weights):
    moved = predictions + 1e-9 * np.arange(len(predictions))
    return GroupAuc(labels, moved, groups, num_groups)(weights)


def _ties_lost(labels, predictions, groups, num_groups, weights):
    return GroupAuc(labels, predictions - 1e-9 * labels, groups, num_groups)(weights)


def _weights_ignored(labels, predictions, groups, num_groups, weights):
    auc = GroupAuc(labels, predictions, groups, num_groups)()
    return auc if weights is None else np.tile(auc, [len(weights), 1])


def _nobody_is_group_0(labels, predictions, groups, num_groups, weights):
    return GroupAuc(labels, predictions, np.maximum(groups, 0), num_groups)(weights)


def _classes_swapped(labels, predictions, groups, num_groups, weights):
    return GroupAuc(~labels, predictions, groups, num_groups)(weights)


@pytest.mark.parametrize(
    "wrong",
    [
        *(_ties_by_place, _ties_lost, _weights_ignored, _nobody_is_group_0),
        _classes_swapped,
    ],
)
def test_group_auc_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_group_auc(_wrong_auc(wrong))


def test_auc_of_all_rows_equals_sklearn():
    assert GroupAuc(IS_POSITIVE, PREDICTIONS)()[0] == pytest.approx(
        sklearn.metrics.roc_auc_score(IS_POSITIVE, PREDICTIONS), abs=1e-12
    )


def test_auc_is_unknown_without_rows_with_one_class_and_with_a_nan():
    nothing = np.zeros(0)
    assert np.isnan(GroupAuc(nothing > 0, nothing)()).all()
    ones = np.ones(3, bool)
    assert np.isnan(GroupAuc(ones, np.arange(3.0))()).all()
    assert np.isnan(GroupAuc(~ones, np.arange(3.0))(np.ones([2, 3]))).all()
    predictions = np.array([0.1, np.nan, 0.2, 0.9])
    labels, groups = np.array([False, True, False, True]), np.array([0, 0, 1, 1])
    np.testing.assert_array_equal(
        GroupAuc(labels, predictions, groups, 2)(), [np.nan, 1.0]
    )


def check_soft_labels(make) -> None:
    """A row between the classes is part of both; its halves tie with each other."""
    labels = np.array([1.0, 0.5, 0.0])
    # Of 1.5 x 1.5 of pairs: 1 x (1/2 + 1), and 1/2 x (1 + 1/2 x 1/2).
    auc = make(labels, np.array([0.9, 0.5, 0.1]), np.zeros(3, int), 1)()
    assert auc[0] == pytest.approx((1.5 + 0.5 * 1.25) / 2.25, rel=1e-12)
    soft = np.random.default_rng(3).choice([0.0, 0.25, 0.5, 1.0], size=300)
    auc = make(soft, PREDICTIONS, np.zeros(300, int), 1)()
    assert auc[0] == pytest.approx(reference.auc(soft, PREDICTIONS), abs=1e-12)


def test_auc_of_soft_labels_counts_rows_in_part():
    check_soft_labels(GroupAuc)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda labels, *rest: GroupAuc(labels > 0.5, *rest),
        lambda labels, *rest: GroupAuc(labels > 0, *rest),
    ],
    ids=["above a half", "above 0"],
)
def test_soft_label_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_soft_labels(wrong)


def check_user_auc(gauc) -> None:
    """By hand: four rows in order, two that tie, and a user who likes everything."""
    labels = np.array([1, 1, 0, 0, 1, 0, 1, 1], bool)
    predictions = np.array([0.9, 0.8, 0.2, 0.1, 0.5, 0.5, 0.01, 0.02])
    users = np.array([b"x"] * 4 + [b"y"] * 2 + [b"z"] * 2)
    assert gauc(labels, predictions, users) == pytest.approx((4 * 1.0 + 2 * 0.5) / 6)
    order = np.random.default_rng(0).permutation(8)
    shuffled = gauc(labels[order], predictions[order], users[order])
    assert shuffled == pytest.approx((4 * 1.0 + 2 * 0.5) / 6)
    assert gauc(IS_POSITIVE, PREDICTIONS, USERS) == pytest.approx(
        reference.gauc(LABELS, PREDICTIONS, USERS), rel=1e-12
    )
    assert np.isnan(gauc(labels[6:], predictions[6:], users[6:]))
    predictions[1] = np.nan
    assert np.isnan(gauc(labels, predictions, users))


def _gauc(is_positive, predictions, users):
    return evaluation.user_auc(is_positive, predictions, users).mean


def _mean_over_users(is_positive, predictions, users):
    result = evaluation.user_auc(is_positive, predictions, users)
    _, first = np.unique(users, return_index=True)
    first = first[result.counts[first]]
    return result.of_row[first].mean() if len(first) else np.nan


def _one_class_is_half(is_positive, predictions, users):
    result = evaluation.user_auc(is_positive, predictions, users)
    return np.where(result.counts, result.of_row, 0.5).mean()


def _weighed_by_clicks(is_positive, predictions, users):
    result = evaluation.user_auc(is_positive, predictions, users)
    rows = result.counts & is_positive
    return result.of_row[rows].mean() if rows.any() else np.nan


def _of_all_users(is_positive, predictions, users):
    return GroupAuc(is_positive, predictions)()[0]


def _nans_passed_over(is_positive, predictions, users):
    result = evaluation.user_auc(is_positive, predictions, users)
    known = result.counts & ~np.isnan(result.of_row)
    return result.of_row[known].mean() if known.any() else np.nan


def test_group_auc_is_the_mean_over_users_by_impressions():
    check_user_auc(_gauc)


@pytest.mark.parametrize(
    "wrong",
    [
        *(_mean_over_users, _one_class_is_half, _weighed_by_clicks, _of_all_users),
        _nans_passed_over,
    ],
)
def test_user_auc_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_user_auc(wrong)


def check_log_losses(log_losses) -> None:
    labels, predictions = np.array([1.0, 0.0, 0.25]), np.array([0.75, 0.75, 0.75])
    sure, wrong = -np.log(0.75), -np.log(0.25)
    expected = [sure, wrong, sure / 4 + wrong * 3 / 4]
    np.testing.assert_allclose(log_losses(labels, predictions), expected, rtol=1e-12)
    certain = log_losses(np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    np.testing.assert_allclose(certain, -np.log(1e-7), rtol=1e-6)


def test_log_loss_by_hand():
    check_log_losses(evaluation.log_losses)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda y, p: evaluation.log_losses(1 - y, p),
        lambda y, p: evaluation.log_losses((y > 0.1) * 1.0, p),
        lambda y, p: evaluation.log_losses(y, p) / np.log(2),
        lambda y, p: evaluation.log_losses(y, np.clip(p, 1e-15, 1 - 1e-15)) * 2,
    ],
    ids=["swapped", "hard labels", "bits", "twice"],
)
def test_log_loss_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_log_losses(wrong)


def test_calibration_is_predicted_over_seen():
    labels, predictions = np.array([1.0, 0.0, 0.0]), np.array([0.5, 0.25, 0.75])
    assert evaluation.calibration(labels, predictions) == pytest.approx(1.5)
    assert np.isnan(evaluation.calibration(labels * 0, predictions))


def area(points: np.ndarray) -> float:
    widths = np.diff(points[:, 0])
    return float(np.sum(widths * (points[1:, 1] + points[:-1, 1]) / 2))


def check_roc(curve) -> None:
    """Ends, direction and area; between the corners of the curve it is straight."""
    points = curve(IS_POSITIVE, PREDICTIONS, 101)
    assert points.shape == (101, 2)
    assert points[0].tolist() == [0, 0] and points[-1].tolist() == [1, 1]
    assert (np.diff(points, axis=0) >= 0).all()
    np.testing.assert_allclose(np.diff(points.sum(axis=1)), 2 / 100, rtol=1e-9)
    auc = reference.auc(LABELS, PREDICTIONS)
    assert area(points) == pytest.approx(auc, abs=2e-4)
    labels = np.array([1, 0, 1, 0, 0], bool)
    scores = np.array([0.9, 0.5, 0.5, 0.5, 0.1])
    # Up to (0, 1/2); three rows tie, a straight stretch to (2/3, 1); then on to (1, 1).
    points = curve(labels, scores, 6)
    np.testing.assert_allclose(points[1], [0, 0.4], atol=1e-12)
    tied = points[2:5]
    assert (tied[:, 0] > 0).all() and (tied[:, 1] < 1).all()
    np.testing.assert_allclose(tied[:, 1], 0.5 + tied[:, 0] * 0.75, rtol=1e-9)


def _backwards(is_positive, predictions, num_points):
    return roc_curve(is_positive, -predictions, num_points)


def _axes_swapped(is_positive, predictions, num_points):
    return roc_curve(is_positive, predictions, num_points)[:, ::-1]


def _ties_in_steps(is_positive, predictions, num_points):
    moved = predictions + 1e-9 * is_positive
    return roc_curve(is_positive, moved, num_points)


def test_roc_curve_has_the_auc_below_it():
    check_roc(roc_curve)


@pytest.mark.parametrize("wrong", [_backwards, _axes_swapped, _ties_in_steps])
def test_roc_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_roc(wrong)


def test_roc_curve_of_one_class_has_no_points():
    assert roc_curve(np.ones(3, bool), np.arange(3.0)).shape == (0, 2)


def check_calibration_curve(curve) -> None:
    """Eight rows in four bins by hand, and rows that tie in one."""
    labels = np.array([0, 1, 1, 1, 0, 0, 0, 1.0])
    predictions = np.array([0.1, 0.8, 0.9, 0.5, 0.6, 0.3, 0.2, 0.4])
    draws = UserBootstrap(np.arange(8))
    bins = curve(labels, predictions, draws, 4)
    assert [row["rows"] for row in bins] == [2, 2, 2, 2]
    np.testing.assert_allclose(
        [row["prediction"] for row in bins], [0.15, 0.35, 0.55, 0.85]
    )
    assert [row["label"] for row in bins] == [0.0, 0.5, 0.5, 1.0]
    assert bins[0]["label_interval"] == [0.0, 0.0]
    assert bins[1]["label_interval"] == [0.0, 1.0]
    tied = curve(labels, np.where(predictions < 0.65, 0.25, predictions), draws, 4)
    assert [row["rows"] for row in tied] == [6, 2]
    assert tied[0]["label"] == pytest.approx(1 / 3)


def _rows_mixed_up(labels, predictions, draws, num_bins):
    return calibration_curve(labels, np.sort(predictions), draws, num_bins)


def _sides_swapped(labels, predictions, draws, num_bins):
    bins = calibration_curve(labels, predictions, draws, num_bins)
    return [
        row | {"label": row["prediction"], "prediction": row["label"]} for row in bins
    ]


def _ties_apart(labels, predictions, draws, num_bins):
    moved = predictions + 1e-9 * np.arange(len(predictions))
    return calibration_curve(labels, moved, draws, num_bins)


def test_calibration_curve_by_hand():
    check_calibration_curve(calibration_curve)


@pytest.mark.parametrize("wrong", [_rows_mixed_up, _sides_swapped, _ties_apart])
def test_calibration_curve_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_calibration_curve(wrong)


SLICING = (np.arange(300) % 4 - 1, 3)


def check_resample(resample) -> None:
    """Each resample equals the loops on rows that weigh what their user was drawn."""
    draws = UserBootstrap(USERS, num_resamples=6)
    seen = resample(LABELS, PREDICTIONS, USERS, draws, {"some": SLICING})
    drawn = np.concatenate(list(UserBootstrap(USERS, num_resamples=6).row_weights()))
    assert len(drawn) == 6 and len(np.unique(drawn, axis=0)) == 6
    for number, weights in enumerate(drawn):
        rows = (LABELS, PREDICTIONS)
        auc, loss = (f(*rows, weights) for f in (reference.auc, reference.log_loss))
        assert seen.auc[number] == pytest.approx(auc, abs=1e-12)
        assert seen.logloss[number] == pytest.approx(loss, rel=1e-6)
        gauc = reference.gauc(*rows, USERS, weights)
        assert seen.gauc[number] == pytest.approx(gauc, rel=1e-9)
        ratio = (weights @ PREDICTIONS) / (weights @ LABELS)
        assert seen.calibration[number] == pytest.approx(ratio, rel=1e-9)
        sliced = reference.auc_of_groups(*rows, *SLICING, weights)
        np.testing.assert_allclose(seen.sliced["some"][number], sliced, atol=1e-12)


def _rows_drawn(labels, predictions, users, draws, slicings):
    draws = UserBootstrap(np.arange(len(users)), num_resamples=6)
    return evaluation.resample(labels, predictions, users, draws, slicings)


def _other_draws(labels, predictions, users, draws, slicings):
    draws = UserBootstrap(users, seed=1, num_resamples=6)
    return evaluation.resample(labels, predictions, users, draws, slicings)


def _one_user(labels, predictions, users, draws, slicings):
    nobody = np.zeros(len(users))
    return evaluation.resample(labels, predictions, nobody, draws, slicings)


def test_resamples_equal_loops_over_the_drawn_users():
    check_resample(evaluation.resample)


@pytest.mark.parametrize("wrong", [_rows_drawn, _other_draws, _one_user])
def test_resample_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_resample(wrong)


def test_resamples_of_a_few_rows_at_a_time_are_the_same(monkeypatch):
    def resampled():
        draws = UserBootstrap(USERS, num_resamples=6)
        slicings = {"some": SLICING}
        return evaluation.resample(LABELS, PREDICTIONS, USERS, draws, slicings)

    whole = resampled()
    monkeypatch.setattr("models.retrieval.intervals._MAX_WEIGHTS", 1)
    parts = resampled()
    np.testing.assert_array_equal(whole.auc, parts.auc)
    np.testing.assert_allclose(whole.gauc, parts.gauc, rtol=1e-12)


def test_rankings_of_many_rows_that_tie_cost_no_precision():
    """Counts of pairs are exact: 10,000 x 10,000 of them, half in order."""
    labels = np.arange(20_000) % 2 == 0
    predictions = np.where(np.arange(20_000) % 4 < 2, 0.25, 0.75)
    assert GroupAuc(labels, predictions)()[0] == 0.5


def test_interval_leaves_out_what_is_unknown():
    values = np.array([np.nan, *itertools.repeat(2.0, 40), np.nan])
    assert evaluation.interval(values) == [2.0, 2.0]
    assert np.isnan(evaluation.interval(values[:1])).all()
