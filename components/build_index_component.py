"""BuildIndex: the item vectors of the catalogue as a TFX component."""

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from components.artifacts import Catalog, ItemIndex
from components.build_index import embed_catalogue, write_projector, write_vectors


@component
def BuildIndex(
    catalog: InputArtifact[Catalog],
    model: InputArtifact[standard_artifacts.Model],
    index: OutputArtifact[ItemIndex],
    projector: OutputArtifact[standard_artifacts.ModelRun],
) -> None:
    """Embeds every item of the catalogue.

    Args:
        catalog: the items.
        model: the retrieval model.
        index: receives the vectors.
        projector: receives the same as a TensorBoard run.
    """
    vectors = embed_catalogue(catalog.uri, path_utils.serving_model_path(model.uri))
    write_vectors(vectors, index.uri)
    write_projector(vectors, catalog.uri, projector.uri)
