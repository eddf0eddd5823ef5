import numpy as np
import pytest
import tensorflow as tf

from models.split_optimizer import SplitOptimizer

STEPS = [([0.5, -1.0], [[1.0, 2.0]]), ([0.0, 2.0], [[-1.0, 0.5]])]


def _variables():
    return [tf.Variable([1.0, 2.0]), tf.Variable([[3.0, 4.0]])]


def _by_hand():
    """Plain gradient descent of the first, Adagrad from .1 of the second."""
    first, second = (variable.numpy() for variable in _variables())
    seen = np.full_like(second, 0.1)
    for of_first, of_second in STEPS:
        first = first - 0.5 * np.array(of_first)
        seen = seen + np.square(of_second)
        second = second - 0.2 * np.array(of_second) / np.sqrt(seen + 1e-7)
    return first, second


def check_split(make):
    """Holds each variable to its own optimizer's rule, in a traced step as well."""
    variables = _variables()
    optimizer = make(
        tf.keras.optimizers.SGD(0.5), tf.keras.optimizers.Adagrad(0.2), variables
    )
    optimizer.build(variables)

    @tf.function
    def step(*gradients):
        optimizer.apply_gradients(zip(gradients, variables, strict=True))

    for gradients in STEPS:
        step(*map(tf.constant, gradients))
    for variable, expected in zip(variables, _by_hand(), strict=True):
        np.testing.assert_allclose(variable, expected, rtol=1e-6)
    assert int(optimizer.iterations) == 2


def test_split_optimizer_value():
    check_split(lambda sgd, adagrad, v: SplitOptimizer(sgd, adagrad, v[:1]))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda sgd, adagrad, v: SplitOptimizer(sgd, adagrad, v[1:]),
        lambda sgd, adagrad, v: SplitOptimizer(sgd, adagrad, v),
        lambda sgd, adagrad, v: adagrad,
    ],
)
def test_split_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_split(wrong)


def test_split_optimizer_is_checkpointed_with_both(tmp_path):
    """What goes on from a checkpoint goes on with the slots of both."""

    def make():
        variables = _variables()
        ftrl, adagrad = tf.keras.optimizers.Ftrl(0.5), tf.keras.optimizers.Adagrad(0.2)
        optimizer = SplitOptimizer(ftrl, adagrad, variables[:1])
        optimizer.build(variables)
        checkpoint = tf.train.Checkpoint(optimizer=optimizer, variables=variables)
        return variables, optimizer, checkpoint

    def step(optimizer, variables, gradients):
        tensors = map(tf.constant, gradients)
        optimizer.apply_gradients(zip(tensors, variables, strict=True))

    variables, optimizer, checkpoint = make()
    step(optimizer, variables, STEPS[0])
    path = checkpoint.write(str(tmp_path / "state"))
    step(optimizer, variables, STEPS[1])

    again, restored, checkpoint = make()
    checkpoint.read(path).assert_existing_objects_matched()
    assert int(restored.iterations) == 1
    step(restored, again, STEPS[1])
    for variable, expected in zip(again, variables, strict=True):
        np.testing.assert_array_equal(variable, expected)


def test_split_optimizer_refuses_to_be_made_from_a_config():
    optimizer = SplitOptimizer(tf.keras.optimizers.SGD(), tf.keras.optimizers.SGD(), [])
    with pytest.raises(NotImplementedError, match="Make it anew"):
        optimizer.get_config()
