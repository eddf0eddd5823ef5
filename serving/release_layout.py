"""The layout of a serving root: where a release's models, tables and manifest lie.

    <root>/<model>/<version>/saved_model.pb    one folder per model and version
    <root>/models.config                       and batching.config, monitoring.config
    <root>/releases/<version>/manifest.json    items.parquet, profiles/*.parquet
    <root>/releases/<version>/parts/           what a refresh of its items needs

A release is one version number for all its models. It exists once its folder under
`releases` does; that rename is the last step of a push.
"""

import hashlib
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from serving.compatibility import Compatibility

MODELS = ("recommender", "recommender_exact", "retrieval", "ranking")
MEMORY_MODEL = "memory"
OPTIONAL_MODELS = (MEMORY_MODEL,)  # of a release whose ranker keeps memories of users
RELEASES = "releases"
MANIFEST = "manifest.json"
ITEMS = "items.parquet"
PROFILES = "profiles"  # a folder of Parquet files, one a shard of the ingestion
PARTS = "parts"  # absent where a release cannot be refreshed


class FileChecksum(BaseModel):
    """One file of a release."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str
    num_bytes: int


class Refresh(BaseModel):
    """What a refresh changed of the release that it started from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: int  # version of that release
    added: int  # items that may be recommended now
    changed: int  # items with other features
    removed: int  # items that may not be recommended any more
    fresh: int  # items searched beside the index as it was built
    tombstones: int  # items of that index that are passed over
    rebuilt: bool  # whether an approximate index was built anew


class Rollback(BaseModel):
    """Which release was taken back by one that is an earlier one's copy."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    of: int  # version that was taken back
    to: int  # version whose files this one has
    reason: str
    content: str  # digest of the files that were taken back


class ReleaseManifest(BaseModel):
    """What a release consists of."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int
    created: str  # ISO 8601, UTC
    models: tuple[str, ...]
    files: dict[str, FileChecksum]  # path relative to the serving root
    versions: dict[str, str]  # of the libraries the models were exported with
    gates: dict[str, dict[str, str]]  # what each gate saw: gate -> check -> seen
    refresh: Refresh | None = None  # of a release that a refresh made
    rollback: Rollback | None = None  # of a release that took another one back
    compatibility: Compatibility | None = None  # None in those of before it was stated


def models_of(folder: Path) -> tuple[str, ...]:
    """Returns the models of a release, of which `folder` holds the optional ones."""
    found = [m for m in OPTIONAL_MODELS if (folder / m / "saved_model.pb").is_file()]
    return (*MODELS, *found)


def release_dir(root: Path, version: int) -> Path:
    """Returns the folder of a release's manifest and tables."""
    return root / RELEASES / str(version)


def model_dir(root: Path, model: str, version: int) -> Path:
    """Returns the folder of one model of a release."""
    return root / model / str(version)


def read_manifest(root: Path, version: int) -> ReleaseManifest:
    """Reads the manifest of a release."""
    path = release_dir(root, version) / MANIFEST
    return ReleaseManifest.model_validate_json(path.read_text())


def content_of(manifest: ReleaseManifest) -> str:
    """Returns a digest of a release's files, whatever its version."""
    digest = hashlib.sha256()
    for place in sorted(manifest.files):
        name = place.replace(f"/{manifest.version}/", "/", 1)
        digest.update(f"{name} {manifest.files[place].sha256}\n".encode())
    return digest.hexdigest()


def list_releases(root: Path) -> list[int]:
    """Returns the versions of the complete releases under a root, oldest first."""
    return sorted(
        int(path.parent.name)
        for path in (root / RELEASES).glob(f"*/{MANIFEST}")
        if path.parent.name.isascii() and path.parent.name.isdigit()
    )
