"""DeepCTR's DeepFM: one Keras layer a feature, `fit` on arrays in memory.

Embedding 16, layers of 256 and 128, batches of 1024, Adam, stopped by the log loss on
validation. Its penalty, and whether it reads histories (as the mean over the items, from the
table of the item's id), are chosen there as well.

Run as `python -m benchmarks.peers.ctr_deepctr TABLE OUTCOME [--quick]`, or with `--paced` in
place of OUTCOME: then it trains some steps for each line it reads; see `benchmarks.ctr_pace`.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ.pop("TF_USE_LEGACY_KERAS", None)  # this TensorFlow has no other Keras

import tensorflow as tf  # isort: skip  (before what asks for Tandem's own Keras)
import numpy as np
from deepctr.feature_column import DenseFeat, SparseFeat, VarLenSparseFeat
from deepctr.models import DeepFM

from benchmarks.ctr_contest import Setting, compete_by_files
from benchmarks.ctr_data import ITEM, CtrTable
from benchmarks.ctr_pace import BATCH_SIZE, STEPS, keep_pace

_DIM = 16
_HIDDEN = (256, 128)
_HISTORY = "history"
_SCORED_AT_ONCE = 8192


class DeepCtr:
    """Trains DeepCTR's model.

    Args:
        settings: `l2` of embeddings and of the linear part, and whether `history` is read.
        max_epochs: passes at most.
        patience: epochs without a better validation before stopping.
    """

    def __init__(self, settings: list[Setting], max_epochs: int, patience: int):
        self._settings = settings
        self._max_epochs = max_epochs
        self._patience = patience

    def candidates(self, table: CtrTable) -> Iterator[tuple[Setting, np.ndarray]]:
        table = table.known()
        for setting in self._settings:
            tf.keras.utils.set_random_seed(0)
            model, inputs = made(table, setting)
            stop = tf.keras.callbacks.EarlyStopping(
                "val_binary_crossentropy",
                patience=self._patience,
                mode="min",
                restore_best_weights=True,
            )
            model.fit(
                rows(inputs, table.fit),
                table.labels[table.fit],
                batch_size=BATCH_SIZE,
                epochs=self._max_epochs,
                validation_data=(
                    rows(inputs, table.validation),
                    table.labels[table.validation],
                ),
                callbacks=[stop],
                verbose=0,
            )
            later = slice(int(table.num_fit), None)
            probs = model.predict(rows(inputs, later), _SCORED_AT_ONCE, verbose=0)
            yield setting, probs[:, 0]


def made(table: CtrTable, setting: Setting) -> tuple[tf.keras.Model, dict]:
    """Returns a fresh model and what it reads, [N] or [N, L] by name."""
    sizes = table.categories.max(axis=0).astype(int) + 2
    inputs = {}
    columns: list = []
    for place, name in enumerate(table.category_names.tolist()):
        columns.append(SparseFeat(name, sizes[place], embedding_dim=_DIM))
        inputs[name] = table.categories[:, place]
    known = table.numbers[table.fit]
    for place, name in enumerate(table.number_names.tolist()):
        columns.append(DenseFeat(name, 1))
        values = table.numbers[:, place]
        inputs[name] = (values - known[:, place].mean()) / known[:, place].std()
    lists = {}
    if table.lists.shape[1]:
        name = str(table.list_name)
        feature = SparseFeat(name, int(table.lists.max()) + 1, embedding_dim=_DIM)
        lists[name] = (feature, table.lists)
    if setting["history"]:
        item = table.category_names.tolist().index(ITEM)
        feature = SparseFeat(
            _HISTORY, sizes[item], embedding_dim=_DIM, embedding_name=ITEM
        )
        lists[_HISTORY] = (feature, table.history)
    for name, (feature, values) in lists.items():
        columns.append(VarLenSparseFeat(feature, values.shape[1], combiner="mean"))
        inputs[name] = values
    model = DeepFM(
        columns,
        columns,
        dnn_hidden_units=_HIDDEN,
        l2_reg_linear=setting["l2"],
        l2_reg_embedding=setting["l2"],
    )
    model.compile("adam", "binary_crossentropy", metrics=["binary_crossentropy"])
    return model, inputs


def rows(inputs: dict, some: slice) -> dict:
    """Returns a part of each input."""
    return {name: values[some] for name, values in inputs.items()}


def paced(table: CtrTable) -> None:
    """Trains as many steps as `ctr_pace` wants, each time it asks."""
    table = table.known()
    model, inputs = made(table, {"l2": 1e-5, "history": True})  # as Tandem reads it
    some = slice(0, STEPS * BATCH_SIZE)
    features, labels = rows(inputs, some), table.labels[some]
    keep_pace(
        lambda: model.fit(features, labels, batch_size=BATCH_SIZE, verbose=0),
    )


FULL = DeepCtr(
    [{"l2": l2, "history": history} for history in (False, True) for l2 in (0.0, 1e-5)],
    max_epochs=10,
    patience=1,
)
QUICK = DeepCtr([{"l2": 1e-5, "history": False}], max_epochs=2, patience=1)

if __name__ == "__main__":
    if "--paced" in sys.argv:
        paced(CtrTable.load(Path(sys.argv[1])))
    else:
        compete_by_files({False: FULL, True: QUICK})
