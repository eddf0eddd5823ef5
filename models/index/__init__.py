"""Exact and approximate search for the items of the largest inner product.

All indexes are `tf.Module`s with one interface, so a served graph holds any of them.
Filtering is deliberately absent: a caller asks for as many more rows as it will drop.
"""

from models.index.choice import (
    BuiltIndex,
    build_index,
    build_tuned_index,
    candidate_settings,
)
from models.index.exact_index import ExactIndex
from models.index.interface import Index
from models.index.memory import IndexMemory, estimate_memory
from models.index.pareto import write_pareto
from models.index.recall import recall_against_exact
from models.index.scann_index import ScannIndex
from models.index.segmented_index import SegmentedIndex, refreshed_index
from models.index.tuning import IndexTuningError, Tuning, TuningPoint, tune_index
from models.index_settings import IndexKind, IndexSettings

__all__ = [
    "BuiltIndex",
    "ExactIndex",
    "Index",
    "IndexKind",
    "IndexMemory",
    "IndexSettings",
    "IndexTuningError",
    "ScannIndex",
    "SegmentedIndex",
    "Tuning",
    "TuningPoint",
    "build_index",
    "build_tuned_index",
    "candidate_settings",
    "estimate_memory",
    "recall_against_exact",
    "refreshed_index",
    "tune_index",
    "write_pareto",
]
