"""The figures of the ingestion's benchmark, from costs made up by hand."""

import dataclasses
import json

import pytest

from benchmarks import ingest
from benchmarks.measure import Cost, Process
from benchmarks.targets import TARGETS

SCALE = ingest.Scale(naive=100, main=1000, jsonl=500, large=10_000, repeats=2)
GIB = 1 << 30


def cost(cpu, wall=1.0, startup=1.0, processes=(), tree=0):
    output = "noise\n" + json.dumps({"read": 1, "startup_cpu_s": startup})
    return Cost(wall, cpu, tree, list(processes), output)


def costs():
    """Returns what every planned run might have cost."""
    tandem = ingest.Run("tandem", 1000)
    worker = "python -m apache_beam.runners.worker.sdk_worker_main"
    return {
        tandem: [cost(5, wall=6), cost(9, wall=8)],
        ingest.Run("tandem", 1000, workers=2): [cost(10, wall=3), cost(10, wall=2)],
        ingest.Run("tandem", 500, file_format="jsonl"): [cost(2), cost(4)],
        ingest.Run("naive_beam", 100): [cost(11), cost(6)],
        ingest.Run("polars", 1000): [cost(2), cost(3)],
        ingest.Run("duckdb", 1000): [cost(10), cost(9)],
        ingest.Run("tandem", 10_000): [cost(41, 80, processes=[Process("x", 1, GIB)])],
        ingest.Run("tandem", 10_000, workers=2): [
            cost(
                50,
                wall=40,
                tree=7 * GIB,
                processes=[
                    Process("python -m benchmarks.ingest_tandem", 1, 3 * GIB),
                    Process(worker, 1, 2 * GIB),
                    Process(worker, 1, GIB),
                ],
            )
        ],
        ingest.Run("polars", 10_000): [cost(20.5, tree=9 * GIB)],
        ingest.Run("duckdb", 10_000): [cost(41, tree=8 * GIB)],
    }


def check_figures(figures):
    found = figures(costs(), SCALE)
    assert found["events_per_cpu_s"] == [200, 1000 / 9]
    assert found["events_per_cpu_s_without_startup"] == [250, 125]
    assert found["events_per_cpu_s_jsonl"] == [250, 125]
    assert found["events_per_cpu_s_naive_beam"] == [10, 20]
    assert found["ratio_to_naive_beam"] == [20, pytest.approx(1000 / 9 / 20)]
    assert found["ratio_to_polars"] == [0.4, pytest.approx(1 / 3)]
    assert found["ratio_to_duckdb"] == [2, 1]
    assert found["ratio_to_polars_large"] == [0.5]
    assert found["growth_10x"] == [pytest.approx(41 / 5), pytest.approx(41 / 9)]
    assert found["growth_10x_without_startup"] == [10, 5]
    assert found["wall_ratio_two_workers"] == [2, 4]
    assert found["wall_ratio_two_workers_large"] == [2]
    assert found["peak_rss_gib"] == [3]
    assert found["peak_rss_gib_worker"] == [2]
    assert found["peak_rss_gib_tree"] == [7]
    assert found["peak_rss_gib_in_memory"] == [1]
    assert found["peak_rss_gib_polars"] == [9]


def test_figures_follow_from_the_costs():
    check_figures(ingest.figures)


def turned(costs, scale):
    found = ingest.figures(costs, scale)
    return {key: [1 / value for value in values] for key, values in found.items()}


def by_wall_time(costs, scale):
    return ingest.figures(
        {
            run: [dataclasses.replace(c, cpu_seconds=c.wall_seconds) for c in runs]
            for run, runs in costs.items()
        },
        scale,
    )


@pytest.mark.parametrize("wrong", [turned, by_wall_time])
def test_check_of_figures_rejects(wrong):
    with pytest.raises((AssertionError, ZeroDivisionError)):
        check_figures(wrong)


def test_every_planned_run_is_used_and_no_other_asked_for():
    planned = {*ingest.every_round(SCALE), *ingest.only_once(SCALE)}
    assert planned == set(costs())


@pytest.mark.parametrize("scale", [ingest.FULL, ingest.QUICK])
def test_every_target_has_its_figure(scale):
    planned = [*ingest.every_round(scale), *ingest.only_once(scale)]
    worker = Process("sdk_worker", 1, GIB)
    some = {run: [cost(5, processes=[worker])] for run in planned}
    assert set(TARGETS["ingest"]) <= set(ingest.figures(some, scale))


def test_agreement_is_of_every_key_with_tandem():
    same = {"rows": 3, "startup_cpu_s": 1.0}
    ingest.check_agreement({"tandem": same, "polars": same | {"startup_cpu_s": 2.0}})
    for wrong in ({"rows": 4}, {}):
        with pytest.raises(RuntimeError, match="void: polars has rows = "):
            ingest.check_agreement({"tandem": same, "polars": wrong})


def test_each_warms_up_before_a_run_counts(tmp_path, monkeypatch):
    done = []

    def do(bench, run):
        done.append(run)
        bench.costs.setdefault(run, []).append(cost(1))
        (tmp_path / "out").mkdir()
        return tmp_path / "out"

    monkeypatch.setattr(ingest.Bench, "do", do)
    bench = ingest.Bench(tmp_path, seed=0)
    bench.prepare()
    planned = [*ingest.every_round(SCALE), *ingest.only_once(SCALE)]
    kinds = {(run.who, run.workers, run.file_format) for run in done}
    assert kinds == {(run.who, run.workers, run.file_format) for run in planned}
    assert bench.costs == {}


def test_peers_run_in_environments_of_their_own(tmp_path):
    command = ingest.Bench(tmp_path, seed=0)._command("polars")
    assert command[:3] == ["uv", "run", "--quiet"]
    assert "--isolated" in command and "--no-project" in command
    assert "polars==" in " ".join(command)
    assert command[-2:] == ["-m", "benchmarks.peers.ingest_polars"]
