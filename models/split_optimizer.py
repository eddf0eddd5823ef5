"""Two optimizers for one loss, each with variables of its own."""

from collections.abc import Iterable, Sequence

import tensorflow as tf


class SplitOptimizer(tf.keras.optimizers.Optimizer):
    """Lets one optimizer update some variables and another all others.

    To Keras, and to a checkpoint, it is one optimizer: one count of steps, and the slots
    of both.

    Args:
        some: updates the variables in `chosen`.
        rest: updates all others.
        chosen: some of a model's variables.
    """

    def __init__(
        self,
        some: tf.keras.optimizers.Optimizer,
        rest: tf.keras.optimizers.Optimizer,
        chosen: Sequence[tf.Variable],
        name: str = "SplitOptimizer",
    ) -> None:
        super().__init__(name=name)
        self.some = some
        self.rest = rest
        self._chosen = {self._var_key(variable) for variable in chosen}
        self._learning_rate = self._build_learning_rate(0.0)  # none of its own

    def build(self, var_list: Sequence[tf.Variable]) -> None:
        """Creates the slots of both optimizers."""
        super().build(var_list)
        if getattr(self, "_built", False):
            return
        self._built = True
        for optimizer, takes in ((self.some, True), (self.rest, False)):
            optimizer.build([v for v in var_list if self._is_chosen(v) == takes])

    def apply_gradients(
        self,
        grads_and_vars: Iterable[tuple[tf.Tensor, tf.Variable]],
        name: str | None = None,
        **kwargs,
    ) -> tf.Tensor:
        """Updates each variable by its own optimizer; counts one step."""
        pairs = list(grads_and_vars)
        for optimizer, takes in ((self.some, True), (self.rest, False)):
            own = [pair for pair in pairs if self._is_chosen(pair[1]) == takes]
            if own:
                optimizer.apply_gradients(own, **kwargs)
        return self.iterations.assign_add(1)

    def _is_chosen(self, variable: tf.Variable) -> bool:
        return self._var_key(variable) in self._chosen

    def get_config(self) -> dict:
        raise NotImplementedError(
            "SplitOptimizer is not rebuilt from a config: the variables it chooses are "
            "those of one model. Make it anew"
        )
