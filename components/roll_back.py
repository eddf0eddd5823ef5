"""Takes a release back: an earlier one is pushed again, under a new version.

A model server that serves the latest version needs to know nothing of it, and a request
meets no gap. What was taken back is remembered by its content: a run that comes to the
same files, from the cache say, does not push them again.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from components.push_release import PushError, push_release, verify_release
from components.push_settings import PushSettings
from serving.release_layout import (
    MODELS,
    OPTIONAL_MODELS,
    PARTS,
    PROFILES,
    ReleaseManifest,
    Rollback,
    content_of,
    list_releases,
    model_dir,
    read_manifest,
    release_dir,
)


def roll_back(
    serving_root: Path,
    settings: PushSettings,
    to: int | None = None,
    reason: str = "",
    clock: Callable[[], float] = time.time,
) -> ReleaseManifest:
    """Returns to an earlier release.

    Args:
        serving_root: holds the releases.
        settings: of the push.
        to: version to return to; None takes the newest with other content than what
            serves now.
        reason: is noted in the manifest.
        clock: seconds since the epoch.

    Returns:
        The manifest of the new release, whose files are those of the earlier one.

    Raises:
        PushError: if there is no such release, it is what serves already, or a file of
            it is not as it was pushed.
    """
    releases = list_releases(serving_root)
    if not releases:
        raise PushError(f"`{serving_root}` has no release to return to")
    newest = read_manifest(serving_root, releases[-1])
    if to is None:
        to = _earlier(serving_root, releases, newest)
    if to not in releases:
        raise PushError(
            f"there is no release {to} in `{serving_root}`; there are {releases}"
        )
    target = read_manifest(serving_root, to)
    if content_of(target) == content_of(newest):
        raise PushError(f"release {to} is what serves already, as {newest.version}")
    verify_release(serving_root, target)
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder)
        for model in (*MODELS, *OPTIONAL_MODELS):
            source = model_dir(serving_root, model, to).absolute()
            if source.exists():
                (bundle / model).symlink_to(source)
        tables = release_dir(serving_root, to).absolute()
        if (tables / PARTS).exists():
            (bundle / PARTS).symlink_to(tables / PARTS)
        return push_release(
            bundle,
            tables,
            tables / PROFILES,
            serving_root,
            settings,
            versions=target.versions,
            gates=target.gates,
            rollback=Rollback(
                of=newest.version, to=to, reason=reason, content=content_of(newest)
            ),
            compatibility=target.compatibility,
            clock=clock,
        )


def origin_of(serving_root: Path, version: int) -> int:
    """Returns the release that a run pushed, of which this one is a copy or a refresh.

    Args:
        serving_root: holds the releases.
        version: of a release there.
    """
    kept = set(list_releases(serving_root))
    while version in kept:
        manifest = read_manifest(serving_root, version)
        if manifest.rollback is not None:
            version = manifest.rollback.to
        elif manifest.refresh is not None:
            version = manifest.refresh.base
        else:
            break
    return version


def _earlier(serving_root: Path, releases: list[int], newest: ReleaseManifest) -> int:
    for version in reversed(releases[:-1]):
        manifest = read_manifest(serving_root, version)
        is_taken_back = newest.rollback and version == newest.rollback.of
        if content_of(manifest) != content_of(newest) and not is_taken_back:
            return version
    raise PushError(
        f"release {newest.version} is the only one in `{serving_root}` that has not been "
        "taken back; there is none to return to"
    )
