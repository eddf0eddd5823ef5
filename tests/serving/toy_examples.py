"""A SavedModel that classifies and regresses examples by their feature `age`.

The chance of `old` is age / 100, that of `young` the rest; the regression is the age.
"""

from pathlib import Path

import tensorflow as tf

from serving.example_service import CLASSIFY_METHOD, REGRESS_METHOD
from tests.serving.toy_release import write_model


class ToyExamples(tf.Module):
    """Signatures `classify`, `scores_only`, `regress`, `column` and `serving_default`."""

    def __init__(self):
        super().__init__()
        spec = tf.TensorSpec([None], tf.string, "inputs")
        self.functions = {
            name: tf.function(answer).get_concrete_function(inputs=spec)
            for name, answer in {
                "classify": self._classify,
                "scores_only": self._scores,
                "regress": self._regress,
                "column": self._column,
                "serving_default": self._regress,
            }.items()
        }

    def _ages(self, inputs):
        age = tf.io.FixedLenFeature([], tf.float32, 0.0)
        return tf.io.parse_example(inputs, {"age": age})["age"]

    def _classify(self, inputs):
        rows = tf.shape(inputs)[0]
        return {
            "classes": tf.tile(tf.constant([["old", "young"]]), [rows, 1]),
            **self._scores(inputs),
        }

    def _scores(self, inputs):
        old = self._ages(inputs) / 100.0
        return {"scores": tf.stack([old, 1.0 - old], axis=1)}

    def _regress(self, inputs):
        return {"outputs": self._ages(inputs)}

    def _column(self, inputs):
        return {"outputs": self._ages(inputs)[:, tf.newaxis]}


METHODS = {
    "classify": CLASSIFY_METHOD,
    "scores_only": CLASSIFY_METHOD,
    "regress": REGRESS_METHOD,
    "column": REGRESS_METHOD,
}


def write_examples_model(directory: Path) -> Path:
    """Saves the model; `serving_default` stays a Predict signature."""
    write_model(directory, ToyExamples())
    updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(
        str(directory)
    )
    for name, method in METHODS.items():
        updater.replace_method_name(name, method, tags="serve")
    updater.save()
    return directory
