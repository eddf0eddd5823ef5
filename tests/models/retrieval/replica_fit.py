"""The trainer's own model trained on one and on two replicas, right and in wrong ways.

`main` trains with two logical CPUs and prints what came of it as JSON. It needs a process
of its own, as logical devices must be set before TensorFlow starts.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from models.losses.replicas import gather_rows
from models.retrieval import batch_loss, train_step, trainer
from models.retrieval.settings import RetrievalSettings
from tests.models import training_world

NUM_ROWS, BATCH_SIZE, EPOCHS = 24, 8, 2
ALL_OPTIONS = {
    "history_encoder": "attention",
    "sampling_measure": "expected_count",
    "refined_correction": True,
    "drawn_negatives": 5,
    "optimizer": "sparse_adamw",
    "accumulation_steps": 2,
    "batch_size": BATCH_SIZE // 2,
}
# Settings beside the number of replicas, and what is done wrongly.
CASES: dict[str, tuple[dict, dict]] = {
    "plainest": ({}, {}),
    "every option": (ALL_OPTIONS, {}),
}
WRONG = {
    "mean over its own rows": {
        (train_step, "count_rows"): lambda rows: tf.shape(rows)[0]
    },
    "no gradient to others' rows": {
        (batch_loss, "gather_rows"): lambda *tensors: [
            tf.concat([own, tf.stop_gradient(both[tf.shape(own)[0] :])], axis=0)
            for own, both in zip(tensors, gather_rows(*tensors), strict=True)
        ]
    },
}
CASES |= {name: ({}, wrong) for name, wrong in WRONG.items()}


class Losses(tf.keras.callbacks.Callback):
    """Keeps the loss of each step."""

    def __init__(self):
        super().__init__()
        self.values = []

    def on_train_batch_end(self, batch, logs=None):
        self.values.append(float(logs["loss"]))


def write_rows(folder: Path) -> str:
    """Writes training rows whose items repeat; returns the file."""
    rng = np.random.default_rng(4)
    rows = [
        (1, 2 + int(rng.integers(0, 9)) ** 2 // 9, rng.integers(2, 9, row % 4).tolist())
        for row in range(NUM_ROWS)
    ]
    return training_world.write(folder / "rows.gz", rows)


def trained(file: str, case: str, replicas: str) -> dict:
    """Returns the losses, and the weights and estimates at the end."""
    changed, wrong = CASES[case]
    same = {"embedding_dim": 4, "dropout": 0.0, "frequency_buckets": 509}
    plain = {"history_encoder": "mean", "batch_size": BATCH_SIZE}
    settings = RetrievalSettings(**{**same, **plain, "replicas": replicas, **changed})
    losses = Losses()
    transform = training_world.Transform()
    with pytest.MonkeyPatch.context() as patch:
        for (module, name), value in wrong.items():
            patch.setattr(module, name, value)
        model = trainer.fit(settings, transform, [file], EPOCHS, [losses])
    names = tf.constant([str(item) for item in range(2, 12)])
    saved = _saved_vectors(model) if case == "plainest" else []
    return {
        "losses": losses.values,
        "weights": {v.name: v.numpy().tolist() for v in model.trainable_variables},
        "estimates": [
            model.frequency(names).numpy().tolist(),
            model.frequency.log_presence(names).numpy().tolist(),
        ],
        "steps": int(model.frequency.step.numpy()),
        "updates": int(model.optimizer.iterations.numpy()),
        "saved": saved,
    }


def _saved_vectors(model) -> list:
    """Returns item vectors of the model as a SavedModel gives them."""
    items = {
        "item_id_xf": tf.constant([2, 3, 4], tf.int64),
        "item_genres_xf": tf.constant([[1, 2], [1, 3], [2, 4]], tf.int64),
        "item_price_xf": tf.constant([0.2, 0.3, 0.4]),
    }
    signature = tf.nest.map_structure(tf.type_spec_from_value, items)
    module = tf.Module()
    module.model = model
    module.embed = tf.function(model.embed_candidates, input_signature=[signature])
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder)
        loaded = tf.saved_model.load(folder)
        return loaded.embed(items).numpy().tolist()


def main() -> None:
    """Trains every case on two replicas, and those that are right on one as well."""
    (cpu,) = tf.config.list_physical_devices("CPU")
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, two)
    with tempfile.TemporaryDirectory() as folder:
        file = write_rows(Path(folder))
        found = {
            replicas: {
                case: trained(file, case, replicas)
                for case in CASES
                if replicas == "mirrored" or case not in WRONG
            }
            for replicas in ("none", "mirrored")
        }
    json.dump(found, sys.stdout)
