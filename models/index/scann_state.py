"""ScaNN's index as tensors: built in full by its Python binding, served by its TF ops.

Two front ends lead to the one library. The TF op's own builder refuses some settings
and trains with rounding of its own; TensorFlow Recommenders' layer on top of it leaves
anisotropic quantisation and the exact scoring of candidates off. So the index is
built through the Python binding, and what that writes is handed to the op that recreates
a searcher inside a graph: the served op then gives the binding's answers, row by row.

SOAR (two partitions for each vector) stays out: the op's input has no place for the
second codes, and it refuses or crashes on an index that has them.
"""

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

from models.index_settings import IndexSettings
from models.scann_ops import register_scann_ops

# In the order of ScaNN's `ScannState`; what has no file is of kinds of index not built
# here, or of searches scored by quantised vectors.
_PARTS = (
    ("scann_config", "scann_config.pb", tf.string),
    ("serialized_partitioner", "serialized_partitioner.pb", tf.string),
    ("datapoint_to_token", "datapoint_to_token.npy", tf.int32),
    ("ah_codebook", "ah_codebook.pb", tf.string),
    ("hashed_dataset", "hashed_dataset.npy", tf.uint8),
    ("int8_dataset", None, tf.int8),
    ("int8_multipliers", None, tf.float32),
    ("dp_norms", None, tf.float32),
)
_TRAINED_PER_LEAF = 100
_CODEBOOK_SAMPLE = 100_000


@dataclasses.dataclass(frozen=True)
class Layout:
    """What of an index is decided when it is built.

    Attributes:
        num_leaves: partitions; 0 where all codes are scanned.
        dimensions_per_block: dimensions a 4-bit code stands for.
        anisotropic_threshold: ScaNN's T.
    """

    num_leaves: int
    dimensions_per_block: int
    anisotropic_threshold: float

    @classmethod
    def of(cls, settings: IndexSettings, num_items: int) -> "Layout":
        """Returns the layout that the settings mean for so many items."""
        has_tree = num_items > settings.tree_above
        wanted = settings.num_leaves or round(num_items**0.5)
        return cls(
            min(wanted, num_items) if has_tree else 0,
            settings.dimensions_per_block,
            settings.anisotropic_threshold,
        )


def build_state(embeddings: np.ndarray, layout: Layout) -> tf.Module:
    """Builds an index over `embeddings`, [N, D] float32.

    Returns:
        state: ScaNN's `ScannState`; its `dataset` is the vectors themselves.
    """
    register_scann_ops()
    from scann.scann_ops.py import scann_ops_pybind

    num_items = len(embeddings)
    # The counts of results and candidates are given anew with every search.
    builder = scann_ops_pybind.builder(embeddings, 1, "dot_product")
    if layout.num_leaves:
        builder = builder.tree(
            num_leaves=layout.num_leaves,
            num_leaves_to_search=1,
            training_sample_size=min(num_items, _TRAINED_PER_LEAF * layout.num_leaves),
        )
    searcher = (
        builder.score_ah(
            layout.dimensions_per_block,
            anisotropic_quantization_threshold=layout.anisotropic_threshold,
            training_sample_size=min(num_items, _CODEBOOK_SAMPLE),
        )
        # Candidates are scored by the vectors as they are, so scores are exact; the
        # vectors are there anyway, for the exact search that steps in.
        .reorder(1)
        .build()
    )
    with tempfile.TemporaryDirectory(prefix="scann-") as folder:
        searcher.serialize(folder)
        return state_of(read_parts(Path(folder)), embeddings)


def read_parts(folder: Path) -> dict[str, bytes | np.ndarray]:
    """Reads what ScaNN wrote; parts that this index lacks are left out."""
    parts: dict[str, bytes | np.ndarray] = {}
    for name, file, _ in _PARTS:
        if file and (folder / file).exists():
            path = folder / file
            parts[name] = np.load(path) if path.suffix == ".npy" else path.read_bytes()
    return parts


def state_of(parts: dict[str, bytes | np.ndarray], embeddings: np.ndarray) -> tf.Module:
    """Returns the parts and the vectors as ScaNN's `ScannState`."""
    register_scann_ops()
    from scann.scann_ops.py import scann_ops

    tensors = []
    for name, _, dtype in _PARTS:
        part = parts.get(name)
        if part is None:
            # The op takes a scalar for "not there".
            tensors.append(tf.constant(b"" if dtype == tf.string else 0, dtype))
        elif isinstance(part, bytes):
            tensors.append(tf.constant([part]))
        else:
            tensors.append(tf.constant(part, dtype))
    return scann_ops.ScannState([*tensors, tf.constant(embeddings, tf.float32)])


def parts_of(state: tf.Module) -> dict[str, bytes | np.ndarray]:
    """Returns what `state_of` made the state of, without the vectors."""
    parts: dict[str, bytes | np.ndarray] = {}
    for name, _, dtype in _PARTS:
        value = getattr(state, name)
        if value.shape.rank:
            array = value.numpy()
            parts[name] = array[0] if dtype == tf.string else array
    return parts
