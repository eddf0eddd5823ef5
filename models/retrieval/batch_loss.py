"""What the two towers minimise on a batch: its softmax, corrected as the settings say."""

import tensorflow as tf

from models.losses.softmax import in_batch_softmax_loss
from schemas.features import ITEM_ID, REWARD

Tensors = dict[str, tf.Tensor]


def batch_loss(
    towers, inputs: tuple[Tensors, Tensors], training: bool = False
) -> tf.Tensor:
    """Returns the loss of eq. (4) for one batch.

    Args:
        towers: a `TwoTower`.
        inputs: a `training_input.Batch`.
        training: whether the batch is counted by the frequency estimator and events are
            dropped.

    References:
        [1] Yi et al. Sampling-Bias-Corrected Neural Modeling for Large Corpus Item
            Recommendations. RecSys 2019. Section 3.
    """
    features, row = inputs
    space, settings = towers.space, towers.settings
    log_q = towers.frequency(row[ITEM_ID], training=training)
    item_ids = features[space.item_id.name]
    return in_batch_softmax_loss(
        towers.embed_query(features, training),
        towers.embed_candidates(features, training),
        candidate_ids=row[ITEM_ID],
        log_q=log_q if settings.sampling_correction else None,
        rewards=row[REWARD],
        temperature=settings.temperature,
        known_positives=(
            (item_ids, features[space.history_name]) if settings.mask_history else None
        ),
    )
