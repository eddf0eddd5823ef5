"""The ranking gate: its figures against closed forms and sklearn, its checks failing."""

import itertools

import numpy as np
import pytest
import sklearn.metrics

from components.evaluate_ranking import (
    RankingGateSettings,
    binary_figures,
    judge_ranking,
    popularity_predictions,
)

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
    check_popularity(popularity_predictions)


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
        popularity_predictions(items, labels, test_items),
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


def pair_auc(labels, predictions) -> float:
    """Returns the share of (positive, negative) pairs in order, ties counted half."""
    positives, negatives = predictions[labels > 0.5], predictions[labels <= 0.5]
    wins = [
        1.0 if p > n else 0.5 if p == n else 0.0
        for p, n in itertools.product(positives, negatives)
    ]
    return sum(wins) / len(wins)


def sample(seed=0, rows=300, users=12):
    rng = np.random.default_rng(seed)
    predictions = np.round(rng.random(rows), 2)  # rounded, so that some tie
    labels = (rng.random(rows) < predictions).astype(np.float32)
    return labels, predictions, rng.integers(users, size=rows)


def check_figures(figures_of) -> None:
    """The checker: AUC by counting pairs, log loss by sklearn, calibration by hand."""
    labels, predictions, users = sample()
    figures = figures_of(labels, predictions, users)
    assert figures["auc"] == pytest.approx(pair_auc(labels, predictions), abs=1e-12)
    clipped = np.clip(predictions, 1e-7, 1 - 1e-7)
    expected = sklearn.metrics.log_loss(labels, clipped)
    assert figures["logloss"] == pytest.approx(expected, rel=1e-6)
    assert figures["calibration"] == pytest.approx(
        predictions.sum() / labels.sum(), rel=1e-6
    )
    for name in ("auc", "logloss"):
        low, high = figures[f"{name}_interval"]
        assert low < figures[name] < high


def test_figures_equal_pair_counting_and_sklearn():
    check_figures(binary_figures)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda labels, p, users: binary_figures(1 - labels, p, users),
        lambda labels, p, users: binary_figures(labels, p**2, users),
        lambda labels, p, users: binary_figures(labels, np.round(p, 1), users),
        lambda labels, p, users: binary_figures(labels[1:], p[:-1], users[1:]),
        lambda labels, p, users: (
            binary_figures(labels, p, users)
            | {"calibration": float(labels.sum() / p.sum())}
        ),
    ],
    ids=["labels swapped", "not calibrated", "coarse", "rows shifted", "inverse"],
)
def test_figure_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_figures(wrong)


def test_four_rows_by_hand():
    labels = np.array([1.0, 0.0, 1.0, 0.0])
    predictions = np.array([0.8, 0.5, 0.5, 0.1])
    figures = binary_figures(labels, predictions, np.arange(4))
    assert figures["auc"] == 3.5 / 4  # of four pairs three in order and one tied
    loss = -(np.log(0.8) + np.log(0.5) + np.log(0.5) + np.log(0.9)) / 4
    assert figures["logloss"] == pytest.approx(loss, rel=1e-12)
    assert figures["calibration"] == pytest.approx(1.9 / 2, rel=1e-12)


def test_certain_and_wrong_prediction_costs_much_but_not_infinity():
    figures = binary_figures(
        np.array([1.0, 0.0]), np.array([0.0, 1.0]), np.array([0, 1])
    )
    assert figures["logloss"] == pytest.approx(-np.log(1e-7), rel=1e-6)


def test_soft_label_of_a_half_is_no_positive():
    labels, predictions = np.array([1.0, 0.5, 0.0]), np.array([0.9, 0.8, 0.1])
    assert binary_figures(labels, predictions, np.arange(3))["auc"] == 1.0
    flipped = binary_figures(labels, predictions[[1, 0, 2]], np.arange(3))
    assert flipped["auc"] == 0.5


@pytest.mark.filterwarnings("ignore:All-NaN:RuntimeWarning")
def test_one_class_has_no_auc_and_no_label_no_calibration():
    predictions, users = np.array([0.2, 0.4]), np.array([0, 1])
    nothing = binary_figures(np.zeros(2), predictions, users)
    assert np.isnan(nothing["auc"])
    assert np.isnan(nothing["calibration"])
    assert np.isfinite(nothing["logloss"])
    assert np.isnan(binary_figures(np.ones(2), predictions, users)["auc"])


def check_intervals(figures_of) -> None:
    """The checker: users are drawn, so two users can only give three AUCs and losses.

    One user is ranked rightly and one wrongly. A draw is twice the first (a quarter of
    the time), twice the second, or both: the 95 % interval spans all of it. Drawing
    rows would hardly ever take one user alone.
    """
    labels = np.tile([1.0, 0.0], 50)
    good = np.where(labels[:50] == 1, 0.9, 0.1)
    predictions = np.concatenate([good, good[::-1]])
    users = np.repeat([b"x", b"y"], 50)
    figures = figures_of(labels, predictions, users)
    assert figures["auc"] == 0.5
    assert figures["auc_interval"] == [0.0, 1.0]
    low, high = figures["logloss_interval"]
    assert low == pytest.approx(-np.log(0.9), rel=1e-6)
    assert high == pytest.approx(-np.log(0.1), rel=1e-6)


def test_intervals_draw_users_not_rows():
    check_intervals(binary_figures)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda labels, p, users: binary_figures(labels, p, np.arange(len(labels))),
        lambda labels, p, users: binary_figures(labels, p, np.zeros(len(labels))),
    ],
    ids=["every row a user", "one user"],
)
def test_interval_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_intervals(wrong)


def figures_with(auc=0.75, logloss=0.5, tfma=None, last=None, **baselines):
    constant = {"auc": 0.5, "logloss": 0.625} | baselines.get("constant", {})
    popularity = {"auc": 0.625, "logloss": 0.75} | baselines.get("popularity", {})
    figures = {
        "deepfm": {"auc": auc, "logloss": logloss},
        "constant": constant,
        "popularity": popularity,
        "tfma": {"auc": auc if tfma is None else tfma},
    }
    return figures | ({} if last is None else {"last": last})


SETTINGS = RankingGateSettings(max_auc_drop=0.125, max_log_loss_rise=0.25)
NAN = float("nan")

CASES = [
    ({}, set()),
    ({"tfma": 0.746}, set()),
    ({"tfma": 0.744}, {"difference to TFMA's auc"}),
    ({"tfma": 0.756}, {"difference to TFMA's auc"}),
    ({"auc": 0.625}, {"auc against popularity"}),
    ({"auc": 0.5}, {"auc against popularity", "auc against constant"}),
    ({"constant": {"auc": 0.75}}, {"auc against constant"}),
    ({"popularity": {"auc": 0.75}}, {"auc against popularity"}),
    ({"logloss": 0.625}, {"logloss against constant"}),
    ({"popularity": {"logloss": 0.25}}, set()),  # AUC is what popularity is for
    ({"last": {"auc": 0.875, "logloss": 0.25}}, set()),  # exactly as far as allowed
    ({"last": {"auc": 0.890625, "logloss": 0.25}}, {"auc against the last release"}),
    ({"last": {"auc": 0.5, "logloss": 0.125}}, {"logloss against the last release"}),
    (
        {"auc": NAN, "last": {"auc": 0.5, "logloss": 0.5}},
        {
            "difference to TFMA's auc",
            "auc against constant",
            "auc against popularity",
            "auc against the last release",
        },
    ),
    ({"logloss": NAN}, {"logloss against constant"}),
]


def check_judge(judge) -> None:
    """The checker: exactly the failing checks fail, and one is enough to refuse."""
    for changes, failing in CASES:
        result = judge(figures_with(**changes), SETTINGS, "deepfm", "last")
        failed = {check.name for check in result.checks if not check.passed}
        assert failed == failing, changes
        assert result.passed is not bool(failing)
        assert result.gate == "ranking"


def test_each_check_of_the_gate_can_stop_the_line():
    check_judge(judge_ranking)


def _without_tfma(figures, settings, model, last):
    figures = figures | {"tfma": {"auc": figures[model]["auc"]}}
    return judge_ranking(figures, settings, model, last)


@pytest.mark.parametrize(
    "wrong",
    [
        _without_tfma,
        lambda f, settings, model, last: judge_ranking(f, settings, model, "nothing"),
        lambda f, settings, model, last: judge_ranking(f, settings, "constant", last),
        lambda f, settings, model, last: judge_ranking(
            f, settings.model_copy(update={"beat_baselines": False}), model, last
        ),
        lambda f, settings, model, last: judge_ranking(
            f, settings.model_copy(update={"max_auc_drop": 0.5}), model, last
        ),
        lambda f, settings, model, last: judge_ranking(
            f, settings.model_copy(update={"max_log_loss_rise": 0.5}), model, last
        ),
    ],
    ids=["no TFMA", "no last", "another model", "no baselines", "drop", "rise"],
)
def test_judge_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_judge(wrong)


def test_gate_without_baselines_still_compares_with_tfma():
    settings = RankingGateSettings(beat_baselines=False)
    assert judge_ranking(figures_with(auc=0.4), settings, "deepfm", "last").passed
    wrong = judge_ranking(figures_with(tfma=0.5), settings, "deepfm", "last")
    assert wrong.reason == (
        "ranking refused: difference to TFMA's auc: seen 0.25, expected at most 0.005."
    )
