"""AdamW whose cost follows the rows that a batch touches, not the size of a table."""

import tensorflow as tf


@tf.keras.utils.register_keras_serializable("tandem")
class SparseAdamW(tf.keras.optimizers.Optimizer):
    """AdamW that leaves the rows of an embedding table alone where a batch has none.

    A dense gradient is applied as in AdamW [1]. Of a sparse one (`tf.IndexedSlices`, as
    a lookup gives), only the rows with a gradient have their moments, their step count
    and their weights changed, by AdamW's rule with the row's own count:

        t[i] += 1
        m[i] = beta_1 m[i] + (1 - beta_1) g[i],  v[i] likewise with g[i]^2
        w[i] -= lr * (m[i] / (1 - beta_1^t[i]) / (sqrt(v[i] / (1 - beta_2^t[i])) + eps)
                      + weight_decay * w[i])

    Keras's own Adam moves every row of a table at every step, so its cost grows with the
    vocabulary, and it pushes items that no batch holds along their stale momentum. With
    the row's own count, the first update of a rare item has the size of a first update.

    Args:
        learning_rate: a number or a schedule.
        weight_decay: decoupled; of a table's row, per update of that row.
        beta_1: decay of the first moment.
        beta_2: decay of the second moment.
        epsilon: added to the root of the second moment.

    References:
        [1] Loshchilov, Hutter. Decoupled Weight Decay Regularization. ICLR 2019.
            Algorithm 2.
    """

    def __init__(
        self,
        learning_rate: float | tf.keras.optimizers.schedules.LearningRateSchedule,
        weight_decay: float = 0.0,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        name: str = "SparseAdamW",
        **kwargs,
    ) -> None:
        # Keras's own decay passes over whole tables, at its default of 0 as well.
        super().__init__(name=name, weight_decay=None, jit_compile=False, **kwargs)
        if weight_decay < 0:
            raise ValueError(
                f"`weight_decay` should be >= 0. Received: weight_decay={weight_decay}"
            )
        self._learning_rate = self._build_learning_rate(learning_rate)
        self.decay = weight_decay
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    def build(self, var_list: list[tf.Variable]) -> None:
        """Creates the moments and, a number for each row, the counts."""
        super().build(var_list)
        if getattr(self, "_built", False):
            return
        self._built = True
        self._first = [self.add_variable_from_reference(v, "m") for v in var_list]
        self._second = [self.add_variable_from_reference(v, "v") for v in var_list]
        # Floats stop counting at 2^24, where the corrections have long been 1.
        self._count = [
            self.add_variable_from_reference(v, "count", shape=v.shape[:1])
            for v in var_list
        ]

    def update_step(
        self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable
    ) -> None:
        """Updates a variable, or its rows that have a gradient."""
        position = self._index_dict[self._var_key(variable)]
        state = (
            self._first[position],
            self._second[position],
            self._count[position],
        )
        if not isinstance(gradient, tf.IndexedSlices):
            new = self._moved(gradient, variable, *state, axes=variable.shape.rank)
            for target, value in zip((variable, *state), new, strict=True):
                target.assign(value)
            return
        # Keras has summed the slices of equal rows, so each row stands once.
        rows = gradient.indices
        old = [tf.gather(target, rows) for target in (variable, *state)]
        new = self._moved(gradient.values, *old, axes=variable.shape.rank)
        for target, value in zip((variable, *state), new, strict=True):
            target.scatter_update(tf.IndexedSlices(value, rows))

    def _moved(self, gradient, weights, first, second, count, axes):
        """Returns the weights and the state after one update; all share a first axis."""
        lr = tf.cast(self.learning_rate, weights.dtype)
        count = count + 1.0
        first = first + (1.0 - self.beta_1) * (gradient - first)
        second = second + (1.0 - self.beta_2) * (tf.square(gradient) - second)
        # One count a row, spread over the row's other axes. What corrects the moments
        # is a number a row as well, so it goes into the step's size: fewer passes.
        steps = tf.reshape(count, [-1, *[1] * (axes - 1)]) if axes else count
        root = tf.sqrt(1.0 - tf.pow(self.beta_2, steps))
        size = lr * root / (1.0 - tf.pow(self.beta_1, steps))
        step = size * first / (tf.sqrt(second) + self.epsilon * root)
        moved = (1.0 - lr * self.decay) * weights - step
        return moved, first, second, count

    def get_config(self) -> dict:
        config = super().get_config()
        del config["jit_compile"]
        return {
            **config,
            "learning_rate": self._serialize_hyperparameter(self._learning_rate),
            "weight_decay": self.decay,
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
        }
