"""What a release keeps of its making, so that its items can be refreshed without a run.

    parts/export.json            the `ExportSettings` of its models
    parts/transform_graph/       as Transform left it
    parts/candidates/            a `Catalog`: the items that it may recommend
    parts/vectors/               an `ItemIndex`: their vectors
    parts/main/                  where the index is approximate: it, as it was built, and
                                 the ids of its rows; items may have come and gone since
    parts/requests.tfrecord.gz   rows of test users, to try another version with

The towers and the ranker are not here: they are in the models `retrieval` and `ranking`.
"""

import dataclasses
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from components.build_index import ItemVectors, read_vectors, write_vectors
from components.catalog_files import ITEMS_EXAMPLES, ITEMS_TABLE
from components.export_recommender import ExportSettings, IndexedItems, ReleaseIndex
from components.ingestion import output
from components.read_examples import read_serialized
from models.index import ExactIndex, ScannIndex
from serving.release_layout import PARTS

_EXPORT = "export.json"
_TRANSFORM = "transform_graph"
_CANDIDATES = "candidates"
_VECTORS = "vectors"
_MAIN, _INDEX, _IDS = "main", "index", "item_ids.json"
_REQUESTS = "requests.tfrecord.gz"


@dataclasses.dataclass(frozen=True)
class ReleaseParts:
    """The parts in a folder; what is large is read when it is asked for."""

    folder: Path

    @property
    def transform_uri(self) -> str:
        """Folder of the transform graph."""
        return str(self.folder / _TRANSFORM)

    @property
    def candidates_uri(self) -> str:
        """Folder of the `Catalog` of what may be recommended."""
        return str(self.folder / _CANDIDATES)

    def settings(self) -> ExportSettings:
        """Returns what the models were exported with."""
        text = (self.folder / _EXPORT).read_text()
        return ExportSettings.model_validate_json(text)

    def vectors(self) -> ItemVectors:
        """Returns the candidates' vectors."""
        return read_vectors(str(self.folder / _VECTORS))

    def main(self) -> IndexedItems:
        """Returns the index as it was built, and what it was built from."""
        folder = self.folder / _MAIN
        if not folder.is_dir():
            vectors = self.vectors()
            return IndexedItems(vectors, ExactIndex(vectors.embeddings))
        index = ScannIndex.read(folder / _INDEX)
        item_ids = json.loads((folder / _IDS).read_text())
        return IndexedItems(ItemVectors(item_ids, index.embeddings.numpy()), index)

    def requests(self) -> np.ndarray:
        """Returns [n] serialized tf.Examples of users."""
        return read_serialized([str(self.folder / _REQUESTS)])


def parts_of_bundle(bundle: Path) -> ReleaseParts:
    """Returns the place of the parts in a bundle that is to become a release."""
    return ReleaseParts(bundle / PARTS)


def write_parts(
    parts: ReleaseParts,
    settings: ExportSettings,
    transform_uri: str,
    candidates_uri: str,
    vectors: ItemVectors,
    index: ReleaseIndex,
    requests: Sequence[bytes],
    base: ReleaseParts | None = None,
) -> None:
    """Writes the parts of a release.

    Args:
        parts: where; the folder must not exist.
        settings: what the models are exported with.
        transform_uri: of the transform graph.
        candidates_uri: of the `Catalog` that the index was made of.
        vectors: the candidates'.
        index: what they are searched with.
        requests: serialized tf.Examples of users.
        base: parts that hold `index.main` already.
    """
    parts.folder.mkdir(parents=True)
    (parts.folder / _EXPORT).write_text(settings.model_dump_json(indent=1) + "\n")
    shutil.copytree(transform_uri, parts.transform_uri)
    Path(parts.candidates_uri).mkdir()
    for name in (ITEMS_TABLE, ITEMS_EXAMPLES):
        shutil.copy(Path(candidates_uri) / name, Path(parts.candidates_uri) / name)
    write_vectors(vectors, str(parts.folder / _VECTORS))
    main = parts.folder / _MAIN
    if index.is_reused and base is not None:
        # The same bytes under another name; a push copies them.
        shutil.copytree(base.folder / _MAIN, main, copy_function=_link_or_copy)
    elif not index.main.index.is_exact:
        index.main.index.write(main / _INDEX)
        (main / _IDS).write_text(json.dumps(index.main.vectors.item_ids))
    output.write_records(
        str(parts.folder / _REQUESTS), pa.array(list(requests), pa.binary())
    )


def _link_or_copy(source: str, target: str) -> None:
    """Gives a file another name; where that is on another file system, copies it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
