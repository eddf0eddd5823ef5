"""`tandem releases` and `tandem rollback`, as a person types them."""

import json

import pytest
from click.testing import CliRunner

from components.push_release import push_release
from components.push_settings import PushSettings
from pipeline.cli import cli
from serving.release_layout import MODELS


@pytest.fixture
def root(tmp_path):
    """A root folder with the releases 1000 and 2000."""
    for name in ("items", "profiles"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.parquet").write_text(name)
    for version in (1000, 2000):
        for model in MODELS:
            (tmp_path / "bundle" / model).mkdir(parents=True, exist_ok=True)
            graph = tmp_path / "bundle" / model / "saved_model.pb"
            graph.write_text(f"{model} {version}")
        push_release(
            tmp_path / "bundle",
            tmp_path / "items",
            tmp_path / "profiles",
            tmp_path / "root" / "serving",
            PushSettings(),
            clock=lambda now=version: now,
        )
    return tmp_path / "root"


def run(*arguments) -> tuple[int, str]:
    done = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    return done.exit_code, done.output


def test_releases_are_listed(root, tmp_path):
    code, shown = run("releases", "--root", root)
    assert code == 0
    assert [line for line in shown.splitlines() if "2000" in line and "serves" in line]
    assert "1000" in shown
    _, told = run("releases", "--root", root, "--json")
    assert [one["version"] for one in json.loads(told)["releases"]] == [1000, 2000]
    assert "No release" in run("releases", "--root", tmp_path / "empty")[1]


def test_rollback_says_what_serves_now(root):
    code, shown = run("rollback", "--root", root, "--reason", "clicks fell")
    assert code == 0
    assert "2000 is taken back" in shown
    listed = json.loads(run("releases", "--root", root, "--json")[1])["releases"]
    assert listed[-1]["rollback"]["to"] == 1000
    assert listed[-1]["rollback"]["reason"] == "clicks fell"
    code, told = run("rollback", "--root", root, "--to", 2000, "--json")
    assert code == 0
    assert json.loads(told)["to"] == 2000


def test_rollback_to_what_is_not_there_fails_with_its_reason(root):
    code, shown = run("rollback", "--root", root, "--to", 77)
    assert code == 1
    assert "there is no release 77" in shown
