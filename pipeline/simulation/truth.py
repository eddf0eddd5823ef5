"""What a policy would truly earn on the requests of a log, in a world that is known."""

import numpy as np
import tensorflow as tf

from components.policy_log import ShownRows
from components.release_policy import ReleasePolicy
from models.recommender import EXCLUDE, NUM_ITEMS, SEED
from pipeline.simulation.world import World, item_number, user_number

_AT_ONCE = 256


def true_value(
    world: World, rows: ShownRows, policy: ReleasePolicy, num_draws: int
) -> float:
    """Returns the mean chance of a click of a place, over requests and draws.

    Args:
        world: that the log is of.
        rows: of the log, whole slates.
        policy: who answers the same requests.
        num_draws: slates of each request.
    """
    _, first = np.unique(rows.requests, return_index=True)
    k = int(rows.positions.max()) + 1
    values = []
    for draw in range(num_draws):
        for begin in range(0, len(first), _AT_ONCE):
            part = first[begin : begin + _AT_ONCE]
            inputs = policy.inputs_of(rows.serialized[part])
            seeds = draw * len(first) + begin + np.arange(len(part))
            slates = policy.recommend(
                **{key: tf.constant(values) for key, values in inputs.items()},
                **{
                    EXCLUDE: tf.zeros([len(part), 0], tf.string),
                    NUM_ITEMS: tf.constant(k, tf.int32),
                    SEED: tf.constant(seeds, tf.int64),
                },
            )["item_ids"].numpy()
            values += [
                _chances(world, user, slate)
                for user, slate in zip(rows.users[part], slates, strict=True)
            ]
    return float(np.concatenate(values).mean())


def _chances(world: World, user: bytes, slate: np.ndarray) -> np.ndarray:
    items = [item_number(item.decode()) for item in slate if item]
    return world.chances[user_number(user.decode()), items]
