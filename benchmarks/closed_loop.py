"""Does the closed loop close: do releases that learn from what they showed lose less?

`tandem simulate` in a new root folder: a log of a uniform policy, then rounds of requests to
`tandem serve`, each answered by the release that all rounds before taught, the pipeline in
between. Users and their tastes are known, so that regret is: what a slate loses to the best
that there was, as chance of a click of a place. Evenly drawn slates for the same requests
stand beside it. Intervals are two standard errors over who came.
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.command_line import finish, parsed_arguments, say
from benchmarks.plot import Plot
from benchmarks.result import Result, versions_of
from pipeline.config import load_config
from pipeline.simulation.rounds import Judgement, Round, Simulation, simulate
from pipeline.simulation.settings import SimulationSettings

_ROUNDS, _QUICK_ROUNDS = 4, 3
_REQUESTS = 500
_WIDTH = 2.0  # of an interval, in standard errors
# A machine with other work is no reason to refuse a release here.
_OVERRIDES = ("gates.serving.max_p99_ms=5000", "gates.serving.num_timed_requests=50")


def figures(
    found: Simulation,
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Returns (figures, intervals) of the rounds and of what was judged in between."""
    values: dict[str, float] = {}
    intervals: dict[str, tuple[float, float]] = {}
    first, last = found.rounds[0], found.rounds[-1]
    values["regret_last_share_of_uniform"] = last.regret / last.uniform_regret
    half = _WIDTH * last.regret_error / last.uniform_regret
    share = values["regret_last_share_of_uniform"]
    intervals["regret_last_share_of_uniform"] = (share - half, share + half)
    values["value_last_over_first"] = last.value / first.value
    values |= _judged(found.judgements)
    for each in found.rounds:
        key = f"regret_round_{each.number}"
        values[key] = each.regret
        intervals[key] = (
            each.regret - _WIDTH * each.regret_error,
            each.regret + _WIDTH * each.regret_error,
        )
        values[f"regret_uniform_round_{each.number}"] = each.uniform_regret
    for judgement in found.judgements:
        after = f"after_round_{judgement.after}"
        values[f"estimate_{after}"] = judgement.estimate
        intervals[f"estimate_{after}"] = (judgement.low, judgement.high)
        values[f"truth_{after}"] = judgement.truth
    return values, intervals


def _judged(judgements: Sequence[Judgement]) -> dict[str, float]:
    covered = [each.low <= each.truth <= each.high for each in judgements]
    errors = [abs(x.estimate - x.truth) / x.standard_error for x in judgements]
    refused = [each.release is None for each in judgements]
    return {
        "estimates_covered": sum(covered) / len(covered),
        "largest_error_in_standard_errors": max(errors),
        "refused_releases": float(sum(refused)),
    }


def plots(rounds: Sequence[Round]) -> list[Plot]:
    """Returns the regret by round, of what was served and of evenly drawn slates."""
    return [
        Plot(
            name="regret",
            title="Chance of a click lost to the best slate, a place",
            x_label="round",
            y_label="regret",
            series={
                "served": [(float(each.number), each.regret) for each in rounds],
                "uniform, same requests": [
                    (float(each.number), each.uniform_regret) for each in rounds
                ],
            },
        )
    ]


def main() -> int:
    arguments = parsed_arguments("closed_loop", __doc__)
    begin = time.monotonic()
    settings = SimulationSettings(
        rounds=_QUICK_ROUNDS if arguments.quick else _ROUNDS,
        requests=_REQUESTS,
        seed=arguments.seed,
    )

    def announce(ended: Round) -> None:
        say(f"round {ended.number}, {ended.policy}: regret {ended.regret:.4f}")

    with tempfile.TemporaryDirectory() as folder:
        config = load_config("simulation", _OVERRIDES)
        found, _ = simulate(config, Path(folder) / "root", settings, announce)
    values, intervals = figures(found)
    result = Result(
        name="closed_loop",
        figures=values,
        intervals=intervals,
        versions=versions_of("tensorflow", "tfx"),
        data={
            "rounds": [each.model_dump() for each in found.rounds],
            "judgements": [each.model_dump() for each in found.judgements],
            "seed": arguments.seed,
            "quick": arguments.quick,
            "plots": [plot.model_dump() for plot in plots(found.rounds)],
        },
        seconds=time.monotonic() - begin,
    )
    return finish(result, arguments)


if __name__ == "__main__":
    sys.exit(main())
