"""A step of the optimizer on one batch and on several micro-batches."""

import numpy as np
import pytest
import tensorflow as tf

from models.losses.accumulation import mean_gradients
from models.retrieval import train_step as module
from models.retrieval.settings import RetrievalSettings
from models.retrieval.train_step import train_step
from models.retrieval.trainer import make_optimizer
from tests.models.retrieval import loss_world

OPTIONS = {"sampling_measure": "expected_count", "drawn_negatives": 3}
NUM_ROWS, NUM_MICRO_BATCHES = 11, 3  # of 4, 4 and 3 rows


def _rows(batch, places):
    return tf.nest.map_structure(lambda values: tf.gather(values, places), batch)


def _by_hand(optimizer):
    """Returns the variables and the loss after a step, and the estimator's steps.

    The reference: each micro-batch's own loss and gradient at one place, in the mean
    over all rows.
    """
    towers = loss_world.model(**OPTIONS)
    variables = towers.trainable_variables
    batch = loss_world.batch(NUM_ROWS, seed=0)
    total = [np.zeros(variable.shape) for variable in variables]
    touched: list[set] = [set() for _ in variables]  # rows of tables
    loss = 0.0
    for first in range(NUM_MICRO_BATCHES):
        places = np.arange(first, NUM_ROWS, NUM_MICRO_BATCHES)
        share = len(places) / NUM_ROWS
        with tf.GradientTape() as tape:
            of_micro_batch = towers.compute_loss(_rows(batch, places), training=True)
        loss += share * float(of_micro_batch)
        for place, gradient in enumerate(tape.gradient(of_micro_batch, variables)):
            if gradient is not None:
                total[place] += share * tf.convert_to_tensor(gradient).numpy()
            if isinstance(gradient, tf.IndexedSlices):
                touched[place] |= set(gradient.indices.numpy().tolist())
    gradients = [
        tf.IndexedSlices(
            tf.constant(gradient[sorted(rows)], tf.float32),
            tf.constant(sorted(rows), tf.int64),
            gradient.shape,
        )
        if rows
        else tf.constant(gradient, tf.float32)
        for gradient, rows in zip(total, touched, strict=True)
    ]
    optimizer.apply_gradients(zip(gradients, variables, strict=True))
    return [v.numpy() for v in variables], loss, int(towers.frequency.step)


def _trained(optimizer, step):
    towers = loss_world.model(**OPTIONS)
    towers.compile(optimizer)
    logs = step(towers, loss_world.batch(NUM_ROWS, seed=0))
    return (
        [variable.numpy() for variable in towers.trainable_variables],
        float(logs["loss"]),
        int(towers.frequency.step),
    )


def check_accumulation(step, make=lambda: tf.keras.optimizers.SGD(1.0)):
    """Variables after a step at rate 1 are the gradient; three estimator steps."""
    variables, loss, num_steps = _trained(make(), step)
    expected, expected_loss, expected_steps = _by_hand(make())
    assert num_steps == expected_steps == NUM_MICRO_BATCHES
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
    for actual, wanted in zip(variables, expected, strict=True):
        np.testing.assert_allclose(actual, wanted, atol=2e-5)


def ours(towers, batch):
    return train_step(towers, batch, NUM_MICRO_BATCHES)


def _one_joined_batch(towers, batch):
    return train_step(towers, batch, 1)


def _a_step_each(towers, batch):
    logs = [
        train_step(towers, _rows(batch, np.arange(first, NUM_ROWS, NUM_MICRO_BATCHES)))
        for first in range(NUM_MICRO_BATCHES)
    ]
    return {"loss": sum(of["loss"] for of in logs) / NUM_MICRO_BATCHES}


def _with(**changed):
    def step(towers, batch):
        with pytest.MonkeyPatch.context() as patch:
            for name, value in changed.items():
                patch.setattr(module, name, value)
            return ours(towers, batch)

    return step


def _summed(gradients):
    return mean_gradients(
        [
            [
                None if g is None else NUM_MICRO_BATCHES * tf.convert_to_tensor(g)
                for g in of
            ]
            for of in gradients
        ]
    )


WRONG = {
    "one joined batch": _one_joined_batch,
    "a step of the optimizer each": _a_step_each,
    "the sum": _with(mean_gradients=_summed),
    "the last alone": _with(mean_gradients=lambda found: found[-1]),
    "micro-batches weigh alike": _with(
        batch_loss=lambda towers, batch, training, num_rows: towers.compute_loss(
            batch, training
        )
    ),
}


def test_accumulation_is_the_mean_over_rows_of_micro_batches():
    check_accumulation(ours)


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_checker_of_accumulation_rejects(wrong):
    with pytest.raises(AssertionError):
        check_accumulation(wrong)


@pytest.mark.parametrize("name", ["adamw", "sparse_adamw"])
def test_accumulation_with_the_products_optimizers(name):
    settings = RetrievalSettings(optimizer=name)
    check_accumulation(ours, lambda: make_optimizer(settings))


def test_fewer_rows_than_micro_batches_train():
    towers = loss_world.model(accumulation_steps=4, **OPTIONS)
    towers.compile(tf.keras.optimizers.SGD(1.0))
    before = [variable.numpy() for variable in towers.trainable_variables]
    loss = towers.train_step(loss_world.batch(2, seed=0))["loss"]
    assert np.isfinite(loss)
    after = [variable.numpy() for variable in towers.trainable_variables]
    assert all(np.isfinite(value).all() for value in after)
    assert any((a != b).any() for a, b in zip(after, before, strict=True))
    assert int(towers.frequency.step) == 2  # an empty micro-batch is no step


@pytest.mark.parametrize("optimizer", ["adamw", "sparse_adamw"])
def test_fit_trains_as_its_steps_do(optimizer):
    """In a graph: the estimator is read and moved in the order of the program."""
    options = {"accumulation_steps": 2, "optimizer": optimizer, **OPTIONS}
    batches = [loss_world.batch(6, seed=seed) for seed in range(3)]
    found = []
    for fits in (True, False):
        towers = loss_world.model(**options)
        towers.compile(make_optimizer(towers.settings))
        if fits:
            data = tf.data.Dataset.from_generator(
                lambda: batches,
                output_signature=tf.nest.map_structure(
                    tf.type_spec_from_value, batches[0]
                ),
            )
            towers.fit(data, verbose=0)
        else:
            for batch in batches:
                towers.train_step(batch)
        assert int(towers.frequency.step) == 6
        found.append(
            [v.numpy() for v in (*towers.trainable_variables, towers.frequency.gap)]
        )
    for in_graph, eager in zip(*found, strict=True):
        np.testing.assert_allclose(in_graph, eager, atol=1e-4)
