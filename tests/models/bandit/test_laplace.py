"""Posteriors against closed forms, slow loops and finite differences, in float64."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import optimize

from models.bandit import laplace
from models.bandit.laplace import BERNOULLI, GAUSSIAN, Beliefs, Entries

NUM_ROWS, DIM, BATCH = 9, 3, 12


def make_fields(seed, num_fields=3, length=3):
    """Returns entries of rows 1.. of the table, some repeated, some padded."""
    rng = np.random.default_rng(seed)
    per_field = (NUM_ROWS - 1) // num_fields
    out = []
    for number in range(num_fields):
        first = 1 + number * per_field
        rows = rng.integers(first, first + per_field, [BATCH, length])
        values = rng.normal(size=[BATCH, length]) * (rng.random([BATCH, length]) < 0.8)
        out.append((rows, values))
    return out


def as_entries(fields):
    return [laplace.entries(tf.constant(r), tf.constant(v)) for r, v in fields]


def slow_phi(theta, fields, row):
    """Returns phi of one row of data: field sums, then all pairs, one by one."""
    sums = []
    for rows, values in fields:
        total = np.zeros(theta.shape[1])
        for place, value in zip(rows[row], values[row], strict=True):
            total = total + value * theta[place]
        sums.append(total)
    out = theta[0, 0] + sum(part[0] for part in sums)
    for i in range(len(sums)):
        for j in range(i + 1, len(sums)):
            out += sums[i][1:] @ sums[j][1:]
    return out


def slow_loss(theta, fields, targets):
    phi = np.array([slow_phi(theta, fields, row) for row in range(BATCH)])
    return np.sum(np.log1p(np.exp(phi)) - targets * phi)


def make_problem(seed, **kwargs):
    rng = np.random.default_rng(seed)
    fields = make_fields(seed, **kwargs)
    means = 0.5 * rng.normal(size=[NUM_ROWS, DIM])
    precisions = rng.uniform(0.5, 3.0, size=[NUM_ROWS, DIM])
    targets = rng.choice([0.0, 0.5, 1.0], size=BATCH)
    return fields, means, precisions, targets


def test_forward_equals_the_sum_over_all_pairs():
    fields, theta, _, _ = make_problem(0)
    phi = laplace.forward(theta[0, 0], laplace.field_sums(theta, as_entries(fields)))
    expected = [slow_phi(theta, fields, row) for row in range(BATCH)]
    np.testing.assert_allclose(phi, expected, rtol=1e-10)


def check_hessian(hessian_diagonal):
    """The diagonal of the loss's Hessian by central differences of the loss itself."""
    fields, theta, _, targets = make_problem(1)
    step = 1e-4
    expected = np.zeros_like(theta)
    for place in np.ndindex(*theta.shape):
        moved = np.zeros_like(theta)
        moved[place] = step
        expected[place] = (
            slow_loss(theta + moved, fields, targets)
            - 2 * slow_loss(theta, fields, targets)
            + slow_loss(theta - moved, fields, targets)
        ) / step**2
    actual = hessian_diagonal(tf.constant(theta), as_entries(fields), BERNOULLI)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def _without_merging(theta, fields, likelihood):
    apart = [Entries(f.rows, f.values, tf.square(f.values)) for f in fields]
    return laplace.hessian_diagonal(theta, apart, likelihood)


def _absolute_slope(theta, fields, likelihood):
    flat = [Entries(f.rows, f.values, tf.abs(f.values)) for f in fields]
    return laplace.hessian_diagonal(theta, flat, likelihood)


def _with_curvature(curvature):
    def diagonal(theta, fields, likelihood):
        wrong = likelihood._replace(curvature=curvature)
        return laplace.hessian_diagonal(theta, fields, wrong)

    return diagonal


def _own_vector_left_in(theta, fields, likelihood):
    """h = Q without - v x: the formula of a field's own derivative forgotten."""
    sums = laplace.field_sums(theta, fields)
    joint = tf.reduce_sum(sums, axis=-2, keepdims=True) + tf.zeros_like(sums)
    joint = tf.concat([tf.ones_like(sums[..., :1]), joint[..., 1:]], axis=-1)
    curvature = likelihood.curvature(laplace.forward(theta[0, 0], sums))
    return laplace._pulled_back(
        tf.shape(theta), fields, curvature, tf.square(joint), squared=True
    )


WRONG_HESSIANS = {
    "repeated rows not merged": _without_merging,
    "x for x squared": _absolute_slope,
    "a stray 1 in the curvature": _with_curvature(
        lambda phi: tf.sigmoid(1 + phi) * tf.sigmoid(-1 - phi)
    ),
    "curvature 1": _with_curvature(tf.ones_like),
    "own vector left in": _own_vector_left_in,
}


def test_hessian_diagonal_equals_finite_differences():
    check_hessian(laplace.hessian_diagonal)


@pytest.mark.parametrize("wrong", WRONG_HESSIANS.values(), ids=WRONG_HESSIANS)
def test_hessian_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_hessian(wrong)


def check_conjugate(update):
    """Linear and Gaussian: the mean of Bayesian regression, its precision's diagonal.

    One field: nothing interacts, and the vectors stay where they were.
    """
    fields, means, precisions, targets = make_problem(2, num_fields=1, length=8)
    design = np.zeros([BATCH, NUM_ROWS])
    design[:, 0] = 1.0
    for row in range(BATCH):
        for place, value in zip(*(part[row] for part in fields[0]), strict=True):
            design[row, place] += value
    weight_precision = np.diag(precisions[:, 0])
    whole = weight_precision + design.T @ design
    mean = np.linalg.solve(whole, weight_precision @ means[:, 0] + design.T @ targets)
    after = update(
        Beliefs(tf.constant(means), tf.constant(precisions)),
        as_entries(fields),
        tf.constant(targets),
        GAUSSIAN,
    )
    np.testing.assert_allclose(after.means[:, 0], mean, rtol=1e-6)
    np.testing.assert_allclose(after.means[:, 1:], means[:, 1:], rtol=1e-12)
    np.testing.assert_allclose(after.precisions[:, 0], np.diag(whole), rtol=1e-9)
    np.testing.assert_allclose(after.precisions[:, 1:], precisions[:, 1:], rtol=1e-12)


def check_bernoulli(update):
    """The minimum of the objective, by an optimizer that sees the slow loss only."""
    fields, means, precisions, targets = make_problem(7)

    def objective(flat):
        theta = flat.reshape(means.shape)
        prior = 0.5 * np.sum(precisions * (theta - means) ** 2)
        return prior + slow_loss(theta, fields, targets)

    found = optimize.minimize(
        objective, means.ravel(), method="BFGS", options={"gtol": 1e-6}
    )
    theta = found.x.reshape(means.shape)
    after = update(
        Beliefs(tf.constant(means), tf.constant(precisions)),
        as_entries(fields),
        tf.constant(targets),
        BERNOULLI,
        newton_steps=10,
        solver_steps=30,
    )
    np.testing.assert_allclose(after.means, theta, atol=2e-4)
    # p(1 - p) (x h)^2 of the weights, which have h = 1, by hand.
    expected = precisions[:, 0].copy()
    for row in range(BATCH):
        prob = 1 / (1 + np.exp(-slow_phi(theta, fields, row)))
        x = np.zeros(NUM_ROWS)
        x[0] = 1.0
        for rows, values in fields:
            np.add.at(x, rows[row], values[row])
        expected += prob * (1 - prob) * x**2
    np.testing.assert_allclose(after.precisions[:, 0], expected, rtol=1e-3)


def _signless(prior, fields, targets, likelihood, **kwargs):
    """Rewards 0 and 1 in a loss of labels -1 and 1: a 0 has no gradient."""
    wrong = likelihood._replace(
        loss=lambda y, phi: tf.nn.softplus(-y * phi),
        mean=lambda phi: targets - targets * tf.sigmoid(-targets * phi),
    )
    return laplace.updated(prior, fields, targets, wrong, **kwargs)


def _stray_one(prior, fields, targets, likelihood, **kwargs):
    """Curvature of 1 + exp(1 + phi)."""
    wrong = likelihood._replace(
        curvature=lambda phi: tf.exp(1 + phi) / tf.square(1 + tf.exp(1 + phi))
    )
    return laplace.updated(prior, fields, targets, wrong, **kwargs)


def _keeps_precisions(prior, fields, *args, **kwargs):
    after = laplace.updated(prior, fields, *args, **kwargs)
    return Beliefs(after.means, prior.precisions)


def _only_the_data(prior, fields, targets, likelihood, **kwargs):
    """The prior's pull left out: its precision does not count in the means."""
    flat = Beliefs(prior.means, 1e-6 * prior.precisions)
    after = laplace.updated(flat, fields, targets, likelihood, **kwargs)
    return Beliefs(after.means, after.precisions + prior.precisions)


def _one_gradient_step(prior, fields, targets, likelihood, **kwargs):
    return laplace.updated(
        prior, fields, targets, likelihood, newton_steps=1, solver_steps=1
    )


WRONG_UPDATES = {
    "precisions kept": _keeps_precisions,
    "prior left out of the means": _only_the_data,
    "one step only": _one_gradient_step,
}
WRONG_BERNOULLI = WRONG_UPDATES | {
    "0 has no gradient": _signless,
    "a stray 1 in the curvature": _stray_one,
}


def test_posterior_equals_conjugate_regression():
    check_conjugate(laplace.updated)


@pytest.mark.parametrize("wrong", WRONG_UPDATES.values(), ids=WRONG_UPDATES)
def test_conjugate_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_conjugate(wrong)


def test_posterior_means_are_the_minimum():
    check_bernoulli(laplace.updated)


@pytest.mark.parametrize("wrong", WRONG_BERNOULLI.values(), ids=WRONG_BERNOULLI)
def test_bernoulli_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_bernoulli(wrong)


def _one_hot(rows):
    column = tf.constant(rows)[:, tf.newaxis]
    return [laplace.entries(column, tf.ones_like(column, tf.float64))]


def test_batches_in_any_order_or_joined_give_one_posterior():
    """One-hot and Gaussian, the bias held fast: the case in which nothing is lost."""
    rng = np.random.default_rng(4)
    rows, targets = rng.integers(1, NUM_ROWS, 30), rng.normal(size=30)
    precisions = np.ones([NUM_ROWS, DIM])
    precisions[0] = 1e12
    prior = Beliefs(tf.zeros([NUM_ROWS, DIM], tf.float64), tf.constant(precisions))

    def learnt(parts):
        beliefs = prior
        for part in parts:
            beliefs = laplace.updated(
                beliefs, _one_hot(rows[part]), tf.constant(targets[part]), GAUSSIAN
            )
        return beliefs

    joined = learnt([np.arange(30)])
    parts = np.split(rng.permutation(30), [7, 19])
    for order in (parts, parts[::-1], [parts[1], parts[0], parts[2]]):
        for whole, piecewise in zip(joined, learnt(order), strict=True):
            np.testing.assert_allclose(piecewise, whole, rtol=1e-6, atol=1e-9)


def test_a_batch_never_makes_a_precision_smaller():
    for seed in range(5):
        fields, means, precisions, targets = make_problem(seed)
        after = laplace.updated(
            Beliefs(tf.constant(means), tf.constant(precisions)),
            as_entries(fields),
            tf.constant(targets),
        )
        assert (after.precisions.numpy() >= precisions).all()


def test_negatives_alone_move_the_bias():
    """In public code a batch of negatives left the means at 0."""
    prior = Beliefs(tf.zeros([2, 2]), tf.ones([2, 2]))
    field = laplace.entries(tf.ones([40, 1], tf.int64), tf.ones([40, 1]))
    after = laplace.updated(prior, [field], tf.zeros([40]), newton_steps=5)
    assert after.means[0, 0] < -1


def check_variances(field_variances):
    """The variance of a field's sum over draws of the table."""
    fields, means, precisions, _ = make_problem(5)
    rng = np.random.default_rng(6)
    draws = means + rng.normal(size=[20_000, NUM_ROWS, DIM]) / np.sqrt(precisions)
    variances = np.asarray(field_variances(precisions, as_entries(fields)))
    for number, (rows, values) in enumerate(fields):
        for row in range(3):
            sums = np.einsum("l,sld->sd", values[row], draws[:, rows[row]])
            # A variance's own relative error is sqrt(2 / 20,000) = .01.
            np.testing.assert_allclose(
                variances[row, number], sums.var(axis=0), rtol=0.05, atol=1e-9
            )


def test_field_variances_are_those_of_draws():
    check_variances(laplace.field_variances)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda q, fields: laplace.field_variances(np.sqrt(q), fields),
        lambda q, fields: laplace.field_variances(q**2, fields),
        lambda q, fields: laplace.field_variances(
            q, [Entries(f.rows, f.values, tf.square(f.values)) for f in fields]
        ),
    ],
    ids=["square root", "standard deviation 1 / q", "repeated rows not merged"],
)
def test_variance_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_variances(wrong)
