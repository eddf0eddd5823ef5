"""A contest is fair: tuned on validation alone, then learnt from the whole train split."""

import json
import sys

import numpy as np
import pytest

from benchmarks.retrieval_contest import (
    Outcome,
    compete,
    compete_by_files,
    grid,
    ranks,
    recalls,
)
from tests.benchmarks.retrieval_world import small_contest

CONTEST = small_contest(num_items=400)


class Recorder:
    """Knows the answers of some settings, and notes what it was asked to learn from."""

    def __init__(self, best):
        self.best = best
        self.learnt = []

    def candidates(self, task):
        for setting in grid(a=[1, 2], b=[3, 4]):
            yield setting, self._scorer(task, setting)

    def learn(self, task, setting):
        self.learnt.append((task.num_train, setting))
        return self._scorer(task, setting)

    def _scorer(self, task, setting):
        sign = 1.0 if setting == self.best else -1.0
        answers = np.eye(task.num_items)[task.positives]
        return lambda places: sign * answers[places]


def check_compete(implementation):
    for best in grid(a=[1, 2], b=[3, 4]):
        recorder = Recorder(best)
        outcome = implementation(recorder, CONTEST)
        assert outcome.setting == best
        assert recorder.learnt == [(320, best)]
        assert len(outcome.ranks) == len(CONTEST.test_rows)
        assert not outcome.ranks.any()
        assert outcome.tried == 4
        assert outcome.validation == (1.0, 1.0)


def takes_the_last(contender, contest):
    tried = list(contender.candidates(contest.tuning))
    setting, scorer = tried[-1]
    seen = recalls(contest.tuning, scorer)
    contender.learn(contest.final, setting)
    return Outcome(np.zeros(len(contest.test_rows)), setting, len(tried), seen, 0.0)


def learns_from_less(contender, contest):
    outcome = compete(contender, contest)
    contender.learnt.clear()
    contender.learn(contest.tuning, outcome.setting)
    return outcome


def tunes_on_the_test(contender, contest):
    settings = [
        (sum(recalls(contest.final, contender.learn(contest.final, setting))), setting)
        for setting, _ in contender.candidates(contest.tuning)
    ]
    best = max(settings, key=lambda pair: pair[0])[1]
    return Outcome(np.zeros(len(contest.test_rows)), best, 4, (1.0, 1.0), 0.0)


def test_compete():
    check_compete(compete)


@pytest.mark.parametrize("wrong", [takes_the_last, learns_from_less, tunes_on_the_test])
def test_checker_rejects_unfair_contests(wrong):
    with pytest.raises(AssertionError):
        check_compete(wrong)


def test_what_the_user_met_before_is_not_ranked():
    task = CONTEST.final
    met = task.histories[0]

    def scorer(places):
        scores = np.zeros([len(places), task.num_items])
        scores[:, met] = 1.0  # above the held-out item, were they ranked
        return scores

    unmet = task.num_items - len(set(met.tolist()) | {int(task.positives[0])})
    assert task.positives[0] not in met
    assert len(met) > 5
    assert ranks(task, scorer)[0] == unmet / 2


def test_empty_grid_is_an_error():
    class Nobody:
        def candidates(self, task):
            return iter(())

    with pytest.raises(ValueError, match="at least one setting"):
        compete(Nobody(), CONTEST)


def test_outcome_survives_its_file(tmp_path):
    outcome = Outcome(np.array([0.0, 2.5]), {"a": [1, None]}, 3, (0.1, 0.2), 4.0)
    outcome.save(tmp_path / "outcome.npz")
    again = Outcome.load(tmp_path / "outcome.npz")
    assert again.ranks.tolist() == [0.0, 2.5]
    assert again.setting == {"a": [1, None]}
    assert (again.tried, again.validation, again.seconds) == (3, (0.1, 0.2), 4.0)
    assert [path.name for path in tmp_path.iterdir()] == ["outcome.npz"]


def test_a_peer_s_process_narrows_the_grid_as_it_is_told(tmp_path, monkeypatch):
    class Narrow(Recorder):
        def narrowed(self, learning):
            return Recorder(learning)

    contest, told = tmp_path / "contest.npz", {"a": 2, "b": 3}
    CONTEST.save(contest)
    for options, best in (
        ([], {"a": 1, "b": 4}),
        (["--learning", json.dumps(told)], told),
    ):
        files = [str(contest), str(tmp_path / "outcome.npz")]
        monkeypatch.setattr(sys, "argv", ["peer", *files, *options])
        compete_by_files({False: Narrow({"a": 1, "b": 4})})
        assert Outcome.load(tmp_path / "outcome.npz").setting == best
