import numpy as np
import pytest
import tensorflow as tf

from models.layers.dice import DiceMLP
from models.layers.options import AugruForm
from models.ranking.dien import DIEN
from models.ranking.dien_settings import Activation, DIENSettings
from tests import reference_sequence as reference
from tests.models import ranker_contract
from tests.models.ranker_contract import RankerContract
from tests.models.ranking import sequence_rows
from tests.models.ranking.sequence_rows import weights
from tests.models.ranking.test_gru4rec import _gates

UNITS = 6
SETTINGS = DIENSettings(
    embedding_dim=4,
    units=UNITS,
    attention=(8, 5),
    auxiliary_hidden=(7,),
    hidden=(16, 8),
    dropout=0.0,
)
RELU = SETTINGS.model_copy(update={"activation": Activation.RELU})
CODE = RELU.model_copy(update={"augru": AugruForm.CODE})


class TestDIEN(RankerContract):
    def make(self, space):
        return DIEN(space, SETTINGS, ranker_contract.items())


class TestDIENAsItsProgram(RankerContract):
    def make(self, space):
        return DIEN(space, CODE.model_copy(update={"auxiliary_weight": 0.0}))


def _attention_layers(attention):
    """Returns the first layer on [q, k, q - k, q * k], q - k at 0, and the others."""
    (of_query, bias), (of_key,), (of_product,) = map(
        weights, (attention.of_query, attention.of_key, attention.of_product)
    )
    first = np.concatenate([of_query, of_key, np.zeros_like(of_key), of_product])
    return [(first, bias), *map(weights, attention.dense)]


def check_forward(model_class, settings):
    model = sequence_rows.made(model_class, settings)
    layers = _attention_layers(model.attention)
    logit = weights(model.attention.logit)[0][:, 0]
    parts = [np.split(part, 3, axis=-1) for part in weights(model.evolution)]
    names = ("update", "reset", "new")
    gates = dict(zip(names, zip(*parts, strict=True), strict=True))
    (slope,) = weights(model.slope)

    def expected(row):
        total, evolved = np.zeros(len(row.target)), np.zeros(UNITS)
        if len(row.events):
            interests = reference.gru_states(row.events, _gates(model.interests))
            query = reference.dense(row.target, weights(model.target))
            query = np.where(query > 0, query, slope[0] * query)
            shares = reference.target_attention(query, interests, layers, logit)
            evolved = reference.augru_state(
                interests, shares, gates, settings.augru.value
            )
            total = row.events.sum(axis=0)
        pair = [row.target * total, evolved]
        return sequence_rows.head(model, [row.user, total], [row.item, *pair])

    sequence_rows.check_logits(model, expected)


class EvolvesTheEvents(DIEN):
    """Attends to interests, and drops them on the way."""

    def compare(self, state, fields, training):
        total, interests, is_event = state
        return super().compare((total, 0 * interests, is_event), fields, training)


class NoSum(DIEN):
    def compare(self, state, fields, training):
        return super().compare((0 * state[0], *state[1:]), fields, training)


class MeanForSum(DIEN):
    def read_history(self, features, user, training):
        total, state = super().read_history(features, user, training)
        return total / 6, (total / 6, *state[1:])


class SeesPadding(DIEN):
    def compare(self, state, fields, training):
        total, interests, is_event = state
        seen = tf.ones_like(is_event)
        return super().compare((total, interests, seen), fields, training)


@pytest.mark.parametrize("settings", [RELU, CODE], ids=["paper", "code"])
def test_dien_forward_equals_the_formula(settings):
    check_forward(DIEN, settings)


@pytest.mark.parametrize("wrong", [EvolvesTheEvents, NoSum, MeanForSum, SeesPadding])
def test_forward_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_forward(wrong, RELU)


def test_forward_checker_tells_the_forms_apart():
    class Other(DIEN):
        def __init__(self, space, settings, items):
            super().__init__(space, CODE, items)

    with pytest.raises(AssertionError):
        check_forward(Other, RELU)


# The head with Dice.


def check_dice_head(head_class):
    """Against loops, at serving, after a few batches."""
    rng = np.random.default_rng(0)
    query = rng.normal(size=(5, 1, 3)).astype(np.float32)
    candidates = rng.normal(size=(5, 4, 2)).astype(np.float32)
    head = head_class((6, 4))
    for _ in range(3):
        head(tf.constant(query), tf.constant(candidates), training=True)
    for variable in head.trainable_variables:
        variable.assign(rng.normal(size=variable.shape))
    first = np.concatenate([head.query_dense.kernel, head.candidate_dense.kernel])
    layers = [(first, head.bias.numpy()), *map(weights, head.dense)]
    expected = np.zeros((5, 4))
    for row, candidate in np.ndindex(5, 4):
        hidden = np.concatenate([query[row, 0], candidates[row, candidate]])
        for layer, dice in zip(layers, head.dice, strict=True):
            normalise = dice.normalise
            hidden = reference.dice(
                reference.dense(hidden, layer),
                normalise.moving_mean.numpy(),
                normalise.moving_variance.numpy(),
                dice.alpha.numpy(),
            )
        expected[row, candidate] = float(hidden @ head.out.kernel.numpy()[:, 0])
    found = head(tf.constant(query), tf.constant(candidates))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


class DiceBehindTheFirstLayerOnly(DiceMLP):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.last = self.dice[1]

    def call(self, query, candidates, training=False):
        super().call(query, candidates, training)  # builds all
        self.dice[1] = lambda hidden, training: hidden
        logits = super().call(query, candidates, training)
        self.dice[1] = self.last
        return logits


class IgnoresTheQuery(DiceMLP):
    def call(self, query, candidates, training=False):
        return super().call(0 * query, candidates, training)


class AlwaysTrains(DiceMLP):
    def call(self, query, candidates, training=False):
        return super().call(query, candidates, training=True)


def test_dice_head():
    check_dice_head(DiceMLP)


@pytest.mark.parametrize(
    "wrong", [DiceBehindTheFirstLayerOnly, IgnoresTheQuery, AlwaysTrains]
)
def test_dice_head_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_dice_head(wrong)


def test_dien_has_the_head_asked_for():
    assert isinstance(sequence_rows.made(DIEN, SETTINGS).head, DiceMLP)
    assert not isinstance(sequence_rows.made(DIEN, RELU).head, DiceMLP)


# The auxiliary loss.


def _losses(weight, training=True):
    settings = RELU.model_copy(update={"auxiliary_weight": weight, "l2": 0.0})
    model = sequence_rows.made(DIEN, settings)
    if model.next_event is not None:
        model(sequence_rows.ROWS, training=True)
        rng = np.random.default_rng(2)
        for variable in model.next_event.trainable_variables:
            variable.assign(rng.normal(size=variable.shape))
    tf.random.set_seed(1)  # of the draws
    with tf.GradientTape() as tape:
        model(sequence_rows.ROWS, training=training)
        loss = tf.add_n(model.losses) if model.losses else tf.constant(0.0)
    return model, loss, tape


def test_dien_adds_the_auxiliary_loss_in_training_only():
    assert _losses(0.5)[1] > 0
    np.testing.assert_allclose(_losses(0.5)[1], 0.5 * _losses(1.0)[1], rtol=1e-5)
    assert _losses(0.0)[1] == 0
    assert _losses(0.0)[0].next_event is None
    assert _losses(1.0, training=False)[0].losses == []


def test_dien_auxiliary_loss_reaches_its_network_the_interests_and_the_events():
    model, loss, tape = _losses(1.0)
    reached = {
        "network": model.next_event.trainable_variables,
        "interests": model.interests.trainable_variables,
        "events": [model.inputs_layer.vectors.table],
    }
    others = [*model.head.trainable_variables, *model.evolution.trainable_variables]
    every = [variable for part in reached.values() for variable in part]
    gradients = tape.gradient(loss, [*every, *others])
    assert len(reached["network"]) == 4
    for variable, gradient in zip([*every, *others], gradients, strict=True):
        if any(variable is other for other in others):
            assert gradient is None, variable.name
            continue
        values = tf.convert_to_tensor(gradient)
        assert np.isfinite(values).all() and np.any(values), variable.name


def test_dien_padding_leaves_the_auxiliary_loss_as_it_is():
    """Draws are by place, so the loss is compared where all draws cost the same."""
    model, _, _ = _losses(1.0)
    network = model.next_event
    for variable in network.trainable_variables:
        variable.assign(0 * variable)
    name = sequence_rows.SPACE.history_name
    history = sequence_rows.ROWS[name]
    pairs = np.maximum((history.numpy() != 0).sum(axis=1) - 1, 0).sum()
    for padded in (history, tf.pad(history, [[0, 0], [4, 0]])):
        model({**sequence_rows.ROWS, name: padded}, training=True)
        loss = tf.add_n(model.losses)
        # log 2 for the next event of each pair, and for each event drawn against it
        # that has another id.
        assert np.log(2) * (1 + 0.5) < loss <= 2 * np.log(2) + 1e-6
    assert pairs > 20
