"""What the two towers minimise on a batch: its softmax, corrected as the settings say."""

import dataclasses

import tensorflow as tf

from models.losses.negatives import draw_uniform, mixed_log_q
from models.losses.options import SamplingMeasure
from models.losses.replicas import count_rows, fingerprints, gather_rows
from models.losses.softmax import in_batch_softmax_loss
from schemas.features import ITEM_ID, REWARD

Tensors = dict[str, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class _Candidates:
    """Of this replica's rows first, then of the others', then drawn ones.

    Attributes:
        vectors: [C, K] unit vectors.
        numbers: [C] int64, equal where the items are.
        item_ids: [C] int64 ids of the feature space, which histories hold too.
        log_q: [C] of the batch alone.
    """

    vectors: tf.Tensor
    numbers: tf.Tensor
    item_ids: tf.Tensor
    log_q: tf.Tensor


def batch_loss(
    towers,
    inputs: tuple[Tensors, Tensors],
    training: bool = False,
    num_rows: tf.Tensor | None = None,
) -> tf.Tensor:
    """Returns the loss of eq. (4) for one batch.

    With several replicas the batch is that of all of them, and each returns its rows'
    share of the loss: the shares' sum is the loss.

    Args:
        towers: a `TwoTower`.
        inputs: a `training_input.Batch`; this replica's rows.
        training: whether the batch is counted by the frequency estimator and events are
            dropped.
        num_rows: what the sum over the rows is divided by; None is their number.

    References:
        [1] Yi et al. Sampling-Bias-Corrected Neural Modeling for Large Corpus Item
            Recommendations. RecSys 2019. Section 3.
    """
    features, row = inputs
    settings = towers.settings
    candidates = _in_batch(towers, features, row, training)
    if settings.drawn_negatives:
        candidates = _with_drawn(towers, candidates, training)
    log_q = positive_log_q = None
    if settings.sampling_correction:
        log_q = _mixed(towers, candidates.log_q, settings.sampling_measure)
        if settings.sampling_measure is SamplingMeasure.EXPECTED_COUNT:
            presence = towers.frequency.log_presence(row[ITEM_ID])
            positive_log_q = _mixed(towers, presence, SamplingMeasure.PRESENCE)
    history = features[towers.space.history_name]
    return in_batch_softmax_loss(
        towers.embed_query(features, training),
        candidates.vectors,
        candidates.numbers,
        log_q,
        row[REWARD],
        towers.temperature,
        (candidates.item_ids, history) if settings.mask_history else None,
        positive_log_q=positive_log_q,
        refined=settings.refined_correction,
        num_hard_negatives=settings.hard_negatives or None,
        num_rows=count_rows(row[REWARD]) if num_rows is None else num_rows,
    )


def _in_batch(towers, features: Tensors, row: Tensors, training: bool) -> _Candidates:
    log_q = towers.frequency(row[ITEM_ID], training=training)
    return _Candidates(
        *gather_rows(
            towers.embed_candidates(features, training),
            fingerprints(row[ITEM_ID]),
            features[towers.space.item_id.name],
            log_q,
        )
    )


def _with_drawn(towers, batch: _Candidates, training: bool) -> _Candidates:
    settings, pool = towers.settings, towers.item_pool
    step = towers.frequency.step
    places = draw_uniform(len(pool), settings.drawn_negatives, settings.seed, step)
    names, numbers, features = pool.rows(places)
    drawn = _Candidates(
        towers.embed_candidates(features, training),
        numbers,
        features[towers.space.item_id.name],
        towers.frequency.log_q_of_drawn(names),
    )
    return _Candidates(
        *(
            tf.concat([getattr(part, field.name) for part in (batch, drawn)], axis=0)
            for field in dataclasses.fields(_Candidates)
        )
    )


def _mixed(towers, log_q: tf.Tensor, measure: SamplingMeasure) -> tf.Tensor:
    """Returns log_q of candidates of batch and draws together."""
    if not towers.settings.drawn_negatives:
        return log_q
    num_drawn, num_items = towers.settings.drawn_negatives, len(towers.item_pool)
    return mixed_log_q(log_q, num_drawn, num_items, measure)
