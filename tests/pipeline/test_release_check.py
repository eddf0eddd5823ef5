"""`tandem doctor --release`: which servers can load a release, and is it what it says?"""

import json

import pytest
from click.testing import CliRunner
from packaging.version import Version

from components.push_release import push_release
from components.push_settings import PushSettings
from pipeline.cli import cli
from pipeline.release_check import check_server, examine_release, find_release
from serving.compatibility import Server
from serving.release_layout import MANIFEST, read_manifest, release_dir
from serving.release_tables import NoReleaseError
from serving.saved_model_needs import needs_of_bundle
from tests.serving.toy_release import write_bundle, write_tables

STOCK = "tensorflow/serving:2.20.0"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    return write_bundle(folder / "bundle"), *write_tables(folder)


@pytest.fixture
def root(made, tmp_path):
    """A serving root with the release 1000."""
    push_release(
        *made,
        tmp_path / "serving",
        PushSettings(),
        versions={"tensorflow": "2.20.0", "scann": "1.4.2"},
        compatibility=needs_of_bundle(made[0]),
        clock=lambda: 1000.0,
    )
    return tmp_path / "serving"


def change_manifest(root, change) -> None:
    path = release_dir(root, 1000) / MANIFEST
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def failed(root, *images) -> dict[str, str]:
    """Returns what each failing check saw."""
    found = examine_release(root, images or [STOCK])
    return {one.name: one.seen for one in found if not one.passed}


def test_a_release_is_found_in_each_folder_that_names_it(root, tmp_path):
    for place in (tmp_path, root, release_dir(root, 1000)):
        assert find_release(place) == (root, 1000)
    with pytest.raises(NoReleaseError, match="releases/<version>"):
        find_release(tmp_path / "nothing")


def test_a_sound_release_passes(root):
    assert failed(root, "embedded", STOCK, f"{STOCK}-gpu") == {}
    assert read_manifest(root, 1000).compatibility.models["ranking"].ops


def test_the_usual_servers_are_judged_unless_others_are_named(root):
    names = [one.name for one in examine_release(root, [])]
    assert names == ["files", "manifest", "embedded", STOCK, f"{STOCK}-gpu"]


def test_a_server_that_is_too_old_is_named_with_what_it_lacks(root):
    seen = failed(root, "tensorflow/serving:2.18.0")["tensorflow/serving:2.18.0"]
    assert seen.startswith("loads nothing; not recommender, recommender_exact")
    assert "2.18.0 is older" in seen


def test_a_server_without_scann_passes_by_the_exact_recommender(root):
    needs = read_manifest(root, 1000).compatibility
    recommender = needs.models["recommender"]
    changed = recommender.model_copy(update={"custom_ops": ("Scann>ScannSearch",)})
    needs = needs.model_copy(update={"models": needs.models | {"recommender": changed}})
    found = check_server(needs, Server("stock", Version("2.20.0"), False))
    assert found.passed
    assert "not recommender: it has no op Scann>ScannSearch" in found.seen
    assert "loads recommender_exact" in found.seen


def test_a_manifest_of_before_needs_were_stated_is_read(root):
    change_manifest(root, lambda manifest: manifest.pop("compatibility"))
    assert failed(root) == {}
    assert "says nothing" in examine_release(root, [STOCK])[1].seen


def test_a_manifest_that_disagrees_with_the_files_is_named(root):
    def change(manifest):
        ranking = manifest["compatibility"]["models"]["ranking"]
        ranking["signatures"]["serving_default"]["inputs"]["examples"] = "int64 []"

    change_manifest(root, change)
    assert list(failed(root)) == ["manifest"]
    assert "ranking: signatures is" in failed(root)["manifest"]


def test_a_file_that_changed_is_named(root):
    graph = root / "ranking" / "1000" / "saved_model.pb"
    graph.write_bytes(graph.read_bytes() + b"\0" * 8)
    assert "ranking/1000/saved_model.pb" in failed(root)["files"]
    graph.unlink()
    assert "is no SavedModel" in failed(root)["manifest"]


def test_a_manifest_that_cannot_be_read_is_named(root):
    change_manifest(root, lambda manifest: manifest.pop("models"))
    assert "models: Field required" in failed(root)["manifest"]


def run(*arguments) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["doctor", *map(str, arguments)])
    return done.exit_code, done.output


def test_exit_codes_and_json(root, tmp_path):
    code, shown = run("--release", root, "--image", STOCK, "--json")
    assert code == 0
    told = json.loads(shown.splitlines()[-1])
    assert [check["name"] for check in told["checks"]] == ["files", "manifest", STOCK]
    assert run("--release", root, "--image", "tensorflow/serving:2.1.0")[0] == 1
    code, shown = run("--release", root, "--image", "tensorflow/serving:latest")
    assert (code, "should be named like" in shown) == (2, True)
    assert run("--image", STOCK)[0] == 2
