"""Which models and versions a root serves."""

import pytest

from serving.errors import ServerStartError
from serving.model_config import read_served_models


def _version(root, model, *versions):
    for version in versions:
        folder = root / model / str(version)
        folder.mkdir(parents=True)
        (folder / "saved_model.pb").touch()


def test_root_without_config_serves_numbered_saved_models(tmp_path):
    _version(tmp_path, "ranking", 3, 20, 100)
    (tmp_path / "ranking" / "200").mkdir()  # no SavedModel
    (tmp_path / "ranking" / "tmp-300").mkdir()
    (tmp_path / "releases" / "100").mkdir(parents=True)
    _version(tmp_path, ".push-5", 1)
    (model,) = read_served_models(tmp_path)
    assert model.name == "ranking"
    assert model.versions_on_disk() == [3, 20, 100]
    assert model.aspired_versions() == [100]


@pytest.mark.parametrize(
    ("policy", "aspired"),
    [
        ("", [100]),
        ("model_version_policy { latest { num_versions: 2 } }", [100, 20]),
        ("model_version_policy { all {} }", [100, 20, 3]),
        ("model_version_policy { specific { versions: 3 versions: 7 } }", [3]),
    ],
)
def test_version_policy_of_config(tmp_path, policy, aspired):
    _version(tmp_path, "m", 3, 20, 100)
    (tmp_path / "models.config").write_text(
        f'model_config_list {{ config {{ name: "m" base_path: "{tmp_path}/m" '
        f'model_platform: "tensorflow" {policy} }} }}'
    )
    (model,) = read_served_models(tmp_path)
    assert model.aspired_versions() == aspired


def test_config_of_a_container_means_the_folder_beside_it(tmp_path):
    _version(tmp_path, "m", 1)
    (tmp_path / "models.config").write_text(
        'model_config_list { config { name: "m" base_path: "/no/such/mount/m" } }'
    )
    (model,) = read_served_models(tmp_path)
    assert model.aspired_versions() == [1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model_config_list { konfig {} }", "is not a ModelServerConfig"),
        ("", "It names none"),
        ('model_config_list { config { base_path: "/a" } }', "a name of its own"),
        (
            'model_config_list { config { name: "m" model_platform: "torch" } }',
            "should be `tensorflow`. Received: `torch`",
        ),
    ],
)
def test_bad_config_is_refused(tmp_path, text, message):
    (tmp_path / "models.config").write_text(text)
    with pytest.raises(ServerStartError, match=message):
        read_served_models(tmp_path)


def test_root_without_model_says_what_to_do(tmp_path):
    with pytest.raises(ServerStartError, match="push a release with `tandem run`"):
        read_served_models(tmp_path)
    with pytest.raises(ServerStartError, match="should be a folder"):
        read_served_models(tmp_path / "none")
