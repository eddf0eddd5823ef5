"""Loading, warming, swapping and dropping versions."""

import gc
import shutil
import threading
import weakref

import grpc
import pytest
from tensorflow_serving.apis import get_model_status_pb2, model_pb2

from serving import model_store
from serving.errors import ModelLoadError, RequestError
from serving.model_config import read_served_models
from serving.model_service import get_model_status
from serving.model_store import ModelStore, VersionState, load_warm
from serving.warmup import read_warmup, write_warmup
from tests.serving.toy_release import place, predict_request, query


@pytest.fixture
def root(good_bundle, tmp_path):
    return place(good_bundle, tmp_path, 1, "retrieval")


@pytest.fixture
def store(root):
    held = ModelStore(read_served_models(root))
    held.refresh()
    yield held
    held.close()


def _spec(version: int | None = None, name: str = "retrieval") -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=name)
    if version is not None:
        spec.version.value = version
    return spec


def test_store_lends_the_latest_version(store, root, good_bundle):
    with store.lend(_spec()) as (_, version):
        assert version == 1
    place(good_bundle, root, 10, "retrieval")
    store.refresh()
    with store.lend(_spec()) as (_, version):
        assert version == 10
    assert store.available_versions() == {"retrieval": [10]}


def test_store_goes_back_when_the_newest_version_is_removed(store, root, good_bundle):
    place(good_bundle, root, 2, "retrieval")
    store.refresh()
    shutil.rmtree(root / "retrieval" / "2")
    store.refresh()
    assert store.available_versions() == {"retrieval": [1]}


def test_dropped_version_does_not_wait_for_the_collector_to_be_freed(
    store, root, good_bundle
):
    with store.lend(_spec()) as (model, _):
        graph = weakref.ref(model._session.graph)
    del model
    place(good_bundle, root, 2, "retrieval")
    gc.disable()
    try:
        store.refresh()
        assert graph() is None
    finally:
        gc.enable()


def test_memory_is_given_back_when_versions_changed_and_only_then(
    store, root, good_bundle, monkeypatch
):
    given_back = []
    monkeypatch.setattr(model_store, "_give_back_memory", lambda: given_back.append(1))
    store.refresh()
    assert given_back == []
    place(good_bundle, root, 2, "retrieval")
    store.refresh()
    assert given_back == [1]


def test_store_keeps_serving_when_the_disk_is_emptied(store, root):
    shutil.rmtree(root / "retrieval" / "1")
    store.refresh()
    assert store.available_versions() == {"retrieval": [1]}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (_spec(name="nobody"), r"Servable not found for request: Latest\(nobody\)"),
        (_spec(5), r"Servable not found for request: Specific\(retrieval, 5\)"),
    ],
)
def test_store_has_not_what_is_not_served(store, spec, message):
    with (
        pytest.raises(RequestError, match=message) as caught,
        store.lend(spec),
    ):
        pass
    assert caught.value.code is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    "spec",
    [model_pb2.ModelSpec(), model_pb2.ModelSpec(name="retrieval", version_label="a")],
)
def test_store_refuses_a_spec_without_name_or_with_unknown_label(store, spec):
    with pytest.raises(RequestError) as caught, store.lend(spec):
        pass
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT


def test_broken_new_version_leaves_the_old_one_serving(store, root):
    (root / "retrieval" / "2").mkdir()
    (root / "retrieval" / "2" / "saved_model.pb").write_bytes(b"broken")
    store.refresh()
    assert store.available_versions() == {"retrieval": [1]}
    states = store.states("retrieval")
    assert [(number, state) for number, state, _ in states] == [
        (2, VersionState.END),
        (1, VersionState.AVAILABLE),
    ]
    request = get_model_status_pb2.GetModelStatusRequest(model_spec=_spec())
    newest, oldest = get_model_status(store, request).model_version_status
    assert newest.status.error_code == grpc.StatusCode.FAILED_PRECONDITION.value[0]
    assert "could not be loaded" in newest.status.error_message
    assert oldest.state == get_model_status_pb2.ModelVersionStatus.AVAILABLE
    shutil.rmtree(root / "retrieval" / "2")
    store.refresh()
    assert [number for number, _, _ in store.states("retrieval")] == [1]


def test_status_of_unknown_model_or_version_is_not_found(store):
    for spec in (_spec(name="nobody"), _spec(5)):
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=spec)
        with pytest.raises(RequestError, match="Could not find") as caught:
            get_model_status(store, request)
        assert caught.value.code is grpc.StatusCode.NOT_FOUND


def test_old_version_is_freed_after_its_last_request(store, root, good_bundle):
    place(good_bundle, root, 2, "retrieval")
    request = predict_request(
        "retrieval",
        "",
        {name: query("a", [])[name] for name in ("user_id", "history_item_ids")},
    )
    with store.lend(_spec()) as (model, version):
        refresh = threading.Thread(target=store.refresh)
        refresh.start()
        while store.available_versions() != {"retrieval": [2]}:
            pass
        # Version 2 took over while this request still runs on version 1.
        refresh.join(timeout=0.05)
        assert refresh.is_alive()
        model_store.predict(model, version, request)
    refresh.join(timeout=10)
    assert not refresh.is_alive()
    assert [number for number, _, _ in store.states("retrieval")] == [2]


def test_warm_up_requests_are_replayed_before_a_version_is_available(
    good_bundle, monkeypatch
):
    replayed = []

    def recording(model, version, request):
        replayed.append(request.model_spec.signature_name)
        return real(model, version, request)

    real = model_store.predict
    monkeypatch.setattr(model_store, "predict", recording)
    load_warm(good_bundle / "recommender", 1).close()
    assert replayed == ["recommend", "recommend", "serving_default"]


def test_version_that_refuses_its_warm_up_is_not_served(good_bundle, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(good_bundle / "retrieval", model)
    write_warmup(model, [predict_request("retrieval", "no_such_signature", {})])
    with pytest.raises(ModelLoadError, match="refuses warm-up record 0"):
        load_warm(model, 1)


def test_warm_up_file_is_tf_servings(tmp_path):
    requests = [predict_request("m", f"s{i}", {}) for i in range(3)]
    path = write_warmup(tmp_path, requests)
    assert path == tmp_path / "assets.extra" / "tf_serving_warmup_requests"
    assert [log.predict_log.request for log in read_warmup(tmp_path)] == requests


@pytest.mark.parametrize("number", [0, 1001])
def test_warm_up_file_has_one_to_a_thousand_requests(tmp_path, number):
    request = predict_request("m", "s", {})
    with pytest.raises(ValueError, match="1 to 1000"):
        write_warmup(tmp_path, [request] * number)
