"""What TFMA's Evaluator slices a ranker's rows by; named to it by dotted path.

Reads the rows as TFMA does, from Arrow, so that its figures by slice are a check of those
that `components.ranking_slices` leads to, not the same figures again. The age of an item
is not among the slices: a row does not tell it.
"""

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow_model_analysis as tfma

from components import ranking_slices
from models.retrieval.slices import Slicing, by_history_length
from schemas.features import HISTORY, POSITION

# Keys that no row has, by the name of the slicing.
SLICE_KEYS = {
    ranking_slices.HISTORY_LENGTH: "history_length_range",
    ranking_slices.POSITION: "position_range",
}
NOT_KNOWN = "not known"


def custom_extractors(
    eval_shared_model, eval_config, tensor_adapter_config
) -> list[tfma.extractors.Extractor]:
    """Returns TFMA's own extractors and two of ours; called by TFX's Evaluator."""
    # TFMA's evaluator takes what the last of its own gives.
    *others, slice_keys = tfma.default_extractors(
        eval_shared_model=eval_shared_model,
        eval_config=eval_config,
        tensor_adapter_config=tensor_adapter_config,
    )
    return [
        tfma.extractors.Extractor("ExtractSliceLabels", beam.Map(with_slice_labels)),
        *others,
        tfma.extractors.Extractor("ReplaceNaN", beam.Map(with_numbers)),
        slice_keys,
    ]


def with_slice_labels(extracts: dict) -> dict:
    """Adds a feature for each of `SLICE_KEYS`: [n, 1] the label of the row's group.

    Where no row of a batch has a position, none has a label for it: each slicing costs
    TFMA as much as the figures of all rows do.
    """
    rows = extracts[tfma.ARROW_RECORD_BATCH_KEY]
    lengths = _list_lengths(rows, HISTORY)
    slicings = {ranking_slices.HISTORY_LENGTH: by_history_length(lengths)}
    has_position = _list_lengths(rows, POSITION) > 0
    if has_position.any():
        positions = np.full(len(has_position), -1, np.int64)
        positions[has_position] = rows.column(POSITION).flatten().to_numpy()
        slicings[ranking_slices.POSITION] = ranking_slices.by_position(positions)
    features = {
        SLICE_KEYS[name]: _labels(slicing)[:, np.newaxis]
        for name, slicing in slicings.items()
    }
    return extracts | {tfma.FEATURES_KEY: features}


def with_numbers(extracts: dict) -> dict:
    """Replaces predictions that are NaN by 0, on which TFMA's plots would fail.

    A model that diverged is to be refused by the gate, which counts them by itself, and
    not to break the run.
    """
    predictions = extracts[tfma.PREDICTIONS_KEY]
    return extracts | {tfma.PREDICTIONS_KEY: np.nan_to_num(predictions, nan=0.0)}


def _labels(slicing: Slicing) -> np.ndarray:
    return np.array([*slicing.labels, NOT_KNOWN], object)[slicing.groups]


def _list_lengths(rows: pa.RecordBatch, key: str) -> np.ndarray:
    """Returns [n] how many values each row has; 0 where it lacks the key."""
    if key not in rows.schema.names or pa.types.is_null(rows.column(key).type):
        return np.zeros(rows.num_rows, np.int64)
    return pc.fill_null(pc.list_value_length(rows.column(key)), 0).to_numpy()
