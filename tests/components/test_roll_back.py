"""Back to an earlier release: its very files, under a version that servers take."""

from pathlib import Path

import pytest

from components.push_release import PushError, push_release, verify_release
from components.push_settings import PushSettings
from components.roll_back import origin_of, roll_back
from serving.release_layout import (
    MEMORY_MODEL,
    MODELS,
    PARTS,
    Refresh,
    list_releases,
    model_dir,
    models_of,
    read_manifest,
)

SETTINGS = PushSettings(keep_releases=5)


@pytest.fixture
def push(tmp_path):
    """Returns a function that pushes a release of files with some content."""
    for name in ("items", "profiles"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.parquet").write_text(name)
    bundle = tmp_path / "bundle"

    def push(content: str, now: float, models=MODELS, **notes):
        for model in models:
            (bundle / model / "variables").mkdir(parents=True, exist_ok=True)
            (bundle / model / "saved_model.pb").write_text(f"{model}: {content}")
            (bundle / model / "variables" / "index").write_bytes(content.encode())
        (bundle / PARTS).mkdir(exist_ok=True)
        (bundle / PARTS / "index.npz").write_text(content)
        return push_release(
            bundle,
            tmp_path / "items",
            tmp_path / "profiles",
            tmp_path / "root",
            SETTINGS,
            versions={"tensorflow": content},
            clock=lambda: now,
            **notes,
        )

    return push


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "root"


def content(root: Path, version: int) -> dict[str, bytes]:
    """Returns the files of a release by their place without the version."""
    places = read_manifest(root, version).files
    return {p.replace(f"/{version}/", "/"): (root / p).read_bytes() for p in places}


def test_an_earlier_release_serves_again(push, root):
    push("good", 1000)
    push("bad", 2000)
    manifest = roll_back(root, SETTINGS, reason="clicks fell", clock=lambda: 3000)
    assert manifest.version == 3000
    assert list_releases(root) == [1000, 2000, 3000]
    assert content(root, 3000) == content(root, 1000)
    assert manifest.versions == {"tensorflow": "good"}
    assert (manifest.rollback.of, manifest.rollback.to) == (2000, 1000)
    assert manifest.rollback.reason == "clicks fell"
    verify_release(root, manifest)
    # No file is shared: what happens to the old release does not touch the new one.
    for place in manifest.files:
        assert not (root / place).is_symlink()


def test_any_release_can_be_returned_to(push, root):
    for now, name in enumerate(("a", "b", "c"), start=1):
        push(name, 1000 * now)
    manifest = roll_back(root, SETTINGS, to=1000, clock=lambda: 9000)
    assert content(root, manifest.version) == content(root, 1000)


def test_two_rollbacks_go_back_two_releases(push, root):
    for now, name in enumerate(("a", "b", "c"), start=1):
        push(name, 1000 * now)
    assert roll_back(root, SETTINGS, clock=lambda: 8000).rollback.to == 2000
    assert roll_back(root, SETTINGS, clock=lambda: 9000).rollback.to == 1000


def test_what_was_taken_back_is_not_pushed_again(push, root):
    push("good", 1000)
    push("bad", 2000)
    roll_back(root, SETTINGS, reason="clicks fell", clock=lambda: 3000)
    with pytest.raises(PushError, match=r"release 2000.*clicks fell"):
        push("bad", 4000)
    assert list_releases(root) == [1000, 2000, 3000]
    assert push("better", 5000).version == 5000
    # But a person may return to it.
    assert content(root, roll_back(root, SETTINGS, 2000, clock=lambda: 6000).version)


def test_optional_models_go_along(push, root):
    push("good", 1000, models=(*MODELS, MEMORY_MODEL))
    push("bad", 2000, models=(*MODELS, MEMORY_MODEL))
    manifest = roll_back(root, SETTINGS, clock=lambda: 3000)
    assert MEMORY_MODEL in manifest.models
    assert (model_dir(root, MEMORY_MODEL, 3000) / "saved_model.pb").exists()
    assert models_of(root / "nowhere") == MODELS


def only_one(push, root):
    push("good", 1000)


def damaged(push, root):
    push("good", 1000)
    push("bad", 2000)
    (root / "ranking" / "1000" / "saved_model.pb").write_text("damage")


def gone(push, root):
    push("good", 1000)
    push("bad", 2000)
    (root / "ranking" / "1000" / "variables" / "index").unlink()


@pytest.mark.parametrize(
    ("prepare", "to", "part"),
    [
        (lambda push, root: None, None, "no release to return to"),
        (only_one, None, "none to return to"),
        (only_one, 500, "there is no release 500"),
        (only_one, 1000, "serves already"),
        (damaged, None, "differs from what was pushed"),
        (gone, None, "is missing"),
    ],
)
def test_what_cannot_be_returned_to_is_named(push, root, prepare, to, part):
    prepare(push, root)
    before = list_releases(root)
    with pytest.raises(PushError, match=part):
        roll_back(root, SETTINGS, to, clock=lambda: 9000)
    assert list_releases(root) == before


def test_the_origin_of_a_copy_is_what_a_run_pushed(push, root):
    push("good", 1000)
    refresh = Refresh(
        base=1000, added=1, changed=0, removed=0, fresh=1, tombstones=0, rebuilt=False
    )
    push("good with more items", 2000, refresh=refresh)
    assert origin_of(root, 2000) == 1000
    push("bad", 3000)
    assert origin_of(root, 3000) == 3000
    roll_back(root, SETTINGS, clock=lambda: 4000)
    assert origin_of(root, 4000) == 1000
    assert origin_of(root, 77) == 77  # removed since: what is known of it is its number
