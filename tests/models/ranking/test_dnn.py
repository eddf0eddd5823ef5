import numpy as np
import pytest
import tensorflow as tf

from models.ranking.dnn import DNN
from models.ranking.dnn_settings import DNNSettings
from tests import reference_ranking
from tests.models import ranker_contract
from tests.models.ranker_contract import RankerContract, rows_of
from tests.models.ranking.embedded_rows import random_weights

SETTINGS = DNNSettings(embedding_dim=4, hidden=(16, 8), dropout=0.0)
SPACE = ranker_contract.space()


class TestDNN(RankerContract):
    def make(self, space):
        return DNN(space, SETTINGS, ranker_contract.items())


class TestDNNOfIds(RankerContract):
    def make(self, space):
        return DNN(space, SETTINGS)


def check_forward(model_class):
    """Holds a model's logits to the formula, on given weights.

    What is embedded, `test_inputs.py` holds to a reference of its own.
    """
    rows = rows_of(np.arange(12), np.arange(12)[::-1].copy(), seed=4)
    model = model_class(SPACE, SETTINGS, ranker_contract.items())
    random_weights(model, rows)
    inputs, head = model.inputs_layer, model.head
    events, is_event = (part.numpy() for part in inputs.events(rows))
    first = np.concatenate([head.query_dense.kernel, head.candidate_dense.kernel])
    expected = reference_ranking.dnn_logits(
        inputs.query(rows).numpy(),
        [row[kept] for row, kept in zip(events, is_event, strict=True)],
        inputs.candidates(rows).numpy(),
        [
            (first, head.bias.numpy()),
            tuple(weight.numpy() for weight in head.mlp.weights),
            (head.out.kernel.numpy(), np.array([model.bias.numpy()])),
        ],
    )
    np.testing.assert_allclose(model(rows), expected, rtol=1e-4, atol=1e-5)


class MeanPooling(DNN):
    def read_history(self, features, user, training):
        total, state = super().read_history(features, user, training)
        _, is_event = self.inputs_layer.events(features)
        count = tf.reduce_sum(tf.cast(is_event, tf.float32), axis=1, keepdims=True)
        return tf.math.divide_no_nan(total, count), state


class NewestEventOnly(DNN):
    def read_history(self, features, user, training):
        events, _ = self.inputs_layer.events(features)
        return events[:, -1], ()


class NoBias(DNN):
    def logits(self, query, candidates, training):
        return super().logits(query, candidates, training) - self.bias


def test_dnn_forward_equals_the_formula():
    check_forward(DNN)


@pytest.mark.parametrize("wrong", [MeanPooling, NewestEventOnly, NoBias])
def test_forward_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_forward(wrong)
