"""The fused recommender: retrieve, filter, rank, explore, in one graph.

One call takes a user's features and history and returns ranked item ids with scores and
the true propensity of each, and the release that answered.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf

from models.index import Index
from models.policy import SlateRules, select_slate, slate_propensities
from models.policy_settings import PolicySettings
from models.preprocessing import raw_features
from models.recommender_items import NO_FACTS, ItemFacts
from models.recommender_search import CandidateSearch
from models.signatures import QUERY_SIDES, input_signature
from schemas.features import HISTORY, USER_ID, FeatureCatalog

EXCLUDE = "exclude_item_ids"
NUM_ITEMS = "k"
SEED = "seed"
NOW = "now"
SLATE = "slate_item_ids"
ERRORS = "propensity_errors"
RELEASE = "release"
_FINGERPRINT_RANGE = 2**62
# Columns that an answer may be wider than the catalogue: a bound on what one request
# can make the server allocate.
_MAX_PADDING = 1000
# A file among a model's assets: a server tells the graph where it lies, which is in the
# folder that has the release's number for its name.
_MARKER = Path(__file__).with_name("release_marker.txt")
_IN_VERSION = r".*/[0-9]{1,18}/assets/[^/]*"
_VERSION = r"^.*/([0-9]+)/assets/[^/]*$"

Tensors = dict[str, tf.Tensor]


class _Ranked(NamedTuple):
    """The candidates of requests, as the ranker scored them."""

    rows: tf.Tensor  # int32 [B, C], of the catalogue
    is_candidate: tf.Tensor  # bool [B, C]
    logits: tf.Tensor  # [B, C]
    beliefs: Tensors | None  # how unsure the ranker is, where the policy asks
    rules: SlateRules | None  # what items above mean for those below, where they do


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
        facts: what is known of the items beside what models read.
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
        facts: ItemFacts = NO_FACTS,
    ) -> None:
        super().__init__(name="recommender")
        self._catalog = catalog
        self._transform = transform
        self._embed_query = embed_query
        self._score_candidates = score_candidates
        self._beliefs = beliefs
        self._search = CandidateSearch(
            index, exact_index, num_candidates, facts.windows, facts.caps
        )
        self._facts = facts
        self._vectors = facts.vectors
        if self._vectors is not None and not isinstance(self._vectors, tf.Variable):
            self._vectors = tf.Variable(
                self._vectors, trainable=False, dtype=tf.float32, name="likeness"
            )
        self._marker = tf.saved_model.Asset(str(_MARKER))
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
        now: tf.Tensor | None = None,
    ) -> Tensors:
        """Returns the k items to show each user.

        Args:
            inputs: `user_id` string [B], `history_item_ids` string [B, T] ("" pads) and
                the user and context features by example key.
            exclude: string [B, E], items not to return, besides the history's and the
                seed item of the context; "" pads.
            k: int32 scalar, or [B]; below 0 counts as 0, above N + 1000 as that. The
                answer is as wide as the largest.
            seeds: int64 [B]; the same seed and request give the same answer.
            now: int64 [B] or [1], ms since the epoch: only items whose window it is in
                come back; None, 0 and below leave windows to what was exported.

        Returns:
            `item_ids` string [B, k], `scores` float32 [B, k] (predicted probability of
            the label), `propensities` float32 [B, k]. Items are distinct, known, not
            excluded, within their windows and the policy's caps; where fewer than k
            exist, the tail is "", 0, 0. `release` int64 [B], the number of the folder
            that the model was loaded from; 0 if it has none. Of a policy whose
            propensities are estimates also `propensity_errors` float32 [B, k], their
            standard errors.
        """
        users = tf.shape(inputs[USER_ID])[:1]
        width, k = self._bounded(k, users)
        ranked = self._rank(inputs, exclude, k, _moments(now, users))
        selected = select_slate(*self._slate_arguments(ranked, seeds, width))
        columns = tf.range(tf.shape(ranked.rows)[1])
        is_shown = selected.is_shown & (columns < k[:, tf.newaxis])

        def slate(values: tf.Tensor, default: tf.Tensor) -> tf.Tensor:
            return _to_width(tf.where(is_shown, values, default), width, default)

        def ordered(values: tf.Tensor) -> tf.Tensor:
            return tf.gather(values, selected.order, batch_dims=1)

        no_number = tf.constant(0.0)
        item_ids = tf.gather(self._item_ids, ranked.rows)
        out = {
            "item_ids": slate(ordered(item_ids), tf.constant("")),
            "scores": slate(ordered(tf.sigmoid(ranked.logits)), no_number),
            "propensities": slate(selected.propensities, no_number),
            RELEASE: tf.fill(users, self._release()),
        }
        if self._policy.has_errors:
            out[ERRORS] = slate(selected.errors, no_number)
        return out

    def propensities(
        self,
        inputs: Mapping[str, tf.Tensor],
        exclude: tf.Tensor,
        k: tf.Tensor,
        seeds: tf.Tensor,
        slates: tf.Tensor,
        now: tf.Tensor | None = None,
    ) -> Tensors:
        """Returns with what propensity the policy shows slates that are given.

        Args:
            inputs, exclude, k, seeds, now: as of `recommend`. What is not random does
                not depend on the seeds.
            slates: string [B, W], items from the first place on; "" for none.

        Returns:
            `propensities` float32 [B, W]: the chance with which `recommend` shows the
            item at its place, given the items above it. 0 for an item that it would not
            show: not ranked, excluded, in a place above already, beyond a cap, at a
            place from k on. Of estimates also `propensity_errors`, as of `recommend`.
        """
        users = tf.shape(inputs[USER_ID])[:1]
        width, k = self._bounded(k, users)
        ranked = self._rank(inputs, exclude, k, _moments(now, users))
        slates = slates[:, : self._num_items + _MAX_PADDING]
        rows = self._rows.lookup(slates)
        keys = tf.gather(self._item_keys, tf.maximum(rows, 0))
        arguments = self._slate_arguments(ranked, seeds, width)
        propensities, errors = slate_propensities(
            *arguments[:4], tf.where(rows >= 0, keys, -1), *arguments[4:]
        )
        is_filled = tf.range(tf.shape(slates)[1]) < k[:, tf.newaxis]
        out = {"propensities": tf.where(is_filled, propensities, 0.0)}
        if self._policy.has_errors:
            out[ERRORS] = tf.where(is_filled, errors, 0.0)
        return out

    def _bounded(self, k: tf.Tensor, users: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the answer's width, and how many items each user gets, [B]."""
        largest = self._num_items + _MAX_PADDING
        k = tf.clip_by_value(k, 0, largest)
        width = tf.maximum(tf.reduce_max(k), 0)  # of no user, the least of integers
        return width, tf.broadcast_to(k, users)

    def _rank(
        self,
        inputs: Mapping[str, tf.Tensor],
        exclude: tf.Tensor,
        k: tf.Tensor,
        now: tf.Tensor,
    ) -> _Ranked:
        """Retrieves the candidates of each request and scores them."""
        query = self._transform(raw_features(inputs, self._catalog, *QUERY_SIDES))
        named = [inputs[key][:, tf.newaxis] for key in self._catalog.seed_keys()]
        unwanted = tf.concat([inputs[HISTORY], exclude, *named], axis=1)
        banned = self._rows.lookup(unwanted)
        rows = self._search.search(self._embed_query(query), banned, k, now)
        is_candidate = rows >= 0  # [B, C]
        rows = tf.maximum(rows, 0)
        candidates = {
            name: tf.gather(values, rows) for name, values in self._candidates.items()
        }
        rules = self._rules(rows)
        if self._beliefs is None:
            logits = self._score_candidates(query, candidates)  # [B, C]
            return _Ranked(rows, is_candidate, logits, None, rules)
        beliefs = self._beliefs(query, candidates)
        return _Ranked(rows, is_candidate, beliefs["means"], beliefs, rules)

    def _rules(self, rows: tf.Tensor) -> SlateRules | None:
        if not self._policy.has_rules:
            return None
        caps, vectors = self._facts.caps, self._vectors
        return SlateRules(
            self._policy,
            None if caps is None else tf.gather(self._search.values, rows),
            () if caps is None else caps.limits,
            None if vectors is None else tf.gather(vectors, rows),
        )

    def _slate_arguments(
        self, ranked: _Ranked, seeds: tf.Tensor, width: tf.Tensor
    ) -> tuple:
        """Returns the arguments of `select_slate`."""
        return (
            ranked.logits,
            ranked.is_candidate,
            tf.gather(self._item_keys, ranked.rows),
            seeds,
            self._policy,
            width,
            self._num_candidates,
            ranked.beliefs,
            ranked.rules,
        )

    def _release(self) -> tf.Tensor:
        """Returns int64 scalar: the number of the folder that this was loaded from."""
        path = self._marker.asset_path
        number = tf.strings.regex_replace(path, _VERSION, r"\1", replace_global=False)
        is_version = tf.strings.regex_full_match(path, _IN_VERSION)
        return tf.strings.to_number(tf.where(is_version, number, "0"), tf.int64)

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """Returns the five signatures, ready for `tf.saved_model.save`.

        `serving_default` and `recommend` answer requests; `propensities` says with what
        chance they give an answer that is given: off-policy evaluation asks. Two of them
        also stand as `recommend_at` and `propensities_at`, with one more input, `now`:
        an input cannot be left out, so whoever does not know it has one without.
        """
        query = input_signature(self._catalog, *QUERY_SIDES)
        request = query | {
            EXCLUDE: tf.TensorSpec([None, None], tf.string, EXCLUDE),
            NUM_ITEMS: tf.TensorSpec(None, tf.int32, NUM_ITEMS),
            SEED: tf.TensorSpec([None], tf.int64, SEED),
        }
        moment = {NOW: tf.TensorSpec([None], tf.int64, NOW)}
        slates = {SLATE: tf.TensorSpec([None, None], tf.string, SLATE)}

        # Nothing in the graph is Python's own control flow over tensors: looking for it
        # would take a sixth of an export.
        @tf.function(input_signature=[request | moment], autograph=False)
        def recommend_at(inputs: Tensors) -> Tensors:
            return self.recommend(
                inputs, inputs[EXCLUDE], inputs[NUM_ITEMS], inputs[SEED], inputs[NOW]
            )

        # The others call it: a graph holds it once.
        @tf.function(input_signature=[request], autograph=False)
        def recommend(inputs: Tensors) -> Tensors:
            return recommend_at(inputs | {NOW: tf.zeros([1], tf.int64)})

        @tf.function(input_signature=[query], autograph=False)
        def serving_default(inputs: Tensors) -> Tensors:
            users = tf.shape(inputs[USER_ID])[0]
            seeds = tf.random.uniform([users], maxval=tf.int64.max, dtype=tf.int64)
            return recommend(
                inputs
                | {
                    EXCLUDE: tf.zeros([users, 0], tf.string),
                    NUM_ITEMS: tf.constant(self._default_k),
                    SEED: seeds,
                }
            )

        @tf.function(input_signature=[request | slates | moment], autograph=False)
        def propensities_at(inputs: Tensors) -> Tensors:
            return self.propensities(
                inputs,
                inputs[EXCLUDE],
                inputs[NUM_ITEMS],
                inputs[SEED],
                inputs[SLATE],
                inputs[NOW],
            )

        @tf.function(input_signature=[request | slates], autograph=False)
        def propensities(inputs: Tensors) -> Tensors:
            return propensities_at(inputs | {NOW: tf.zeros([1], tf.int64)})

        functions = (
            *(serving_default, recommend, recommend_at),
            *(propensities, propensities_at),
        )
        return {
            function.__name__: function.get_concrete_function()
            for function in functions
        }


def _moments(now: tf.Tensor | None, users: tf.Tensor) -> tf.Tensor:
    """Returns int64 [B]; 0 where no moment is given."""
    return tf.zeros(users, tf.int64) if now is None else tf.broadcast_to(now, users)


def _to_width(values: tf.Tensor, k: tf.Tensor, default: tf.Tensor) -> tf.Tensor:
    """Cuts or pads [B, C] to [B, k]."""
    missing = tf.maximum(k - tf.shape(values)[1], 0)
    return tf.pad(values[:, :k], [[0, 0], [0, missing]], constant_values=default)
