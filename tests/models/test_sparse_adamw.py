"""SparseAdamW beside a slow row-by-row reference, and Keras's AdamW where both agree."""

import numpy as np
import pytest
import tensorflow as tf

from models.sparse_adamw import SparseAdamW

LR, DECAY, BETA_1, BETA_2, EPSILON = 0.1, 0.02, 0.9, 0.999, 1e-7
ROWS, DIM = 5, 3
# Row 2 twice in a batch, row 4 never, row 0 again after a pause.
BATCHES = [[0, 2, 2], [1, 2, 3], [3, 1, 2], [0, 2, 3]]


def gradients():
    rng = np.random.default_rng(1)
    return [rng.normal(size=(len(rows), DIM)).astype(np.float32) for rows in BATCHES]


def slow_adamw(table):
    """Returns the table after the batches, a row and a step at a time."""
    table = table.astype(np.float64)
    first, second = np.zeros_like(table), np.zeros_like(table)
    count = np.zeros(len(table))
    for rows, values in zip(BATCHES, gradients(), strict=True):
        for row in sorted(set(rows)):
            gradient = sum(
                v for r, v in zip(rows, values.astype(float), strict=True) if r == row
            )
            count[row] += 1
            first[row] = BETA_1 * first[row] + (1 - BETA_1) * gradient
            second[row] = BETA_2 * second[row] + (1 - BETA_2) * gradient**2
            mean = first[row] / (1 - BETA_1 ** count[row])
            scale = np.sqrt(second[row] / (1 - BETA_2 ** count[row])) + EPSILON
            table[row] -= LR * (mean / scale + DECAY * table[row])
    return table


def start():
    return np.random.default_rng(0).normal(size=(ROWS, DIM)).astype(np.float32)


def check_against_reference(optimizer_class):
    """The checker: the table after batches with pauses, repeats and a row of none."""
    table = tf.Variable(start())
    optimizer = optimizer_class(LR, DECAY)
    for rows, values in zip(BATCHES, gradients(), strict=True):
        slices = tf.IndexedSlices(tf.constant(values), tf.constant(rows), [ROWS, DIM])
        optimizer.apply_gradients([(slices, table)])
    np.testing.assert_allclose(table.numpy(), slow_adamw(start()), rtol=2e-5, atol=1e-6)


class GlobalCount(SparseAdamW):
    """Corrects the moments by the number of steps, not of the row's updates."""

    def _moved(self, gradient, weights, first, second, count, axes):
        steps = tf.cast(self.iterations, tf.float32)
        moved, first, second, _ = super()._moved(
            gradient, weights, first, second, tf.fill(tf.shape(count), steps), axes
        )
        return moved, first, second, count


class DecaysEveryRow(SparseAdamW):
    def update_step(self, gradient, variable):
        variable.assign(variable * (1 - LR * DECAY))
        super().update_step(gradient, variable)


class CoupledDecay(SparseAdamW):
    """Adam with the decay inside the gradient."""

    def _moved(self, gradient, weights, first, second, count, axes):
        gradient = gradient + self.decay * weights
        self.decay, decay = 0.0, self.decay
        moved = super()._moved(gradient, weights, first, second, count, axes)
        self.decay = decay
        return moved


class DenseMoments(tf.keras.optimizers.AdamW):
    """Keras's: moves rows without a gradient too."""

    def __init__(self, learning_rate, decay):
        super().__init__(learning_rate, weight_decay=decay, jit_compile=False)


def test_sparse_adamw():
    check_against_reference(SparseAdamW)


@pytest.mark.parametrize(
    "wrong", [GlobalCount, DecaysEveryRow, CoupledDecay, DenseMoments]
)
def test_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_against_reference(wrong)


def test_dense_gradients_are_applied_as_by_keras():
    ours, theirs = tf.Variable(start()), tf.Variable(start())
    scalar, their_scalar = tf.Variable(0.5), tf.Variable(0.5)
    optimizer = SparseAdamW(LR, DECAY)
    reference = tf.keras.optimizers.AdamW(LR, weight_decay=DECAY, jit_compile=False)
    for seed in range(4):
        gradient = tf.random.stateless_normal([ROWS, DIM], [seed, 0])
        optimizer.apply_gradients([(gradient, ours), (gradient[0, 0], scalar)])
        reference.apply_gradients([(gradient, theirs), (gradient[0, 0], their_scalar)])
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-5)
    np.testing.assert_allclose(scalar, their_scalar, rtol=1e-4, atol=2e-5)


def test_rows_without_a_gradient_keep_every_bit():
    table = tf.Variable(start())
    optimizer = SparseAdamW(LR, DECAY)
    for rows, values in zip(BATCHES, gradients(), strict=True):
        slices = tf.IndexedSlices(tf.constant(values), tf.constant(rows), [ROWS, DIM])
        optimizer.apply_gradients([(slices, table)])
    np.testing.assert_array_equal(table[4], start()[4])
    for moment in optimizer.variables:
        if moment.shape.rank and moment.shape[0] == ROWS:
            np.testing.assert_array_equal(moment[4], np.zeros_like(moment[4]))


def check_cost_does_not_follow_the_table(optimizer):
    """No operation of a step makes a tensor with a row for each of the table's."""
    num_rows = 977
    table = tf.Variable(tf.zeros([num_rows, DIM]))
    optimizer.build([table])

    @tf.function
    def step(values, rows):
        slices = tf.IndexedSlices(values, rows, table.shape)
        optimizer.apply_gradients([(slices, table)])

    graph = step.get_concrete_function(tf.ones([2, DIM]), tf.constant([3, 5])).graph
    whole = [
        operation.name
        for operation in graph.get_operations()
        for output in operation.outputs
        if output.shape.rank and output.shape[0] == num_rows
    ]
    assert not whole, whole


class KeepsKerasDecay(SparseAdamW):
    """What Keras does where it is told no decay: it takes 0 times the table off it."""

    def __init__(self, learning_rate, decay):
        super().__init__(learning_rate, decay)
        self.weight_decay = 0


def test_cost_does_not_follow_the_table():
    check_cost_does_not_follow_the_table(SparseAdamW(LR, DECAY))


@pytest.mark.parametrize("wrong", [KeepsKerasDecay, DenseMoments])
def test_cost_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_cost_does_not_follow_the_table(wrong(LR, DECAY))


def test_state_survives_a_checkpoint(tmp_path):
    def step(table, optimizer, at):
        slices = tf.IndexedSlices(
            tf.constant(gradients()[at]), tf.constant(BATCHES[at]), [ROWS, DIM]
        )
        optimizer.apply_gradients([(slices, table)])

    table, optimizer = tf.Variable(start()), SparseAdamW(LR, DECAY)
    for at in range(3):
        step(table, optimizer, at)
    path = tf.train.Checkpoint(table=table, optimizer=optimizer).write(
        str(tmp_path / "state")
    )
    again, fresh = tf.Variable(start()), SparseAdamW(LR, DECAY)
    fresh.build([again])
    restored = tf.train.Checkpoint(table=again, optimizer=fresh).read(path)
    restored.assert_existing_objects_matched()
    step(table, optimizer, 3)
    step(again, fresh, 3)
    np.testing.assert_array_equal(table, again)


def test_config_makes_the_same_optimizer():
    optimizer = SparseAdamW(LR, DECAY, beta_1=0.8, beta_2=0.9, epsilon=1e-5)
    same = SparseAdamW.from_config(optimizer.get_config())
    assert same.get_config() == optimizer.get_config()


def test_refuses_a_negative_decay():
    with pytest.raises(ValueError, match=r"`weight_decay` should be >= 0.*-1"):
        SparseAdamW(LR, -1)
