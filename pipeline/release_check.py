"""Checks which servers can load a release: what `tandem doctor --release` does."""

import importlib.metadata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from packaging.version import Version
from pydantic import ValidationError

from components.push_release import PushError, verify_release
from pipeline.doctor import (
    Diagnosis,
    cpu_flags,
    diagnose,
    installed_version,
    read_if_there,
)
from serving.compatibility import (
    EMBEDDED,
    Compatibility,
    Server,
    differences,
    refusals,
    server_of_image,
)
from serving.release_layout import (
    MANIFEST,
    RELEASES,
    ReleaseManifest,
    list_releases,
    read_manifest,
)
from serving.release_tables import NoReleaseError

_SERVING = "serving"  # of a root folder
_ANSWERING = ("recommender", "recommender_exact")
_PUSH_AGAIN = (
    "Push it again (`tandem run`), or return to another one by `tandem rollback`."
)


def find_release(place: Path) -> tuple[Path, int]:
    """Returns the serving root and the version of a release.

    Args:
        place: a root folder or a serving root, of which the newest is taken, or a folder
            `releases/<version>`.

    Raises:
        NoReleaseError: if there is none.
    """
    if (place / MANIFEST).is_file() and place.name.isdigit():
        return place.absolute().parent.parent, int(place.name)
    for root in (place, place / _SERVING):
        versions = list_releases(root)
        if versions:
            return root, versions[-1]
    raise NoReleaseError(
        f"No release in {place}. Give a root folder, a serving root, or a folder "
        f"`{RELEASES}/<version>` with a {MANIFEST}."
    )


def servers_of(images: Sequence[str], tensorflow: str | None) -> list[Server]:
    """Returns the servers to judge a release for.

    Args:
        images: as a person named them; none takes the usual ones.
        tensorflow: version that the release was made with, for the usual ones.

    Raises:
        ValueError: for a name that does not say what is in the image.
    """
    if not images:
        images = [EMBEDDED]
        if tensorflow is not None:
            stock = f"tensorflow/serving:{tensorflow}"
            images = [EMBEDDED, stock, f"{stock}-gpu"]
    return [
        this_machine() if image == EMBEDDED else server_of_image(image)
        for image in images
    ]


def this_machine() -> Server:
    """Returns the embedded server, as it would run here."""
    return Server(
        EMBEDDED,
        Version(importlib.metadata.version("tensorflow")),
        installed_version("scann") is not None,
        cpu_flags(read_if_there(Path("/proc/cpuinfo"))),
    )


def examine_release(
    place: Path,
    images: Sequence[str],
    report: Callable[[Diagnosis], None] = lambda diagnosis: None,
) -> list[Diagnosis]:
    """Checks a release, and which servers can load it.

    Args:
        place: see `find_release`.
        images: names of server images, see `compatibility.server_of_image`.
        report: called with each diagnosis as soon as it is known.

    Returns:
        diagnoses: one for the files, one for the manifest, one for each image.

    Raises:
        NoReleaseError: if there is no release.
        ValueError: for an image whose name does not say what is in it.
    """
    root, version = find_release(place)
    try:
        manifest = read_manifest(root, version)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or MANIFEST
        unread = f"of release {version} cannot be read: {where}: {first['msg']}"
        report(diagnosis := diagnose("manifest", False, unread, _PUSH_AGAIN))
        return [diagnosis]
    servers = servers_of(images, manifest.versions.get("tensorflow"))
    diagnoses = []
    for diagnosis in _examined(root, manifest, servers):
        report(diagnosis)
        diagnoses.append(diagnosis)
    return diagnoses


def _examined(
    root: Path, manifest: ReleaseManifest, servers: Sequence[Server]
) -> Iterator[Diagnosis]:
    yield check_files(root, manifest)
    from serving.saved_model_needs import NoSavedModelError, needs_of_release

    try:
        seen = needs_of_release(root, manifest)
    except NoSavedModelError as error:
        yield diagnose("manifest", False, str(error), _PUSH_AGAIN)
        return
    yield check_manifest(manifest, seen)
    for server in servers:
        yield check_server(seen, server)


def check_files(root: Path, manifest: ReleaseManifest) -> Diagnosis:
    """Checks each file of a release against its checksum."""
    try:
        verify_release(root, manifest)
    except PushError as error:
        return diagnose("files", False, str(error), _PUSH_AGAIN)
    seen = f"{len(manifest.files)} files of release {manifest.version} as pushed"
    return diagnose("files", True, seen, "")


def check_manifest(manifest: ReleaseManifest, seen: Compatibility) -> Diagnosis:
    """Checks that a manifest says of the models what their files say."""
    stated = manifest.compatibility
    if stated is None:
        text = "says nothing of what the models need; read from their files"
        return diagnose("manifest", True, text, "")
    wrong = differences(stated, seen)
    libraries = ", ".join(f"{name} {v}" for name, v in manifest.versions.items())
    return diagnose(
        "manifest",
        not wrong,
        "; ".join(wrong) or f"agrees with the files; made with {libraries}",
        f"The manifest and the files are of two makings. {_PUSH_AGAIN}",
    )


def check_server(needs: Compatibility, server: Server) -> Diagnosis:
    """Checks which models of a release a server can load.

    It passes where one that answers whole requests loads.
    """
    by_reason: dict[str, list[str]] = {}
    for model in needs.models:
        reason = " and ".join(refusals(needs, model, server))
        by_reason.setdefault(reason, []).append(model)
    loads = by_reason.pop("", [])
    parts = [f"loads {', '.join(loads)}" if loads else "loads nothing"]
    parts += [
        f"not {', '.join(models)}: {reason}" for reason, models in by_reason.items()
    ]
    if server.cpu_flags is None:
        flags = sorted({flag for some in needs.cpu_flags.values() for flag in some})
        parts.append(f"on a CPU with {', '.join(flags)}")
    return diagnose(
        server.name,
        any(model in loads for model in _ANSWERING),
        "; ".join(parts),
        "Take a server with at least the TensorFlow that wrote the models; for "
        "`recommender` with ScaNN's ops, one that is built with them (docs/serving.md), "
        "or ask `recommender_exact`.",
    )
