import numpy as np
import pytest
import tensorflow as tf

from models.losses.memory_covariance import covariance_norm, covariance_square
from models.ranking.hpmn import HPMN
from models.ranking.hpmn_settings import CovarianceForm, HPMNSettings
from models.ranking.inputs import flat
from tests import reference_memory
from tests.models import ranker_contract
from tests.models.ranker_contract import (
    RankerContract,
    queries_and_candidates,
    rows_of,
)
from tests.models.ranking.embedded_rows import random_weights

SPACE = ranker_contract.space()
HISTORY = SPACE.history_name
# With 6 events, each layer moves twice or more.
SETTINGS = HPMNSettings(
    embedding_dim=4,
    periods=(1, 2, 3),
    memory_units=6,
    hops=2,
    attention_hidden=(5, 3),
    hidden=(16, 8),
    dropout=0.0,
)


class TestHPMN(RankerContract):
    def make(self, space):
        return HPMN(space, SETTINGS, ranker_contract.items())


class TestHPMNOfIds(RankerContract):
    def make(self, space):
        return HPMN(space, SETTINGS)


def _rows():
    return rows_of(np.arange(12), np.arange(12)[::-1].copy(), seed=4)


def _random(model_class, settings=SETTINGS):
    model = model_class(SPACE, settings, ranker_contract.items())
    random_weights(model, _rows())
    return model


# ------------------------------------------------- the forward pass and its formula


def _weights(dense):
    return dense.kernel.numpy(), dense.bias.numpy()


def _of_read(read):
    return {
        "query": _weights(read.query),
        "hop": read.hop.kernel.numpy(),
        "dense": [
            *map(_weights, read.mlp.dense),
            (read.energy.kernel.numpy(), np.zeros(1)),
        ],
    }


def slow_logits_and_attention(model, rows):
    """Returns [B] and [B, hops, D], a row at a time, from what is embedded.

    What is embedded, `test_inputs.py` holds to a reference of its own.
    """
    inputs, dnn = model.inputs_layer, model.dnn
    events, is_event = (part.numpy() for part in inputs.events(rows))
    layers = [
        {w.name.split(":")[0].split("/")[-1]: w.numpy() for w in layer.weights}
        for layer in model.memory.layers
    ]
    queries = inputs.query(rows).numpy()
    targets = inputs.candidates(rows).numpy()
    logits, attention = [], []
    for row in range(len(events)):
        memory = reference_memory.hierarchical_memory(
            list(events[row][is_event[row]]), layers, SETTINGS.periods
        )
        target = targets[row].ravel()
        read, weights = reference_memory.memory_read(
            memory, target, _of_read(model.read), SETTINGS.hops
        )
        hidden = np.maximum(
            queries[row].ravel() @ dnn.query_dense.kernel.numpy()
            + np.concatenate([read, target]) @ dnn.candidate_dense.kernel.numpy()
            + dnn.bias.numpy(),
            0.0,
        )
        for kernel, bias in map(_weights, dnn.mlp.dense):
            hidden = np.maximum(hidden @ kernel + bias, 0.0)
        score = read @ (target @ model.match.kernel.numpy())
        logits.append(model.bias.numpy() + (hidden @ dnn.out.kernel.numpy())[0] + score)
        attention.append(weights)
    return np.array(logits), np.stack(attention)


def check_forward(model_class):
    """The checker."""
    model, rows = _random(model_class), _rows()
    logits, attention = slow_logits_and_attention(model, rows)
    assert logits.std() > 0.1  # the weights tell rows apart
    np.testing.assert_allclose(model(rows), logits, rtol=1e-3, atol=1e-4)
    found = model.read_with_attention(rows)
    np.testing.assert_allclose(found[0], logits, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found[1], attention, rtol=1e-3, atol=1e-4)


class WritesTheTarget(HPMN):
    """The authors' code: the target is the last event of the sequence."""

    def _read(self, query, candidates, training):
        events = self.inputs_layer.as_event(self.inputs_layer.candidates(candidates))
        steps = tf.fill([len(events)], tf.constant(6, tf.int64))
        memory, _ = self.memory.update(query["memory"], steps, events[:, 0])
        return super()._read({**query, "memory": memory}, candidates, training)


class ReadsTheTopLayerOnly(HPMN):
    def _read(self, query, candidates, training):
        top = tf.repeat(query["memory"][:, -1:], len(SETTINGS.periods), axis=1)
        return super()._read({**query, "memory": top}, candidates, training)


class LeavesOutTheMemory(HPMN):
    def _read(self, query, candidates, training):
        empty = tf.zeros_like(query["memory"])
        return super()._read({**query, "memory": empty}, candidates, training)


class LeavesOutTheQuery(HPMN):
    def _query(self, features, memory, training):
        query = super()._query(features, memory, training)
        return {**query, "fields": 0 * query["fields"]}


class LeavesOutTheScore(HPMN):
    def _read(self, query, candidates, training):
        logits, attention = super()._read(query, candidates, training)
        targets = flat(self.inputs_layer.candidates(candidates))
        read, _ = self.read(query["memory"], targets)
        return logits - tf.reduce_sum(read * self.match(targets), axis=-1), attention


class ReadsNewestFirst(HPMN):
    def read_query(self, features, training):
        turned = {**features, HISTORY: features[HISTORY][:, ::-1]}
        return super().read_query(turned, training)


def test_hpmn_forward_equals_the_formula():
    check_forward(HPMN)


@pytest.mark.parametrize(
    "wrong",
    [
        WritesTheTarget,
        ReadsTheTopLayerOnly,
        LeavesOutTheMemory,
        LeavesOutTheQuery,
        LeavesOutTheScore,
        ReadsNewestFirst,
    ],
)
def test_forward_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_forward(wrong)


# ------------------------------------------------- the target and the memory


def check_memory_without_target(model_class):
    """The checker: scoring candidates writes nothing.

    `read_query`, which writes, is given no candidate. With other weights to write by,
    the memory that it left has to score the candidates as before.
    """
    model, (query, candidates, _) = _random(model_class), queries_and_candidates()
    state = model.read_query(query, training=False)
    before = model.logits(state, candidates, training=False).numpy()
    assert np.ptp(before, axis=1).min() > 0
    for variable in model.memory.weights:
        variable.assign(variable + 1.0)
    after = model.logits(state, candidates, training=False).numpy()
    np.testing.assert_array_equal(after, before)


class WritesEachCandidate(HPMN):
    def _read(self, query, candidates, training):
        events = self.inputs_layer.as_event(self.inputs_layer.candidates(candidates))
        steps = tf.zeros([len(events)], tf.int64)
        memory, _ = self.memory.update(query["memory"], steps, events[:, 0])
        return super()._read({**query, "memory": memory}, candidates, training)


class WritesTheMean(HPMN):
    def _read(self, query, candidates, training):
        events = self.inputs_layer.as_event(self.inputs_layer.candidates(candidates))
        steps = tf.zeros([len(events)], tf.int64)
        mean = tf.reduce_mean(events, axis=1)
        memory, _ = self.memory.update(query["memory"], steps, mean)
        return super()._read({**query, "memory": memory}, candidates, training)


def test_hpmn_never_writes_the_target():
    check_memory_without_target(HPMN)


@pytest.mark.parametrize("wrong", [WritesEachCandidate, WritesTheMean])
def test_target_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_memory_without_target(wrong)


# ------------------------------------------------- events one by one


def check_events_one_by_one(model_class):
    """The checker: a memory written by events scores as the history does."""
    model, (query, candidates, _) = _random(model_class), queries_and_candidates()
    table = {name: values.numpy() for name, values in ranker_contract.items().items()}
    memory, step = model.memory.empty(5)
    for column in range(ranker_contract.HISTORY_LENGTH):
        ids = query[HISTORY][:, column]
        # The last item of the world is in no row of the table: its features are zeros.
        rows = {name: _looked_up(values, ids.numpy()) for name, values in table.items()}
        memory, step = model.write_event(memory, step, {**rows, "item_id_xf": ids})
    np.testing.assert_array_equal(step, tf.math.count_nonzero(query[HISTORY], axis=1))
    told = {name: value for name, value in query.items() if name != HISTORY}
    np.testing.assert_allclose(
        model.score_memory(memory, told, candidates),
        model.score_candidates(query, candidates),
        rtol=1e-4,
        atol=1e-5,
    )


def _looked_up(values, ids):
    by_id = np.zeros([ranker_contract.WORLD.size + 2, *values.shape[1:]], values.dtype)
    by_id[np.arange(len(values)) + 2] = values
    return tf.constant(by_id[ids])


class CountsPadding(HPMN):
    def write_event(self, memory, step, items):
        _, moved = super().write_event(memory, step, items)
        inputs = self.inputs_layer
        events = inputs.as_event(inputs.candidates(items))
        return self.memory.update(memory, step, events)[0], moved


class WritesIdsOnly(HPMN):
    def write_event(self, memory, step, items):
        bare = {name: tf.zeros_like(value) for name, value in items.items()}
        return super().write_event(
            memory, step, {**bare, "item_id_xf": items["item_id_xf"]}
        )


def test_memory_of_single_events_scores_as_the_history():
    check_events_one_by_one(HPMN)


@pytest.mark.parametrize("wrong", [CountsPadding, WritesIdsOnly])
def test_single_events_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_events_one_by_one(wrong)


# ------------------------------------------------- penalties and settings


@pytest.mark.parametrize(
    ("form", "penalty"),
    [
        (CovarianceForm.NORM, covariance_norm),
        (CovarianceForm.SQUARE, covariance_square),
    ],
)
def test_hpmn_penalty_is_of_the_batch_s_memories(form, penalty):
    change = {"covariance": 0.5, "covariance_form": form, "l2": 0.0}
    model = _random(HPMN, SETTINGS.model_copy(update=change))
    model(_rows(), training=True)
    memory = model.read_query(_rows(), training=False)["memory"]
    np.testing.assert_allclose(sum(model.losses), 0.5 * penalty(memory), rtol=1e-5)
    model(_rows(), training=False)
    assert model.losses == []


def test_hpmn_penalty_covers_the_fields_of_the_batch():
    change = {"covariance": 0.0, "l2": 0.5}
    model = _random(HPMN, SETTINGS.model_copy(update=change))
    rows = _rows()
    model(rows, training=True)
    inputs = model.inputs_layer
    squares = sum(
        np.square(part).sum() for part in (inputs.query(rows), inputs.candidates(rows))
    )
    np.testing.assert_allclose(sum(model.losses), 0.5 * squares / 12, rtol=1e-5)


def test_hpmn_memory_stays_float32_in_mixed_precision():
    """Small steps that add up over a long history vanish in a bfloat16 state."""
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = HPMN(SPACE, SETTINGS, ranker_contract.items())
        logits = model(_rows(), training=True)
        query = model.read_query(_rows(), training=False)
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    assert logits.dtype == tf.float32 and np.isfinite(logits).all()
    assert query["memory"].dtype == tf.float32
    assert query["fields"].dtype == tf.bfloat16


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"periods": (1, 0)}, "periods"),
        ({"hop": 2}, "hop"),
        ({"periods": ()}, "periods"),
    ],
)
def test_hpmn_settings_refuse(bad, named):
    with pytest.raises(ValueError, match=named):
        HPMNSettings(**bad)
