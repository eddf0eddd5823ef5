"""The ranking gate: each of its checks stops the line, alone."""

import copy

import pytest

from components.ranking_gate import RankingGateSettings, judge_ranking

NAN = float("nan")
SLICES = {
    "position": {
        "0": {"rows": 5000, "auc": 0.75, "logloss": 0.5},
        "1": {"rows": 1000, "auc": 0.625, "logloss": 0.5},
        "2": {"rows": 999, "auc": 0.125, "logloss": 0.5},  # too few to say anything
        "3": {"rows": 5000, "auc": NAN, "logloss": 0.5},  # of one class
    }
}
MODEL = {
    "auc": 0.75,
    "gauc": 0.625,
    "logloss": 0.5,
    "calibration": 1.0,
    "rows_without_prediction": 0,
    "slices": SLICES,
}
TFMA = {"auc": 0.75, "logloss": 0.5, "slices": SLICES}
LAST = {"auc": 0.75, "gauc": 0.625, "logloss": 0.5, "slices": SLICES}
GAIN = {"last": {"auc": [-0.125, 0.125], "logloss": [0.0, 0.0]}}


def world(last=True, **changes) -> dict:
    """Returns figures that pass, but for what changes: paths with `__` between."""
    figures = {
        "deepfm": MODEL,
        "constant": {"auc": 0.5, "logloss": 0.625},
        "popularity": {"auc": 0.625, "logloss": 0.75},
        "tfma": TFMA,
        "gain": GAIN,
        "test": {"rows": 12_000},
    } | ({"last": LAST} if last else {})
    figures = {name: copy.deepcopy(part) for name, part in figures.items()}
    for path, value in changes.items():
        *way, name = path.split("__")
        place = figures
        for step in way:
            place = place[step]
        if value is None:
            del place[name]
        else:
            place[name] = value
    return figures


DEFAULTS = RankingGateSettings(max_auc_drop=0.125, max_log_loss_rise=0.25)
STRICT = RankingGateSettings(
    min_auc=0.75,
    min_gauc=0.625,
    max_log_loss=0.5,
    min_calibration=1.0,
    max_calibration=1.0,
    max_auc_drop=0.125,
    max_likely_auc_drop=0.125,
    max_gauc_drop=0.125,
    max_log_loss_rise=0.25,
    min_slice_auc=0.625,
    max_slice_auc_drop=0.125,
)
SLICE = "auc where position is 0"

# What changes, and which checks then fail under the defaults and under `STRICT`.
CASES: list[tuple[dict, set[str], set[str]]] = [
    ({}, set(), set()),
    ({"last": False}, set(), set()),
    ({"tfma__auc": 0.746}, set(), set()),
    ({"tfma__auc": 0.744}, {"difference to TFMA's auc"}, set()),
    ({"tfma__auc": 0.756}, {"difference to TFMA's auc"}, set()),
    ({"tfma__auc": NAN}, {"difference to TFMA's auc"}, set()),
    ({"tfma__logloss": 0.504}, set(), set()),
    ({"tfma__logloss": 0.506}, {"difference to TFMA's logloss"}, set()),
    (
        {"tfma__slices__position__2__logloss": 0.506},
        {"difference to TFMA's logloss"},
        set(),
    ),
    ({"tfma__slices__position__2__rows": 998}, {"difference to TFMA's logloss"}, set()),
    ({"tfma__slices__position__2": None}, {"difference to TFMA's logloss"}, set()),
    ({"deepfm__slices__position__2": None}, {"difference to TFMA's logloss"}, set()),
    ({"deepfm__slices__position": None}, {"difference to TFMA's logloss"}, set()),
    ({"tfma__slices": {}}, set(), set()),  # what it does not slice by
    ({"deepfm__rows_without_prediction": 1}, {"rows without a prediction"}, set()),
    ({"constant__auc": 0.75}, {"auc against constant"}, set()),
    ({"popularity__auc": 0.75}, {"auc against popularity"}, set()),
    ({"constant__logloss": 0.5}, {"logloss against constant"}, set()),
    ({"popularity__logloss": 0.25}, set(), set()),  # AUC is what popularity is for
    ({"deepfm__auc": 0.7475}, set(), {"auc"}),
    ({"deepfm__gauc": 0.6249}, set(), {"gauc"}),
    ({"deepfm__gauc": NAN}, set(), {"gauc", "gauc against the last release"}),
    ({"deepfm__logloss": 0.5001}, set(), {"logloss"}),
    ({"deepfm__calibration": 1.001}, set(), {"calibration"}),
    ({"deepfm__calibration": 0.999}, set(), {"calibration"}),
    ({"deepfm__calibration": NAN}, set(), {"calibration"}),
    ({"last__auc": 0.875}, set(), set()),  # exactly as far as allowed
    ({"last__auc": 0.890625}, {"auc against the last release"}, set()),
    ({"last__logloss": 0.25}, set(), set()),
    ({"last__logloss": 0.2}, {"logloss against the last release"}, set()),
    ({"last__gauc": 0.75}, set(), set()),
    ({"last__gauc": 0.7501}, set(), {"gauc against the last release"}),
    (
        {"gain__last__auc": [-0.126, 0.5]},
        set(),
        {"likely gain of auc over the last release"},
    ),
    ({"gain__last": None}, set(), {"likely gain of auc over the last release"}),
    ({"last__slices__position__0__auc": 0.875}, set(), set()),
    (
        {"last__slices__position__0__auc": 0.9},
        set(),
        {f"{SLICE} against the last release"},
    ),
    ({"deepfm__slices__position__0__auc": 0.62}, set(), {SLICE, f"{SLICE} against"}),
    ({"last__slices": None}, set(), set()),
    ({"test__rows": 0}, {"test rows"}, set()),
]


def failing(result) -> set[str]:
    return {check.name for check in result.checks if not check.passed}


def check_judge(judge) -> None:
    """The checker: exactly the failing checks fail, and one is enough to refuse."""
    for changes, by_default, when_strict in CASES:
        result = judge(world(**changes), DEFAULTS, "deepfm", "last")
        assert failing(result) == by_default, changes
        assert result.passed is not bool(by_default)
        assert result.gate == "ranking"
        result = judge(world(**changes), STRICT, "deepfm", "last")
        seen = failing(result)
        assert by_default <= seen, changes
        assert len(seen) == len(by_default | when_strict), (changes, seen)
        for name in when_strict:
            assert any(found.startswith(name) for found in seen), changes


def test_each_check_of_the_gate_can_stop_the_line():
    check_judge(judge_ranking)


def _other_settings(**changes):
    def wrong(figures, settings, model, last):
        changed = settings.model_copy(update=changes)
        return judge_ranking(figures, changed, model, last)

    return wrong


def _without_tfma(figures, settings, model, last):
    own = figures[model]
    return judge_ranking(figures | {"tfma": own}, settings, model, last)


def _without_tfmas_slices(figures, settings, model, last):
    tfma = figures["tfma"] | {"slices": {}}
    return judge_ranking(figures | {"tfma": tfma}, settings, model, last)


def _no_last(figures, settings, model, last):
    return judge_ranking(figures, settings, model, "nothing")


def _another_model(figures, settings, model, last):
    return judge_ranking(figures | {"m": figures[model] | MODEL}, settings, "m", last)


@pytest.mark.parametrize(
    "wrong",
    [
        *(_without_tfma, _without_tfmas_slices, _no_last, _another_model),
        _other_settings(beat_baselines=False),
        *(
            _other_settings(**{name: None})
            for name in (
                *("min_auc", "min_gauc", "max_log_loss", "min_calibration"),
                *("max_calibration", "max_likely_auc_drop", "max_gauc_drop"),
                *("min_slice_auc", "max_slice_auc_drop"),
            )
        ),
        *(
            _other_settings(**{name: 0.5})
            for name in ("max_auc_drop", "max_log_loss_rise")
        ),
        _other_settings(min_slice_rows=1),
        _other_settings(min_slice_rows=10_000),
    ],
)
def test_judge_checker_rejects(wrong):
    with pytest.raises((AssertionError, KeyError)):
        check_judge(wrong)


def test_model_that_diverged_is_refused_for_what_it_lacks():
    unknown = {name: NAN for name in ("auc", "gauc", "logloss", "calibration")}
    figures = world() | {"deepfm": {**unknown, "rows_without_prediction": 3}}
    result = judge_ranking(figures, DEFAULTS, "deepfm", "last")
    assert failing(result) == {check.name for check in result.checks} - {"test rows"}
    assert result.reason == (
        "ranking refused: rows without a prediction: seen 3, expected at most 0. 7 more "
        "failed."
    )


def test_without_test_rows_there_is_nothing_to_compare():
    result = judge_ranking({"test": {"rows": 0}}, STRICT, "deepfm", "last")
    assert result.reason == ("ranking refused: test rows: seen 0, expected at least 1.")


def test_reason_names_the_slice_that_tfma_sees_otherwise():
    figures = world(tfma__slices__position__1__logloss=0.75)
    result = judge_ranking(figures, DEFAULTS, "deepfm", "last")
    assert result.reason == (
        "ranking refused: difference to TFMA's logloss: seen 0.25 (position 1), expected "
        "at most 0.005."
    )


def test_gate_without_baselines_still_compares_with_tfma():
    settings = RankingGateSettings(beat_baselines=False)
    assert judge_ranking(world(constant__auc=1.0), settings, "deepfm", "").passed
    wrong = judge_ranking(world(tfma__auc=0.5), settings, "deepfm", "")
    assert wrong.reason == (
        "ranking refused: difference to TFMA's auc: seen 0.25, expected at most 0.005."
    )
