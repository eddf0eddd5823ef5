"""A release that carries HPMN's memory: recorded, pushed, served, and equal to `ranking`."""

import shutil

import numpy as np
import pytest
import tensorflow as tf

from components.build_index import ItemVectors
from components.offline_recommendation import OfflineModels
from components.push_release import push_release
from components.push_settings import PushSettings
from components.record_memory import item_inputs, record_memory
from components.recorded_requests import requests_of
from components.validate_serving import (
    ServedRelease,
    ServingValidationSettings,
    _check_coverage,
    _check_recorded,
)
from models.ranking.memory_serving import MemoryServing
from models.ranking.trainer import RankingModule
from serving.client import RecommendationClient
from serving.release_layout import MEMORY_MODEL, MODELS, models_of
from serving.saved_model import SavedModel
from serving.server import ModelServer
from tests.models import transform_world as world
from tests.models.conftest import transform_uri  # noqa: F401
from tests.models.ranking.test_memory_serving import model, transform  # noqa: F401
from tests.serving.toy_release import write_tables

ITEM_IDS = ["a", "b", "c", "d"]
# The first row of each item has the features that the ranker's histories know.
FIRST_ROWS = {record["item_id"]: record for record in reversed(world.records())}
ITEM_EXAMPLES = np.array(
    [world.serialized(FIRST_ROWS[item]) for item in ITEM_IDS], object
)
# Histories of up to three, which is all that a row keeps here.
USERS = [world.records()[row] for row in (3, 7, 8)]
EXAMPLES = [world.serialized(record) for record in USERS]
REQUESTS = requests_of(EXAMPLES, world.feature_spec(), world.CATALOG)


@pytest.fixture(scope="module")
def bundle(model, transform, tmp_path_factory):  # noqa: F811
    """Returns a release whose other models are the ranker too: nobody asks them here."""
    folder = tmp_path_factory.mktemp("release")
    for name, module in (
        ("ranking", RankingModule(model, world.CATALOG, transform)),
        (MEMORY_MODEL, MemoryServing(model, world.CATALOG, transform)),
    ):
        path = str(folder / name)
        tf.saved_model.save(module, path, signatures=module.signatures())
    for name in set(MODELS) - {"ranking"}:
        shutil.copytree(folder / "ranking", folder / name)
    return folder


@pytest.fixture(scope="module")
def offline(bundle):
    loaded = tf.saved_model.load(str(bundle / "ranking"))
    vectors = ItemVectors(ITEM_IDS, np.zeros([4, 2], np.float32))
    return OfflineModels(None, loaded.signatures["logits"], vectors, ITEM_EXAMPLES)


@pytest.fixture(scope="module")
def memory(bundle):
    loaded = SavedModel(bundle / MEMORY_MODEL)
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def recorded(memory, offline):
    return record_memory(memory, REQUESTS, offline, world.CATALOG)


def test_item_inputs_are_what_a_client_sends():
    inputs = item_inputs(ITEM_EXAMPLES, [1, -1, 2], world.CATALOG)
    assert inputs["item_id"].tolist() == [b"b", b"", b"c"]
    assert inputs["item_genres"].tolist() == [[b"x"], [b""], [b""]]
    assert inputs["item_title"].tolist() == [b"Alien", b"", b""]
    np.testing.assert_array_equal(inputs["item_price"], [2.0, np.nan, np.nan])


class Changed:
    """A memory that breaks one promise."""

    def __init__(self, memory, change):
        self.signatures = memory.signatures
        self._memory, self._change = memory, change

    def run(self, signature, inputs):
        return self._change(signature, inputs, self._memory.run(signature, inputs))


def forgets(signature, inputs, outputs):
    return {key: inputs[key] for key in outputs} if "step" in outputs else outputs


def scores_probabilities(signature, inputs, outputs):
    return outputs | {"logits": outputs["scores"]} if "scores" in outputs else outputs


def reads_candidates_backwards(signature, inputs, outputs):
    return {k: v[:, ::-1] if k == "logits" else v for k, v in outputs.items()}


def check_agreement(memory, offline):
    """Holds a right memory to full agreement."""
    found = record_memory(memory, REQUESTS, offline, world.CATALOG)
    assert found.agreement == 1.0


def test_memory_agrees_with_the_ranker(memory, offline):
    check_agreement(memory, offline)


@pytest.mark.parametrize(
    "change", [forgets, scores_probabilities, reads_candidates_backwards]
)
def test_agreement_checker_rejects(change, memory, offline):
    with pytest.raises(AssertionError):
        check_agreement(Changed(memory, change), offline)


@pytest.mark.component
def test_memory_of_a_release_is_written_and_read_over_the_wire(
    bundle, recorded, offline, tmp_path
):
    catalog, profiles = write_tables(tmp_path)
    root = tmp_path / "root"
    manifest = push_release(bundle, catalog, profiles, root, PushSettings())
    assert manifest.models == (*MODELS, MEMORY_MODEL) == models_of(bundle)
    with ModelServer(root, 0) as server, RecommendationClient(server.target) as client:
        for record, request in zip(USERS, REQUESTS, strict=True):
            state = {
                "memory": np.zeros([1, 4, 6], np.float32),
                "step": np.zeros(1, int),
            }
            for item in record["history_item_ids"]:
                row = [ITEM_IDS.index(item)]
                event = item_inputs(ITEM_EXAMPLES, row, world.CATALOG)
                state, _ = client.predict(MEMORY_MODEL, "update_memory", state | event)
            assert state["step"] == len(record["history_item_ids"])
            own = item_inputs(
                ITEM_EXAMPLES, [ITEM_IDS.index(record["item_id"])], world.CATALOG
            )
            query = {k: v for k, v in request.inputs.items() if k != "history_item_ids"}
            candidate = {key: values[np.newaxis] for key, values in own.items()}
            inputs = {"memory": state["memory"], **query, **candidate}
            answer, _ = client.predict(MEMORY_MODEL, "score", inputs)
            example = {"examples": np.array([world.serialized(record)], object)}
            expected, _ = client.predict("ranking", "serving_default", example)
            np.testing.assert_allclose(
                answer["scores"][0], expected["scores"], rtol=1e-5
            )
        served = ServedRelease(
            client, recorded.cases, ITEM_IDS, ServingValidationSettings()
        )
        checks = _check_recorded(served)
    names = {check.name for check in checks}
    assert names == {"answers of memory/update_memory", "answers of memory/score"}
    assert all(check.passed for check in checks), checks


def test_gate_asks_for_recorded_answers_of_the_memory_too(bundle):
    check = _check_coverage([], models_of(bundle))
    assert not check.passed and "'memory'" in check.seen
