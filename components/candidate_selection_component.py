"""SelectCandidates: what may be recommended, as a TFX component."""

from absl import logging
from apache_beam.io.filesystems import FileSystems
from tfx.dsl.component.experimental.annotations import (
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component

from components.artifacts import CandidateSelection, Catalog, IngestionSummary
from components.candidate_selection import SELECTION_FILE, write_candidates
from components.candidate_selection_settings import CandidateSettings
from components.ingestion import output
from components.ingestion.summary import Summary


@component
def SelectCandidates(
    catalog: InputArtifact[Catalog],
    summary: InputArtifact[IngestionSummary],
    candidates: OutputArtifact[Catalog],
    selection: OutputArtifact[CandidateSelection],
    settings_json: Parameter[str],
    candidates_fingerprint: Parameter[str],
) -> None:
    """Writes the catalogue of the items that may be recommended.

    Args:
        catalog: every item.
        summary: of IngestEvents; says when the newest event was.
        candidates: receives the items that every rule lets through.
        selection: receives how many items each rule removed.
        settings_json: a `CandidateSettings`.
        candidates_fingerprint: of the deny list. Read by nobody here: TFX reuses a
            cached result only where all parameters are equal.
    """
    del candidates_fingerprint
    with FileSystems.open(FileSystems.join(summary.uri, "summary.json")) as handle:
        ingested = Summary.model_validate_json(handle.read())
    result = write_candidates(
        catalog.uri,
        candidates.uri,
        CandidateSettings.model_validate_json(settings_json),
        ingested.split_times.last,
    )
    candidates.set_int_custom_property("num_items", result.selected)
    output.write_text(
        FileSystems.join(selection.uri, SELECTION_FILE),
        result.model_dump_json(indent=2) + "\n",
    )
    logging.info("%d of %d items may be recommended", result.selected, result.items)
