"""What every ranking model is: a query is read once, then any number of candidates."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from models.feature_space import FeatureSpace
from schemas.features import FeatureCatalog

if TYPE_CHECKING:  # imports TensorFlow Transform, of which a model needs nothing
    from models.preprocessing import TransformGraph

Tensors = dict[str, tf.Tensor]
Rate = float | tf.keras.optimizers.schedules.LearningRateSchedule


class Ranker(tf.keras.Model):
    """Scores (query, candidate) rows by logits.

    A model fills in two methods: `read_query` does what depends on the query alone,
    `logits` scores candidates for it. A row is a query with one candidate, so that rows
    and the many candidates of a served request take the same path, and the query's part
    is computed once for all of them.

    Args:
        space: the transformed features.

    Attributes:
        reads_items: whether the model makes use of the features of a history's items.
        learns_in_order: whether it has a `learn` of its own, to be called once with each
            row, in the order of time.
    """

    reads_items = True
    learns_in_order = False

    def __init__(self, space: FeatureSpace, **kwargs) -> None:
        super().__init__(**kwargs)
        self.space = space

    def read_query(self, features: Tensors, training: bool) -> Any:
        """Returns what the candidates of a query share.

        Args:
            features: the tensors of `space.query_names`, [B] or [B, L].
            training: whether units are dropped.

        Returns:
            Tensors [B, ...] in any nesting, for `logits`.
        """
        raise NotImplementedError

    def logits(self, query: Any, candidates: Tensors, training: bool) -> tf.Tensor:
        """Scores the candidates of each query, each apart from the others.

        Args:
            query: what `read_query` returned.
            candidates: the tensors of `space.candidate_names`, [B, C] or [B, C, L].
            training: whether units are dropped and penalties added.

        Returns:
            logits: [B, C], before the sigmoid.
        """
        raise NotImplementedError

    def call(self, features: Tensors, training: bool = False) -> tf.Tensor:
        """Scores rows.

        Args:
            features: the tensors of `space.query_names` and `space.candidate_names`,
                [B] or [B, L]; others are ignored.
            training: whether to drop units and to add penalties.

        Returns:
            logits: [B] float32, before the sigmoid.

        Raises:
            ValueError: if a tensor is missing.
        """
        query = self.read_query(_named(features, self.space.query_names), training)
        rows = _named(features, self.space.candidate_names)
        candidates = {name: values[:, tf.newaxis] for name, values in rows.items()}
        logits = self.logits(query, candidates, training)
        return tf.cast(tf.squeeze(logits, axis=1), tf.float32)

    @tf.function(reduce_retracing=True)
    def score_candidates(self, query: Tensors, candidates: Tensors) -> tf.Tensor:
        """Scores every candidate of each query; equal to `call` row by row.

        Args:
            query: the tensors of `space.query_names`, [B] or [B, L].
            candidates: the tensors of `space.candidate_names`, [B, C] or [B, C, L].

        Returns:
            logits: [B, C] float32.

        Raises:
            ValueError: if a tensor is missing.
        """
        state = self.read_query(_named(query, self.space.query_names), training=False)
        rows = _named(candidates, self.space.candidate_names)
        return tf.cast(self.logits(state, rows, training=False), tf.float32)

    def prepare(self, batches: tf.data.Dataset) -> None:
        """Takes from the rows to train on what a model must know before; often nothing.

        Args:
            batches: (features, target [B]), one pass.
        """

    def make_optimizer(
        self, scheduled: Callable[[float], Rate]
    ) -> tf.keras.optimizers.Optimizer | None:
        """Returns an optimizer of the model's own; None leaves it to the trainer.

        Args:
            scheduled: makes a learning rate follow `ranking.schedule`.
        """
        return None

    def companions(
        self, catalog: FeatureCatalog, transform: "TransformGraph"
    ) -> dict[str, tf.Module]:
        """Returns modules to be saved beside the ranker, by the name of their folder.

        Each has a method `signatures`, as `RankingModule` has.

        Args:
            catalog: the declared features.
            transform: applies the transform graph to raw features.
        """
        return {}

    def explanations(self) -> dict[str, Callable[[Tensors], Tensors]]:
        """Returns functions of rows, served by these names beside the scores.

        Each takes the features of `call`, and returns tensors [B, ...] by name.
        """
        return {}

    def candidate_functions(self) -> dict[str, Callable[[Tensors, Tensors], Any]]:
        """Returns functions of (query, candidates), saved beside `score_candidates`.

        Policies may ask for them by these names. They take what it takes.
        """
        return {}

    def learn(self, features: Tensors, targets: tf.Tensor) -> None:
        """Learns from rows, where `learns_in_order`.

        Args:
            features: as of `call`.
            targets: [B] in [0, 1].
        """
        raise NotImplementedError

    def distributions(self) -> dict[str, tf.Tensor]:
        """Returns numbers to draw histograms of in TensorBoard, by name."""
        return {}

    def penalise(self, l2: float, *vectors: tf.Tensor) -> None:
        """Adds the mean over rows of l2 * sum of squares to the loss.

        Of what a batch looked up: a penalty on the tables would touch all of them.

        Args:
            l2: the penalty's weight; 0 adds nothing.
            *vectors: [..., F, K] each, the fields' or the events' vectors of rows.
        """
        if l2 > 0:
            self.add_loss(l2 * sum(_mean_square_length(part) for part in vectors))


def _mean_square_length(vectors: tf.Tensor) -> tf.Tensor:
    num_rows = tf.reduce_prod(tf.shape(vectors)[:-2])
    # One pass each forwards and back, where a square and a sum take three.
    return 2.0 * tf.nn.l2_loss(vectors) / tf.cast(num_rows, vectors.dtype)


def _named(features: Tensors, names: list[str]) -> Tensors:
    missing = sorted(set(names) - set(features))
    if missing:
        raise ValueError(
            f"`features` should hold a tensor for each of {names}. "
            f"Received none for {missing}"
        )
    return {name: features[name] for name in names}
