"""The serving gate: passes what keeps its promises and stops what does not."""

import json
import shutil
from pathlib import Path

import grpc
import numpy as np
import pytest

from components.hostile_requests import check_refused, malformed_requests
from components.validate_serving import (
    ServedRelease,
    ServingValidationSettings,
    check_served,
    validate_serving,
)
from serving.client import PredictError, RecommendationClient
from serving.recorded import RecordedCase, read_expected, write_expected
from serving.server import ModelServer
from tests.serving.toy_release import (
    ITEM_IDS,
    Flaw,
    flawed_bundle,
    place,
    recorded_cases,
    write_bundle,
    write_tables,
)

# Generous: a shared machine must not decide these tests.
SETTINGS = ServingValidationSettings(max_p99_ms=5000, num_timed_requests=5)


@pytest.fixture(scope="module")
def good_bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("release") / "bundle")


def _checks_in_process(bundle: Path, root: Path, settings=SETTINGS):
    """Returns the failed checks of a bundle served within this process."""
    place(bundle, root, 1)
    with (
        ModelServer(root, port=0, poll_interval_s=0) as server,
        RecommendationClient(server.target) as client,
    ):
        cases = read_expected(bundle / "expected.json")
        checks = check_served(ServedRelease(client, cases, ITEM_IDS, settings))
    return checks, [check for check in checks if not check.passed]


def test_flawless_release_passes_every_check(good_bundle, tmp_path):
    checks, failed = _checks_in_process(good_bundle, tmp_path)
    assert failed == []
    names = [check.name for check in checks]
    assert "answers of ranking/serving_default" in names
    assert "recommender_exact: every item excluded" in names
    assert "recommender_exact: an input too many" in names
    assert "recommender: ids of a megabyte" in names
    assert "recommender: the largest k" in names
    assert "latency" in names


@pytest.mark.parametrize(
    ("flaw", "names"),
    [
        (Flaw.REPEATS, "items should be distinct"),
        (Flaw.EXCLUDED, "known and not excluded"),
        (Flaw.UNKNOWN, "known and not excluded"),
        (Flaw.SHORT, "items should come back"),
        (Flaw.LOOSE_TAIL, "score 0"),
        (Flaw.UNSEEDED, "the same seed should"),
        (Flaw.UNBOUNDED, "at most 1020 columns"),
        (Flaw.NOT_FINITE, "scores should be finite"),
        (Flaw.WRONG_ANSWER, "expected.json[0] recommender/recommend for user_id='ana'"),
    ],
)
def test_broken_release_fails_by_name(good_bundle, tmp_path, flaw, names):
    bundle = flawed_bundle(good_bundle, tmp_path / "bundle", flaw)
    (tmp_path / "root").mkdir()
    _, failed = _checks_in_process(bundle, tmp_path / "root")
    assert failed
    assert any(names in check.seen for check in failed), failed
    assert all("recommender_exact" not in check.name for check in failed)


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        (None, "Received: an answer"),
        (grpc.StatusCode.INTERNAL, "Received: INTERNAL"),
        (grpc.StatusCode.INVALID_ARGUMENT, ""),
    ],
)
def test_a_malformed_request_must_be_refused_as_the_caller_s_mistake(answer, seen):
    def recommend(inputs):
        if answer is not None:
            raise PredictError(answer, "no")
        return {}

    template = recorded_cases()[0].inputs
    for name, inputs in malformed_requests(template).items():
        try:
            check_refused(inputs, recommend)
            assert not seen, name
        except ValueError as error:
            assert seen, name
            assert seen in str(error)


@pytest.mark.parametrize(("said", "failures"), [(5, 0), (7, 1), (0, 1)])
def test_a_recommender_that_names_another_release_is_stopped(said, failures):
    """It was recorded before it had a number, as 0; the server's is 5."""

    class Client:
        def predict(self, model, signature, inputs):
            return {"release": np.array([said], np.int64)}, 5

    case = RecordedCase("retrieval", "f", {}, {"release": np.array([0], np.int64)})
    checks = check_served(ServedRelease(Client(), [case], ITEM_IDS, SETTINGS))
    failed = [check.seen for check in checks if not check.passed]
    assert len(failed) == failures
    assert all(f"release[0] is np.int64({said}) instead of" in seen for seen in failed)


def test_slow_release_exceeds_the_budget(good_bundle, tmp_path):
    bundle = flawed_bundle(good_bundle, tmp_path / "bundle", Flaw.SLOW)
    (tmp_path / "root").mkdir()
    settings = ServingValidationSettings(max_p99_ms=20, num_timed_requests=5)
    _, failed = _checks_in_process(bundle, tmp_path / "root", settings)
    assert [check.name for check in failed] == ["latency"]
    assert "slowest recommender/" in failed[0].seen


def test_refused_request_is_a_wrong_answer(good_bundle, tmp_path):
    bundle = tmp_path / "bundle"
    shutil.copytree(good_bundle, bundle)
    cases = recorded_cases()
    del cases[1].inputs["user_age"]
    write_expected(bundle / "expected.json", cases)
    (tmp_path / "root").mkdir()
    _, failed = _checks_in_process(bundle, tmp_path / "root")
    assert "refused with INVALID_ARGUMENT" in failed[0].seen


def test_release_without_recorded_requests_is_refused(good_bundle, tmp_path):
    result = validate_serving(tmp_path, ITEM_IDS, SETTINGS)
    assert not result.passed
    assert "expected.json" in result.reason


@pytest.mark.component
def test_gate_stops_a_broken_release_and_one_over_its_memory_budget(
    good_bundle, tmp_path
):
    bundle = flawed_bundle(good_bundle, tmp_path / "bundle", Flaw.WRONG_ANSWER)
    settings = ServingValidationSettings(max_rss_mib=10, num_timed_requests=5)
    result = validate_serving(bundle, ITEM_IDS, settings)
    failed = {check.name: check for check in result.checks if not check.passed}
    assert "memory" in failed
    assert "expected.json[0] recommender/recommend for user_id='ana'" in result.reason


@pytest.mark.component
def test_gate_stops_a_release_of_which_a_model_is_missing_or_broken(
    good_bundle, tmp_path
):
    bundle = tmp_path / "bundle"
    ignored = shutil.ignore_patterns("ranking")
    shutil.copytree(good_bundle, bundle, ignore=ignored)
    (bundle / "retrieval" / "saved_model.pb").write_bytes(b"broken")
    cases = [case for case in recorded_cases() if case.model != "ranking"]
    write_expected(bundle / "expected.json", cases)
    result = validate_serving(bundle, ITEM_IDS, SETTINGS)
    seen = {check.name: check.seen for check in result.checks if not check.passed}
    assert "none for ['ranking']" in seen["recorded requests"]
    assert "ranking: not in the bundle" in seen["models load"]
    assert "retrieval: " in seen["models load"]


@pytest.mark.component
def test_gate_stops_a_release_that_does_not_load(good_bundle, tmp_path):
    shutil.copy(good_bundle / "expected.json", tmp_path)
    result = validate_serving(tmp_path, ITEM_IDS, SETTINGS)
    assert "the server starts" in {c.name for c in result.checks if not c.passed}


@pytest.mark.component
def test_component_passes_a_flawless_release(good_bundle, tmp_path):
    from components.artifacts import Catalog, GateReport, ReleaseBundle
    from components.validate_serving_component import ValidateServing

    catalog_dir, _ = write_tables(tmp_path)
    bundle, catalog, report = ReleaseBundle(), Catalog(), GateReport()
    bundle.uri, catalog.uri = str(good_bundle), str(catalog_dir)
    report.uri = str(tmp_path / "report")
    Path(report.uri).mkdir()
    executor = ValidateServing.EXECUTOR_SPEC.executor_class
    executor().Do(
        {"bundle": [bundle], "catalog": [catalog]},
        {"report": [report]},
        {"settings_json": SETTINGS.model_dump_json()},
    )
    gate = json.loads((tmp_path / "report" / "gate.json").read_text())
    assert gate["passed"], gate["reason"]
    assert report.get_int_custom_property("blessed") == 1
