"""IngestEvents: the ingestion as a TFX component, in ExampleGen's place."""

import apache_beam as beam
from tfx.components.util import examples_utils
from tfx.dsl.component.experimental.annotations import (
    BeamComponentParameter,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, standard_artifacts

from components.artifacts import Catalog, DeadLetters, IngestionSummary, Profiles
from components.ingestion.output import OutputPaths
from components.ingestion.pipeline import ingest
from components.ingestion.settings import DataSettings
from schemas.events import SPLITS
from schemas.features import FeatureCatalog


@component(use_beam=True)
def IngestEvents(
    interactions: OutputArtifact[standard_artifacts.Examples],
    impressions: OutputArtifact[standard_artifacts.Examples],
    catalog: OutputArtifact[Catalog],
    profiles: OutputArtifact[Profiles],
    dead_letters: OutputArtifact[DeadLetters],
    summary: OutputArtifact[IngestionSummary],
    settings_json: Parameter[str],
    catalog_json: Parameter[str],
    input_fingerprint: Parameter[str],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Turns the service's log into checked training rows.

    Args:
        interactions: positives, what retrieval learns from.
        impressions: rows with a label, what the ranker learns from.
        catalog: every item.
        profiles: every user's latest history and features.
        dead_letters: what was not accepted, and why.
        summary: the account.
        settings_json: a `DataSettings`.
        catalog_json: a `FeatureCatalog`.
        input_fingerprint: `sources.input_fingerprint` of the settings. Read by nobody
            here: TFX reuses a cached result only where all parameters are equal, and
            the data behind a path can change.
        beam_pipeline: given by TFX.
    """
    del input_fingerprint
    outputs = OutputPaths(
        interactions=interactions.uri,
        impressions=impressions.uri,
        catalog=catalog.uri,
        profiles=profiles.uri,
        dead_letters=dead_letters.uri,
        summary=summary.uri,
    )
    result = ingest(
        beam_pipeline,
        DataSettings.model_validate_json(settings_json),
        FeatureCatalog.model_validate_json(catalog_json),
        outputs,
    )
    for examples in (interactions, impressions):
        examples.split_names = artifact_utils.encode_split_names(list(SPLITS))
        examples.span = 0
        examples_utils.set_payload_format(
            examples, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE
        )
        examples_utils.set_file_format(examples, "tfrecords_gzip")
    catalog.set_int_custom_property("num_items", result.items)
    dead_letters.set_int_custom_property(
        "count", sum(source.dead_letters for source in result.sources.values())
    )
