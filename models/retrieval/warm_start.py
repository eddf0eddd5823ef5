"""Continues training where a checkpoint left it, though vocabularies have grown since.

A known id keeps its row, its slots and so its momentum; an item that has left the log
keeps them too. A new id has the row that it was initialised with, and empty slots.
"""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import tensorflow as tf

from models.continuation import (
    MEND,
    ContinuationError,
    check_settings,
    check_unseen,
)
from models.retrieval.checkpoint import (
    CHECKPOINT,
    StoredState,
    described,
    embeddings,
    field_rows,
    read_record,
    training_state,
)
from models.retrieval.two_tower import TwoTower
from schemas.features import FeatureCatalog

# What may change between two runs of which the second continues the first: it changes
# how training goes on, not what the weights, the slots or the estimates mean. Gaps are
# counted in steps, so another batch size would change the meaning of the estimates.
FREE_SETTINGS = frozenset(
    {
        "temperature",
        "max_epochs",
        "patience",
        "continued_epochs",
        "averaged_epochs",
        "learning_rate",
        "weight_decay",
        "dropout",
        "sampling_correction",
        "sampling_measure",
        "refined_correction",
        "drawn_negatives",
        "hard_negatives",
        "accumulation_steps",
        "replicas",
        "mask_history",
        "frequency_alpha",
        "seed",
    }
)
_SPAN_STARTS = "span_starts.json"
_KNOWN = "the release to continue from"


def check_continuable(
    checkpoint: Path, settings: dict, catalog: FeatureCatalog, until: int
) -> None:
    """Checks that training can go on from a checkpoint under a config.

    Args:
        checkpoint: of the release.
        settings: a RetrievalSettings as JSON types.
        catalog: the declared features.
        until: ms; what training may learn from lies before it.

    Raises:
        ContinuationError: naming the first setting that stands against it, or that the
            release has learnt from events at `until` or after.
    """
    record = read_record(checkpoint)
    now, before = (
        {f"retrieval.{name}": one[name] for name in one if name not in FREE_SETTINGS}
        for one in (settings, record.settings)
    )
    check_settings(now, before, f"{_KNOWN} was trained")
    declared = catalog.model_dump(mode="json")
    for name in sorted({*declared, *record.catalog}):
        now, before = (known.get(name) for known in (declared, record.catalog))
        if now != before:
            raise ContinuationError(
                f"features.{name}: {_difference(now, before)}. Set it back, or {MEND}."
            )
    check_unseen(record.trained_through, until, _KNOWN, "events")


def _difference(now: object, before: object) -> str:
    """Says how a part of the catalogue differs from the release's."""
    if not isinstance(now, list) or not isinstance(before, list):
        return f"{now}, but the release to continue from was trained with {before}"
    now_only = [_name(entry) for entry in now if entry not in before]
    before_only = [_name(entry) for entry in before if entry not in now]
    if not now_only and not before_only:
        return "in another order than in the release to continue from"
    return (
        f"{now_only or 'nothing'} here, {before_only or 'nothing'} in the release to "
        "continue from, is not in the other or is declared otherwise"
    )


def _name(entry: object) -> str:
    return entry["name"] if isinstance(entry, dict) else str(entry)


def write_base(
    folder: Path, checkpoint: Path | None, span_starts: Iterable[int]
) -> None:
    """Writes what the trainer continues from: the folder that is its `base_model`."""
    folder.mkdir(parents=True)
    if checkpoint is not None:
        shutil.copytree(checkpoint, folder / CHECKPOINT)
        (folder / _SPAN_STARTS).write_text(json.dumps(list(span_starts)))


def read_span_starts(folder: str) -> list[int]:
    """Returns when the log's spans begin, in ms, as `write_base` was told."""
    return json.loads((Path(folder) / _SPAN_STARTS).read_text())


def restore(checkpoint: Path, model: TwoTower) -> None:
    """Gives a model the state of a checkpoint.

    Args:
        checkpoint: of a model with the same settings and features (`check_continuable`)
            and with vocabularies whose known values stand where they stood.
        model: built and compiled, its optimizer built for its weights.

    Raises:
        ContinuationError: if the model has other weights, or a vocabulary has shrunk.
    """
    record, stored = read_record(checkpoint), StoredState(checkpoint)
    state = training_state(model)
    # The first axis is that of a table's rows, which may have grown.
    before, now = (
        [(name, shape[1:]) for name, shape in weights]
        for weights in (record.weights, described(model))
    )
    if before != now:
        raise ContinuationError(
            "the release to continue from has other weights; another version of Tandem "
            f"trained it. Stay with that version, or {MEND}."
        )
    tables = {
        id(layer.table): (name, layer)
        for name, layer in embeddings(model).items()
        if sum(field_rows(layer))
    }
    for position, weight in enumerate(state["weights"]):
        slots = [
            (("slots", name, position), of[position])
            for name, of in state["slots"].items()
        ]
        for place, variable in [(("weights", position), weight), *slots]:
            values = stored(*place)
            if id(weight) in tables:
                name, layer = tables[id(weight)]
                values = grown_rows(
                    values, variable.numpy(), record.tables[name], field_rows(layer)
                )
            _assign(variable, values)
    _assign(state["iterations"], stored("iterations"))
    for name, variable in state["frequency"].items():
        _assign(variable, stored("frequency", name))


def grown_rows(
    known: np.ndarray, fresh: np.ndarray, before: list[int], now: list[int]
) -> np.ndarray:
    """Puts the rows of each field where the field begins now.

    Args:
        known: [sum of `before`, ...], the rows of all fields one after the other.
        fresh: [sum of `now`, ...], what new rows are.
        before: rows that each field had.
        now: rows that it has; new ones come at its end.

    Returns:
        `fresh` with the known rows in place.

    Raises:
        ContinuationError: if a field has lost rows.
    """
    shrunk = [place for place, size in enumerate(now) if size < before[place]]
    if len(now) != len(before) or shrunk:
        raise ContinuationError(
            f"fields of {now} ids cannot hold those of {before} ids: a vocabulary has "
            f"lost values since the release to continue from. Mend it, or {MEND}."
        )
    rows = fresh.copy()
    old_begin = new_begin = 0
    for old_size, new_size in zip(before, now, strict=True):
        rows[new_begin : new_begin + old_size] = known[old_begin : old_begin + old_size]
        old_begin += old_size
        new_begin += new_size
    return rows


def _assign(variable: tf.Variable, values: np.ndarray) -> None:
    if tuple(variable.shape) != tuple(values.shape):
        raise ContinuationError(
            f"`{variable.name}` has the shape {tuple(values.shape)} in the release to "
            f"continue from, and {tuple(variable.shape)} here. Another version of "
            f"Tandem trained it: stay with that version, or {MEND}."
        )
    variable.assign(values)
