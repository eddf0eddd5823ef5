"""The posterior of a factorisation machine, as tensors: forward, derivatives, updates.

All parameters stand in one table, theta [N, D], D = 1 + K. Row n belongs to one value of
one field: theta[n, 0] is its weight w, theta[n, 1:] its vector v. Row 0 is the bias:
theta[0, 0]; its other numbers are not used. A posterior is two such tables: means m, and
precisions q, every parameter being N(m, 1 / q), independent of the others.

With S_f = sum_l x_l theta[row_l] over the entries l of field f, and Q = sum_f S_f[1:],

    phi = theta[0, 0] + sum_f S_f[0] + sum_{f < g} <S_f[1:], S_g[1:]>

which is linear in each single parameter: d phi / d theta[row_l] = x_l h_f with
h_f = [1, Q - S_f[1:]]. So the diagonal of the loss's Hessian is p (1 - p) (x h)^2, with no
term of the residual, whatever the labels.

References:
    [1] Chapelle, Li. An Empirical Evaluation of Thompson Sampling. NIPS 2011. Algorithm 3.
    [2] Rendle. Factorization Machines with libFM. TIST 2012. Eq. (22)-(27).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from models.layers.fm_interaction import fm_interaction

_ENOUGH = 1e-6  # of the first residual: conjugate gradients stop there
_MOST_HALVINGS = 6


class Entries(NamedTuple):
    """The values of one field in rows of data.

    Attributes:
        rows: [..., L] integer, rows of the table; any where `values` is 0.
        values: [..., L] float, x.
        squares: [..., L] float: over the entries of one table row they add up to
            (sum of their x)^2. See `entries`.
    """

    rows: tf.Tensor
    values: tf.Tensor
    squares: tf.Tensor


class Likelihood(NamedTuple):
    """How targets depend on phi.

    Attributes:
        loss: (targets, phi) -> -log likelihood, up to a constant.
        mean: phi -> expected target; the loss's derivative is mean - target.
        curvature: phi -> the loss's second derivative.
    """

    loss: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    mean: Callable[[tf.Tensor], tf.Tensor]
    curvature: Callable[[tf.Tensor], tf.Tensor]


def _bernoulli_curvature(phi: tf.Tensor) -> tf.Tensor:
    return tf.sigmoid(phi) * tf.sigmoid(-phi)


# Targets in [0, 1]: a label, or a soft one such as .5 for an impression without a click.
BERNOULLI = Likelihood(
    lambda targets, phi: tf.nn.sigmoid_cross_entropy_with_logits(targets, phi),
    tf.sigmoid,
    _bernoulli_curvature,
)
# Noise of variance 1: the case in which the posterior has a closed form.
GAUSSIAN = Likelihood(
    lambda targets, phi: 0.5 * tf.square(phi - targets), tf.identity, tf.ones_like
)


class Beliefs(NamedTuple):
    """A posterior: [N, D] each."""

    means: tf.Tensor
    precisions: tf.Tensor


def entries(rows: tf.Tensor, values: tf.Tensor) -> Entries:
    """Returns a field's entries; a row that stands several times counts by its sum.

    Args:
        rows: [..., L] integer.
        values: [..., L] float; 0 where there is no entry.
    """
    if rows.shape[-1] == 1:
        return Entries(rows, values, tf.square(values))
    is_same = rows[..., :, tf.newaxis] == rows[..., tf.newaxis, :]
    total = tf.linalg.matvec(tf.cast(is_same, values.dtype), values)
    return Entries(rows, values, values * total)


def field_sums(table: tf.Tensor, fields: Sequence[Entries]) -> tf.Tensor:
    """Returns S [..., F, D], the sum of x theta of each field."""
    return tf.stack(
        [_summed(table, field.rows, field.values) for field in fields], axis=-2
    )


def field_variances(precisions: tf.Tensor, fields: Sequence[Entries]) -> tf.Tensor:
    """Returns the variance of S [..., F, D], each field's alone."""
    inverse = tf.math.reciprocal(precisions)
    return tf.stack(
        [_summed(inverse, field.rows, field.squares) for field in fields], axis=-2
    )


def forward(bias: tf.Tensor, sums: tf.Tensor) -> tf.Tensor:
    """Returns phi [...] of S [..., F, D]."""
    weights, vectors = sums[..., 0], sums[..., 1:]
    return bias + tf.reduce_sum(weights, axis=-1) + fm_interaction(vectors)


def slopes(sums: tf.Tensor) -> tf.Tensor:
    """Returns h [..., F, D]: x h is the derivative of phi by each parameter."""
    vectors = sums[..., 1:]
    others = tf.reduce_sum(vectors, axis=-2, keepdims=True) - vectors
    return tf.concat([tf.ones_like(sums[..., :1]), others], axis=-1)


def hessian_diagonal(
    table: tf.Tensor, fields: Sequence[Entries], likelihood: Likelihood
) -> tf.Tensor:
    """Returns [N, D]: the second derivative of the summed loss by each parameter.

    sum_j curvature(phi_j) (x h)^2; it does not depend on the targets.

    Args:
        table: theta.
        fields: of B rows of data, [B, L] each.
        likelihood: what the loss is.
    """
    sums = field_sums(table, fields)
    curvature = likelihood.curvature(forward(table[0, 0], sums))
    return _pulled_back(
        tf.shape(table), fields, curvature, tf.square(slopes(sums)), squared=True
    )


def updated(
    prior: Beliefs,
    fields: Sequence[Entries],
    targets: tf.Tensor,
    likelihood: Likelihood = BERNOULLI,
    newton_steps: int = 2,
    solver_steps: int = 10,
) -> Beliefs:
    """Returns the posterior after a batch, by Laplace's approximation.

    theta = argmin 1/2 sum q (theta - m)^2 + sum_j loss(y_j, phi_j(theta))
    m' = theta,  q' = q + sum_j curvature(phi_j) (x h)^2

    The minimum is approached by Gauss-Newton steps from m, each solved by conjugate
    gradients and halved until it lowers the objective. A step costs as many passes over
    the batch's entries as `solver_steps`: O(entries K) each.

    Args:
        prior: m and q, [N, D] each: of the rows of the table that the batch touches.
        fields: [B, L] each.
        targets: [B].
        likelihood: what the loss is.
        newton_steps: of the minimisation.
        solver_steps: conjugate gradients a Newton step, at most.
    """
    problem = _Problem(prior, fields, targets, likelihood)
    _, theta = tf.while_loop(
        lambda step, _: step < newton_steps,
        lambda step, theta: [step + 1, problem.stepped(theta, solver_steps)],
        [tf.constant(0), prior.means],
        maximum_iterations=newton_steps,
    )
    information = hessian_diagonal(theta, fields, likelihood)
    return Beliefs(theta, prior.precisions + information)


class _Problem:
    """The minimisation in `updated`, whose arguments these are."""

    def __init__(self, prior, fields, targets, likelihood) -> None:
        self._prior = prior
        self._fields = fields
        self._targets = targets
        self._likelihood = likelihood
        self._shape = tf.shape(prior.means)

    def _objective(self, theta: tf.Tensor) -> tf.Tensor:
        phi = forward(theta[0, 0], field_sums(theta, self._fields))
        moved = tf.square(theta - self._prior.means)
        return 0.5 * tf.reduce_sum(self._prior.precisions * moved) + tf.reduce_sum(
            self._likelihood.loss(self._targets, phi)
        )

    def stepped(self, theta: tf.Tensor, solver_steps: int) -> tf.Tensor:
        """Returns theta after one Newton step."""
        sums = field_sums(theta, self._fields)
        phi = forward(theta[0, 0], sums)
        h = slopes(sums)
        curvature = self._likelihood.curvature(phi)
        residual = self._likelihood.mean(phi) - self._targets
        precisions = self._prior.precisions

        def pull(of_rows: tf.Tensor) -> tf.Tensor:
            return _pulled_back(self._shape, self._fields, of_rows, h, squared=False)

        def product(direction: tf.Tensor) -> tf.Tensor:
            moved = tf.reduce_sum(h * field_sums(direction, self._fields), [-2, -1])
            moved += direction[0, 0]
            return precisions * direction + pull(curvature * moved)

        gradient = precisions * (theta - self._prior.means) + pull(residual)
        diagonal = precisions + _pulled_back(
            self._shape, self._fields, curvature, tf.square(h), squared=True
        )
        step = _conjugate_gradients(product, -gradient, diagonal, solver_steps)
        return self._halved(theta, step)

    def _halved(self, theta: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """Returns theta + step / 2^n, n the least that lowers the objective."""
        before = self._objective(theta)

        def is_too_long(halvings: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
            is_lower = self._objective(theta + size * step) <= before
            return (halvings < _MOST_HALVINGS) & ~is_lower

        one = tf.ones([], theta.dtype)
        halvings, size = tf.while_loop(
            is_too_long, lambda n, size: (n + 1, 0.5 * size), [tf.constant(0), one]
        )
        moved = theta + tf.where(halvings < _MOST_HALVINGS, size, 0.0) * step
        return tf.ensure_shape(moved, theta.shape)


def _conjugate_gradients(
    product: Callable[[tf.Tensor], tf.Tensor],
    target: tf.Tensor,
    diagonal: tf.Tensor,
    num_steps: int,
) -> tf.Tensor:
    """Solves product(x) = target, preconditioned by the product's diagonal."""

    def dot(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(a * b)

    preconditioned = target / diagonal
    first = dot(target, preconditioned)

    def goes_on(step, x, residual, direction, size):
        return (step < num_steps) & (size > _ENOUGH**2 * first)

    def body(step, x, residual, direction, size):
        image = product(direction)
        length = tf.math.divide_no_nan(size, dot(direction, image))
        x += length * direction
        residual -= length * image
        preconditioned = residual / diagonal
        new = dot(residual, preconditioned)
        direction = preconditioned + tf.math.divide_no_nan(new, size) * direction
        return step + 1, x, residual, direction, new

    start = [tf.constant(0), tf.zeros_like(target), target, preconditioned, first]
    return tf.while_loop(goes_on, body, start)[1]


def _summed(table: tf.Tensor, rows: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Returns sum_l values_l table[row_l]: [..., D]."""
    return tf.linalg.matvec(tf.gather(table, rows), values, transpose_a=True)


def _pulled_back(
    shape: tf.Tensor,
    fields: Sequence[Entries],
    of_rows: tf.Tensor,
    factors: tf.Tensor,
    squared: bool,
) -> tf.Tensor:
    """Returns [N, D]: sum over data rows and entries of of_rows * x * factors.

    Args:
        shape: of the table.
        fields: [B, L] each.
        of_rows: [B].
        factors: [B, F, D].
        squared: whether x is squared.
    """
    rows, parts = [], []
    for number, field in enumerate(fields):
        weights = field.squares if squared else field.values
        factor = of_rows[:, tf.newaxis] * factors[:, number]  # [B, D]
        part = weights[..., tf.newaxis] * factor[:, tf.newaxis]  # [B, L, D]
        rows.append(tf.reshape(field.rows, [-1]))
        parts.append(tf.reshape(part, [-1, shape[1]]))
    out = tf.math.unsorted_segment_sum(
        tf.concat(parts, axis=0), tf.concat(rows, axis=0), shape[0]
    )
    bias = tf.reduce_sum(of_rows)
    return tf.tensor_scatter_nd_add(out, [[0, 0]], [bias])
