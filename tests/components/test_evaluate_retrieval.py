"""The retrieval gate: its figures against a slow oracle, its checks made to fail."""

import dataclasses
import math

import numpy as np
import pytest
import scipy.sparse

from components.evaluate_retrieval import (
    RetrievalGateSettings,
    TestLog,
    dot_product_scorer,
    evaluate_retrieval,
    gated_cutoff,
    judge_retrieval,
)
from models.retrieval.evaluation import Interactions

NUM_ITEMS = 130
SETTINGS = RetrievalGateSettings()


def make_log(seed: int = 0, num_events: int = 240, num_users: int = 8) -> TestLog:
    """Makes a log with repeats, equal timestamps and items outside the catalogue."""
    rng = np.random.default_rng(seed)
    users = np.array(
        [f"u{u}".encode() for u in rng.integers(num_users, size=num_events)]
    )
    # Squared, so that some items are popular and ties are many.
    items = (rng.random(num_events) ** 2 * (NUM_ITEMS + 3)).astype(np.int64)
    items[items >= NUM_ITEMS] = -1
    timestamps = np.sort(rng.integers(num_events // 2, size=num_events))
    is_test = np.arange(num_events) >= num_events * 3 // 4
    histories = np.zeros((num_events, NUM_ITEMS))
    for row in range(num_events):
        for other in range(num_events):
            earlier = timestamps[other] < timestamps[row]
            if users[other] == users[row] and earlier and items[other] >= 0:
                histories[row, items[other]] += 1
    return TestLog(
        Interactions(users, items, timestamps),
        ~is_test,
        is_test,
        scipy.sparse.csr_matrix(histories),
    )


def toy_scores(log: TestLog) -> np.ndarray:
    """Returns coarse scores, many of them equal: [events, items]."""
    rng = np.random.default_rng(5)
    return rng.integers(4, size=(len(log.is_test), NUM_ITEMS)).astype(float)


def oracle_ranks(log: TestLog, score) -> list[float]:
    """Ranks each test event by loops; `score(row, item)` is the model."""
    users, items = log.interactions.users, log.interactions.items
    times = log.interactions.timestamps
    ranks = []
    for row in np.flatnonzero(log.is_test):
        target = items[row]
        if target < 0:
            ranks.append(float(NUM_ITEMS))
            continue
        seen = {
            items[other]
            for other in range(len(items))
            if users[other] == users[row] and times[other] < times[row]
        }
        above = ties = 0
        own = score(row, target)  # a held-out item met before stays in
        for item in range(NUM_ITEMS):
            if item == target:
                continue
            value = -math.inf if item in seen else score(row, item)
            above += value > own
            ties += value == own
        ranks.append(above + ties / 2)
    return ranks


def oracle_figures(log: TestLog, scores: np.ndarray) -> dict[str, dict[str, float]]:
    users, items = log.interactions.users, log.interactions.items
    train = np.flatnonzero(log.is_train)
    count = [sum(items[row] == item for row in train) for item in range(NUM_ITEMS)]
    fans = [
        {users[row] for row in train if items[row] == item} for item in range(NUM_ITEMS)
    ]
    history = log.histories.toarray()

    def similarity(i, j):
        if i == j or not fans[i] or not fans[j]:
            return 0.0
        return len(fans[i] & fans[j]) / math.sqrt(len(fans[i]) * len(fans[j]))

    table = [[similarity(i, j) for j in range(NUM_ITEMS)] for i in range(NUM_ITEMS)]
    # Rounded: sums of the same terms in another order must tie alike.
    by_knn = np.round(history @ np.array(table), 9)
    figures = {}
    for name, score in {
        "toy": lambda row, item: scores[row, item],
        "popularity": lambda row, item: count[item],
        "item_knn": lambda row, item: by_knn[row, item],
    }.items():
        ranks = oracle_ranks(log, score)
        figures[name] = {
            f"recall@{k}": sum(rank < k for rank in ranks) / len(ranks)
            for k in (10, 50, 100)
        }
        gains = [1 / math.log2(rank + 2) if rank < 10 else 0.0 for rank in ranks]
        figures[name]["ndcg@10"] = sum(gains) / len(ranks)
    return figures


LOG = make_log()
SCORES = toy_scores(LOG)
EXPECTED = oracle_figures(LOG, SCORES)


def check_figures(evaluate) -> None:
    """The checker: every figure of model and baselines, as the oracle has it."""
    figures = evaluate(LOG, {"toy": lambda rows: SCORES[rows]}, SETTINGS)
    for name, expected in EXPECTED.items():
        seen = {key: figures[name][key] for key in expected}
        # item-kNN sums similarities in another order: a tie may be lost or won, which
        # moves one event of 60 by half a rank.
        tolerance = 0.02 if name == "item_knn" else 1e-12
        assert seen == pytest.approx(expected, abs=tolerance), name


def _changed(**changes):
    def evaluate(log, models, settings):
        return evaluate_retrieval(dataclasses.replace(log, **changes), models, settings)

    return evaluate


def test_figures_equal_the_slow_oracle():
    check_figures(evaluate_retrieval)


@pytest.mark.parametrize(
    "wrong",
    [
        _changed(is_train=np.ones_like(LOG.is_train)),
        _changed(
            interactions=dataclasses.replace(
                LOG.interactions, timestamps=np.zeros_like(LOG.interactions.timestamps)
            )
        ),
        _changed(
            histories=LOG.histories
            + scipy.sparse.csr_matrix(
                (np.ones(240), (np.arange(240), np.maximum(LOG.interactions.items, 0))),
                shape=LOG.histories.shape,
            )
        ),
        lambda log, models, settings: evaluate_retrieval(
            log, {"toy": lambda rows: -SCORES[rows]}, settings
        ),
        lambda log, models, settings: evaluate_retrieval(
            log,
            {"toy": lambda rows: SCORES[rows] - np.arange(NUM_ITEMS) * 1e-6},
            settings,
        ),
    ],
    ids=[
        "baselines learn from the test split",
        "seen items stay in",
        "the answer is in the history",
        "scores upside down",
        "ties fall to the smaller row",
    ],
)
def test_figure_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_figures(wrong)


def test_account_of_the_test_rows():
    figures = evaluate_retrieval(LOG, {"toy": lambda rows: SCORES[rows]}, SETTINGS)
    rows = np.flatnonzero(LOG.is_test)
    empty = sum(LOG.histories[row].sum() == 0 for row in rows)
    assert figures["test"] == {
        "events": 60,
        "gated_cutoff": 10,
        "users": len({LOG.interactions.users[row] for row in rows}),
        "events_without_history": empty,
    }


def test_users_without_history_are_counted_and_ranked():
    histories = LOG.histories.toarray()
    histories[np.flatnonzero(LOG.is_test)] = 0
    log = dataclasses.replace(LOG, histories=scipy.sparse.csr_matrix(histories))
    figures = evaluate_retrieval(log, {"toy": lambda rows: SCORES[rows]}, SETTINGS)
    assert figures["test"]["events_without_history"] == figures["test"]["events"] == 60


def test_gain_is_the_paired_difference_to_every_other_scorer():
    perfect = np.zeros_like(SCORES)
    known = LOG.interactions.items >= 0
    perfect[np.flatnonzero(known), LOG.interactions.items[known]] = 1.0
    models = {"perfect": lambda rows: perfect[rows], "toy": lambda rows: SCORES[rows]}
    figures = evaluate_retrieval(LOG, models, SETTINGS)
    assert set(figures["gain"]) == {"toy", "popularity", "item_knn"}
    for name, (low, high) in figures["gain"].items():
        gain = figures["perfect"]["recall@10"] - figures[name]["recall@10"]
        assert low <= gain <= high
    same = {"a": lambda rows: SCORES[rows], "b": lambda rows: SCORES[rows]}
    assert evaluate_retrieval(LOG, same, SETTINGS)["gain"]["b"] == [0.0, 0.0]


def test_large_log_is_sampled_alike_for_every_scorer_and_every_call():
    asked = []

    def scorer(rows):
        asked.append(rows.tolist())
        return SCORES[rows]

    settings = RetrievalGateSettings(max_test_events=13, seed=3)
    models = {"a": scorer, "b": scorer}
    first = evaluate_retrieval(LOG, models, settings)
    again = evaluate_retrieval(LOG, models, settings)
    assert first == again
    assert first["test"]["events"] == 13
    assert asked[0] == asked[1] == asked[2]
    assert len(set(asked[0])) == 13
    assert all(LOG.is_test[row] for row in asked[0])
    other = RetrievalGateSettings(max_test_events=13, seed=4)
    evaluate_retrieval(LOG, {"a": scorer}, other)
    assert asked[-1] != asked[0]


def test_dot_product_scorer_is_every_inner_product():
    queries = np.array([[1.0, 2.0], [0.0, 1.0], [3.0, 0.0]])
    items = np.array([[1.0, 0.0], [1.0, 1.0]])
    scorer = dot_product_scorer(lambda rows: queries[rows], items)
    assert scorer(np.array([2, 0])).tolist() == [[3.0, 3.0], [1.0, 3.0]]


# Binary fractions, so that sums and differences are exact.
def figures_with(model=0.75, popularity=0.5, item_knn=0.625, last=None, events=9):
    figures = {
        "model": {"recall@100": model},
        "popularity": {"recall@100": popularity},
        "item_knn": {"recall@100": item_knn},
        "test": {"events": events, "gated_cutoff": 100},
    }
    return figures | ({} if last is None else {"last": {"recall@100": last}})


STRICT = RetrievalGateSettings(beat_item_knn=True, max_drop=0.25)

CASES = [
    # what is seen, the names of the checks that must fail
    ({}, []),
    ({"last": 0.75}, []),
    ({"model": 0.5}, ["recall@100 against popularity", "recall@100 against item_knn"]),
    ({"model": 0.625}, ["recall@100 against item_knn"]),
    ({"popularity": 0.75}, ["recall@100 against popularity"]),
    ({"last": 1.0}, []),  # a drop of exactly max_drop is allowed
    ({"last": 1.0078125}, ["recall@100 against the last release"]),
    ({"model": float("nan")}, ["recall@100 against popularity"]),
    ({"model": float("nan"), "last": 0.0}, ["recall@100 against the last release"]),
    ({"events": 0}, ["test events"]),
]


def check_judge(judge) -> None:
    """The checker: exactly the failing checks fail, and one is enough to refuse."""
    for changes, failing in CASES:
        result = judge(figures_with(**changes), STRICT, "model", "last")
        failed = [check.name for check in result.checks if not check.passed]
        assert set(failing) <= set(failed), changes
        assert bool(failed) is bool(failing), changes
        assert result.passed is not bool(failing)
        assert result.gate == "retrieval"


def test_each_check_of_the_gate_can_stop_the_line():
    check_judge(judge_retrieval)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda figures, settings, model, last: judge_retrieval(
            figures, settings, "popularity", last
        ),
        lambda figures, settings, model, last: judge_retrieval(
            figures, settings, model, "nothing"
        ),
        lambda figures, settings, model, last: judge_retrieval(
            figures, settings.model_copy(update={"beat_item_knn": False}), model, last
        ),
        lambda figures, settings, model, last: judge_retrieval(
            figures, settings.model_copy(update={"max_drop": 0.5}), model, last
        ),
    ],
    ids=["another model", "no last release", "item-kNN left out", "twice the drop"],
)
def test_judge_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_judge(wrong)


def test_reason_names_what_was_seen_and_expected():
    result = judge_retrieval(figures_with(model=0.25), SETTINGS, "model", "last")
    assert result.reason == (
        "retrieval refused: recall@100 against popularity: seen 0.2500, expected > "
        "0.5000."
    )


def test_gate_that_was_asked_for_no_baseline_refused_every_first_release():
    # It had nothing to check then, and nothing checked is a refusal.
    settings = RetrievalGateSettings(beat_popularity=False)
    result = judge_retrieval(figures_with(model=0.25), settings, "model", "last")
    assert result.passed, result.reason


@pytest.mark.parametrize(
    ("num_items", "cutoff"),
    [(3, 10), (80, 10), (200, 50), (399, 50), (400, 100), (10**6, 100)],
)
def test_gate_of_a_small_catalogue_looks_at_a_smaller_cutoff(num_items, cutoff):
    # With 80 items every model has recall@100 of 1, and none could beat popularity.
    assert gated_cutoff(num_items) == cutoff
