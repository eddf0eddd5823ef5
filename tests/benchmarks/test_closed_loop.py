"""Figures of the closed loop, worked out by hand for three rounds."""

import pytest

from benchmarks.closed_loop import figures, plots
from benchmarks.result import Result
from pipeline.simulation.rounds import Judgement, Round, Simulation


def _round(number: int, value: float) -> Round:
    return Round(
        number=number,
        policy="uniform" if number == 0 else f"release {number}",
        requests=100,
        shown=200,
        clicks=40,
        value=value,
        best=0.5,
        uniform=0.2,
        regret_error=0.015,
    )


def _judgement(after: int, estimate: float, truth: float) -> Judgement:
    return Judgement(
        after=after,
        release=after + 1,
        reason="policy passed: 1 of 1 checks.",
        estimate=estimate,
        low=estimate - 0.04,
        high=estimate + 0.04,
        standard_error=0.02,
        logged=0.2,
        truth=truth,
    )


FOUND = Simulation(
    rounds=[_round(0, 0.2), _round(1, 0.35), _round(2, 0.44)],
    judgements=[_judgement(0, 0.36, 0.35), _judgement(1, 0.4, 0.45)],
)


def check_figures(implementation):
    values, intervals = implementation(FOUND)
    assert values["regret_last_share_of_uniform"] == pytest.approx(0.06 / 0.3)
    assert intervals["regret_last_share_of_uniform"] == pytest.approx((0.1, 0.3))
    assert values["value_last_over_first"] == pytest.approx(2.2)
    assert values["estimates_covered"] == 0.5
    assert values["largest_error_in_standard_errors"] == pytest.approx(2.5)
    assert values["regret_round_1"] == pytest.approx(0.15)
    assert intervals["regret_round_1"] == pytest.approx((0.12, 0.18))
    assert values["regret_uniform_round_1"] == pytest.approx(0.3)


def test_figures_value():
    check_figures(figures)


@pytest.mark.parametrize(
    "changed",
    [
        {"rounds": FOUND.rounds[::-1]},
        {"judgements": FOUND.judgements[:1]},
        {"rounds": [each.model_copy(update={"uniform": 0.3}) for each in FOUND.rounds]},
    ],
    ids=["backwards", "a judgement forgotten", "another baseline"],
)
def test_figures_checker_rejects(changed):
    with pytest.raises(AssertionError):
        check_figures(lambda found: figures(found.model_copy(update=changed)))


def test_result_and_its_plot_can_be_written():
    values, intervals = figures(FOUND)
    Result(
        name="closed_loop",
        figures=values,
        intervals=intervals,
        versions={},
        data={},
        seconds=1.0,
    )
    (plot,) = plots(FOUND.rounds)
    rounds, regrets = zip(*plot.series["served"], strict=True)
    assert rounds == (0, 1, 2)
    assert regrets == pytest.approx((0.3, 0.15, 0.06))
    assert len(plot.series) == 2
