"""Orders the ranked candidates place by place, and gives each its propensity."""

from collections.abc import Mapping
from typing import NamedTuple

import tensorflow as tf

from models.policy.choice import IMPOSSIBLE
from models.policy.noise import gumbel_noise
from models.policy.rules import SlateRules
from models.policy.walk import Walk, best_first
from models.policy_settings import PolicyName, PolicySettings


class Slate(NamedTuple):
    """The candidates of requests in the order in which they are shown.

    Attributes:
        order: [B, C] int32, columns of the candidates, first shown first.
        propensities: [B, C] float32, in that order; 0 where there is no candidate.
        errors: [B, C] float32, standard errors of the propensities; 0 where exact.
        is_shown: [B, C] bool, in that order: False for what is no candidate, and for
            what the caps leave no place. These come last.
    """

    order: tf.Tensor
    propensities: tf.Tensor
    errors: tf.Tensor
    is_shown: tf.Tensor


def select_slate(
    logits: tf.Tensor,
    is_candidate: tf.Tensor,
    item_keys: tf.Tensor,
    seeds: tf.Tensor,
    settings: PolicySettings,
    num_places: tf.Tensor | int | None = None,
    num_explored: int | None = None,
    beliefs: Mapping[str, tf.Tensor] | None = None,
    rules: SlateRules | None = None,
) -> Slate:
    """Orders the candidates of each row and gives each its propensity.

    greedy:   order by logit
    softmax:  order by logit / T + Gumbel(seed, item); the order is then a draw without
              replacement from softmax(logit / T), and
              propensity[j] = exp(logit[j] / T) / sum over i at or below j exp(logit[i] / T)
    ucb:      order by logit + alpha * deviation
    thompson: see `models.policy.thompson`; propensities are estimates

    With `epsilon` see `models.policy.walk`. With it, `thompson` or rules, only the first
    `EXPLORED_PLACES` places are drawn, from the first `num_explored` columns, and once
    the rules leave none of these, from all. What comes below is ordered by logit, with
    propensity 1; of the rules, the caps hold there too.

    Args:
        logits: [B, C] float.
        is_candidate: [B, C] bool; the others go last, with propensity 0.
        item_keys: [B, C] int64 >= 0 naming the items; same seed and item, same noise.
        seeds: [B] int64.
        settings: which policy.
        num_places: int32 scalar, how many places are shown; None means all.
        num_explored: how many columns may be drawn, place by place; None means all.
        beliefs: of `thompson` and `ucb`: `means` and `deviations` of the logits, [B, C],
            or for `thompson` what `BayesianFM.shared_posterior` returns.
        rules: what the items above mean for those left; None means nothing.

    References:
        [1] Kool et al. Stochastic Beams and Where to Find Them: The Gumbel-Top-k Trick.
            ICML 2019. Section 2.3.
    """
    is_ruled = rules is not None
    if settings.name is PolicyName.SOFTMAX and not (settings.epsilon or is_ruled):
        return _gumbel_order(logits, is_candidate, item_keys, seeds, settings)
    if settings.name is PolicyName.UCB:
        logits = _upper_bounds(beliefs, settings)
    by_logit = best_first(logits, is_candidate)
    is_drawn = settings.epsilon or is_ruled
    if settings.name in (PolicyName.GREEDY, PolicyName.UCB) and not is_drawn:
        shown = tf.gather(is_candidate, by_logit, batch_dims=1)
        chances = tf.cast(shown, tf.float32)
        return Slate(by_logit, chances, tf.zeros_like(chances), shown)
    walk = Walk(
        logits, is_candidate, item_keys, seeds, settings, num_explored, beliefs, rules
    )
    num_drawn = walk.num_drawn(num_places)
    drawn = walk.draw(num_drawn)
    has_place = drawn.place_of >= 0
    is_shown = has_place | walk.below(drawn)
    num_columns = tf.shape(logits)[1]
    rank = num_drawn + tf.argsort(by_logit, axis=1)
    place = tf.where(is_shown, rank, rank + num_columns)
    order = tf.argsort(tf.where(has_place, drawn.place_of, place), axis=1)
    shown = tf.gather(is_shown, order, batch_dims=1)
    rest = tf.cast(shown[:, num_drawn:], tf.float32)
    return Slate(
        order,
        tf.concat([drawn.chances, rest], axis=1),
        tf.concat([drawn.errors, tf.zeros_like(rest)], axis=1),
        shown,
    )


def slate_propensities(
    logits: tf.Tensor,
    is_candidate: tf.Tensor,
    item_keys: tf.Tensor,
    seeds: tf.Tensor,
    slate_keys: tf.Tensor,
    settings: PolicySettings,
    num_places: tf.Tensor | int | None = None,
    num_explored: int | None = None,
    beliefs: Mapping[str, tf.Tensor] | None = None,
    rules: SlateRules | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the propensities, under the policy, of slates that are given.

    Of a slate that `select_slate` made from the same arguments, they are those that it
    came with.

    Args:
        slate_keys: [B, W] int64, key of the item at each place; -1 for none.
        The others: as of `select_slate`.

    Returns:
        propensities: [B, W] float32: of showing the item at its place, given the items
            above it, whatever their own propensities; 0 for one that is no candidate,
            that stands above already, or whose place the policy does not fill.
        errors: [B, W] float32, their standard errors; 0 where exact.
    """
    if settings.name is PolicyName.UCB:
        logits = _upper_bounds(beliefs, settings)
    walk = Walk(
        logits, is_candidate, item_keys, seeds, settings, num_explored, beliefs, rules
    )
    return walk.follow(slate_keys, walk.num_drawn(num_places), num_places)


def _upper_bounds(
    beliefs: Mapping[str, tf.Tensor] | None, settings: PolicySettings
) -> tf.Tensor:
    beliefs = beliefs or {}
    return beliefs["means"] + settings.alpha * beliefs["deviations"]


def _gumbel_order(
    logits: tf.Tensor,
    is_candidate: tf.Tensor,
    item_keys: tf.Tensor,
    seeds: tf.Tensor,
    settings: PolicySettings,
) -> Slate:
    """Draws a whole order at once: what `Softmax` draws place by place."""
    scaled = tf.where(is_candidate, logits / settings.temperature, IMPOSSIBLE)
    noise = tf.cast(gumbel_noise(seeds, item_keys), logits.dtype)
    order = tf.argsort(scaled + noise, axis=1, direction="DESCENDING", stable=True)
    ordered = tf.gather(scaled, order, batch_dims=1)
    remaining = tf.math.cumulative_logsumexp(ordered, axis=1, reverse=True)
    shown = tf.gather(is_candidate, order, batch_dims=1)
    chances = tf.cast(tf.where(shown, tf.exp(ordered - remaining), 0.0), tf.float32)
    return Slate(order, chances, tf.zeros_like(chances), shown)
