"""Does a release, once served, answer as it should, fast enough, in bounded memory?

Loads the bundle into a model server in a process of its own and asks it: recorded
requests must get the answers the exporting process gave, the edges of the contract must
hold, and latency and memory must stay within their budgets.
"""

import contextlib
import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from components.gate import Check, GateResult
from components.hostile_requests import (
    check_largest_k,
    check_refused,
    hostile_cases,
    malformed_requests,
)
from components.release_caps import caps_of_bundle
from serving.client import (
    RECOMMEND_SIGNATURE,
    PredictError,
    RecommendationClient,
    ServerUnavailableError,
)
from serving.contract import Arrays, Cap, Recommend, check_edge_case, edge_cases
from serving.errors import ServerStartError
from serving.recorded import EXPECTED_FILE, RecordedCase, read_expected
from serving.release_layout import models_of
from serving.server_process import ServerProcess

GATE = "serving"
_TIMED_MODEL = "recommender"
_RELEASE = "release"  # output of the recommenders: which version answered
_CONTRACT_MODELS = ("recommender", "recommender_exact")


class ServingValidationSettings(BaseModel):
    """When a release is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_p99_ms: float = Field(
        default=100.0,
        gt=0,
        description="Budget for the 99th percentile of a recommender request, in ms.",
    )
    max_rss_mib: float = Field(
        default=4096.0,
        gt=0,
        description="Budget for the server process's peak memory, in MiB.",
    )
    num_timed_requests: int = Field(
        default=300, ge=1, description="Requests the percentile is taken over."
    )
    tolerance: float = Field(
        default=1e-4,
        ge=0,
        description="How far a float may be from its recorded value, absolutely and "
        "relatively.",
    )
    start_timeout_s: float = Field(
        default=180.0,
        gt=0,
        description="Seconds within which the server must be ready.",
    )
    request_timeout_s: float = Field(
        default=30.0, gt=0, description="Seconds within which it must answer."
    )


@dataclasses.dataclass(frozen=True)
class ServedRelease:
    """A release behind a running server.

    Attributes:
        client: connected to the server.
        cases: recorded requests and their answers.
        item_ids: every item of the catalogue.
        settings: budgets and tolerance.
        caps: of its slates.
    """

    client: RecommendationClient
    cases: list[RecordedCase]
    item_ids: list[str]
    settings: ServingValidationSettings
    caps: tuple[Cap, ...] = ()


def validate_serving(
    bundle: Path, item_ids: list[str], settings: ServingValidationSettings
) -> GateResult:
    """Serves a release bundle in another process and judges its answers.

    Args:
        bundle: folder with one SavedModel per model and `expected.json`.
        item_ids: every item of the catalogue the release was made for.
        settings: budgets and tolerance.

    Returns:
        The gate's answer; a failed check names the request. No process is left behind.
    """
    try:
        cases = read_expected(bundle / EXPECTED_FILE)
    except ValueError as error:
        return GateResult(GATE, (Check(EXPECTED_FILE, False, str(error), "readable"),))
    models = models_of(bundle)
    checks = [_check_coverage(cases, models)]
    try:
        with (
            _serving_root(bundle) as root,
            ServerProcess(root, start_timeout_s=settings.start_timeout_s) as server,
            RecommendationClient(
                server.target, timeout_s=settings.request_timeout_s
            ) as client,
        ):
            checks.append(_check_loaded(server, models))
            served = ServedRelease(
                client, cases, item_ids, settings, caps_of_bundle(bundle)
            )
            checks += check_served(served)
            checks.append(_check_memory(server, settings))
    except ServerStartError as error:
        checks.append(
            Check("the server starts", False, str(error), "every model loaded")
        )
    except ServerUnavailableError as error:
        checks.append(Check("the server stays up", False, str(error), "answers"))
    return GateResult(GATE, tuple(checks))


def check_served(served: ServedRelease) -> list[Check]:
    """Asks a served release everything there is to ask over the wire.

    Raises:
        ServerUnavailableError: if the server stops answering.
    """
    return [
        *_check_hostile(served),  # first: what they do to others, the others show
        *_check_recorded(served),
        *_check_contract(served),
        *_check_latency(served),
    ]


@contextlib.contextmanager
def _serving_root(bundle: Path) -> Iterator[Path]:
    """Lays the bundle out as a serving root, without copying it."""
    with tempfile.TemporaryDirectory(prefix="tandem-serving-") as folder:
        for model in models_of(bundle):
            if (bundle / model).is_dir():
                place = Path(folder) / model
                place.mkdir()
                (place / "1").symlink_to((bundle / model).absolute())
        yield Path(folder)


def _check_coverage(cases: list[RecordedCase], models: Sequence[str]) -> Check:
    recorded = {case.model for case in cases}
    missing = [model for model in models if model not in recorded]
    has_recommend = all(_template(cases, model) for model in _CONTRACT_MODELS)
    seen = f"{len(cases)} recorded requests"
    if missing:
        seen += f", none for {missing}"
    elif not has_recommend:
        seen += f", not for `{RECOMMEND_SIGNATURE}` of each of {list(_CONTRACT_MODELS)}"
    return Check(
        "recorded requests", not missing and has_recommend, seen, "some for each model"
    )


def _check_loaded(server: ServerProcess, models: Sequence[str]) -> Check:
    missing = {
        model: server.load_errors.get(model, "not in the bundle")
        for model in models
        if not server.models.get(model)
    }
    seen = "; ".join(f"{m}: {why}" for m, why in missing.items()) or "all of them"
    return Check("models load", not missing, seen, ", ".join(models))


def _check_recorded(served: ServedRelease) -> list[Check]:
    """Replays every recorded request; one check per model and signature."""
    groups: dict[str, list[tuple[int, RecordedCase]]] = {}
    for position, case in enumerate(served.cases):
        name = f"{case.model}/{case.signature}"
        groups.setdefault(name, []).append((position, case))
    checks = []
    for name, members in groups.items():
        expected = f"the {len(members)} recorded answers"
        failure = next(
            (
                f"{EXPECTED_FILE}[{position}] {name}{_who(case)}: {difference}"
                for position, case in members
                if (difference := _difference(served, case))
            ),
            "",
        )
        checks.append(
            Check(f"answers of {name}", not failure, failure or expected, expected)
        )
    return checks


def _difference(served: ServedRelease, case: RecordedCase) -> str:
    """Returns how the server's answer differs from the recorded one; "" where equal."""
    try:
        outputs, version = served.client.predict(
            case.model, case.signature, case.inputs
        )
    except PredictError as error:
        return f"refused with {error}"
    if set(outputs) != set(case.outputs):
        return f"outputs {sorted(outputs)} instead of {sorted(case.outputs)}"
    for name, recorded in sorted(case.outputs.items()):
        seen = outputs[name]
        # A bundle has no number yet when it is recorded: the server's is what counts.
        expected = np.full_like(recorded, version) if name == _RELEASE else recorded
        if seen.shape != expected.shape:
            return f"{name} has shape {seen.shape} instead of {expected.shape}"
        wrong = ~_equal(seen, expected, served.settings.tolerance)
        if wrong.any():
            place = tuple(int(index) for index in np.argwhere(wrong)[0])
            return (
                f"{name}{list(place)} is {seen[place]!r} instead of {expected[place]!r}"
            )
    return ""


def _equal(seen: np.ndarray, expected: np.ndarray, tolerance: float) -> np.ndarray:
    if expected.dtype.kind == "f" and seen.dtype.kind == "f":
        return np.isclose(seen, expected, tolerance, tolerance, equal_nan=True)
    return np.asarray(seen == expected)


def _check_contract(served: ServedRelease) -> list[Check]:
    """Asks both recommenders the requests at the edges; one check per request."""
    return [
        _checked(
            f"{model}: {case.name}",
            partial(check_edge_case, case, recommend),
            "kept",
            "the serving contract",
        )
        for model, inputs, recommend in _recommenders(served)
        for case in edge_cases(inputs, served.item_ids, served.caps)
    ]


def _check_hostile(served: ServedRelease) -> list[Check]:
    """Asks both recommenders what nobody should; one check per request."""
    items, checks = served.item_ids, []
    for model, inputs, recommend in _recommenders(served):
        asked: dict[str, Callable[[], None]] = {
            name: partial(check_refused, request, recommend)
            for name, request in malformed_requests(inputs).items()
        }
        asked |= {
            case.name: partial(check_edge_case, case, recommend)
            for case in hostile_cases(inputs, items)
        }
        asked["the largest k"] = partial(check_largest_k, inputs, items, recommend)
        expected = "refused, or answered within the contract"
        checks += [
            _checked(f"{model}: {name}", ask, "as it should", expected)
            for name, ask in asked.items()
        ]
    return checks


def _recommenders(
    served: ServedRelease,
) -> Iterator[tuple[str, dict[str, np.ndarray], Recommend]]:
    """Yields each recommender's name, a recorded request of it, and how to ask it."""
    for model in _CONTRACT_MODELS:
        template = _template(served.cases, model)
        if template is None:
            continue  # `recorded requests` has failed for it

        def recommend(inputs: Arrays, model: str = model) -> Arrays:
            return served.client.predict(model, RECOMMEND_SIGNATURE, inputs)[0]

        yield model, template.inputs, recommend


def _checked(name: str, ask: Callable[[], None], kept: str, expected: str) -> Check:
    """Reports whether a request was answered without an objection."""
    failure = ""
    try:
        ask()
    except (ValueError, PredictError) as error:
        failure = str(error)
    return Check(name, not failure, failure or kept, expected)


def _check_latency(served: ServedRelease) -> list[Check]:
    """Times recorded requests, one after another, from send to decoded answer."""
    cases = [case for case in served.cases if case.model == _TIMED_MODEL]
    if not cases:
        return []
    seconds, slowest = [], cases[0]
    for number in range(served.settings.num_timed_requests):
        case = cases[number % len(cases)]
        start = time.perf_counter()
        try:
            served.client.predict(case.model, case.signature, case.inputs)
        except PredictError:
            return []  # reported as a wrong answer already
        seconds.append(time.perf_counter() - start)
        if seconds[-1] == max(seconds):
            slowest = case
    p50, p99 = 1e3 * np.percentile(seconds, [50, 99])
    budget = served.settings.max_p99_ms
    seen = f"p99 {p99:.1f} ms, p50 {p50:.1f} ms"
    if p99 > budget:
        seen += f"; slowest {_TIMED_MODEL}/{slowest.signature}{_who(slowest)}"
    return [Check("latency", bool(p99 <= budget), seen, f"p99 <= {budget:g} ms")]


def _check_memory(server: ServerProcess, settings: ServingValidationSettings) -> Check:
    peak = server.peak_rss_mib()
    return Check(
        "memory",
        peak <= settings.max_rss_mib,
        f"peak {peak:.0f} MiB",
        f"<= {settings.max_rss_mib:g} MiB",
    )


def _template(cases: list[RecordedCase], model: str) -> RecordedCase | None:
    """Returns a recorded `recommend` request of a model, if there is one."""
    for case in cases:
        if (case.model, case.signature) == (model, RECOMMEND_SIGNATURE):
            return case
    return None


def _who(case: RecordedCase) -> str:
    """Returns whose request it is, where it says."""
    users = case.inputs.get("user_id", np.empty(0, object)).ravel()
    return f" for user_id={users[0].decode(errors='replace')!r}" if users.size else ""
