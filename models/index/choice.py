"""Which index a catalogue gets: by its size, and by measured speed where sizes are near.

Below `exact_below` items a product with every item costs little; up to `tree_above`
a scan of all codes does; above, partitions pay. Where a catalogue is within a factor of
two of such a bound and there are queries to measure with, both sides of it are built
and the faster one that reaches the recall target is taken.
"""

import dataclasses
import statistics
import time
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from models.index.exact_index import ExactIndex
from models.index.interface import Index, check_embeddings
from models.index.memory import IndexMemory, estimate_memory
from models.index.recall import in_batches
from models.index.scann_index import ScannIndex
from models.index.tuning import TUNED_K, IndexTuningError, Tuning, tune_index
from models.index_settings import IndexKind, IndexSettings

_NEAR = 2.0  # a factor
_BATCH = 64
_ROUNDS = 3


@dataclasses.dataclass(frozen=True)
class BuiltIndex:
    """An index and how it came to be.

    Attributes:
        index: searches the rows it was built of.
        memory: what it was estimated to take before it was built.
        tuning: None where nothing was tuned.
        reason: why this kind of index, in a sentence.
    """

    index: Index
    memory: IndexMemory
    tuning: Tuning | None
    reason: str


def build_index(
    embeddings: np.ndarray, settings: IndexSettings | None = None
) -> ExactIndex | ScannIndex:
    """Builds the index that the settings name, or that the catalogue's size suggests.

    Args:
        embeddings: [N, D] float32, finite, N >= 1.
        settings: None takes the defaults.

    Returns:
        index: searches the rows of `embeddings`.
    """
    settings = settings or IndexSettings()
    if _is_exact_by_size(len(embeddings), settings):
        return ExactIndex(embeddings)
    return ScannIndex(embeddings, settings)


def build_tuned_index(
    embeddings: np.ndarray,
    queries: np.ndarray,
    settings: IndexSettings | None = None,
    block_sizes: Sequence[int] = (),
    k: int = TUNED_K,
) -> BuiltIndex:
    """Builds the fastest index that reaches the recall target.

    Args:
        embeddings: [N, D] float32, finite, N >= 1.
        queries: [Q, D] float32, of queries held out from training. Where Q is 0,
            nothing is tuned, and the size alone decides.
        settings: None takes the defaults.
        block_sizes: of ScaNN's codes, each of which is a build of its own to compare;
            by default the settings' `dimensions_per_block` alone.
        k: results that a search is asked for; recall is measured at that.

    Raises:
        IndexTuningError: if no approximate search reaches the target and the settings
            ask for one, or the catalogue is far too large for an exact one.
    """
    check_embeddings(embeddings)
    settings = settings or IndexSettings()
    if len(queries) == 0:
        index = build_index(embeddings, settings)
        memory = estimate_memory(*embeddings.shape, settings, index.is_exact)
        return BuiltIndex(index, memory, None, "by its size; no queries to tune on")
    candidates = candidate_settings(len(embeddings), settings, block_sizes)
    built, refused = [], []
    for candidate in candidates:
        try:
            built.append(_built(embeddings, queries, candidate, k))
        except IndexTuningError as error:
            refused.append(error)
    if not built:
        raise refused[0]
    if len(candidates) == 1:
        return built[0]
    return _faster(built, queries, k)


def candidate_settings(
    num_items: int, settings: IndexSettings, block_sizes: Sequence[int] = ()
) -> list[IndexSettings]:
    """Returns the settings to build and compare for a catalogue of this size.

    Each names its kind, and whether there are partitions by `tree_above`.
    """
    exact = settings.model_copy(update={"kind": IndexKind.EXACT})
    scann = settings.model_copy(update={"kind": IndexKind.SCANN})
    flat = scann.model_copy(update={"tree_above": num_items})
    tree = scann.model_copy(update={"tree_above": 0})
    if settings.kind is IndexKind.EXACT:
        return [exact]
    approximate = [scann]
    if _is_near(num_items, settings.tree_above):
        approximate = [flat, tree]
    approximate = [
        candidate.model_copy(update={"dimensions_per_block": size})
        for candidate in approximate
        for size in block_sizes or [settings.dimensions_per_block]
    ]
    if settings.kind is IndexKind.SCANN:
        return approximate
    if _is_near(num_items, settings.exact_below):
        return [exact, *approximate]
    return [exact] if num_items < settings.exact_below else approximate


def _is_exact_by_size(num_items: int, settings: IndexSettings) -> bool:
    if settings.kind is IndexKind.AUTO:
        return num_items < settings.exact_below
    return settings.kind is IndexKind.EXACT


def _is_near(num_items: int, bound: int) -> bool:
    return bound / _NEAR <= num_items < bound * _NEAR


def _built(
    embeddings: np.ndarray, queries: np.ndarray, settings: IndexSettings, k: int
) -> BuiltIndex:
    is_exact = settings.kind is IndexKind.EXACT
    memory = estimate_memory(*embeddings.shape, settings, is_exact)
    if is_exact:
        return BuiltIndex(ExactIndex(embeddings), memory, None, "exact, by its size")
    index, tuning = tune_index(ScannIndex(embeddings, settings), queries, k=k)
    kind = "partitions" if index.num_leaves else "a scan of all codes"
    return BuiltIndex(index, memory, tuning, f"ScaNN with {kind}, by its size")


def _faster(built: list[BuiltIndex], queries: np.ndarray, k: int) -> BuiltIndex:
    speeds = queries_per_second([candidate.index for candidate in built], queries, k)
    fastest = int(np.argmax(speeds))
    others = ", ".join(f"{speed:,.0f}" for speed in speeds)
    kind = built[fastest].reason.removesuffix(", by its size")
    reason = f"{kind}, the fastest of those compared ({others} queries a second)"
    tuning = built[fastest].tuning
    if tuning is not None:
        tunings = [one.tuning for one in built if one.tuning is not None]
        points = tuple(point for one in tunings for point in one.points)
        tuning = dataclasses.replace(tuning, points=points)
    return dataclasses.replace(built[fastest], reason=reason, tuning=tuning)


def queries_per_second(
    indexes: list[Index], queries: np.ndarray, k: int = TUNED_K
) -> list[float]:
    """Returns the speed of each index, the median of searches in turns."""
    searches = [
        tf.function(
            lambda batch, index=index: index.search(batch, k),
            input_signature=[tf.TensorSpec([None, queries.shape[1]], tf.float32)],
        )
        for index in indexes
    ]
    batches = [tf.constant(b, tf.float32) for b in in_batches(queries, _BATCH)]
    seconds: list[list[float]] = [[] for _ in searches]
    for number in range(_ROUNDS + 1):
        for search, measured in zip(searches, seconds, strict=True):
            begin = time.perf_counter()
            for batch in batches:
                search(batch)
            if number:  # the first search traces
                measured.append(time.perf_counter() - begin)
    return [len(queries) / statistics.median(measured) for measured in seconds]
