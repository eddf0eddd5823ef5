"""The closed loop in a known world: serve, log, ingest, train, evaluate, push, serve.

Simulated users ask `tandem serve` over HTTP and click; what a policy is worth to them is
known, so that the log's propensities, off-policy evaluation and learning have one right
answer.
"""

import collections
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from pipeline.cli_data import data
from pipeline.layout import Layout
from schemas.decisions import IMPRESSION, Decision, read_decision
from serving.event_store import EventStore
from serving.release_layout import list_releases

# Two runs of the pipeline and a server: minutes of CPU time, many more on a busy machine.
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

ROUNDS, FIRST_REQUESTS, REQUESTS = 3, 4000, 400
OVERRIDES = (
    "gates.export.num_users=10",
    "gates.serving.num_timed_requests=30",
    "gates.serving.max_p99_ms=5000",
)
# Of estimates from one log, whose errors are known: a bound that one in 16,000 breaks.
STANDARD_ERRORS = 4.0

Propensities = Callable[[list[Decision], dict], np.ndarray]


@pytest.fixture(scope="module")
def loop(tmp_path_factory) -> tuple[Layout, dict]:
    """The root of a simulation, and what it printed."""
    root = tmp_path_factory.mktemp("loop") / "root"
    overrides = [word for value in OVERRIDES for word in ("--set", value)]
    command = [sys.executable, "-m", "pipeline.cli", "simulate", "--root", str(root)]
    sizes = ("--rounds", ROUNDS, "--first-requests", FIRST_REQUESTS)
    sizes = (*sizes, "--requests", REQUESTS)
    done = subprocess.run(
        [*command, *map(str, sizes), *overrides, "--json"],
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return Layout(root), json.loads(done.stdout)


def _lines(folder: Path, pattern: str) -> list[dict]:
    files = sorted(folder.glob(pattern))
    return [json.loads(x) for file in files for x in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def decisions(loop) -> dict[int, list[Decision]]:
    """What was served, by release, put together again from the exported log."""
    layout, _ = loop
    by_request = collections.defaultdict(list)
    for event in _lines(layout.events / "log", "events-*.jsonl"):
        if event["event_type"] == IMPRESSION:
            by_request[event["request_id"]].append(event)
    out = collections.defaultdict(list)
    for events in by_request.values():
        decision = read_decision(events)
        out[decision.release].append(decision)
    return dict(out)


def test_each_round_is_served_by_what_the_rounds_before_taught(loop, decisions):
    layout, found = loop
    released = [each["release"] for each in found["judgements"]]
    assert released == sorted(set(released)) == list_releases(layout.serving)
    assert [each["policy"] for each in found["rounds"]] == [
        "uniform",
        *(f"release {version}" for version in released),
    ]
    assert {v: len(served) for v, served in decisions.items()} == dict.fromkeys(
        released, REQUESTS
    )


def test_no_row_is_lost_between_server_and_ingestion(loop):
    layout, found = loop
    log = layout.events / "log"
    first, taken = _lines(log, "first.jsonl"), _lines(log, "events-*.jsonl")
    rounds = found["rounds"]
    assert len(taken) == sum(each["shown"] + each["clicks"] for each in rounds[1:])
    assert len({event["event_id"] for event in taken}) == len(taken)
    store = EventStore(layout.event_store)
    assert len(store) == len(taken)
    store.close()
    again = CliRunner().invoke(data, ["export-events", "--root", str(layout.root)])
    assert again.exit_code == 0 and "0 new file(s)" in again.output
    # The last run read all rounds but the last, which it taught.
    ingest = json.loads(layout.report.read_text())["ingest"]
    read = len(first) + rounds[1]["shown"] + rounds[1]["clicks"]
    events = ingest["sources"]["events"]
    assert (events["read"], events["accepted"]) == (read, read)
    responses = ingest["responses"]
    assert responses["joined"] == rounds[0]["clicks"] + rounds[1]["clicks"]
    assert responses["late"] == responses["orphans"] == responses["early"] == 0
    assert sum(ingest["rows"]["impressions"].values()) == (
        rounds[0]["shown"] + rounds[1]["shown"]
    )


@pytest.fixture(scope="module")
def asked(loop, decisions) -> tuple[list[Decision], dict, dict[str, Propensities]]:
    """The first release's decisions, their requests as ingested, and who replays them."""
    import tensorflow as tf

    from components.policy_log import read_shown
    from components.release_policy import ReleasePolicy
    from models.recommender import EXCLUDE, NUM_ITEMS, SEED, SLATE
    from pipeline.run_state import read_latest
    from schemas.events import SPLITS

    layout, found = loop
    versions = [each["release"] for each in found["judgements"]]
    policies = {v: ReleasePolicy.of_version(layout.serving, v) for v in versions}
    stage = read_latest(str(layout.metadata), "IngestEvents")
    rows = read_shown(stage.run.outputs["impressions"], *SPLITS)
    request_ids = [
        tf.train.Example.FromString(row).features.feature["request_id"]
        for row in rows.serialized
    ]
    row_of = {x.bytes_list.value[0].decode(): n for n, x in enumerate(request_ids)}
    served = decisions[versions[0]]
    at = [row_of[decision.request_id] for decision in served]
    policy = policies[versions[0]]
    inputs = policy.inputs_of(rows.serialized[at])

    def replayed(version: int) -> Propensities:
        def propensities(shown: list[Decision], inputs: dict) -> np.ndarray:
            slates = [[item.item_id for item in each.slate] for each in shown]
            return (
                policies[version]
                .propensities(
                    **{key: tf.constant(values) for key, values in inputs.items()},
                    **{
                        EXCLUDE: tf.zeros([len(shown), 0], tf.string),
                        NUM_ITEMS: tf.constant(len(slates[0]), tf.int32),
                        SEED: tf.constant([each.seed for each in shown], tf.int64),
                        SLATE: tf.constant(slates),
                    },
                )["propensities"]
                .numpy()
            )

        return propensities

    def without_history(shown, inputs):
        nothing = np.zeros_like(inputs["history_item_ids"][:, :0])
        return replayed(versions[0])(shown, inputs | {"history_item_ids": nothing})

    def of_another_user(shown, inputs):
        rolled = {key: np.roll(values, 1, axis=0) for key, values in inputs.items()}
        return replayed(versions[0])(shown, rolled)

    return (
        served,
        inputs,
        {
            "ours": replayed(versions[0]),
            "the next release": replayed(versions[1]),
            "no history": without_history,
            "another user": of_another_user,
        },
    )


def check_replay(propensities: Propensities, served: list[Decision], inputs: dict):
    logged = [[item.propensity for item in decision.slate] for decision in served]
    np.testing.assert_allclose(propensities(served, inputs), logged, atol=1e-5)


def test_logged_propensities_are_the_policys_on_replay(asked):
    served, inputs, by = asked
    assert len(served) == REQUESTS
    check_replay(by["ours"], served, inputs)


@pytest.mark.parametrize("wrong", ["the next release", "no history", "another user"])
def test_replay_checker_rejects(asked, wrong):
    served, inputs, by = asked
    with pytest.raises(AssertionError):
        check_replay(by[wrong], served, inputs)


def test_gate_judges_by_the_log_and_does_not_fall_back(loop):
    layout, found = loop
    assert len(found["judgements"]) == ROUNDS - 1
    for judgement in found["judgements"]:
        assert "cannot judge" not in judgement["reason"]
        assert "passed" in judgement["reason"]
    policy = json.loads(layout.report.read_text())["policy"]
    assert policy["log"]["rows"] > 0 == policy["log"]["rows_without_propensity"]
    assert set(policy["policies"]) == {"candidate", "last_release"}


def check_truth(truths: list[float], judgements: list[dict]):
    """What the policies are worth lies within the errors that the estimates claim."""
    for truth, each in zip(truths, judgements, strict=True):
        error = abs(each["estimate"] - truth)
        assert error <= STANDARD_ERRORS * each["standard_error"], each
    # At 95 % both intervals miss together once in 400.
    assert any(
        each["low"] <= truth <= each["high"]
        for truth, each in zip(truths, judgements, strict=True)
    )


def test_estimates_cover_what_the_policies_are_truly_worth(loop):
    _, found = loop
    judgements = found["judgements"]
    check_truth([each["truth"] for each in judgements], judgements)


def _worth_of_uniform(found: dict) -> list[float]:
    return [each["uniform"] for each in found["rounds"][1:]]


def _worth_of_slates(found: dict) -> list[float]:
    places = found["rounds"][1]["shown"] / REQUESTS
    return [places * each["truth"] for each in found["judgements"]]


@pytest.mark.parametrize("wrong", [_worth_of_uniform, _worth_of_slates])
def test_truth_checker_rejects(loop, wrong):
    _, found = loop
    with pytest.raises(AssertionError):
        check_truth(wrong(found), found["judgements"])


def test_users_are_better_served_in_the_last_round_than_in_the_first(loop):
    _, found = loop
    first, last = found["rounds"][0], found["rounds"][-1]
    k = last["shown"] / REQUESTS
    # Chances, not clicks: what varies is only who came, by at most .5 a place.
    assert last["value"] - first["value"] > 4 * 0.5 / np.sqrt(k * REQUESTS) / 2
    # The world got no easier: evenly drawn slates, for the same requests.
    assert last["value"] - last["uniform"] > first["value"] - first["uniform"]
    assert last["best"] - last["value"] < first["best"] - first["value"]


def test_tensorboard_shows_regret_by_round_and_estimates_by_release(loop):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorflow import make_ndarray

    layout, found = loop

    def points(folder: Path, tag: str) -> list[tuple[int, float]]:
        accumulator = EventAccumulator(str(folder), size_guidance={"tensors": 0})
        accumulator.Reload()
        return [
            (event.step, float(make_ndarray(event.tensor_proto)))
            for event in accumulator.Tensors(tag)
        ]

    board = layout.simulation_board("simulation")
    for run, value in (("served", "value"), ("uniform", "uniform")):
        assert points(board / run, "simulation/regret") == [
            (each["number"], pytest.approx(each["best"] - each[value], abs=1e-6))
            for each in found["rounds"]
        ]
    releases = layout.policy_board("simulation")
    for run in ("estimate", "low", "high"):
        assert points(releases / run, "policy_releases_ctr/dr") == [
            (number, pytest.approx(each[run], abs=1e-6))
            for number, each in enumerate(found["judgements"], 1)
        ]
