"""The figures of the race: paired, with intervals, and never of other sources."""

import numpy as np
import pytest

from benchmarks import retrieval_peers
from benchmarks.result import Result, write_result
from benchmarks.retrieval_contest import Outcome
from benchmarks.retrieval_peers import Bench, figures, on_file, plot
from benchmarks.targets import RETRIEVAL_PEERS
from tests.benchmarks.retrieval_world import small_contest


def outcome(ranks):
    return Outcome(np.asarray(ranks, float), {}, 1, (0.0, 0.0), 1.0)


OUTCOMES = {
    "tandem": outcome([0, 5, 50, 200] * 25),
    "ease": outcome([3, 60, 9.5, 300] * 25),
    "popularity": outcome([100, 100, 100, 9] * 25),
}
USERS = np.arange(100) // 4  # every user has one event of each kind


def check_figures(implementation):
    values, intervals = implementation(OUTCOMES, USERS, "100k")
    expected = {
        "recall@10_tandem_100k": 0.5,
        "recall@10_ease_100k": 0.5,
        "recall@10_popularity_100k": 0.25,
        "recall@10_tandem_minus_ease_100k": 0.0,
        "recall@10_tandem_minus_popularity_100k": 0.25,
        "recall@100_tandem_100k": 0.75,
        "recall@100_ease_100k": 0.75,
        "recall@100_popularity_100k": 0.25,
        "recall@100_tandem_minus_ease_100k": 0.0,
        "recall@100_tandem_minus_popularity_100k": 0.5,
    }
    assert values == pytest.approx(expected)
    # Users do not differ, whatever their events do: nothing is uncertain.
    for key, value in expected.items():
        assert intervals[key] == pytest.approx((value, value))


def by_events(outcomes, users, size):
    return figures(outcomes, np.arange(len(users)), size)


def rank_equal_to_the_cutoff_hits(outcomes, users, size):
    return figures(
        {name: outcome(np.floor(o.ranks * 0.99)) for name, o in outcomes.items()},
        users,
        size,
    )


def test_figures():
    check_figures(figures)


@pytest.mark.parametrize("wrong", [by_events, rank_equal_to_the_cutoff_hits])
def test_checker_rejects_wrong_figures(wrong):
    with pytest.raises(AssertionError):
        check_figures(wrong)


def check_on_file(function, folder):
    facts = {"contenders": {}}
    names = ("1m", "1m_in_log_order")
    result = Result(
        name="retrieval_peers",
        figures={f"recall@10_tandem_{name}": 0.5 for name in names},
        intervals={f"recall@10_tandem_{name}": (0.4, 0.6) for name in names},
        versions={},
        data={
            **dict.fromkeys(names, facts),
            "seed": 0,
            "plots": [{"name": f"recall_{name}"} for name in names],
        },
        seconds=1.0,
    )
    write_result(result, folder)
    for name in names:
        key = f"recall@10_tandem_{name}"
        assert function(name, folder) == {
            "figures": {key: 0.5},
            "intervals": {key: (0.4, 0.6)},
            "data": {name: facts},
            "plots": {f"recall_{name}": {"name": f"recall_{name}"}},
        }


def test_race_of_which_nothing_is_kept_stays_as_it_is_on_file(tmp_path):
    check_on_file(on_file, tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda race, folder: on_file(race.split("_")[0], folder),
        lambda race, folder: {**on_file(race, folder), "intervals": {}},
    ],
    ids=["takes the shorter name", "loses the intervals"],
)
def test_checker_rejects_what_is_not_of_the_race(wrong, tmp_path):
    with pytest.raises(AssertionError):
        check_on_file(wrong, tmp_path)


def test_without_a_file_nothing_stays(tmp_path):
    assert not any(on_file("1m", tmp_path).values())


def test_differences_are_paired():
    rng = np.random.default_rng(0)
    luck = rng.random(400) < 0.5  # an easy user is easy for both
    outcomes = {
        "tandem": outcome(np.where(luck, 0, 500)),
        "ease": outcome(np.where(luck, 1, 600)),
    }
    _, intervals = figures(outcomes, np.arange(400), "1m")
    low, high = intervals["recall@10_tandem_1m"]
    assert high - low > 0.05
    assert intervals["recall@10_tandem_minus_ease_1m"] == (0.0, 0.0)


def test_plot_has_a_line_for_every_contender_the_best_first():
    drawn = plot(OUTCOMES, "1m")
    assert list(drawn.series) == ["tandem", "ease", "popularity"]
    lines = {name: dict(points) for name, points in drawn.series.items()}
    assert lines["tandem"][1] == 0.25
    assert lines["tandem"][100] == 0.75
    assert lines["ease"][500] == 1.0
    assert lines["popularity"][10] == 0.25


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.setattr(retrieval_peers, "read_contest", lambda *_: small_contest())
    monkeypatch.setattr(
        retrieval_peers,
        "fetch",
        lambda *_: type("Fetched", (), {"directory": tmp_path}),
    )
    return Bench("100k", tmp_path, seed=0, is_quick=True)


def test_an_outcome_is_kept_until_sources_change(bench):
    runs = []

    def run(file):
        runs.append(file)
        outcome([1.0]).save(file)

    for sources in ("one", "one", "two", "one"):
        bench._kept("ease", sources, run)
    assert len(runs) == 2
    bench._kept("ease_decay", "one", run)
    assert len(runs) == 3


def test_an_outcome_is_not_kept_where_the_run_failed(bench):
    def fails(file):
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        bench._kept("ease", "one", fails)
    assert bench._kept("ease", "one", outcome([7.0]).save).ranks.tolist() == [7.0]


def test_every_contender_of_a_full_run_has_its_targets():
    contenders = {*retrieval_peers.baselines(is_quick=False), *retrieval_peers.PEERS}
    assert contenders == set(RETRIEVAL_PEERS)


def test_baselines_of_a_quick_run_compete(bench):
    found = retrieval_peers.baselines(is_quick=True)
    assert set(found) == {
        "popularity",
        "recent_popularity",
        "item_knn",
        "item_knn_decay",
        "ease",
        "ease_decay",
    }
    done = retrieval_peers.compete(found["ease_decay"], bench.contest)
    assert len(done.ranks) == len(bench.contest.test_rows)


def test_costly_peers_learn_with_what_the_first_race_told(bench, monkeypatch):
    told = {"implicit_bpr": {"factors": 128}}
    bench._learning, bench._is_quick = told, False
    asked = {}

    def run(self, command, file, options=()):
        asked[command[-1]] = list(options)
        outcome([1.0]).save(file)

    monkeypatch.setattr(Bench, "_run", run)
    monkeypatch.setattr(retrieval_peers, "baselines", lambda is_quick: {})
    bench.outcomes()
    assert asked.pop("benchmarks.peers.retrieval_bpr") == [
        "--learning",
        '{"factors": 128}',
    ]
    assert not any("--learning" in options for options in asked.values())
    bench._learning = {"implicit_bpr": {"factors": 64}}
    asked.clear()
    bench.outcomes()  # other settings, another outcome
    assert list(asked) == ["benchmarks.peers.retrieval_bpr"]


def test_what_was_not_done_is_missing_and_not_run(bench, monkeypatch):
    bench._kept("popularity", "one", outcome([1.0]).save)
    bench._is_kept_only = True

    def run(file):
        raise AssertionError("nobody should run")

    assert bench._kept("popularity", "one", run) is not None
    assert bench._kept("popularity", "two", run) is None
    monkeypatch.setattr(Bench, "_run", run)
    assert bench.outcomes() == {}
    assert {"tandem", "ease_decay", "implicit_als"} <= set(bench.missing)
