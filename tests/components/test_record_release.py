"""The export gate: agreement measured on toy models that agree, and on ones that do not."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from components.build_index import ItemVectors
from components.export_recommender import ExportSettings
from components.offline_recommendation import OfflineModels
from components.record_release import judge_export, record_release
from components.record_release_settings import ExportGateSettings
from components.recorded_requests import UserRequest
from models.index_settings import IndexSettings
from models.policy_settings import PolicySettings
from schemas.features import Feature, FeatureCatalog, FeatureKind
from serving.recorded import read_expected
from serving.warmup import read_warmup
from tests.serving.toy_release import (
    ITEM_IDS,
    NUM_ITEMS,
    Flaw,
    ToyRanking,
    ToyRecommender,
    query,
    write_model,
)

SETTINGS = ExportSettings(
    catalog=FeatureCatalog(
        user=(Feature(name="age", kind=FeatureKind.NUMERIC),),
        context=(Feature(name="tags", kind=FeatureKind.MULTI_CATEGORICAL),),
    ),
    index=IndexSettings(),
    policy=PolicySettings(),
    num_candidates=NUM_ITEMS,
    default_k=5,
)


class Retrieval(tf.Module):
    """The first three items, for requests with every input."""

    def __init__(self):
        super().__init__()
        spec = {
            name: tf.TensorSpec(
                [None, None] if array.ndim == 2 else [None], dtype, name
            )
            for name, array in query("u", []).items()
            for dtype in [tf.float32 if array.dtype == np.float32 else tf.string]
        }
        function = tf.function(self._retrieve)
        self.functions = {"serving_default": function.get_concrete_function(**spec)}

    def _retrieve(self, user_id, history_item_ids, user_age, context_tags):
        return {"item_ids": tf.tile([ITEM_IDS[:3]], [tf.shape(user_id)[0], 1])}


@pytest.fixture(scope="module")
def good_models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "recommender", ToyRecommender(Flaw.NONE))
    shutil.copytree(folder / "recommender", folder / "recommender_exact")
    write_model(folder / "retrieval", Retrieval())
    write_model(folder / "ranking", ToyRanking())
    return folder


def user_example(user: str, history: list[str]) -> bytes:
    example = tf.train.Example()
    feature = example.features.feature
    feature["user_id"].bytes_list.value.append(user.encode())
    feature["user_age"].float_list.value.append(30.0)
    feature["history_item_ids"].bytes_list.value.extend(i.encode() for i in history)
    return example.SerializeToString()


def item_example(item: str) -> bytes:
    example = tf.train.Example()
    example.features.feature["item_id"].bytes_list.value.append(item.encode())
    return example.SerializeToString()


def request(user: str, history: list[str]) -> UserRequest:
    inputs = query(user, history)
    ids = [item.encode() for item in history]
    inputs["history_item_ids"] = np.array([ids or [b""]], object)
    return UserRequest(inputs, user_example(user, history))


# From u20 on, the user has met every item.
REQUESTS = [request(f"u{n}", ITEM_IDS[:n]) for n in range(25)]


def offline_models() -> OfflineModels:
    """Returns stages that rank as the toy recommender does: item i by 1 - i / 20."""
    value = {item: 1 - i / NUM_ITEMS for i, item in enumerate(ITEM_IDS)}

    def rank(examples):
        parsed = [tf.train.Example.FromString(e) for e in examples.numpy()]
        items = [p.features.feature["item_id"].bytes_list.value[0] for p in parsed]
        scores = np.array([value[item.decode()] for item in items])
        with np.errstate(divide="ignore"):  # a score of 1 is a logit of infinity
            return {"logits": tf.constant(np.log(scores) - np.log1p(-scores))}

    return OfflineModels(
        lambda examples: {"embeddings": tf.ones([len(examples), 1])},
        rank,
        ItemVectors(ITEM_IDS, np.array([[value[i]] for i in ITEM_IDS], np.float32)),
        np.array([item_example(item) for item in ITEM_IDS], object),
    )


def record(bundle, requests=REQUESTS):
    return record_release(bundle, requests, offline_models(), SETTINGS)


@pytest.fixture(scope="module")
def recorded(good_models, tmp_path_factory):
    bundle = tmp_path_factory.mktemp("recorded") / "bundle"
    shutil.copytree(good_models, bundle)
    return bundle, record(bundle)


def test_models_that_agree_are_measured_as_such(recorded):
    _, release = recorded
    assert release.figures == {
        "users": 25,
        "offline_agreement": 1.0,
        "index_agreement": 1.0,
    }
    assert judge_export(release.figures, ExportGateSettings()).passed


def _with_flaw(good_models, folder, model, flaw):
    bundle = folder / "bundle"
    shutil.copytree(good_models, bundle, ignore=shutil.ignore_patterns(model))
    write_model(bundle / model, ToyRecommender(flaw))
    return bundle


@pytest.mark.parametrize("flaw", [Flaw.REPEATS, Flaw.UNKNOWN, Flaw.SHORT])
def test_exact_model_that_answers_otherwise_is_refused(good_models, tmp_path, flaw):
    bundle = _with_flaw(good_models, tmp_path, "recommender_exact", flaw)
    figures = record(bundle, REQUESTS[:4]).figures
    assert figures["offline_agreement"] < 1.0
    gate = judge_export(figures, ExportGateSettings())
    assert not gate.passed
    assert "equal to the offline computation" in gate.reason


def test_index_that_misses_items_is_measured_by_hand(good_models, tmp_path):
    # "UNKNOWN" puts a stranger in the place of i03: one of ten is missed by the users
    # of histories 0 to 3, and none by the user who has met i03 already.
    bundle = _with_flaw(good_models, tmp_path, "recommender", Flaw.UNKNOWN)
    figures = record(bundle, REQUESTS[:5]).figures
    assert figures["offline_agreement"] == 1.0
    assert figures["index_agreement"] == pytest.approx((4 * 0.9 + 1.0) / 5)
    gate = judge_export(figures, ExportGateSettings())
    assert [check.passed for check in gate.checks] == [True, True, False]


def test_every_answer_is_kept_for_the_serving_gate(recorded):
    bundle, release = recorded
    cases = read_expected(bundle / "expected.json")
    assert len(cases) == len(release.cases) == 4 * len(REQUESTS)
    assert {(case.model, case.signature) for case in cases} == {
        ("recommender", "recommend"),
        ("recommender_exact", "recommend"),
        ("retrieval", "serving_default"),
        ("ranking", "serving_default"),
    }
    third = [case for case in cases if case.model == "recommender"][2]
    assert third.inputs["seed"].tolist() == [2]
    assert third.inputs["k"].tolist() == 10
    assert third.outputs["item_ids"][0].tolist() == [i.encode() for i in ITEM_IDS[2:12]]
    np.testing.assert_allclose(third.outputs["scores"][0][0], 0.9, rtol=1e-6)
    ranking = next(case for case in cases if case.model == "ranking")
    joined = tf.train.Example.FromString(ranking.inputs["examples"][0])
    assert set(joined.features.feature) >= {"user_id", "user_age", "item_id"}
    assert "label" not in joined.features.feature
    json.loads((bundle / "expected.json").read_text())


def test_each_model_gets_warm_up_requests_of_its_own(recorded):
    bundle, _ = recorded
    for model in ("recommender", "recommender_exact", "retrieval", "ranking"):
        logs = list(read_warmup(bundle / model))
        signatures = [log.predict_log.request.model_spec.signature_name for log in logs]
        # What is replayed, and once what draws a seed of its own.
        recommends = model.startswith("recommender")
        assert signatures.count("serving_default") == (1 if recommends else 20)
        assert len(logs) == (21 if recommends else 20)
        specs = {log.predict_log.request.model_spec.name for log in logs}
        assert specs == {model}


PERFECT = {"users": 200, "offline_agreement": 1.0, "index_agreement": 1.0}
CASES = [
    ({}, []),
    ({"users": 0}, [0]),
    ({"offline_agreement": 0.995}, [1]),
    ({"index_agreement": 0.98}, []),
    ({"index_agreement": 0.9799}, [2]),
    ({"offline_agreement": float("nan"), "index_agreement": float("nan")}, [1, 2]),
]


def check_judge(judge) -> None:
    """The checker: exactly the failing checks fail, and one is enough to refuse."""
    for changes, failing in CASES:
        result = judge(PERFECT | changes, ExportGateSettings())
        failed = [n for n, check in enumerate(result.checks) if not check.passed]
        assert failed == failing, changes
        assert result.passed is not bool(failing)
        assert result.gate == "export"


def test_each_check_of_the_gate_can_stop_the_line():
    check_judge(judge_export)


def _lenient(name):
    def judge(figures, settings):
        return judge_export(figures, settings.model_copy(update={name: 0.9}))

    return judge


def _last_check_dropped(figures, settings):
    result = judge_export(figures, settings)
    return dataclasses.replace(result, checks=result.checks[:2])


@pytest.mark.parametrize(
    "wrong",
    [
        _lenient("min_offline_agreement"),
        _lenient("min_index_agreement"),
        _last_check_dropped,
        lambda figures, settings: judge_export(PERFECT, settings),
    ],
)
def test_judge_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_judge(wrong)
