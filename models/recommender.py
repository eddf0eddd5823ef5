"""The fused recommender: retrieve, filter, rank, explore, in one graph.

One call takes a user's features and history and returns ranked item ids with scores and
the true propensity of each. Retrieval over-fetches by what may be excluded, and falls
back on exact search where an approximate index comes up short, so a request gets its k
items whenever the catalogue has them.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import tensorflow as tf

from models.index import Index
from models.policy import Slate, select_slate, slate_propensities
from models.policy_settings import PolicySettings
from models.preprocessing import raw_features
from models.signatures import QUERY_SIDES, input_signature
from schemas.features import HISTORY, USER_ID, FeatureCatalog

EXCLUDE = "exclude_item_ids"
NUM_ITEMS = "k"
SEED = "seed"
SLATE = "slate_item_ids"
ERRORS = "propensity_errors"
_FINGERPRINT_RANGE = 2**62
# Columns that an answer may be wider than the catalogue: a bound on what one request
# can make the server allocate.
_MAX_PADDING = 1000

Tensors = dict[str, tf.Tensor]


class _Ranked(NamedTuple):
    """The candidates of requests, as the ranker scored them."""

    rows: tf.Tensor  # int32 [B, C], of the catalogue
    is_candidate: tf.Tensor  # bool [B, C]
    logits: tf.Tensor  # [B, C]
    beliefs: Tensors | None  # how unsure the ranker is, where the policy asks


class Recommender(tf.Module):
    """Answers whole recommendation requests over a fixed catalogue of N items.

    Args:
        catalog: the declared features.
        item_ids: the N items' ids; row i of everything else belongs to item i.
        transform: applies the transform graph to raw features.
        embed_query: transformed query tensors -> [B, K] unit vectors.
        score_candidates: (query tensors [B, ...], candidate tensors [B, C, ...]) ->
            logits [B, C].
        candidates: transformed item tensors, [N, ...] each.
        index: searches the N item vectors.
        exact_index: the same vectors searched exactly; `index` itself where it is exact.
        policy: how the ranked candidates become a slate.
        num_candidates: how many items are ranked per request, at least.
        default_k: how many items `serving_default` returns.
        beliefs: as `score_candidates`, but returns what `models.policy` calls beliefs;
            None where the policy needs none.
    """

    def __init__(
        self,
        catalog: FeatureCatalog,
        item_ids: list[str],
        transform: Callable[[Mapping], Tensors],
        embed_query: Callable[[Tensors], tf.Tensor],
        score_candidates: Callable[[Tensors, Tensors], tf.Tensor],
        candidates: Tensors,
        index: Index,
        exact_index: Index,
        policy: PolicySettings,
        num_candidates: int,
        default_k: int,
        beliefs: Callable[[Tensors, Tensors], Tensors] | None = None,
    ) -> None:
        super().__init__(name="recommender")
        self._catalog = catalog
        self._transform = transform
        self._embed_query = embed_query
        self._score_candidates = score_candidates
        self._beliefs = beliefs
        self._index = index
        self._exact_index = exact_index
        self._policy = policy
        self._num_candidates = num_candidates
        self._default_k = default_k
        self._num_items = len(item_ids)
        self._item_ids = tf.constant(item_ids)
        self._item_keys = tf.strings.to_hash_bucket_fast(item_ids, _FINGERPRINT_RANGE)
        self._candidates = {
            name: tf.Variable(values, trainable=False, name=name)
            for name, values in candidates.items()
        }
        self._rows = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(
                self._item_ids, tf.range(self._num_items, dtype=tf.int32)
            ),
            default_value=-1,
        )

    def recommend(
        self,
        inputs: Mapping[str, tf.Tensor],
        exclude: tf.Tensor,
        k: tf.Tensor,
        seeds: tf.Tensor,
    ) -> Tensors:
        """Returns the k items to show each user.

        Args:
            inputs: `user_id` string [B], `history_item_ids` string [B, T] ("" pads) and
                the user and context features by example key.
            exclude: string [B, E], items not to return, besides the history's and the
                seed item of the context; "" pads.
            k: int32 scalar; below 0 counts as 0, above N + 1000 as that.
            seeds: int64 [B]; the same seed and request give the same answer.

        Returns:
            `item_ids` string [B, k], `scores` float32 [B, k] (predicted probability of
            the label), `propensities` float32 [B, k]. Items are distinct, known and not
            excluded; where fewer than k exist, the tail is "", 0, 0. Of a policy whose
            propensities are estimates also `propensity_errors` float32 [B, k], their
            standard errors.
        """
        k = self._bounded(k)
        ranked = self._rank(inputs, exclude, k)
        selected = self._select(ranked, seeds, k)

        def slate(values: tf.Tensor, default: tf.Tensor) -> tf.Tensor:
            ordered = tf.where(ranked.is_candidate, values, default)
            ordered = tf.gather(ordered, selected.order, batch_dims=1)
            return _to_width(ordered, k, default)

        no_number = tf.constant(0.0)
        item_ids = tf.gather(self._item_ids, ranked.rows)
        out = {
            "item_ids": slate(item_ids, tf.constant("")),
            "scores": slate(tf.sigmoid(ranked.logits), no_number),
            "propensities": _to_width(selected.propensities, k, no_number),
        }
        if self._policy.has_errors:
            out[ERRORS] = _to_width(selected.errors, k, no_number)
        return out

    def propensities(
        self,
        inputs: Mapping[str, tf.Tensor],
        exclude: tf.Tensor,
        k: tf.Tensor,
        seeds: tf.Tensor,
        slates: tf.Tensor,
    ) -> Tensors:
        """Returns with what propensity the policy shows slates that are given.

        Args:
            inputs, exclude, k, seeds: as of `recommend`. What is not random does not
                depend on the seeds.
            slates: string [B, W], items from the first place on; "" for none.

        Returns:
            `propensities` float32 [B, W]: the chance with which `recommend` shows the
            item at its place, given the items above it. 0 for an item that it would not
            show: not ranked, excluded, in a place above already, at a place from k on.
            Of estimates also `propensity_errors`, as of `recommend`.
        """
        k = self._bounded(k)
        ranked = self._rank(inputs, exclude, k)
        slates = slates[:, : self._num_items + _MAX_PADDING]
        rows = self._rows.lookup(slates)
        keys = tf.gather(self._item_keys, tf.maximum(rows, 0))
        propensities, errors = slate_propensities(
            ranked.logits,
            ranked.is_candidate,
            tf.gather(self._item_keys, ranked.rows),
            seeds,
            tf.where(rows >= 0, keys, -1),
            self._policy,
            k,
            self._num_candidates,
            ranked.beliefs,
        )
        out = {"propensities": propensities}
        return out | ({ERRORS: errors} if self._policy.has_errors else {})

    def _bounded(self, k: tf.Tensor) -> tf.Tensor:
        return tf.clip_by_value(k, 0, self._num_items + _MAX_PADDING)

    def _rank(
        self, inputs: Mapping[str, tf.Tensor], exclude: tf.Tensor, k: tf.Tensor
    ) -> _Ranked:
        """Retrieves the candidates of each request and scores them."""
        query = self._transform(raw_features(inputs, self._catalog, *QUERY_SIDES))
        named = [inputs[key][:, tf.newaxis] for key in self._catalog.seed_keys()]
        unwanted = tf.concat([inputs[HISTORY], exclude, *named], axis=1)
        banned = self._rows.lookup(unwanted)
        rows = self._retrieve(self._embed_query(query), tf.sort(banned, axis=1), k)
        is_candidate = rows >= 0  # [B, C]
        rows = tf.maximum(rows, 0)
        candidates = {
            name: tf.gather(values, rows) for name, values in self._candidates.items()
        }
        if self._beliefs is None:
            logits = self._score_candidates(query, candidates)  # [B, C]
            return _Ranked(rows, is_candidate, logits, None)
        beliefs = self._beliefs(query, candidates)
        return _Ranked(rows, is_candidate, beliefs["means"], beliefs)

    def _select(self, ranked: _Ranked, seeds: tf.Tensor, k: tf.Tensor) -> Slate:
        return select_slate(
            ranked.logits,
            ranked.is_candidate,
            tf.gather(self._item_keys, ranked.rows),
            seeds,
            self._policy,
            k,
            self._num_candidates,
            ranked.beliefs,
        )

    def _retrieve(
        self, queries: tf.Tensor, banned: tf.Tensor, k: tf.Tensor
    ) -> tf.Tensor:
        """Returns int32 [B, C]: the best rows that are not banned, -1 behind them.

        Args:
            queries: [B, K] unit vectors.
            banned: int32 [B, X] rows in ascending order, repeats and -1 allowed.
            k: int32 scalar, how many items the caller needs.
        """
        num_banned = tf.shape(banned)[1]
        wanted = tf.minimum(tf.maximum(k, self._num_candidates), self._num_items)
        fetch = tf.minimum(wanted + num_banned, self._num_items)
        rows = _without(self._index.search(queries, fetch)[1], banned)
        if not self._index.is_exact:
            available = self._num_items - _count_distinct(banned)  # [B]
            found = tf.reduce_sum(tf.cast(rows >= 0, tf.int32), axis=1)
            is_short = found < tf.minimum(k, available)  # [B]

            def helped() -> tf.Tensor:
                # Only the rows that came up short: an answer does not depend on which
                # other requests are in the batch.
                exact = self._exact_index.search(queries, fetch)[1]
                return tf.where(is_short[:, tf.newaxis], _without(exact, banned), rows)

            rows = tf.cond(tf.reduce_any(is_short), helped, lambda: rows)
        # Stable: keeps the retrieval order among the allowed, the others behind them.
        order = tf.argsort(tf.cast(rows < 0, tf.int32), axis=1, stable=True)
        return tf.gather(rows, order[:, :wanted], batch_dims=1)

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """Returns the three signatures, ready for `tf.saved_model.save`.

        `serving_default` and `recommend` answer requests; `propensities` says with what
        chance they give an answer that is given: off-policy evaluation asks.
        """
        query = input_signature(self._catalog, *QUERY_SIDES)

        # Nothing in the graph is Python's own control flow over tensors: looking for it
        # would take a sixth of an export.
        @tf.function(input_signature=[query], autograph=False)
        def serving_default(inputs: Tensors) -> Tensors:
            users = tf.shape(inputs[USER_ID])[0]
            seeds = tf.random.uniform([users], maxval=tf.int64.max, dtype=tf.int64)
            no_exclusions = tf.zeros([users, 0], tf.string)
            return self.recommend(inputs, no_exclusions, self._default_k, seeds)

        request = query | {
            EXCLUDE: tf.TensorSpec([None, None], tf.string, EXCLUDE),
            NUM_ITEMS: tf.TensorSpec([], tf.int32, NUM_ITEMS),
            SEED: tf.TensorSpec([None], tf.int64, SEED),
        }

        @tf.function(input_signature=[request], autograph=False)
        def recommend(inputs: Tensors) -> Tensors:
            return self.recommend(
                inputs, inputs[EXCLUDE], inputs[NUM_ITEMS], inputs[SEED]
            )

        slates = {SLATE: tf.TensorSpec([None, None], tf.string, SLATE)}

        @tf.function(input_signature=[request | slates], autograph=False)
        def propensities(inputs: Tensors) -> Tensors:
            return self.propensities(
                inputs, inputs[EXCLUDE], inputs[NUM_ITEMS], inputs[SEED], inputs[SLATE]
            )

        return {
            "serving_default": serving_default.get_concrete_function(),
            "recommend": recommend.get_concrete_function(),
            "propensities": propensities.get_concrete_function(),
        }


def _to_width(values: tf.Tensor, k: tf.Tensor, default: tf.Tensor) -> tf.Tensor:
    """Cuts or pads [B, C] to [B, k]."""
    missing = tf.maximum(k - tf.shape(values)[1], 0)
    return tf.pad(values[:, :k], [[0, 0], [0, missing]], constant_values=default)


def _without(rows: tf.Tensor, banned: tf.Tensor) -> tf.Tensor:
    """Replaces the rows that are banned by -1; `banned` is sorted along axis 1."""
    if banned.shape[1] == 0:
        return rows
    last = tf.shape(banned)[1] - 1

    def lookup() -> tf.Tensor:
        position = tf.minimum(tf.searchsorted(banned, rows), last)
        is_banned = tf.gather(banned, position, batch_dims=1) == rows
        return tf.where(is_banned, -1, rows)

    return tf.cond(last < 0, lambda: rows, lookup)


def _count_distinct(sorted_rows: tf.Tensor) -> tf.Tensor:
    """Counts the distinct values >= 0 of each row of int32 [B, X]: int32 [B]."""
    previous = tf.pad(sorted_rows, [[0, 0], [1, 0]], constant_values=-1)[:, :-1]
    is_first = (sorted_rows != previous) & (sorted_rows >= 0)
    return tf.reduce_sum(tf.cast(is_first, tf.int32), axis=1)
