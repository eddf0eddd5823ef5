"""The Bayesian factorisation machine: a logit, and how sure the model is of it."""

import math
import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from models.bandit import laplace
from models.bandit.laplace import Beliefs, Entries
from models.feature_space import FeatureSpace, TransformedFeature
from models.layers.fm_interaction import fm_interaction
from models.ranking.bayesian_fm_settings import BayesianFMSettings
from models.ranking.ranker import Ranker, Tensors
from schemas.features import FeatureKind

_BIAS = "bias"  # the field of row 0
_BIAS_DEVIATION = 10.0  # a click-through rate of .1 % is 7 below 0
_ONE_ID = (FeatureKind.CATEGORICAL, FeatureKind.ITEM_ID)


class Sums(NamedTuple):
    """What is read of a query, [B, ...], or of candidates, [B, C, ...].

    Attributes:
        bias: [], of queries and candidates the same.
        sums: [..., F, D], see `laplace.field_sums`.
        variances: [..., F, D], see `laplace.field_variances`.
        bias_variance: [].
    """

    bias: tf.Tensor
    sums: tf.Tensor
    variances: tf.Tensor
    bias_variance: tf.Tensor


class BayesianFM(Ranker):
    """A factorisation machine with a normal distribution over every parameter.

    logits = w0 + sum_i w_i + sum_{i<j} <v_i, v_j>,   w, v ~ N(mean, 1 / precision)

    It learns from each row once, batch by batch (`learn`), by Laplace's approximation:
    see `models.bandit.laplace`. Labels may be soft, such as .5 for an impression without
    a click. What no row has held yet is where the prior put it: a new item, or an
    id beyond the vocabulary in its hash bucket, is unsure, and so is shown by policies
    that explore.

    The fields are those of `FM`, each with values of its own: an item of the history is
    another value than the same item as a candidate. The logit is then linear in each
    parameter, as the posterior takes it to be.

    The prior means of a field's values depend on the seed and the field alone, so that a
    vocabulary that grows at its end changes none of them.

    Args:
        space: the transformed features.
        settings: the prior and the updates.
        items: not read: the history is a field of item ids.

    Attributes:
        field_rows: how many rows of the tables each field has, one field after the other.

    References:
        [1] Chapelle, Li. An Empirical Evaluation of Thompson Sampling. NIPS 2011.
        [2] Rendle. Factorization Machines with libFM. TIST 2012.
    """

    reads_items = False
    learns_in_order = True

    def __init__(
        self,
        space: FeatureSpace,
        settings: BayesianFMSettings | None = None,
        items: Tensors | None = None,
        **kwargs,
    ) -> None:
        super().__init__(space, **kwargs)
        self.settings = settings or BayesianFMSettings()
        features = (*space.query_features, *space.candidate_features)
        self.field_rows = {_BIAS: 1} | {f.name: _num_values(f) for f in features}
        ends = np.cumsum(list(self.field_rows.values())).tolist()
        self._first_row = dict(zip(self.field_rows, [0, *ends], strict=False))
        shape = (ends[-1], 1 + self.settings.embedding_dim)
        self.means = self.add_weight("means", shape, initializer=self._prior_means)
        self.precisions = self.add_weight(
            "precisions", shape, initializer=self._prior_precisions, trainable=False
        )

    def _prior_means(self, shape, dtype=None, **kwargs) -> tf.Tensor:
        seed = np.random.randint(2**31)  # follows `tf.keras.utils.set_random_seed`
        means = np.zeros(shape, np.float32)
        for name, first in self._first_row.items():
            if name == _BIAS:
                continue
            size = [self.field_rows[name], shape[1] - 1]
            # Drawn row by row: the first n rows are the same however many there are.
            draw = np.random.default_rng([seed, zlib.crc32(name.encode())])
            means[first : first + size[0], 1:] = draw.normal(
                scale=self.settings.initial_deviation, size=size
            )
        return tf.constant(means, dtype or tf.float32)

    def _prior_precisions(self, shape, dtype=None, **kwargs) -> tf.Tensor:
        bias, others = self._prior_rows()
        rows = tf.tile(others, [shape[0] - 1, 1])
        return tf.cast(tf.concat([bias, rows], axis=0), dtype or tf.float32)

    def _prior_rows(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the prior precisions of the bias's row and of any other, [1, D]."""
        settings = self.settings
        weights = [settings.weight_deviation**-2]
        vectors = [settings.vector_deviation**-2] * settings.embedding_dim
        bias = tf.constant([[_BIAS_DEVIATION**-2, *vectors]])
        return bias, tf.constant([weights + vectors])

    def read_query(self, features: Tensors, training: bool) -> Sums:
        """Sums the query's fields."""
        return self._read(self._query_entries(features))

    def logits(self, query: Sums, candidates: Tensors, training: bool) -> tf.Tensor:
        """Returns the logits' means [B, C]."""
        return _mean(query, self._read(self._candidate_entries(candidates)))

    @tf.function(reduce_retracing=True)
    def posterior(
        self, query: Tensors, candidates: Tensors
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns how the logit of each candidate is distributed.

        variance = sum over parameters (d logit / d parameter)^2 / precision

        Args:
            query: the tensors of `space.query_names`, [B] or [B, L].
            candidates: the tensors of `space.candidate_names`, [B, C] or [B, C, L].

        Returns:
            means: [B, C], equal to `score_candidates`.
            deviations: [B, C], the logits' standard deviations.
        """
        parts = self._sides(query, candidates)
        return _mean(*parts), tf.sqrt(_variance(*parts))

    @tf.function(reduce_retracing=True)
    def shared_posterior(self, query: Tensors, candidates: Tensors) -> Tensors:
        """Returns the same with what the candidates of a query have in common apart.

        Draw e ~ N(0, 1)^K once for a query. Given e, the logits of its candidates are
        independent of each other but for a number that is added to all of them:

            means     + <slopes, d>,   d = shared_deviations * e
            variances + 2 <variance_slopes, d> + <variance_curvatures, d^2>

        d is how far the sum of the query's vectors lies from its mean.

        Args:
            query, candidates: as of `posterior`.

        Returns:
            `shared_deviations` [B, K]; `means` and `variances` [B, C]; `slopes`,
            `variance_slopes` and `variance_curvatures` [B, C, K].
        """
        of_query, of_candidates = self._sides(query, candidates)
        slopes, own = _joint_slopes(of_query, of_candidates)
        variances = of_candidates.variances[..., 1:]  # [B, C, F, K]
        deviations = tf.sqrt(tf.reduce_sum(of_query.variances[..., 1:], axis=-2))
        return {
            "shared_deviations": deviations,
            "means": _mean(of_query, of_candidates),
            "slopes": slopes,
            "variances": _own_variance(of_candidates, own),
            "variance_slopes": tf.reduce_sum(variances * own, axis=-2),
            "variance_curvatures": tf.reduce_sum(variances, axis=-2),
        }

    def learn(self, features: Tensors, targets: tf.Tensor) -> None:
        """Updates the posterior by a batch of rows, each of which should come once.

        Only the rows of the tables that the batch holds are read and written.

        Args:
            features: the tensors of `space.query_names` and `space.candidate_names`,
                [B] or [B, L].
            targets: [B] in [0, 1].
        """
        fields = [*self._query_entries(features), *self._candidate_entries(features)]
        touched, fields = _numbered(fields)
        means = tf.gather(self.means, touched)
        precisions = tf.gather(self.precisions, touched)
        if self.settings.forgetting < 1:
            bias, others = self._prior_rows()
            is_bias = tf.equal(touched, 0)[:, tf.newaxis]
            prior = tf.where(is_bias, bias, others)
            precisions = prior + self.settings.forgetting * (precisions - prior)
        after = laplace.updated(
            Beliefs(means, precisions),
            fields,
            tf.cast(targets, means.dtype),
            newton_steps=self.settings.newton_steps,
            solver_steps=self.settings.solver_steps,
        )
        for table, values in ((self.means, after[0]), (self.precisions, after[1])):
            table.scatter_update(tf.IndexedSlices(values, touched))

    def explanations(self) -> dict[str, Callable[[Tensors], Tensors]]:
        """Returns `posterior`: of rows, as `shared_posterior` has it, and `deviations`."""

        def posterior(rows: Tensors) -> Tensors:
            query = {name: rows[name] for name in self.space.query_names}
            candidates = {
                name: rows[name][:, tf.newaxis] for name in self.space.candidate_names
            }
            shared = self.shared_posterior(query, candidates)
            _, deviations = self.posterior(query, candidates)
            out = {
                name: values[:, 0]
                for name, values in shared.items()
                if name != "shared_deviations"
            }
            shared_deviations = shared["shared_deviations"]
            return out | {
                "shared_deviations": shared_deviations,
                "deviations": deviations[:, 0],
            }

        return {"posterior": posterior}

    def candidate_functions(self) -> dict[str, Callable]:
        """Returns what the policies that explore by the posterior ask for.

        `shared_posterior`, and `posterior` as `means` and `deviations`.
        """

        def posterior(query: Tensors, candidates: Tensors) -> Tensors:
            means, deviations = self.posterior(query, candidates)
            return {"means": means, "deviations": deviations}

        return {"posterior": posterior, "shared_posterior": self.shared_posterior}

    def distributions(self) -> dict[str, tf.Tensor]:
        """Returns the posterior, field by field: [n] numbers each, or [] one number.

        Means and log10 of precisions of the values that rows have held; how many values
        that is; the bias's.
        """
        out = {
            "posterior/bias/mean": self.means[0, 0],
            "posterior/bias/precision": self.precisions[0, 0],
        }
        _, prior = self._prior_rows()
        for name, first in self._first_row.items():
            if name == _BIAS:
                continue
            field = slice(first, first + self.field_rows[name])
            means, precisions = self.means[field], self.precisions[field]
            is_touched = precisions[:, 0] > prior[0, 0]
            means, precisions = (
                tf.boolean_mask(table, is_touched) for table in (means, precisions)
            )
            log10_precisions = tf.math.log(precisions) / math.log(10.0)
            out |= {
                f"posterior/{name}/weight_means": means[:, 0],
                f"posterior/{name}/vector_means": tf.reshape(means[:, 1:], [-1]),
                f"posterior/{name}/weight_log10_precisions": log10_precisions[:, 0],
                f"posterior/{name}/vector_log10_precisions": tf.reshape(
                    log10_precisions[:, 1:], [-1]
                ),
                f"posterior/{name}/touched": tf.math.count_nonzero(is_touched),
            }
        return out

    def _sides(self, query: Tensors, candidates: Tensors) -> tuple[Sums, Sums]:
        return (
            self._read(self._query_entries(query)),
            self._read(self._candidate_entries(candidates)),
        )

    def _read(self, fields: Sequence[Entries]) -> Sums:
        return Sums(
            self.means[0, 0],
            laplace.field_sums(self.means, fields),
            laplace.field_variances(self.precisions, fields),
            1.0 / self.precisions[0, 0],
        )

    def _query_entries(self, features: Tensors) -> list[Entries]:
        history = self.space.history
        newest = features[history.name]
        if self.settings.history_items < self.space.history_length:
            first = tf.maximum(tf.shape(newest)[1] - self.settings.history_items, 0)
            newest = newest[:, first:]
        tensors = {**features, history.name: newest}
        return [self._entries(one, tensors) for one in self.space.query_features]

    def _candidate_entries(self, features: Tensors) -> list[Entries]:
        return [self._entries(one, features) for one in self.space.candidate_features]

    def _entries(self, feature: TransformedFeature, features: Tensors) -> Entries:
        """Returns the table's rows of a feature's values, [..., L], and their x."""
        first = tf.constant(self._first_row[feature.name], tf.int64)
        tensor = feature.of(features)
        if feature.kind is FeatureKind.NUMERIC:
            values = tensor[..., tf.newaxis]
            return laplace.entries(tf.fill(tf.shape(values), first), values)
        if feature.kind is FeatureKind.VECTOR:
            rows = first + tf.range(feature.size, dtype=tf.int64)
            rows += tf.zeros(tf.shape(tensor), tf.int64)
            return Entries(rows, tensor, tf.square(tensor))
        if feature.kind in _ONE_ID:
            ids = tensor[..., tf.newaxis]
            is_known = tf.cast(ids != 0, tf.float32)
            return laplace.entries(tf.where(ids != 0, first + ids, 0), is_known)
        if feature.is_weighted:
            ids, values = tensor
            values *= tf.cast(ids != 0, values.dtype)
        else:
            ids = tensor
            values = tf.cast(ids != 0, tf.float32)
            total = tf.reduce_sum(values, axis=-1, keepdims=True)
            values = tf.math.divide_no_nan(values, total)
        return laplace.entries(tf.where(ids != 0, first + ids, 0), values)


def _num_values(feature: TransformedFeature) -> int:
    if feature.kind is FeatureKind.NUMERIC:
        return 1
    return feature.size if feature.kind is FeatureKind.VECTOR else feature.num_ids


def _numbered(fields: Sequence[Entries]) -> tuple[tf.Tensor, list[Entries]]:
    """Returns the distinct rows, the bias's first, and entries that count in them."""
    flat = [tf.zeros([1], tf.int64), *(tf.reshape(f.rows, [-1]) for f in fields)]
    distinct, place = tf.unique(tf.concat(flat, axis=0))
    places = tf.split(place, [tf.size(rows) for rows in flat])[1:]
    return distinct, [
        field._replace(rows=tf.reshape(where, tf.shape(field.rows)))
        for field, where in zip(fields, places, strict=True)
    ]


def _mean(query: Sums, candidates: Sums) -> tf.Tensor:
    """Returns [B, C]: pairs within the query, within the candidate, and across."""
    of_query, of_candidate = query.sums, candidates.sums
    across = tf.reduce_sum(of_query[..., 1:], axis=-2)[:, tf.newaxis] * tf.reduce_sum(
        of_candidate[..., 1:], axis=-2
    )
    return (
        laplace.forward(query.bias, of_query)[:, tf.newaxis]
        + tf.reduce_sum(of_candidate[..., 0], axis=-1)
        + fm_interaction(of_candidate[..., 1:])
        + tf.reduce_sum(across, axis=-1)
    )


def _joint_slopes(query: Sums, candidates: Sums) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the derivatives by a query's vector and by the candidate's.

    Returns:
        [B, C, K], without the query's part, and [B, C, F, K].
    """
    vectors = candidates.sums[..., 1:]
    total = tf.reduce_sum(vectors, axis=-2)  # [B, C, K]
    of_query = tf.reduce_sum(query.sums[..., 1:], axis=-2)[:, tf.newaxis]
    return total, (of_query + total)[..., tf.newaxis, :] - vectors


def _own_variance(candidates: Sums, own: tf.Tensor) -> tf.Tensor:
    """Returns [B, C]: what the candidates' own parameters add to the variance."""
    variances = candidates.variances
    return tf.reduce_sum(variances[..., 0], axis=-1) + tf.reduce_sum(
        variances[..., 1:] * tf.square(own), [-2, -1]
    )


def _variance(query: Sums, candidates: Sums) -> tf.Tensor:
    """Returns the logits' variance [B, C], at a cost of O((F + C) K) a query."""
    total, own = _joint_slopes(query, candidates)
    vectors, variances = query.sums[..., 1:], query.variances[..., 1:]
    within = tf.reduce_sum(vectors, axis=-2, keepdims=True) - vectors  # [B, F, K]
    constant = tf.reduce_sum(query.variances[..., 0], axis=-1) + tf.reduce_sum(
        variances * tf.square(within), [-2, -1]
    )
    slope = tf.reduce_sum(variances * within, axis=-2)[:, tf.newaxis]
    curvature = tf.reduce_sum(variances, axis=-2)[:, tf.newaxis]
    of_query = constant[:, tf.newaxis] + tf.reduce_sum(
        (2.0 * slope + curvature * total) * total, axis=-1
    )
    return query.bias_variance + of_query + _own_variance(candidates, own)
