"""The search over a landscape that is known: no model is trained here."""

import math

import pytest

from models.ranking.settings import RankingSettings
from models.retrieval.settings import RetrievalSettings
from models.tuning import oracle, search
from models.tuning.search import (
    Deadline,
    Objective,
    OutOfTime,
    TrialError,
    TuningError,
    run_search,
)
from models.tuning.space import search_space
from models.tuning_settings import TuningSettings

LOSS = Objective("log_loss", is_loss=True)
RATE = {"ranking.learning_rate": {"min": 1e-5, "max": 1.0, "log": True}}


def loss_of(settings) -> float:
    """Least, 0, at a rate of 0.01."""
    return (math.log10(settings.learning_rate) + 2) ** 2


class Landscape:
    """Stands where training does; remembers what it was asked."""

    def __init__(self, dies_at=None, fails=lambda settings: False, loss=loss_of):
        self.asked = []
        self._dies_at, self._fails, self._loss = dies_at, fails, loss

    def __call__(self, settings, folder):
        self.asked.append(settings)
        assert folder.is_dir()
        if len(self.asked) == self._dies_at:
            raise KeyboardInterrupt
        if self._fails(settings):
            raise TrialError("diverged")
        return {"log_loss": self._loss(settings)}


def run(folder, attempt, space=RATE, objective=LOSS, minutes=None, **tuning):
    """Returns the trials of a search, random unless told: the process takes seconds."""
    defaults = {"space": space, "trials": 8, "search": "random"}
    settings = TuningSettings.model_validate(defaults | tuning)
    sections = {"ranking": RankingSettings(), "retrieval": RetrievalSettings()}
    of_space = search_space(settings.space, sections)
    deadline = Deadline(minutes)
    return list(run_search(of_space, settings, objective, folder, attempt, deadline))


def test_config_as_it_is_comes_first_and_trials_are_beside_it(tmp_path):
    attempt = Landscape()
    trials = run(tmp_path, attempt)
    assert [trial.number for trial in trials] == list(range(9))
    assert attempt.asked[0] == RankingSettings()
    assert trials[0].values == {}
    for trial, settings in zip(trials, attempt.asked, strict=True):
        assert trial.metrics == {"log_loss": loss_of(settings)}
        assert trial.values.get("learning_rate", 0.001) == settings.learning_rate
        assert 1e-5 <= settings.learning_rate <= 1


@pytest.mark.parametrize("objective", [LOSS, Objective("log_loss", is_loss=False)])
def test_bayesian_search_learns_from_its_trials(tmp_path, objective):
    """One in fourteen rates that are drawn would be as good as the better of two."""
    sign = 1 if objective.is_loss else -1
    attempt = Landscape(loss=lambda settings: sign * loss_of(settings))
    tuning = {"trials": 8, "search": "bayesian"}
    trials = run(tmp_path, attempt, objective=objective, **tuning)
    drawn, chosen = trials[1:4], trials[4:]
    assert best_of(chosen, sign) < best_of(drawn, sign) / 2


def best_of(trials, sign):
    return min(sign * trial.metrics["log_loss"] for trial in trials)


def check_resuming(folder, monkeypatch, change=lambda patch: None, **tuning):
    """Holds a search that was killed to the trials of one that was not."""
    whole = run(folder / "whole", Landscape(), **tuning)
    change(monkeypatch)
    killed, again = Landscape(dies_at=5), Landscape()
    with pytest.raises(KeyboardInterrupt):
        run(folder / "killed", killed, **tuning)
    trials = run(folder / "killed", again, **tuning)
    assert [trial.values for trial in trials] == [trial.values for trial in whole]
    assert [trial.metrics for trial in trials] == [trial.metrics for trial in whole]
    assert len(again.asked) == len(whole) - 4  # four had ended


def test_search_that_was_killed_goes_on(tmp_path, monkeypatch):
    check_resuming(tmp_path, monkeypatch)


def test_bayesian_search_that_was_killed_goes_on(tmp_path, monkeypatch):
    check_resuming(tmp_path, monkeypatch, trials=5, search="bayesian")


def proposes_anew(patch):
    make, seeds = oracle.make_oracle, iter(range(100, 200))
    patch.setattr(
        oracle,
        "make_oracle",
        lambda space, tuning, *others: make(
            space, tuning.model_copy(update={"seed": next(seeds)}), *others
        ),
    )


def test_resuming_checker_rejects_other_proposals(tmp_path, monkeypatch):
    with pytest.raises(AssertionError):
        check_resuming(tmp_path, monkeypatch, proposes_anew)


def keeps_nothing(patch):
    place, calls = search._place, iter(range(1000))
    patch.setattr(
        search, "_place", lambda folder, text: place(folder / str(next(calls)), text)
    )


def test_resuming_checker_rejects_a_search_without_memory(tmp_path, monkeypatch):
    with pytest.raises(AssertionError):
        check_resuming(tmp_path, monkeypatch, keeps_nothing)


def test_larger_budget_goes_on_with_the_same_trials(tmp_path):
    few = run(tmp_path, Landscape(), trials=4)
    attempt = Landscape()
    many = run(tmp_path, attempt, trials=6)
    assert [t.values for t in many[:5]] == [t.values for t in few]
    assert len(attempt.asked) == 2


def test_small_space_is_tried_once_and_is_then_at_its_end(tmp_path):
    attempt = Landscape()
    space = {"ranking.batch_size": {"choices": [8, 1024, 16]}}
    trials = run(tmp_path, attempt, space, search="bayesian")
    # 1024 is what is configured: trial 0.
    assert sorted(t.values.get("batch_size", 1024) for t in trials) == [8, 16, 1024]
    assert len(attempt.asked) == 3


def test_failed_trials_are_passed_over(tmp_path):
    attempt = Landscape(fails=lambda settings: settings.learning_rate > 0.002)
    trials = run(tmp_path, attempt, trials=8)
    failed = [trial for trial in trials if trial.failure]
    assert 0 < len(failed) < 8
    assert all(t.failure == "diverged" and not t.metrics for t in failed)
    assert all(trial.values["learning_rate"] > 0.002 for trial in failed)


def test_values_that_do_not_go_together_are_a_failed_trial(tmp_path):
    space = {
        "retrieval.hard_negatives": {"choices": [3]},
        "retrieval.batch_size": {"choices": [2, 64]},
    }
    attempt = Landscape(loss=lambda settings: settings.batch_size)
    trials = run(tmp_path, attempt, space, trials=2)
    failures = {trial.values["batch_size"]: trial.failure for trial in trials[1:]}
    assert "`hard_negatives` should be below" in failures[2]
    assert failures[64] == ""


def test_search_ends_where_everything_fails(tmp_path):
    attempt = Landscape(fails=lambda settings: True)
    with pytest.raises(TuningError, match="5 trials in a row failed.*diverged"):
        run(tmp_path, attempt, trials=20)


def test_deadline_begins_no_more(tmp_path):
    run(tmp_path, Landscape(), trials=2)
    attempt = Landscape()
    with pytest.raises(OutOfTime):
        run(tmp_path, attempt, trials=3, minutes=1e-9)
    assert attempt.asked == []


def test_sections_of_models_are_varied_for_that_model_only(tmp_path):
    space = {
        "ranking.hpmn.hops": {"min": 1, "max": 2},
        "ranking.deepfm.hidden": {"choices": [[8], [4, 2]]},
        "ranking.model": {"choices": ["deepfm", "hpmn", "fm"]},
    }
    attempt = Landscape(loss=lambda settings: len(settings.model.value))
    trials = run(tmp_path, attempt, space, trials=5)
    seen = {trial.values["model"]: set(trial.values) for trial in trials[1:]}
    expected = {
        "deepfm": {"model", "deepfm.hidden"},
        "hpmn": {"model", "hpmn.hops"},
        "fm": {"model"},
    }
    assert seen == {model: expected[model] for model in seen}
    assert len(seen) > 1
    # Every combination there is: 2 of DeepFM, 2 of HPMN, 1 of FM, and none twice.
    keys = [tuple(sorted(map(str, trial.values.items()))) for trial in trials[1:]]
    assert len(set(keys)) == len(keys) == 5


def test_whole_numbers_stay_inside_a_logarithmic_range(tmp_path):
    space = {"ranking.batch_size": {"min": 2, "max": 9, "log": True}}
    attempt = Landscape(loss=lambda settings: -settings.batch_size)
    trials = run(tmp_path, attempt, space, trials=5, search="bayesian")
    seen = [trial.values["batch_size"] for trial in trials[1:]]
    assert all(isinstance(size, int) and 2 <= size <= 9 for size in seen)
    assert 9 in seen
