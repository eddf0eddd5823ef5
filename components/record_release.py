"""Do the exported models answer like the trained stages? Records what they answered.

Real requests go to the bundle's SavedModels, loaded as a server loads them, and to the slow
offline path; the answers are compared, kept for ValidateServing, and the requests become
the models' warm-up.
"""

import dataclasses
from pathlib import Path

import numpy as np
from tensorflow_serving.apis import predict_pb2

from components.export_recommender import ExportSettings
from components.gate import GateResult, at_least
from components.offline_recommendation import (
    OfflineModels,
    Slate,
    join_examples,
    recommend_offline,
)
from components.record_memory import record_memory
from components.record_release_settings import ExportGateSettings
from components.recorded_requests import UserRequest
from models.recommender import NOW
from serving import tensor_codec
from serving.client import RECOMMEND_AT_SIGNATURE
from serving.recorded import EXPECTED_FILE, RecordedCase, write_expected
from serving.release_layout import MEMORY_MODEL, models_of
from serving.saved_model import SavedModel
from serving.warmup import write_warmup

_TOP = 10
_NUM_WARMUP = 20
_TOLERANCE = 1e-3  # the softmax policy divides a float32 logit by its temperature
_RECOMMENDERS = ("recommender", "recommender_exact")


@dataclasses.dataclass(frozen=True)
class RecordedRelease:
    """What was recorded, and how well it agreed."""

    cases: list[RecordedCase]
    figures: dict[str, float]


def record_release(
    bundle_dir: Path,
    requests: list[UserRequest],
    offline: OfflineModels,
    settings: ExportSettings,
) -> RecordedRelease:
    """Asks the bundle's models and the offline path the same, one user at a time.

    Args:
        bundle_dir: folder with the release's SavedModels; receives warm-up requests and
            `expected.json`.
        requests: the users' requests; the seed of request i is i.
        offline: the trained stages.
        settings: what the models were exported with.

    Returns:
        The cases, and `users`, `offline_agreement`, `index_agreement`, and
        `memory_agreement` where the release keeps memories.
    """
    loaded = {name: SavedModel(bundle_dir / name) for name in models_of(bundle_dir)}
    cases: dict[str, list[RecordedCase]] = {name: [] for name in loaded}
    agreed, kept = [], []
    for seed, request in enumerate(requests):
        inputs = request.to_recommend(_TOP, seed)
        exact = loaded["recommender_exact"].run("recommend", inputs)
        approximate = loaded["recommender"].run("recommend", inputs)
        slate = recommend_offline(
            offline,
            request.example,
            request.history,
            (),
            _TOP,
            seed,
            settings.num_candidates,
            settings.policy,
            settings.catalog,
        )
        agreed.append(equals_slate(exact, slate))
        kept.append(np.isin(exact["item_ids"][0], approximate["item_ids"][0]).mean())
        cases["recommender_exact"].append(
            RecordedCase("recommender_exact", "recommend", inputs, exact)
        )
        cases["recommender"].append(
            RecordedCase("recommender", "recommend", inputs, approximate)
        )
        cases["retrieval"].append(
            _recorded(loaded, "retrieval", "serving_default", request.inputs)
        )
        example = join_examples(
            request.example, offline.item_examples[0], settings.catalog
        )
        cases["ranking"].append(
            _recorded(
                loaded,
                "ranking",
                "serving_default",
                {"examples": np.array([example], object)},
            )
        )
    figures = {
        "users": len(requests),
        "offline_agreement": float(np.mean(agreed)),
        "index_agreement": float(np.mean(kept)),
    }
    if MEMORY_MODEL in loaded:
        memory = record_memory(
            loaded[MEMORY_MODEL], requests, offline, settings.catalog
        )
        cases[MEMORY_MODEL] = memory.cases
        figures["memory_agreement"] = memory.agreement
    timed = [n for n in _RECOMMENDERS if RECOMMEND_AT_SIGNATURE in loaded[n].signatures]
    _warm_up(bundle_dir, cases, requests[0], timed)
    everything = [case for recorded in cases.values() for case in recorded]
    write_expected(bundle_dir / EXPECTED_FILE, everything)
    for model in loaded.values():
        model.close()
    return RecordedRelease(everything, figures)


def _warm_up(
    bundle_dir: Path,
    cases: dict[str, list[RecordedCase]],
    request: UserRequest,
    timed: list[str],
) -> None:
    """Makes recorded requests the models' warm-up.

    Args:
        bundle_dir: with the models.
        cases: of each model.
        request: of a user.
        timed: the models that can be asked for a moment.
    """
    for name, recorded in cases.items():
        warmup = [_warmup_request(case) for case in recorded[:_NUM_WARMUP]]
        if name in _RECOMMENDERS:
            # `serving_default` draws a seed of its own, so it cannot be replayed, but
            # its first call must not be a cold one.
            query = RecordedCase(name, "serving_default", request.inputs, {})
            warmup.append(_warmup_request(query))
        if name in timed:  # of which the HTTP API asks
            inputs = request.to_recommend(_TOP, 0) | {NOW: np.ones(1, np.int64)}
            at = RecordedCase(name, RECOMMEND_AT_SIGNATURE, inputs, {})
            warmup.append(_warmup_request(at))
        write_warmup(bundle_dir / name, warmup)


def equals_slate(answer: dict[str, np.ndarray], slate: Slate) -> bool:
    """Returns whether a served answer to one user is the slate, up to rounding."""
    shown = [item.decode() for item in answer["item_ids"][0] if item]
    return shown == slate.item_ids and all(
        np.allclose(answer[name][0][: len(shown)], expected, rtol=0, atol=_TOLERANCE)
        for name, expected in (
            ("scores", slate.scores),
            ("propensities", slate.propensities),
        )
    )


def judge_export(figures: dict[str, float], settings: ExportGateSettings) -> GateResult:
    """Decides whether the exported models may go on to be served."""
    checks = [
        at_least("users compared", figures["users"], 1),
        at_least(
            f"top {_TOP} equal to the offline computation, share of users",
            figures["offline_agreement"],
            settings.min_offline_agreement,
        ),
        at_least(
            f"share of the exact top {_TOP} that the index keeps",
            figures["index_agreement"],
            settings.min_index_agreement,
        ),
    ]
    return GateResult("export", tuple(checks))


def _recorded(
    loaded: dict[str, SavedModel], model: str, signature: str, inputs: dict
) -> RecordedCase:
    return RecordedCase(model, signature, inputs, loaded[model].run(signature, inputs))


def _warmup_request(case: RecordedCase) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = case.model
    request.model_spec.signature_name = case.signature
    for name, array in case.inputs.items():
        request.inputs[name].CopyFrom(tensor_codec.encode(array))
    return request
