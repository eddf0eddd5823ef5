"""What a training run leaves for a later one to continue from.

A folder: `record.json` (a `TrainingRecord`), `state.*` in TensorFlow's checkpoint format
(weights, the optimizer's slots and its count of steps, the frequency estimator), and
`transform_graph/`, the graph that gave the weights' rows their meaning. None of it is
part of what is served.
"""

import shutil
from pathlib import Path
from typing import Any

import tensorflow as tf
from pydantic import BaseModel, ConfigDict

from models.layers.feature_embedding import FeatureEmbedding
from models.retrieval.settings import Optimizer
from models.retrieval.two_tower import TwoTower
from schemas.features import FeatureCatalog

CHECKPOINT = "checkpoint"  # beside a SavedModel's own folder
TRANSFORM_GRAPH = "transform_graph"
_RECORD, _STATE = "record.json", "state"
_VALUE = ".ATTRIBUTES/VARIABLE_VALUE"  # what TensorFlow adds to a variable's place
# Where each optimizer keeps what it knows of a weight, in the order of the weights.
_SLOTS = {
    Optimizer.ADAMW: {"first": "_momentums", "second": "_velocities"},
    Optimizer.SPARSE_ADAMW: {
        "first": "_first",
        "second": "_second",
        "count": "_count",
    },
}


class Cost(BaseModel):
    """What a training run took."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows: int  # distinct ones that it learnt from
    seconds: float
    cpu_seconds: float


class TrainingRecord(BaseModel):
    """What must be known of a checkpoint to continue from it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    settings: dict[str, Any]  # a RetrievalSettings
    catalog: dict[str, Any]  # a FeatureCatalog
    trained_through: int  # ms, the timestamp of the newest row ever learnt from
    continued_from: int | None  # `trained_through` of the checkpoint before
    weights: list[tuple[str, tuple[int, ...]]]  # name and shape, in order
    tables: dict[str, list[int]]  # rows of each field of each embedding, by its layer
    cost: Cost


def save_checkpoint(
    folder: Path,
    model: TwoTower,
    transform_uri: str,
    catalog: FeatureCatalog,
    trained_through: int,
    continued_from: int | None,
    cost: Cost,
) -> None:
    """Writes the checkpoint of a trained model; the folder must not exist."""
    shutil.copytree(transform_uri, folder / TRANSFORM_GRAPH)
    record = TrainingRecord(
        settings=model.settings.model_dump(mode="json"),
        catalog=catalog.model_dump(mode="json"),
        trained_through=trained_through,
        continued_from=continued_from,
        weights=described(model),
        tables={name: field_rows(layer) for name, layer in embeddings(model).items()},
        cost=cost,
    )
    (folder / _RECORD).write_text(record.model_dump_json(indent=1) + "\n")
    tf.train.Checkpoint(**training_state(model)).write(str(folder / _STATE))


def find_checkpoint(folder: str | None) -> Path | None:
    """Returns the checkpoint inside a folder, None where there is none."""
    if folder is None or not (Path(folder) / CHECKPOINT / _RECORD).is_file():
        return None
    return Path(folder) / CHECKPOINT


def read_record(checkpoint: Path) -> TrainingRecord:
    """Reads what is known of a checkpoint."""
    return TrainingRecord.model_validate_json((checkpoint / _RECORD).read_text())


class StoredState:
    """The arrays of a checkpoint, by the places of `training_state`."""

    def __init__(self, checkpoint: Path) -> None:
        self._reader = tf.train.load_checkpoint(str(checkpoint / _STATE))

    def __call__(self, *place: str | int):
        """Returns the array at a place, such as ("slots", "first", 3)."""
        key = "/".join([*map(str, place), _VALUE])
        return self._reader.get_tensor(key)


def training_state(model: TwoTower) -> dict[str, Any]:
    """Returns all variables that training reads and changes, by place.

    What a model works out of the rows when it is built is deliberately absent.

    Args:
        model: built, and compiled with an optimizer that is built for its weights.
    """
    optimizer = model.optimizer
    frequency = model.frequency
    return {
        "weights": list(model.trainable_variables),
        "slots": {
            name: list(getattr(optimizer, attribute))
            for name, attribute in _SLOTS[model.settings.optimizer].items()
        },
        "iterations": optimizer.iterations,
        "frequency": {
            "step": frequency.step,
            "last_step": frequency.last_step,
            "gap": frequency.gap,
            "count": frequency.count,
        },
    }


def described(model: TwoTower) -> list[tuple[str, tuple[int, ...]]]:
    """Returns the name and the shape of each weight, in order."""
    return [
        (weight.name.split(":")[0].split("/")[-1], tuple(weight.shape))
        for weight in model.trainable_variables
    ]


def embeddings(model: TwoTower) -> dict[str, FeatureEmbedding]:
    """Returns the layers of a model whose tables grow with the vocabularies."""
    return {
        layer.name: layer
        for layer in model.submodules
        if isinstance(layer, FeatureEmbedding)
    }


def field_rows(layer: FeatureEmbedding) -> list[int]:
    """Returns how many rows of the layer's table each of its fields owns."""
    return [
        field.num_ids if field.shares is None else 0
        for field in layer.fields
        if field.num_ids
    ]
