"""The two-tower retrieval model: a user vector and an item vector in one space.

    v(y)    = id embedding + sum of content features
    item(y) = normalise(v(y))
    user(x) = normalise(w_mean * mean(v of history) + w_last * v(newest of history)
                        + encoder(v of history) + w_seed * v(seed item)
                        + sum of user and context features + bias)

Candidates and history share v, so an item needs to be seen in either role only once; a
new item has its content, a new user a history. The user's id is deliberately no feature:
most users of tomorrow are not in today's log.
"""

import tensorflow as tf
import tensorflow_recommenders as tfrs

from models.feature_space import FeatureSpace
from models.layers.feature_embedding import FeatureEmbedding
from models.layers.history import RecencyWeightedMean, newest_vector
from models.layers.history_encoder import HistoryAttention, HistoryGru
from models.layers.item_table import ItemTable
from models.losses.frequency import StreamingFrequencyEstimator
from models.retrieval.batch_loss import batch_loss
from models.retrieval.settings import HistoryEncoder, RetrievalSettings
from models.retrieval.train_step import train_step
from models.retrieval.training_items import ItemPool

Tensors = dict[str, tf.Tensor]
_ITEM_ID_FIELD = 0


class TwoTower(tfrs.Model):
    """User and item towers with the sampling-bias-corrected batch softmax.

    Args:
        space: the transformed features.
        settings: sizes, regularisation, temperature, estimator.
        items: what `training_items.distinct_items` collects of the items that histories
            hold; None reads histories by their ids alone.
        item_pool: what `settings.drawn_negatives` are drawn from.

    Raises:
        ValueError: if negatives are to be drawn, and `item_pool` is not given.

    References:
        [1] Yi et al. Sampling-Bias-Corrected Neural Modeling for Large Corpus Item
            Recommendations. RecSys 2019. Sections 3 to 5.
    """

    def __init__(
        self,
        space: FeatureSpace,
        settings: RetrievalSettings,
        items: Tensors | None = None,
        item_pool: ItemPool | None = None,
    ) -> None:
        super().__init__(name="two_tower")
        if settings.drawn_negatives and item_pool is None:
            raise ValueError(
                "`item_pool` should be given where `drawn_negatives` > 0; "
                "`collect_items` makes one of the training rows. Received: None"
            )
        self.item_pool = item_pool
        self.space = space
        self.settings = settings
        dim = settings.embedding_dim
        self._item_fields = (space.item_id, *space.item)
        self._user_fields = tuple(
            field
            for field in (*space.user, *space.context)
            if field not in space.seed_items
        )
        self.item_embedding = FeatureEmbedding(self._item_fields, dim, name="item")
        self.item_table = None
        if items is not None:
            ids = space.item_id
            self.item_table = ItemTable(ids.name, ids.num_ids, items)
        self.user_embedding = FeatureEmbedding(self._user_fields, dim, name="user")
        self.history_mean = RecencyWeightedMean(space.history_length)
        self.history_encoder = make_history_encoder(settings, space.history_length)
        self.dropout = tf.keras.layers.Dropout(settings.dropout)
        # One gain per dimension: how much the whole history counts, and how much the
        # latest item.
        self.mean_gain = self.add_weight("mean_gain", [dim], initializer="ones")
        self.last_gain = self.add_weight("last_gain", [dim], initializer="ones")
        self.seed_gains = [
            self.add_weight(f"seed_gain_{place}", [dim], initializer="ones")
            for place in range(len(space.seed_items))
        ]
        # Gives a user without history and features a direction instead of zero.
        self.bias = self.add_weight("bias", [dim], initializer="uniform")
        # A ratio, and its log: weight decay draws it towards the setting, not towards 1.
        self.log_temperature_ratio = None
        if settings.learn_temperature:
            self.log_temperature_ratio = self.add_weight(
                "log_temperature_ratio", [], initializer="zeros"
            )
        self.frequency = StreamingFrequencyEstimator(
            num_buckets=settings.frequency_buckets,
            num_hashes=settings.frequency_hashes,
            alpha=settings.frequency_alpha,
            measure=settings.sampling_measure,
            name="frequency",
        )

    @property
    def temperature(self) -> tf.Tensor | float:
        """What divides the cosine in training."""
        if self.log_temperature_ratio is None:
            return self.settings.temperature
        return self.settings.temperature * tf.exp(self.log_temperature_ratio)

    def embed_query(self, query: Tensors, training: bool = False) -> tf.Tensor:
        """Returns [B, K] unit vectors of users; `query` holds `space.query_names`."""
        history = query[self.space.history_name]
        if training and self.settings.dropout:
            # A dropped event is gone for the mean and for the last item alike.
            keep = tf.random.uniform(tf.shape(history)) >= self.settings.dropout
            history = tf.where(keep, history, 0)
        items = self._history_vectors(history)
        vector = self.bias + self.mean_gain * self.history_mean(items, history)
        vector += self.last_gain * newest_vector(items, history)
        if self.history_encoder is not None:
            vector += self.history_encoder(items, history)
        for field, gain in zip(self.space.seed_items, self.seed_gains, strict=True):
            vector += gain * self._seed_vectors(query[field.name])
        if self._user_fields:
            features = [field.of(query) for field in self._user_fields]
            vector += tf.reduce_sum(self.user_embedding(features), axis=-2)
        return tf.math.l2_normalize(vector, axis=-1)

    def embed_candidates(self, items: Tensors, training: bool = False) -> tf.Tensor:
        """Returns [B, K] unit vectors of items; `items` holds `space.candidate_names`."""
        vectors = self.dropout(self._item_vectors(items), training=training)
        return tf.math.l2_normalize(vectors, axis=-1)

    def _item_vectors(self, items: Tensors) -> tf.Tensor:
        features = [field.of(items) for field in self._item_fields]
        return tf.reduce_sum(self.item_embedding(features), axis=-2)

    def _history_vectors(self, history: tf.Tensor) -> tf.Tensor:
        """Returns [B, T, K], finite; what stands where an id is 0 is not to be read."""
        if self.item_table is None:
            return self.item_embedding.lookup_unmasked(_ITEM_ID_FIELD, history)
        # A batch's histories hold few items many times: each is embedded once.
        distinct, place = tf.unique(tf.reshape(history, [-1]))
        vectors = tf.gather(self._item_vectors(self.item_table(distinct)), place)
        shape = tf.concat([tf.shape(history), [self.settings.embedding_dim]], axis=0)
        return tf.reshape(vectors, shape)

    def _seed_vectors(self, ids: tf.Tensor) -> tf.Tensor:
        """Returns [B, K]; zeros where no item is named."""
        vectors = self._history_vectors(ids[:, tf.newaxis])[:, 0]
        return vectors * tf.cast(ids != 0, vectors.dtype)[:, tf.newaxis]

    def compute_loss(
        self, inputs: tuple[Tensors, Tensors], training: bool = False
    ) -> tf.Tensor:
        """Returns `batch_loss` of one batch of `training_input.Batch`."""
        return batch_loss(self, inputs, training)

    def train_step(self, inputs: tuple[Tensors, Tensors]) -> Tensors:
        """Updates the towers by a batch; called by `fit`."""
        return train_step(self, inputs, self.settings.accumulation_steps)


def make_history_encoder(
    settings: RetrievalSettings, history_length: int
) -> tf.keras.layers.Layer | None:
    """Returns what reads the order of a history, built; None where the mean is all."""
    if settings.history_encoder is HistoryEncoder.MEAN:
        return None
    if settings.history_encoder is HistoryEncoder.ATTENTION:
        encoder = HistoryAttention(
            history_length, settings.attention_blocks, name="history_attention"
        )
    else:
        encoder = HistoryGru(name="history_gru")
    # A weight that appears at the first batch is too late for optimizer and checkpoint.
    encoder(tf.zeros([1, 1, settings.embedding_dim]), tf.zeros([1, 1], tf.int64))
    return encoder
