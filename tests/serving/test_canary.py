"""Two releases under labels: served by the embedded server as by TF Serving."""

import pytest
from google.protobuf import text_format
from tensorflow_serving.apis import model_pb2
from tensorflow_serving.config import model_server_config_pb2

from serving import canary
from serving.canary import canary_config
from serving.model_config import MODELS_CONFIG, read_served_models
from serving.model_store import ModelStore
from serving.release_layout import release_dir
from tests.serving.toy_release import place


@pytest.fixture(scope="module")
def root(good_bundle, tmp_path_factory):
    root = tmp_path_factory.mktemp("canary")
    for version in (7, 9):
        place(good_bundle, root, version, "retrieval")
        release_dir(root, version).mkdir(parents=True)
        (release_dir(root, version) / "manifest.json").write_text("{}")
    return root


def test_labels_reach_the_version_that_they_mean(root):
    (root / MODELS_CONFIG).write_text(canary_config(root, stable=7, canary=9))
    store = ModelStore(read_served_models(root))
    store.refresh()
    try:
        for label, version in (("stable", 7), ("canary", 9)):
            spec = model_pb2.ModelSpec(name="retrieval", version_label=label)
            with store.lend(spec) as (_, served):
                assert served == version
    finally:
        store.close()
        (root / MODELS_CONFIG).unlink()


def test_config_names_the_servers_own_mount_point(root, capsys):
    arguments = ["--root", str(root), "--stable", "7", "--canary", "9"]
    assert canary.main([*arguments, "--base-path", "/serving"]) == 0
    config = model_server_config_pb2.ModelServerConfig()
    text_format.Parse(capsys.readouterr().out, config)
    (entry,) = config.model_config_list.config
    assert entry.base_path == "/serving/retrieval"
    assert dict(entry.version_labels) == {"stable": 7, "canary": 9}


@pytest.mark.parametrize(
    ("stable", "tried", "reason"),
    [(7, 8, r"\[8\]; it holds \[7, 9\]"), (7, 7, "should differ")],
)
def test_versions_that_are_none_or_the_same_are_refused(
    root, stable, tried, reason, capsys
):
    with pytest.raises(ValueError, match=reason):
        canary_config(root, stable, tried)
    arguments = ["--root", str(root), "--stable", str(stable), "--canary", str(tried)]
    assert canary.main(arguments) == 2
    assert "error: " in capsys.readouterr().err
