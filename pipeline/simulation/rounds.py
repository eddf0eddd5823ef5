"""The closed loop in a world that is known: serve, log, ingest, train, evaluate, push.

The first round's slates are drawn evenly. Each later one is served by `tandem serve` to
simulated users, with the release that all rounds before taught.
"""

import contextlib
import datetime
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from components.policy_gate import CANDIDATE, LOGGED
from components.policy_log import read_shown
from components.release_policy import ReleasePolicy
from pipeline.config import TandemConfig
from pipeline.layout import Layout
from pipeline.local_runner import RunResult, StageStarted, run_pipeline
from pipeline.simulation.settings import SimulationSettings
from pipeline.simulation.truth import true_value
from pipeline.simulation.visits import Server, Visits, served
from pipeline.simulation.world import UNIFORM, World, Worth, write_events
from schemas.events import MINUTE_MS
from serving.event_store import export_events

_DRAWS = 6  # slates of a request that a policy's true value is the mean of
_FIRST_LOG = "first.jsonl"


class SimulationError(Exception):
    """A loop that cannot go on, and why."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Round(_Record):
    """What users were shown in a round. Values are mean chances of a click of a place.

    Attributes:
        number: 0 for the uniform policy's.
        policy: who chose: `uniform`, or the releases that answered.
        requests, shown, clicks: how many.
        value: of the slates that were shown.
        best, uniform: of the best slates that there were, and of evenly drawn ones.
        regret_error: standard error of `regret`, over who came.
    """

    number: int
    policy: str
    requests: int
    shown: int
    clicks: int
    value: float
    best: float
    uniform: float
    regret_error: float

    @property
    def regret(self) -> float:
        """Clicks lost, a place, to who knows the world."""
        return self.best - self.value

    @property
    def uniform_regret(self) -> float:
        """The same of evenly drawn slates for the same requests."""
        return self.best - self.uniform


class Judgement(_Record):
    """What off-policy evaluation said of what a round's log taught, and what is true.

    Attributes:
        after: number of the round.
        release: version that was pushed; None where a gate refused.
        reason: the policy gate's sentence.
        estimate, low, high, standard_error: of the metric that the gate judges.
        logged: what the log earned.
        truth: what the policy truly earns on the same requests.
    """

    after: int
    release: int | None
    reason: str
    estimate: float
    low: float
    high: float
    standard_error: float
    logged: float
    truth: float


class Simulation(_Record):
    """The rounds of a closed loop, and what was judged in between."""

    rounds: list[Round]
    judgements: list[Judgement]


RoundEnded = Callable[[Round], None]


def simulate(
    config: TandemConfig,
    root: Path,
    settings: SimulationSettings,
    on_round: RoundEnded = lambda ended: None,
    on_stage: StageStarted = lambda stage: None,
) -> tuple[Simulation, RunResult]:
    """Closes the loop a number of times.

    Args:
        config: of the service, such as the shipped `simulation`.
        root: a folder of its own, empty or missing; receives all that a service's has.
        settings: of the world and of the rounds.
        on_round: called as each round ends.
        on_stage: called with the name of each pipeline stage as it starts.

    Returns:
        what happened, and what the last run came to. It ends early where no release may
        be pushed at all, for then there is nothing to serve.

    Raises:
        FileExistsError: if the root has a log already.
        SimulationError: if a run judges no policy.
        ServerStartError: if the server does not start or answer.
    """
    layout = Layout(root.resolve())
    if layout.events.exists():
        raise FileExistsError(
            f"{layout.events} is there: a simulation needs a root folder of its own"
        )
    world = World(settings.size, settings.seed)
    world.write_tables(layout.data / config.name)
    rounds, judgements = [_first_round(world, layout, config, settings)], []
    on_round(rounds[-1])
    with contextlib.ExitStack() as stack:
        server: Server | None = None
        for number in range(1, settings.rounds):
            result = _learn(config, layout, on_stage)
            judgements.append(_judged(world, config, number - 1, result))
            if server is None:
                if result.release is None:
                    break
                server = stack.enter_context(served(layout.root))
            if result.release is not None:
                server.wait_for(result.release)
            visits = server.visit(world, settings.requests, config.serving.default_k)
            export_events(layout.event_store, layout.events / "log")
            rounds.append(_round_of(number, visits))
            on_round(rounds[-1])
    return Simulation(rounds=rounds, judgements=judgements), result


def _first_round(
    world: World, layout: Layout, config: TandemConfig, settings: SimulationSettings
) -> Round:
    """Writes the log of the uniform policy."""
    events, worths = world.first_log(
        settings.first_requests, config.serving.default_k, _now_ms()
    )
    write_events(layout.events / "log" / _FIRST_LOG, events)
    shown = settings.first_requests * config.serving.default_k
    clicks = len(events) - shown
    return _round(0, UNIFORM, worths, shown, clicks)


def _learn(config: TandemConfig, layout: Layout, on_stage: StageStarted) -> RunResult:
    """Runs the pipeline on all that was logged, once every answer has had its time."""
    window_ms = config.data.response_window_minutes * MINUTE_MS
    closed_at = _now_ms() + int(window_ms) + 1
    while (left_ms := closed_at - _now_ms()) > 0:
        time.sleep(left_ms / 1000)
    moment = datetime.datetime.fromtimestamp(closed_at / 1000, datetime.UTC)
    data = config.data.model_copy(update={"closed_at": moment})
    return run_pipeline(config.model_copy(update={"data": data}), layout.root, on_stage)


def _judged(
    world: World, config: TandemConfig, after: int, result: RunResult
) -> Judgement:
    """Returns what the policy gate saw, beside the truth.

    Raises:
        SimulationError: if the run did not reach the gate, or could not judge.
    """
    figures = result.figures.get("policy", {})
    if "policies" not in figures:
        refused = "; ".join(gate.reason for gate in result.refused)
        raise SimulationError(
            f"the run after round {after} should judge a policy by its log. Received: "
            f"{refused or result.figures['gates'].get('policy')}"
        )
    gate = config.gates.policy
    found = figures["policies"][CANDIDATE]["metrics"][gate.metric][gate.estimator]
    rows = read_shown(result.stages["IngestEvents"].outputs["impressions"], "test")
    bundle = result.stages["ExportRecommender"].outputs["bundle"]
    return Judgement(
        after=after,
        release=result.release,
        reason=result.figures["gates"]["policy"]["reason"],
        estimate=found["value"],
        low=found["interval"][0],
        high=found["interval"][1],
        standard_error=found["standard_error"],
        logged=figures[LOGGED][gate.metric]["value"],
        truth=true_value(world, rows, ReleasePolicy.of_bundle(Path(bundle)), _DRAWS),
    )


def _round_of(number: int, visits: Visits) -> Round:
    policy = ", ".join(f"release {version}" for version in sorted(visits.releases))
    return _round(number, policy, visits.worths, visits.shown, visits.clicks)


def _round(
    number: int, policy: str, worths: list[Worth], shown: int, clicks: int
) -> Round:
    lost = np.array([worth.best - worth.shown for worth in worths])
    return Round(
        number=number,
        policy=policy,
        requests=len(worths),
        shown=shown,
        clicks=clicks,
        value=float(np.mean([worth.shown for worth in worths])),
        best=float(np.mean([worth.best for worth in worths])),
        uniform=float(np.mean([worth.uniform for worth in worths])),
        regret_error=float(lost.std() / np.sqrt(len(lost))),
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
