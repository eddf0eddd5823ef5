"""BuildIndex: the item vectors of the catalogue as a TFX component."""

import apache_beam as beam
from tfx.dsl.component.experimental.annotations import (
    BeamComponentParameter,
    InputArtifact,
    OutputArtifact,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from components.artifacts import Catalog, ItemIndex
from components.build_index import build_vectors, sample_vectors, write_projector


@component(use_beam=True)
def BuildIndex(
    catalog: InputArtifact[Catalog],
    model: InputArtifact[standard_artifacts.Model],
    index: OutputArtifact[ItemIndex],
    projector: OutputArtifact[standard_artifacts.ModelRun],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Embeds every item of the catalogue.

    Args:
        catalog: the items that may be recommended.
        model: the retrieval model.
        index: receives the vectors.
        projector: receives the same as a TensorBoard run, or a sample of them.
        beam_pipeline: given by TFX.
    """
    model_dir = path_utils.serving_model_path(model.uri)
    build_vectors(beam_pipeline, catalog.uri, model_dir, index.uri)
    write_projector(sample_vectors(index.uri), catalog.uri, projector.uri)
