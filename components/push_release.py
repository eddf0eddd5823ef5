"""Pushes a release into a serving root: all of its models together, or none.

Everything is copied into a staging folder on the same file system and verified there;
then each model's folder is renamed into place, and last the release's own folder, whose
appearance is what makes the release exist. A push that fails takes back what it
renamed; one that is killed is taken back by the next push, since its staging folder,
which carries the version, is still there.
"""

import contextlib
import datetime
import fcntl
import hashlib
import importlib.metadata
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from components.push_settings import PushSettings
from components.server_configs import CONFIGS, server_configs
from serving.compatibility import Compatibility
from serving.release_layout import (
    ITEMS,
    MANIFEST,
    MODELS,
    OPTIONAL_MODELS,
    PARTS,
    PROFILES,
    RELEASES,
    FileChecksum,
    Refresh,
    ReleaseManifest,
    Rollback,
    content_of,
    list_releases,
    model_dir,
    models_of,
    read_manifest,
    release_dir,
)

_STAGING = ".push-"  # + version: a push under way, or one that was killed
_PRUNING = ".prune-"  # + version: a release being removed
_LOCK = ".push.lock"
_BEFORE = "before-"  # + name: a config that a push replaced, while it may be taken back
_ALL_MODELS = (*MODELS, *OPTIONAL_MODELS)
_CHUNK = 1 << 20
_NOTED_PACKAGES = ("tensorflow", "scann", "tensorflow-transform", "tfx")


class PushError(Exception):
    """A release that could not be pushed; nothing of it is left in the serving root."""


def push_release(
    bundle: Path,
    catalog: Path,
    profiles: Path,
    serving_root: Path,
    settings: PushSettings,
    *,
    versions: dict[str, str] | None = None,
    gates: dict[str, dict[str, str]] | None = None,
    refresh: Refresh | None = None,
    rollback: Rollback | None = None,
    compatibility: Compatibility | None = None,
    clock: Callable[[], float] = time.time,
) -> ReleaseManifest:
    """Pushes a release.

    Args:
        bundle: folder with one SavedModel per model of `release_layout.MODELS`, those
            of `OPTIONAL_MODELS` that the release has, and the parts that a refresh needs.
        catalog: folder with `items.parquet`.
        profiles: folder of Parquet files.
        serving_root: made if missing; on a local file system.
        settings: what to keep, what to tell the model server.
        versions: library versions to note in the manifest.
        gates: what each gate it passed saw, to note in the manifest.
        refresh: where the release is another one's with other items, what changed; the
            newest release must still be that one.
        rollback: where the release takes another one back, which; that must still be
            the newest.
        compatibility: what the models need of a server, to note in the manifest.
        clock: seconds since the epoch; the version number comes from it.

    Returns:
        The manifest, as written to `releases/<version>/manifest.json`. Where the newest
        release is the same in every file, that one's: nothing is pushed twice.

    Raises:
        PushError: if the bundle is incomplete, a step fails, there is a newer release
            than the one refreshed or taken back, or the very same files were taken back.
            The serving root is then as it was before.
    """
    _check_complete(bundle, catalog, profiles)
    serving_root.mkdir(parents=True, exist_ok=True)
    with _only_one(serving_root):
        _recover(serving_root)
        if refresh is not None:
            _check_newest(serving_root, refresh.base)
        if rollback is not None:
            _check_newest(serving_root, rollback.of)
        if (same := _same_release(bundle, catalog, profiles, serving_root)) is not None:
            return same
        version = _next_version(serving_root, clock())
        created = datetime.datetime.fromtimestamp(clock(), datetime.UTC)
        try:
            files = _stage(bundle, catalog, profiles, serving_root, version)
            manifest = ReleaseManifest(
                version=version,
                created=created.isoformat(timespec="seconds"),
                models=models_of(bundle),
                files=files,
                versions=versions or {},
                gates=gates or {},
                refresh=refresh,
                rollback=rollback,
                compatibility=compatibility,
            )
            if rollback is None:
                _check_not_taken_back(serving_root, manifest)
            staging = _staging(serving_root, version)
            text = manifest.model_dump_json(indent=1) + "\n"
            _write_durably(staging / "release" / MANIFEST, text)
            configs = server_configs(serving_root, settings, manifest.models)
            for name, config in configs.items():
                _write_durably(staging / name, config)
            _publish(serving_root, version)
        except BaseException as error:
            _take_back(serving_root, version)
            if isinstance(error, OSError):
                raise PushError(f"release {version} was not pushed: {error}") from error
            raise
        for old in list_releases(serving_root)[: -settings.keep_releases]:
            _prune(serving_root, old)
    return manifest


def library_versions() -> dict[str, str]:
    """Returns the versions that a manifest notes."""
    return {name: importlib.metadata.version(name) for name in _NOTED_PACKAGES}


def verify_release(serving_root: Path, manifest: ReleaseManifest) -> None:
    """Checks every file of a pushed release against its checksum.

    Raises:
        PushError: naming the first file that is missing or differs.
    """
    for name, checksum in manifest.files.items():
        path = serving_root / name
        if not path.is_file():
            raise PushError(f"`{name}` of release {manifest.version} is missing")
        if _checksum(path) != checksum:
            raise PushError(
                f"`{name}` of release {manifest.version} differs from what was pushed"
            )


def _check_complete(bundle: Path, catalog: Path, profiles: Path) -> None:
    needed = [bundle / model / "saved_model.pb" for model in MODELS]
    for path in [*needed, catalog / ITEMS]:
        if not path.is_file():
            raise PushError(f"the release is incomplete: `{path}` is missing")
    if not any(profiles.glob("*.parquet")):
        raise PushError(f"the release is incomplete: no profiles in `{profiles}`")


def _check_newest(serving_root: Path, base: int) -> None:
    newest = max(list_releases(serving_root), default=None)
    if newest != base:
        raise PushError(
            f"release {base} was the newest, but {newest} is by now; start from that one"
        )


def _check_not_taken_back(serving_root: Path, manifest: ReleaseManifest) -> None:
    for version in list_releases(serving_root):
        taken_back = read_manifest(serving_root, version).rollback
        if taken_back and taken_back.content == content_of(manifest):
            raise PushError(
                f"these are the files of release {taken_back.of}, which was taken back "
                f"({taken_back.reason or 'no reason given'}); change the config or the log, "
                f"or return to it by `tandem rollback --to {taken_back.of}`"
            )


@contextlib.contextmanager
def _only_one(serving_root: Path) -> Iterator[None]:
    """Holds the root's lock; the system frees it if this process dies."""
    with (serving_root / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PushError(
                f"another push into `{serving_root}` is under way; wait for its end"
            ) from None
        yield


def _next_version(serving_root: Path, now: float) -> int:
    """Returns the time in seconds, or more if a model already has that version."""
    taken = [
        int(folder.name)
        for parent in (*_ALL_MODELS, RELEASES)
        for folder in (serving_root / parent).glob("*")
        if folder.name.isascii() and folder.name.isdigit()
    ]
    return max(int(now), max(taken, default=0) + 1)


def _sources(
    bundle: Path, catalog: Path, profiles: Path, version: int
) -> Iterator[tuple[Path, str]]:
    """Yields each file of a release and its place relative to the serving root."""
    for model in models_of(bundle):
        for source in sorted((bundle / model).rglob("*")):
            if source.is_file():
                name = source.relative_to(bundle / model)
                yield source, str(model_dir(Path(), model, version) / name)
    release = release_dir(Path(), version)
    yield catalog / ITEMS, str(release / ITEMS)
    for source in sorted(profiles.glob("*.parquet")):
        yield source, str(release / PROFILES / source.name)
    for source in sorted((bundle / PARTS).rglob("*")):
        if source.is_file():
            yield source, str(release / PARTS / source.relative_to(bundle / PARTS))


def _same_release(
    bundle: Path, catalog: Path, profiles: Path, serving_root: Path
) -> ReleaseManifest | None:
    """Returns the newest release's manifest if it consists of the very same files."""
    releases = list_releases(serving_root)
    if not releases:
        return None
    manifest = read_manifest(serving_root, releases[-1])
    files = {
        place: _checksum(source)
        for source, place in _sources(bundle, catalog, profiles, manifest.version)
    }
    return manifest if files == manifest.files else None


def _stage(
    bundle: Path, catalog: Path, profiles: Path, serving_root: Path, version: int
) -> dict[str, FileChecksum]:
    """Copies everything into the staging folder and returns the checksums."""
    staging = _staging(serving_root, version)
    files = {}
    for source, place in _sources(bundle, catalog, profiles, version):
        # A model's files lie under its name while staged, the tables under `release`.
        folder, name = place.split(f"/{version}/")
        folder = "release" if folder == RELEASES else folder
        files[place] = _copy_verified(source, staging / folder / name)
    return files


def _publish(serving_root: Path, version: int) -> None:
    """Renames each model into place, and the release itself last."""
    staging = _staging(serving_root, version)
    # `recommender` comes last of the models: it is the one that traffic asks.
    for model in reversed(models_of(staging)):
        _rename(staging / model, model_dir(serving_root, model, version))
    for name in CONFIGS:
        if (serving_root / name).exists():
            os.link(serving_root / name, staging / f"{_BEFORE}{name}")
        os.replace(staging / name, serving_root / name)
    _rename(staging / "release", release_dir(serving_root, version))
    _remove(staging)


def _rename(source: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    os.rename(source, target)
    _sync(target.parent)


def _take_back(serving_root: Path, version: int) -> None:
    """Removes what a failed push left; the staging folder last, as it is the record.

    What had been renamed is renamed back first, so that no model server ever finds a
    half-deleted model.
    """
    staging = _staging(serving_root, version)
    staging.mkdir(exist_ok=True)
    for name in CONFIGS:
        # The release before may have had other models.
        if (staging / f"{_BEFORE}{name}").exists():
            os.replace(staging / f"{_BEFORE}{name}", serving_root / name)
    _move_out(serving_root, version, staging)
    if not list_releases(serving_root):
        for name in CONFIGS:
            (serving_root / name).unlink(missing_ok=True)
    _remove(staging)


def _prune(serving_root: Path, version: int) -> None:
    """Removes a whole release; a killed removal is finished by the next push."""
    trash = serving_root / f"{_PRUNING}{version}"
    trash.mkdir(exist_ok=True)
    _move_out(serving_root, version, trash)
    _remove(trash)


def _move_out(serving_root: Path, version: int, target: Path) -> None:
    """Moves whatever a version has in place into `target`, the release itself first."""
    places = {"release": release_dir(serving_root, version)}
    places |= {model: model_dir(serving_root, model, version) for model in _ALL_MODELS}
    for name, place in places.items():
        if place.exists():
            os.rename(place, target / name)
        with contextlib.suppress(OSError):  # not empty, or never made
            place.parent.rmdir()


def _recover(serving_root: Path) -> None:
    """Takes back pushes and finishes removals that were killed midway."""
    for folder in serving_root.glob(f"{_STAGING}[0-9]*"):
        version = int(folder.name.removeprefix(_STAGING))
        if release_dir(serving_root, version).exists():
            _remove(folder)  # killed after its last rename: the release stands
        else:
            _take_back(serving_root, version)
    for folder in serving_root.glob(f"{_PRUNING}[0-9]*"):
        _prune(serving_root, int(folder.name.removeprefix(_PRUNING)))


def _staging(serving_root: Path, version: int) -> Path:
    return serving_root / f"{_STAGING}{version}"


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _copy_verified(source: Path, target: Path) -> FileChecksum:
    """Copies a file, reads the copy back and compares it with what was read."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    num_bytes = 0
    with source.open("rb") as reader, target.open("wb") as writer:
        while chunk := reader.read(_CHUNK):
            digest.update(chunk)
            num_bytes += writer.write(chunk)
        writer.flush()
        os.fsync(writer.fileno())
    expected = FileChecksum(sha256=digest.hexdigest(), num_bytes=num_bytes)
    if _checksum(target) != expected:
        raise PushError(
            f"the copy of `{source}` differs from it; check the disk of `{target}`"
        )
    return expected


def _checksum(path: Path) -> FileChecksum:
    with path.open("rb") as reader:
        digest = hashlib.file_digest(reader, "sha256")
    return FileChecksum(sha256=digest.hexdigest(), num_bytes=path.stat().st_size)


def _write_durably(path: Path, text: str) -> None:
    with path.open("w") as writer:
        writer.write(text)
        writer.flush()
        os.fsync(writer.fileno())


def _sync(folder: Path) -> None:
    """Makes a rename in the folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
