"""The push: all or none, verified, never touching what was there before."""

import json
import os
import shutil
from pathlib import Path

import pytest
from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
    wrappers_pb2,
)
from tensorflow_serving.config import model_server_config_pb2

from components import push_release as push_module
from components.push_release import PushError, push_release, verify_release
from components.push_settings import PushSettings
from serving.model_config import read_served_models
from serving.release_layout import MODELS, Refresh, list_releases, read_manifest

SETTINGS = PushSettings(keep_releases=2)


@pytest.fixture
def bundle(tmp_path):
    """A bundle of files; a push does not care what is in them."""
    for model in MODELS:
        variables = tmp_path / "bundle" / model / "variables"
        variables.mkdir(parents=True)
        (variables / "variables.index").write_bytes(b"\0" * 10)
        (variables.parent / "saved_model.pb").write_text(f"graph of {model}")
    return tmp_path / "bundle"


@pytest.fixture
def push(bundle, tmp_path):
    for name in ("items", "profiles"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.parquet").write_text(name)

    def run(root=tmp_path / "root", now=1000.0, settings=SETTINGS, same=False, **notes):
        if not same and list_releases(
            root
        ):  # a release of the same files is not pushed
            trace = bundle / "ranking" / "variables" / "trace"
            trace.write_text(f"{trace.read_text() if trace.exists() else ''}x")
        return push_release(
            bundle,
            tmp_path / "items",
            tmp_path / "profiles",
            root,
            settings,
            clock=lambda: now,
            **notes,
        )

    return run


@pytest.fixture
def root(tmp_path):
    return tmp_path / "root"


def _tree(folder: Path) -> dict[str, bytes]:
    """Returns what a serving root holds, besides the lock and empty folders."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".push.lock"
    }


def test_push_lays_out_one_version_of_all_models(push, root, bundle):
    manifest = push(now=1234.9, versions={"tensorflow": "2.20.0"}, gates={"g": {}})
    assert manifest.version == 1234
    for model in MODELS:
        copied = _tree(root / model / "1234")
        assert copied == _tree(bundle / model)
    assert (root / "releases" / "1234" / "items.parquet").read_text() == "items"
    assert (
        root / "releases" / "1234" / "profiles" / "profiles.parquet"
    ).read_text() == "profiles"
    assert read_manifest(root, 1234) == manifest
    assert manifest.versions == {"tensorflow": "2.20.0"}
    assert manifest.created == "1970-01-01T00:20:34+00:00"
    # Every file but the manifest is in the manifest, and nothing else.
    pushed = {name for name in _tree(root) if "/1234/" in name}
    assert set(manifest.files) == pushed - {"releases/1234/manifest.json"}
    verify_release(root, manifest)
    assert not list(root.glob(".push-*"))


def test_checksums_are_sha256(push, root):
    manifest = push()
    # printf 'graph of ranking' | sha256sum
    assert manifest.files["ranking/1000/saved_model.pb"].sha256 == (
        "7f09c812634dea4410cbfb4e0dc757269262a5cbc9e747155bb321d229ddff53"
    )
    assert manifest.files["ranking/1000/saved_model.pb"].num_bytes == 16


def test_same_release_is_not_pushed_twice(push, root, tmp_path):
    first = push(now=1000.0)
    before = _tree(root)
    assert push(now=2000.0, same=True) == first
    assert _tree(root) == before
    assert list_releases(root) == [1000]
    (tmp_path / "profiles" / "profiles.parquet").write_text("a user more")
    assert push(now=3000.0, same=True).version == 3000


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_text("other")])
def test_verify_names_a_file_that_changed(push, root, spoil):
    manifest = push()
    spoil(root / "retrieval" / "1000" / "saved_model.pb")
    with pytest.raises(PushError, match=r"`retrieval/1000/saved_model.pb`"):
        verify_release(root, manifest)


def test_version_is_greater_than_any_before(push, root):
    (root / "ranking" / "2000").mkdir(parents=True)
    assert push(now=1000).version == 2001
    assert push(now=1000).version == 2002
    assert push(now=5000).version == 5000


def test_old_releases_are_pruned_after_success(push, root):
    (root / "ranking" / "7").mkdir(parents=True)  # not of a release: not ours to remove
    versions = [push(now=now).version for now in (100, 200, 300)]
    assert list_releases(root) == versions[1:]
    for model in MODELS:
        numbers = {folder.name for folder in (root / model).iterdir()}
        assert numbers - {"7"} == {"200", "300"}
    assert (root / "ranking" / "7").exists()


def fail_at_call(function, number, error):
    """Returns `function`, except that its `number`-th call raises."""
    calls = iter(range(1, 1000))

    def wrapped(*args):
        if next(calls) == number:
            raise error
        return function(*args)

    return wrapped


def check_all_or_none(push, root, monkeypatch, number, error, expected):
    """A push that fails at its `number`-th rename leaves everything as it was."""
    before = _tree(root) if root.exists() else {}
    with monkeypatch.context() as patch:
        failing = fail_at_call(push_module._rename, number, error)
        patch.setattr(push_module, "_rename", failing)
        with pytest.raises(expected):
            push(now=9000)
    assert _tree(root) == before
    assert not list(root.glob(".p*-*"))


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    ("error", "expected"),
    [(OSError("disk full"), PushError), (KeyboardInterrupt(), KeyboardInterrupt)],
)
@pytest.mark.parametrize("is_first", [True, False])
def test_failed_push_leaves_all_as_it_was(
    push, root, monkeypatch, number, error, expected, is_first
):
    if not is_first:
        push()
    check_all_or_none(push, root, monkeypatch, number, error, expected)
    assert push(now=9001).version == 9001


def _forgets_the_last_model(root, version):
    shutil.rmtree(root / f".push-{version}")
    for model in MODELS[1:]:
        shutil.rmtree(root / model / str(version), ignore_errors=True)


def _removes_the_staging_only(root, version):
    shutil.rmtree(root / f".push-{version}")


@pytest.mark.parametrize("wrong", [_forgets_the_last_model, _removes_the_staging_only])
def test_all_or_none_checker_rejects(push, root, monkeypatch, wrong):
    push()
    monkeypatch.setattr(push_module, "_take_back", wrong)
    with pytest.raises(AssertionError):
        check_all_or_none(push, root, monkeypatch, 5, OSError(), PushError)


def test_push_killed_midway_is_taken_back_by_the_next(push, root, monkeypatch):
    push(now=1000)
    with monkeypatch.context() as patch:
        failing = fail_at_call(push_module._rename, 4, KeyboardInterrupt())
        patch.setattr(push_module, "_rename", failing)
        patch.setattr(push_module, "_take_back", lambda *_: None)  # kill -9
        with pytest.raises(KeyboardInterrupt):
            push(now=2000)
    assert (root / "ranking" / "2000").exists()
    assert list_releases(root) == [1000]
    push(now=3000)
    assert list_releases(root) == [1000, 3000]
    assert not (root / "ranking" / "2000").exists()
    assert not list(root.glob(".push-*"))


def test_push_killed_after_its_last_step_stands(push, root):
    push(now=1000)
    (root / ".push-1000").mkdir()
    push(now=2000)
    assert list_releases(root) == [1000, 2000]


def test_pruning_killed_midway_is_finished_by_the_next_push(push, root):
    push(now=1000)
    (root / ".prune-1000").mkdir()
    os.rename(root / "releases" / "1000", root / ".prune-1000" / "release")
    push(now=2000)
    assert list_releases(root) == [2000]
    assert not (root / "recommender" / "1000").exists()
    assert not list(root.glob(".prune-*"))


def test_a_bad_copy_is_noticed(push, root, monkeypatch):
    push(now=1000)
    before = _tree(root)
    real = push_module._checksum

    def flipped(path):
        if path.name == "variables.index" and ".push-" in str(path):
            path.write_bytes(b"\1" + path.read_bytes()[1:])
        return real(path)

    monkeypatch.setattr(push_module, "_checksum", flipped)
    with pytest.raises(PushError, match="differs from it; check the disk"):
        push(now=2000)
    assert _tree(root) == before


def test_parts_go_with_the_release_and_leave_with_it(push, root, bundle):
    part = bundle / "parts" / "main" / "item_ids.json"
    part.parent.mkdir(parents=True)
    part.write_text("[]")
    manifest = push(now=1000)
    place = "releases/1000/parts/main/item_ids.json"
    assert (root / place).read_text() == "[]"
    assert place in manifest.files
    verify_release(root, manifest)
    for now in (2000, 3000):
        push(now=now)
    assert not (root / place).exists()


REFRESH = Refresh(
    base=1000, added=2, changed=0, removed=1, fresh=2, tombstones=1, rebuilt=False
)


def check_refresh_of_an_older_release_is_refused(push, root):
    """Were it pushed, the newer release's models would be gone from the servers."""
    push(now=1000)
    push(now=2000)
    before = _tree(root)
    with pytest.raises(PushError, match="1000 was the newest, but 2000 is by now"):
        push(now=3000, refresh=REFRESH)
    assert _tree(root) == before


def test_refresh_of_the_newest_release_is_pushed_and_noted(push, root):
    push(now=1000)
    manifest = push(now=3000, refresh=REFRESH)
    assert read_manifest(root, 3000).refresh == manifest.refresh == REFRESH


def test_refresh_of_an_older_release_is_refused(push, root):
    check_refresh_of_an_older_release_is_refused(push, root)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda root, base: None,  # not looked at
        lambda root, base: read_manifest(root, base),  # "still there" is not "newest"
    ],
)
def test_check_of_an_older_release_rejects(push, root, monkeypatch, wrong):
    monkeypatch.setattr(push_module, "_check_newest", wrong)
    with pytest.raises(pytest.fail.Exception):
        check_refresh_of_an_older_release_is_refused(push, root)


@pytest.mark.parametrize(
    "missing", ["bundle/retrieval/saved_model.pb", "items/items.parquet"]
)
def test_incomplete_release_is_refused(push, root, tmp_path, missing):
    (tmp_path / missing).unlink()
    with pytest.raises(PushError, match=f"incomplete: .*{missing}"):
        push()
    assert not root.exists()


def test_two_pushes_at_once_are_refused(push, root):
    root.mkdir()
    with push_module._only_one(root), pytest.raises(PushError, match="under way"):
        push()


def test_models_config_is_what_the_server_reads(push, root):
    push()
    config = model_server_config_pb2.ModelServerConfig()
    text_format.Parse((root / "models.config").read_text(), config)
    entries = config.model_config_list.config
    assert [entry.name for entry in entries] == list(MODELS)
    assert {entry.model_platform for entry in entries} == {"tensorflow"}
    assert entries[0].base_path == str(root / "recommender")
    served = {
        model.name: model.aspired_versions() for model in read_served_models(root)
    }
    assert served == {model: [1000] for model in MODELS}


def test_models_config_names_the_mount_of_the_server(push, root):
    push(settings=PushSettings(base_path="/models"))
    assert 'base_path: "/models/ranking"' in (root / "models.config").read_text()


def _message(fields: dict[str, tuple[str, int]], nested=None):
    """Returns a message class as TF Serving's own proto file declares it."""
    file = descriptor_pb2.FileDescriptorProto(
        name="settings.proto",
        package="under_test",
        syntax="proto3",
        dependency=["google/protobuf/wrappers.proto"],
    )
    for name, declared in {**(nested or {}), "Settings": fields}.items():
        message = file.message_type.add(name=name)
        for number, (field, (kind, type_)) in enumerate(declared.items(), 1):
            message.field.add(
                name=field, number=number, type=type_, type_name=kind or None, label=1
            )
    pool = descriptor_pool.DescriptorPool()
    wrappers = descriptor_pb2.FileDescriptorProto()
    wrappers_pb2.DESCRIPTOR.CopyToProto(wrappers)
    pool.Add(wrappers)
    pool.Add(file)
    descriptor = pool.FindMessageTypeByName("under_test.Settings")
    return message_factory.GetMessageClass(descriptor)()


BOOL, MESSAGE, STRING = 8, 11, 9


def test_batching_config_is_batching_parameters(push, root):
    push()
    # Fields of BatchingParameters in TF Serving's session_bundle_config.proto.
    whole = (".google.protobuf.Int64Value", MESSAGE)
    parameters = _message(
        {
            "max_batch_size": whole,
            "batch_timeout_micros": whole,
            "max_enqueued_batches": whole,
            "num_batch_threads": whole,
            "pad_variable_length_inputs": ("", BOOL),
        }
    )
    text_format.Parse((root / "batching.config").read_text(), parameters)
    assert parameters.max_batch_size.value == 32
    assert parameters.num_batch_threads.value >= 1


def test_monitoring_config_is_monitoring_config(push, root):
    push()
    # MonitoringConfig and PrometheusConfig of TF Serving's monitoring_config.proto.
    prometheus = {"enable": ("", BOOL), "path": ("", STRING)}
    config = _message(
        {"prometheus_config": (".under_test.PrometheusConfig", MESSAGE)},
        {"PrometheusConfig": prometheus},
    )
    text_format.Parse((root / "monitoring.config").read_text(), config)
    assert config.prometheus_config.enable
    assert config.prometheus_config.path == "/monitoring/prometheus/metrics"


def write_graph(path: Path) -> None:
    """Writes a graph of one op for servers."""
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel()
    graph = model.meta_graphs.add()
    graph.meta_info_def.tags.append("serve")
    graph.meta_info_def.tensorflow_version = "2.20.0"
    graph.graph_def.node.add(op="MatMul")
    path.write_bytes(model.SerializeToString())


@pytest.mark.component
@pytest.mark.parametrize("passed", [True, False])
def test_component_pushes_only_what_the_gate_passed(
    push, root, bundle, tmp_path, passed
):
    from tfx.types.standard_artifacts import Model

    from components.artifacts import (
        Catalog,
        GateReport,
        Profiles,
        Release,
        ReleaseBundle,
    )
    from components.push_release_component import PushRelease

    def artifact(kind, folder):
        made = kind()
        made.uri = str(tmp_path / folder)
        return made

    report = {"gate": "serving", "passed": passed, "reason": "because"}
    check = {"name": "latency", "passed": passed, "seen": "9 ms", "expected": "less"}
    for folder in ("report", "release", "model/checkpoint"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "model/checkpoint/record.json").write_text("{}")
    (tmp_path / "report" / "gate.json").write_text(
        json.dumps(report | {"checks": [check]})
    )
    for model in MODELS:
        write_graph(bundle / model / "saved_model.pb")
    release = artifact(Release, "release")
    inputs = {
        "bundle": [artifact(ReleaseBundle, "bundle")],
        "retrieval_model": [artifact(Model, "model")],
        "catalog": [artifact(Catalog, "items")],
        "profiles": [artifact(Profiles, "profiles")],
        "validation": [artifact(GateReport, "report")],
    }
    parameters = {
        "serving_root": str(root),
        "newest_release": "",
        "span": "2026-11-21",
        "settings_json": SETTINGS.model_dump_json(),
    }
    executor = PushRelease.EXECUTOR_SPEC.executor_class()
    if not passed:
        with pytest.raises(PushError, match="a refused release cannot be pushed"):
            executor.Do(inputs, {"release": [release]}, parameters)
        assert not root.exists()
        return
    executor.Do(inputs, {"release": [release]}, parameters)
    (version,) = list_releases(root)
    assert release.get_int_custom_property("version") == version
    manifest = read_manifest(root, version)
    assert manifest.gates == {"serving": {"latency": "9 ms"}}
    assert set(manifest.compatibility.models) == set(MODELS)
    assert manifest.compatibility.models["ranking"].ops == ("MatMul",)
    pushed = {path.name for path in (tmp_path / "release").iterdir()}
    assert pushed == {"manifest.json", "retrieval", "ranking", "checkpoint"}
    # What a later span continues from is there, and no part of what is served.
    assert (tmp_path / "release/checkpoint/record.json").read_text() == "{}"
    assert not list(root.rglob("checkpoint"))
    assert release.get_string_custom_property("span") == "2026-11-21"


def with_memory(bundle: Path) -> None:
    (bundle / "memory").mkdir()
    (bundle / "memory" / "saved_model.pb").write_text("graph of memory")


def served_names(root: Path) -> list[str]:
    return [model.name for model in read_served_models(root)]


def test_memory_goes_with_a_release_that_has_one_and_leaves_with_it(push, root, bundle):
    with_memory(bundle)
    manifest = push(settings=PushSettings(keep_releases=1))
    assert manifest.models == (*MODELS, "memory")
    assert "memory/1000/saved_model.pb" in manifest.files
    assert served_names(root) == [*MODELS, "memory"]
    shutil.rmtree(bundle / "memory")  # the next ranker keeps none
    manifest = push(now=2000.0, settings=PushSettings(keep_releases=1))
    assert manifest.models == MODELS
    assert served_names(root) == list(MODELS)
    assert not (root / "memory").exists()


def check_failed_push_with_memory(push, root, bundle, monkeypatch):
    """Holds a root to what it was, configs included, where a model more was pushed."""
    push()
    before = _tree(root)
    with_memory(bundle)
    rename = os.rename

    def fail(source, target):
        if Path(target).parent.name == "releases":
            raise OSError("disk is full")
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", fail)
        with pytest.raises(PushError, match="disk is full"):
            push(now=2000.0)
    assert _tree(root) == before
    assert served_names(root) == list(MODELS)


def test_failed_push_left_the_models_config_of_other_models(
    push, root, bundle, monkeypatch
):
    check_failed_push_with_memory(push, root, bundle, monkeypatch)


@pytest.mark.parametrize(("name", "wrong"), [("_BEFORE", ""), ("_ALL_MODELS", MODELS)])
def test_failed_push_checker_rejects(name, wrong, push, root, bundle, monkeypatch):
    monkeypatch.setattr(push_module, name, wrong)
    with pytest.raises((AssertionError, OSError)):
        check_failed_push_with_memory(push, root, bundle, monkeypatch)
