"""ValidateServing: the serving gate as a TFX component."""

from pathlib import Path

import pyarrow.parquet as pq
from absl import logging
from tfx.dsl.component.experimental.annotations import (
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component

from components.artifacts import Catalog, GateReport, ReleaseBundle
from components.gate_file import publish_gate
from components.validate_serving import ServingValidationSettings, validate_serving


@component
def ValidateServing(
    bundle: InputArtifact[ReleaseBundle],
    catalog: InputArtifact[Catalog],
    report: OutputArtifact[GateReport],
    settings_json: Parameter[str],
) -> None:
    """Blesses a release that serves well, or says in `report` why not.

    Args:
        bundle: the models and their recorded answers.
        catalog: every item the release may recommend.
        report: `gate.json` and the custom property `blessed`.
        settings_json: a `ServingValidationSettings`.
    """
    items = pq.read_table(Path(catalog.uri) / "items.parquet", columns=["item_id"])
    result = validate_serving(
        Path(bundle.uri),
        items.column("item_id").to_pylist(),
        ServingValidationSettings.model_validate_json(settings_json),
    )
    publish_gate(result, report)
    logging.info("%s", result.reason)
