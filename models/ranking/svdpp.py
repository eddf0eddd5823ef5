"""SVD++: a user is a vector of the own and the items of the own history."""

import tensorflow as tf

from models.feature_space import FeatureSpace
from models.layers.feature_embedding import FeatureEmbedding
from models.ranking.ranker import Ranker, Tensors
from models.ranking.svdpp_settings import SVDppSettings

_USER, _ITEM = 0, 1


class SVDpp(Ranker):
    """Scores rows by matrix factorisation with implicit feedback, as a logit.

    logits = mu + b_u + b_i + <q_i, p_u + |N|^(-1/2) sum_{j in N} y_j>
    N      = the distinct items of the history, without the candidate

    y is a table apart from q. An item that stands in N explains itself, so the candidate
    is left out: what is learnt is which other items speak for it. Ids alone are read: an
    unknown user is the history, an unknown item is what such items have in common.

    Args:
        space: the transformed features.
        settings: size and regularisation.
        items: not read.

    References:
        [1] Koren. Factorization Meets the Neighborhood: a Multifaceted Collaborative
            Filtering Model. KDD 2008. Eq. (15), of ratings there.
    """

    reads_items = False

    def __init__(
        self,
        space: FeatureSpace,
        settings: SVDppSettings | None = None,
        items: Tensors | None = None,
        **kwargs,
    ) -> None:
        super().__init__(space, **kwargs)
        settings = settings or SVDppSettings()
        self.l2 = settings.l2
        ids = [space.user_id, space.item_id]
        normal = tf.keras.initializers.RandomNormal(stddev=0.1)
        self.factors = FeatureEmbedding(ids, settings.factors, normal, name="factors")
        self.biases = FeatureEmbedding(ids, 1, "zeros", name="biases")
        self.implicit = FeatureEmbedding(
            [space.item_id], settings.factors, normal, name="implicit"
        )
        self.mean = self.add_weight(name="mean", shape=(), initializer="zeros")

    def read_query(self, features: Tensors, training: bool) -> Tensors:
        """Returns p_u, b_u, N in ascending order and the sum and number of its y."""
        user = features[self.space.user_id.name]
        history = tf.sort(features[self.space.history_name], axis=1)
        # A first column of 0, which is no item, so that N is never empty.
        history = tf.pad(history, [[0, 0], [1, 0]])
        is_repeat = tf.pad(history[:, 1:] == history[:, :-1], [[0, 0], [1, 0]])
        chosen = tf.where(is_repeat, tf.zeros_like(history), history)
        implicit = self.implicit.lookup(0, chosen)  # zeros for 0
        factors = self.factors([user], [_USER])
        bias = self.biases([user], [_USER])
        if training:
            self.penalise(self.l2, factors, bias, implicit)
        return {
            "factors": factors[:, 0],
            "bias": bias[:, 0, 0],
            "items": history,
            "sum": tf.reduce_sum(implicit, axis=1),
            "count": tf.reduce_sum(tf.cast(chosen != 0, implicit.dtype), axis=1),
        }

    def logits(self, query: Tensors, candidates: Tensors, training: bool) -> tf.Tensor:
        """Returns [B, C]; in training what is read of the candidates is penalised."""
        item = candidates[self.space.item_id.name]  # [B, C]
        factors = self.factors([item], [_ITEM])
        bias = self.biases([item], [_ITEM])
        if training:
            self.penalise(self.l2, factors, bias)
        factors, bias = factors[..., 0, :], bias[..., 0, 0]
        is_inside = tf.cast(_contains(query["items"], item), factors.dtype)  # [B, C]
        own = self.implicit.lookup(0, item) * is_inside[..., tf.newaxis]
        others = query["sum"][:, tf.newaxis] - own
        count = tf.maximum(query["count"][:, tf.newaxis] - is_inside, 1)
        user = (
            query["factors"][:, tf.newaxis]
            + others * tf.math.rsqrt(count)[..., tf.newaxis]
        )
        product = tf.reduce_sum(factors * user, axis=-1)
        return self.mean + query["bias"][:, tf.newaxis] + bias + product


def _contains(ascending: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Returns bool [B, C]: whether values other than 0 are among the row's [B, T]."""
    place = tf.searchsorted(ascending, values)
    place = tf.minimum(place, tf.shape(ascending)[1] - 1)
    found = tf.gather(ascending, place, batch_dims=1)
    return (found == values) & (values != 0)
