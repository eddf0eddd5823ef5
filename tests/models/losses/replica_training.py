"""A small two-tower training on any number of replicas, right and in wrong ways.

`main` trains on two virtual CPUs and prints what came of it as JSON. It needs a process
of its own, as logical devices must be set before TensorFlow starts.
"""

import dataclasses
import json
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from models.losses.frequency import StreamingFrequencyEstimator
from models.losses.negatives import draw_uniform, mixed_log_q
from models.losses.options import SamplingMeasure
from models.losses.replicas import count_rows, fingerprints, gather_rows
from models.losses.softmax import in_batch_softmax_loss

NUM_USERS, NUM_ITEMS, NUM_STEPS, NUM_ROWS, NUM_DRAWN = 7, 6, 4, 8, 3
NAMES = np.array([f"item-{number}" for number in range(NUM_ITEMS + 1)])
EVEN, UNEVEN = (4, 4), (5, 3)


class CountsOwnRows(StreamingFrequencyEstimator):
    def _count(self, buckets):
        found = tf.unique_with_counts(tf.reshape(buckets, [-1]))
        self._hit(found.y, found.count)


def stop_at_others(*tensors):
    """Gathers, but lets gradients reach a replica's own rows alone."""
    out = []
    for own, gathered in zip(tensors, gather_rows(*tensors), strict=True):
        others = tf.stop_gradient(gathered[tf.shape(own)[0] :])
        out.append(tf.concat([own, others], axis=0))
    return tuple(out)


@dataclasses.dataclass(frozen=True)
class Way:
    """How a step sees the other replicas' rows."""

    gather: Callable = gather_rows
    count_rows: Callable = count_rows
    estimator: type[StreamingFrequencyEstimator] = StreamingFrequencyEstimator


WAYS = {
    "ours": Way(),
    "no gradient to others' rows": Way(gather=stop_at_others),
    "mean over its own rows": Way(count_rows=lambda rows: tf.shape(rows)[0]),
    "counts its own rows": Way(estimator=CountsOwnRows),
}


def batches() -> list[tuple[np.ndarray, ...]]:
    """Returns (user, item, known items, reward) of each step."""
    rng = np.random.default_rng(8)
    return [
        (
            rng.integers(NUM_USERS, size=NUM_ROWS),
            1 + rng.integers(NUM_ITEMS, size=NUM_ROWS) * rng.integers(2, size=NUM_ROWS),
            rng.integers(NUM_ITEMS + 1, size=(NUM_ROWS, 2)),
            rng.uniform(size=NUM_ROWS).astype(np.float32),
        )
        for _ in range(NUM_STEPS)
    ]


class Training:
    """Two tables, trained a step at a time; item 0 is no item."""

    def __init__(self, way: Way, strategy: tf.distribute.Strategy):
        self._way = way
        self._strategy = strategy
        rng = np.random.default_rng(9)
        with strategy.scope():
            self.tables = [
                tf.Variable(rng.normal(size=(size, 4)).astype(np.float32))
                for size in (NUM_USERS, NUM_ITEMS + 1)
            ]
            self.frequency = way.estimator(
                1009,
                num_hashes=2,
                alpha=0.4,
                initial_gap=4.0,
                measure=SamplingMeasure.EXPECTED_COUNT,
            )
            # At rate 1 the first step's difference is the gradient.
            self.optimizer = tf.keras.optimizers.SGD(1.0)
            self.optimizer.build(self.tables)

    def step(self, batch: tuple[np.ndarray, ...], shares: tuple[int, ...]) -> float:
        """Trains on a batch of which each replica gets its share of the rows."""
        ends = np.cumsum(shares)

        def rows(context):
            end = ends[context.replica_id_in_sync_group]
            begin = end - shares[context.replica_id_in_sync_group]
            return tuple(tf.constant(part[begin:end]) for part in batch)

        values = self._strategy.experimental_distribute_values_from_function(rows)
        losses = self._run(values)
        total = self._strategy.reduce(tf.distribute.ReduceOp.SUM, losses, axis=None)
        return float(total)

    @tf.function
    def _run(self, values):
        return self._strategy.run(self._replica_step, [values])

    def _replica_step(self, rows):
        with tf.GradientTape() as tape:
            loss = self._loss(*rows)
        gradients = tape.gradient(loss, self.tables)
        self.optimizer.apply_gradients(zip(gradients, self.tables, strict=True))
        return loss

    def _loss(self, users, items, known, rewards):
        names = tf.gather(NAMES, items)
        log_q = self.frequency(names, training=True)
        positive = self.frequency.log_presence(names)
        vectors, ids, numbers, log_q = self._way.gather(
            tf.gather(self.tables[1], items), fingerprints(names), items, log_q
        )
        drawn = 1 + draw_uniform(NUM_ITEMS, NUM_DRAWN, 5, self.frequency.step)
        drawn_names = tf.gather(NAMES, drawn)
        log_q = tf.concat([log_q, self.frequency.log_q_of_drawn(drawn_names)], 0)
        measure = self.frequency.measure
        return in_batch_softmax_loss(
            tf.gather(self.tables[0], users),
            tf.concat([vectors, tf.gather(self.tables[1], drawn)], 0),
            tf.concat([ids, fingerprints(drawn_names)], 0),
            mixed_log_q(log_q, NUM_DRAWN, NUM_ITEMS, measure),
            rewards,
            temperature=0.7,
            known_positives=(tf.concat([numbers, drawn], 0), known),
            positive_log_q=mixed_log_q(
                positive, NUM_DRAWN, NUM_ITEMS, SamplingMeasure.PRESENCE
            ),
            num_rows=self._way.count_rows(users),
        )


def trained(
    way: Way, strategy: tf.distribute.Strategy, shares: tuple[int, ...]
) -> dict:
    """Returns losses and tables after each step, and the estimates after the last."""
    training = Training(way, strategy)
    losses, tables = [], []
    for batch in batches():
        losses.append(training.step(batch, shares))
        tables.append([table.numpy().tolist() for table in training.tables])
    names = tf.constant(NAMES[1:])
    estimates = [training.frequency(names), training.frequency.log_presence(names)]
    return {
        "losses": losses,
        "tables": tables,
        "estimates": [estimate.numpy().tolist() for estimate in estimates],
        "steps": int(training.frequency.step.numpy()),
    }


def main() -> None:
    """Trains in each way on two virtual CPUs."""
    (cpu,) = tf.config.list_physical_devices("CPU")
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, two)
    strategy = tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])
    found = {name: trained(way, strategy, EVEN) for name, way in WAYS.items()}
    found["ours, uneven"] = trained(WAYS["ours"], strategy, UNEVEN)
    print(json.dumps(found))
