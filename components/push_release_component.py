"""PushRelease: the atomic push as a TFX component."""

import shutil
from pathlib import Path

from absl import logging
from tfx.dsl.component.experimental.annotations import (
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts

from components.artifacts import Catalog, GateReport, Profiles, Release, ReleaseBundle
from components.gate_file import read_gate
from components.push_release import PushError, library_versions, push_release
from components.push_settings import PushSettings
from models.retrieval.checkpoint import CHECKPOINT
from serving.release_layout import MANIFEST, release_dir
from serving.saved_model_needs import needs_of_bundle

_COMPARED_MODELS = ("retrieval", "ranking")  # by the next run's gates


@component
def PushRelease(
    bundle: InputArtifact[ReleaseBundle],
    retrieval_model: InputArtifact[standard_artifacts.Model],
    catalog: InputArtifact[Catalog],
    profiles: InputArtifact[Profiles],
    validation: InputArtifact[GateReport],
    release: OutputArtifact[Release],
    serving_root: Parameter[str],
    newest_release: Parameter[str],
    span: Parameter[str],
    settings_json: Parameter[str],
) -> None:
    """Pushes a validated release into the serving root.

    Args:
        bundle: the models.
        retrieval_model: its checkpoint is what a later span continues from.
        catalog: the items, for whoever shows titles.
        profiles: the users, for whoever serves by user id.
        validation: the serving gate's answer, which must be a pass.
        release: the manifest, copies of `retrieval` and `ranking`, the checkpoint, and,
            as custom properties, the version and the span.
        serving_root: where model servers look, on a local file system.
        newest_release: what the serving root holds. Read by nobody here: TFX reuses a
            cached result only where all parameters are equal, and a serving root can
            be emptied.
        span: the one that the models were tested on; "" where the log was split by
            shares.
        settings_json: a `PushSettings`.
    """
    del newest_release
    gate = read_gate(validation.uri)
    if not gate.passed:
        # The pipeline's condition keeps this from running; were it ever forgotten, a
        # refused release must still not reach the servers.
        raise PushError(f"a refused release cannot be pushed. {gate.reason}")
    root = Path(serving_root)
    manifest = push_release(
        Path(bundle.uri),
        Path(catalog.uri),
        Path(profiles.uri),
        root,
        PushSettings.model_validate_json(settings_json),
        versions=library_versions(),
        gates={gate.gate: {check.name: check.seen for check in gate.checks}},
        compatibility=needs_of_bundle(Path(bundle.uri)),
    )
    shutil.copy(release_dir(root, manifest.version) / MANIFEST, release.uri)
    for model in _COMPARED_MODELS:
        shutil.copytree(Path(bundle.uri) / model, Path(release.uri) / model)
    shutil.copytree(
        Path(retrieval_model.uri) / CHECKPOINT, Path(release.uri) / CHECKPOINT
    )
    release.set_int_custom_property("version", manifest.version)
    release.set_string_custom_property("span", span)
    logging.info("release %d is in %s", manifest.version, serving_root)
