"""The figures of the index's benchmark, from searches made up by hand."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import ann_index, ann_world
from benchmarks.ann_contestant import Point, Sweep, growing, sweep_points
from benchmarks.ann_world import World, nearest, recalls
from benchmarks.targets import TARGETS

ROOT = Path(__file__).parents[2]
MODULES = {
    "tandem": "benchmarks.ann_tandem",
    "exact": "benchmarks.ann_exact",
    "hnswlib": "benchmarks.peers.ann_hnswlib",
    "faiss": "benchmarks.peers.ann_faiss",
}


@pytest.fixture(scope="module")
def world():
    return World.draw(3000, seed=1, num_queries=40)


def check_nearest(find, monkeypatch):
    """Rows 0 .. 5 score 5, 1, 5, 3, 2, 4; searched in parts of 2."""
    monkeypatch.setattr(ann_world, "_CHUNK", 2)
    items = np.array([[5.0], [1.0], [5.0], [3.0], [2.0], [4.0]], np.float32)
    queries = np.array([[1.0], [-1.0]], np.float32)
    equal = find(items, queries, 3).tolist() == [[0, 2, 5], [1, 4, 3]]
    assert equal
    random = np.random.default_rng(0)
    items, queries = random.normal(size=(50, 4)), random.normal(size=(9, 4))
    expected = np.argsort(-(queries @ items.T), axis=1)[:, :7]
    np.testing.assert_array_equal(find(items, queries, 7), expected)


def test_nearest_rows_are_those_of_the_largest_products(monkeypatch):
    check_nearest(nearest, monkeypatch)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda items, queries, k: nearest(items, -queries, k),
        lambda items, queries, k: np.sort(nearest(items, queries, k), axis=1)[:, ::-1],
        lambda items, queries, k: nearest(items[:40], queries, k)[:, ::-1],
    ],
)
def test_check_of_nearest_rows_rejects(wrong, monkeypatch):
    with pytest.raises(AssertionError):
        check_nearest(wrong, monkeypatch)


def test_world_is_of_unit_vectors_the_same_for_a_seed(world, tmp_path):
    np.testing.assert_allclose(np.linalg.norm(world.items, axis=1), 1, rtol=1e-5)
    world.save(tmp_path)
    loaded, again = World.load(tmp_path), World.draw(3000, seed=1, num_queries=40)
    other = World.draw(3000, seed=2, num_queries=40)
    for name in ("items", "tuning", "measuring", "tuning_truth", "measuring_truth"):
        expected = getattr(world, name)
        np.testing.assert_array_equal(getattr(loaded, name), expected)
        np.testing.assert_array_equal(getattr(again, name), expected)
        assert (getattr(other, name) != expected).any()


def test_recall_is_the_share_of_true_rows_found():
    truth = np.array([[1, 2], [3, 4], [5, 6]])
    rows = np.array([[2, 1], [3, 9], [1, 2]])
    assert recalls(rows, truth).tolist() == [1.0, 0.5, 0.0]


def check_sweep(points_of):
    """The first effort of the line that finds 96 of 100 rows is 24."""
    truth = np.tile(np.arange(100), [4, 1])

    def search_with(effort):
        found = min(effort * 4, 100)
        rows = np.concatenate([np.arange(found), np.full(100 - found, -1)])
        return lambda queries: np.tile(rows, [len(queries), 1])

    sweep = Sweep({"index": "made up"}, range(1, 101), search_with, "tries")
    points = [p for p, _ in points_of(sweep, np.zeros([4, 2]), truth)]
    enough = [p.setting["tries"] for p in points if p.suffices]
    assert min(enough) == 24
    assert {"index": "made up", "tries": 23} in [p.setting for p in points]
    assert len(points) < 20
    for point in points:
        assert point.recall == pytest.approx(min(point.setting["tries"], 25) / 25)


def test_sweep_finds_the_least_effort_that_suffices():
    check_sweep(sweep_points)


def whole_line(sweep, queries, truth):
    return [
        point
        for effort in sweep.efforts
        for point in sweep_points(
            Sweep(sweep.setting, [effort], sweep.search_with, "tries"), queries, truth
        )
    ]


def last_of_the_line(sweep, queries, truth):
    last = Sweep(sweep.setting, sweep.efforts[-1:], sweep.search_with, "tries")
    return sweep_points(last, queries, truth)


@pytest.mark.parametrize("wrong", [whole_line, last_of_the_line])
def test_check_of_the_sweep_rejects(wrong):
    with pytest.raises(AssertionError):
        check_sweep(wrong)


def test_point_suffices_by_its_lower_bound():
    assert Point({}, 0.96, 0.006, 1.0).suffices
    assert not Point({}, 0.96, 0.007, 1.0).suffices


def test_efforts_grow_by_a_factor_and_end_at_the_last():
    efforts = growing(1, 100, 1.5)
    assert efforts == [1, 2, 3, 4, 6, 9, 14, 21, 32, 48, 72, 100]


def found():
    """Returns what each contestant might have come to in two rounds."""
    speeds = {"tandem": (600, 500), "exact": (20, 25), "hnswlib": (300, 400)}
    return {
        who: ann_index.Found(
            {"build_seconds": 7.0},
            [
                {"queries_per_second": float(speed), "recall": 0.95 + number / 100}
                for number, speed in enumerate(each)
            ],
        )
        for who, each in (speeds | {"faiss": (500, 250)}).items()
    }


def check_figures(figures):
    values = figures(found())
    assert values["recall@100"] == [0.95, 0.96]
    assert values["speedup_over_exact"] == [30, 20]
    assert values["ratio_to_hnswlib"] == [2, 1.25]
    assert values["ratio_to_faiss"] == [1.2, 2]
    assert values["queries_per_s_faiss"] == [500, 250]
    assert values["build_s_tandem"] == [7]


def test_figures_follow_from_the_searches():
    check_figures(ann_index.figures)


def turned(found):
    values = ann_index.figures(found)
    return {key: [1 / value for value in each] for key, each in values.items()}


def best_against_worst(found):
    values = ann_index.figures(found)
    return {key: [max(each)] * len(each) for key, each in values.items()}


@pytest.mark.parametrize("wrong", [turned, best_against_worst])
def test_check_of_figures_rejects(wrong):
    with pytest.raises(AssertionError):
        check_figures(wrong)


def test_every_target_has_its_figure():
    assert set(TARGETS.get("ann_index", {})) <= set(ann_index.figures(found()))


def test_pareto_points_are_those_that_no_other_beats():
    points = [
        {"recall": recall, "queries_per_second": speed}
        for recall, speed in [(0.9, 50), (0.8, 90), (0.85, 40), (0.9, 45), (0.99, 10)]
    ]
    assert ann_index.pareto(points) == [(0.8, 90), (0.9, 50), (0.99, 10)]


@pytest.mark.parametrize("who", ["hnswlib", "faiss"])
def test_peers_run_in_environments_of_their_own(who):
    command = ann_index.command(who)
    assert command[:3] == ["uv", "run", "--quiet"]
    assert "--isolated" in command and "--no-project" in command
    assert f"{who}" in " ".join(command) and "==" in " ".join(command)
    assert command[-2:] == ["-m", f"benchmarks.peers.ann_{who}"]


@pytest.mark.component
@pytest.mark.parametrize("who", MODULES)
def test_contestant_tunes_and_then_searches_when_told_to(who, world, tmp_path):
    if who in ("hnswlib", "faiss") and importlib.util.find_spec(who) is None:
        pytest.skip(f"{who} is not installed; the benchmark brings its own")
    world.save(tmp_path)
    process = subprocess.run(
        [sys.executable, "-m", MODULES[who], str(tmp_path), "0", "quick"],
        input="\n\n",
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    ready, *rounds = map(json.loads, process.stdout.splitlines())
    assert ready["chosen"] in ready["points"]
    assert ready["chosen"]["recall"] >= 0.95
    assert len(rounds) == 2
    for one in rounds:
        assert one["queries_per_second"] > 0
        assert one["recall"] >= (1.0 if who == "exact" else 0.93)
