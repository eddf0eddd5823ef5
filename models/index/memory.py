"""What an index will weigh, known before it is built."""

import dataclasses

from models.index.scann_state import Layout
from models.index_settings import IndexSettings

_CODES = 16  # values of a 4-bit code
_FLOAT, _DOUBLE, _ROW = 4, 8, 4
_CENTROID_OVERHEAD = 20  # of one message in ScaNN's file of partitions
_CODE_OVERHEAD = 6  # of one message in its codebook


@dataclasses.dataclass(frozen=True)
class IndexMemory:
    """Bytes of an index by part, as a SavedModel holds it.

    Attributes:
        vectors: the item vectors, float32.
        codes: a byte for each code of each item.
        codebook: what the codes stand for.
        centroids: of the partitions, in float64.
        lists: the partition of each item.
    """

    vectors: int
    codes: int = 0
    codebook: int = 0
    centroids: int = 0
    lists: int = 0

    @property
    def total(self) -> int:
        return sum(dataclasses.astuple(self))

    def __str__(self) -> str:
        parts = ", ".join(
            f"{name} {size / 1e6:,.1f}"
            for name, size in dataclasses.asdict(self).items()
            if size
        )
        return f"{self.total / 1e6:,.1f} MB ({parts})"


def estimate_memory(
    num_items: int, dim: int, settings: IndexSettings, is_exact: bool
) -> IndexMemory:
    """Returns what an index of [num_items, dim] vectors takes.

    Args:
        num_items: N.
        dim: D.
        settings: how it is built.
        is_exact: whether it holds nothing but the vectors.
    """
    vectors = _FLOAT * num_items * dim
    if is_exact:
        return IndexMemory(vectors)
    layout = Layout.of(settings, num_items)
    num_blocks = -(-dim // layout.dimensions_per_block)
    code = _FLOAT * layout.dimensions_per_block + _CODE_OVERHEAD
    return IndexMemory(
        vectors,
        codes=num_items * num_blocks,
        codebook=_CODES * num_blocks * code,
        centroids=layout.num_leaves * (_DOUBLE * dim + _CENTROID_OVERHEAD),
        lists=_ROW * num_items if layout.num_leaves else 0,
    )
