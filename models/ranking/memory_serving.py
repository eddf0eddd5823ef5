"""Lifelong serving: a user's memory is kept outside, written by events, read by requests.

A profile store keeps two tensors for a user, of the same size whatever the user has done.
An event costs one `update_memory`, a request one `score`; neither reads a history. The
trainer saves the module beside the ranker, in `Format-Memory` of the model's artifact.
"""

from collections.abc import Callable, Mapping

import tensorflow as tf

from models.preprocessing import raw_features
from models.ranking.hpmn import HPMN, Tensors
from models.signatures import QUERY_SIDES, input_signature
from schemas.features import HISTORY, ITEM_ID, USER_ID, FeatureCatalog, Side

MEMORY = "memory"
STEP = "step"


class MemoryServing(tf.Module):
    """The signatures that write and read memories, on raw features.

    update_memory   memory [B, D, H], step int64 [B] and the items' features, [B] each, as
                    the catalog has them -> memory, step
    score           memory [B, D, H], `user_id` and the user's and the context's features,
                    [B] each, and the candidates' features, [B, C] each -> logits [B, C]
                    and scores [B, C], the probability of the label

    A new user's memory is zeros, at step 0. An event whose `item_id` is "" writes nothing,
    so that events of many users may be written together, padded. A candidate whose
    `item_id` is "" gets a score of no meaning.

    An event is written with the features that it comes with, so an item that training
    never saw counts by them. A history, which is ids alone, knows the features of the
    items of the training rows: for those both are the same.

    Args:
        model: trained.
        catalog: the declared features.
        transform: applies the transform graph to raw features.
    """

    def __init__(
        self,
        model: HPMN,
        catalog: FeatureCatalog,
        transform: Callable[[Mapping], Tensors],
    ) -> None:
        super().__init__(name="memory_serving")
        self._model = model
        self._catalog = catalog
        self._transform = transform

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """Returns `update_memory` and `score`, ready for `tf.saved_model.save`."""
        catalog, settings = self._catalog, self._model.settings
        shape = [None, len(settings.periods), settings.memory_units]
        memory = {MEMORY: tf.TensorSpec(shape, tf.float32, MEMORY)}
        items = input_signature(catalog, Side.ITEM)
        query = input_signature(catalog, *QUERY_SIDES)
        del query[HISTORY]
        candidates = {
            key: tf.TensorSpec([None, *spec.shape], spec.dtype, key)
            for key, spec in items.items()
        }
        step = {STEP: tf.TensorSpec([None], tf.int64, STEP)}

        @tf.function(input_signature=[memory | step | items], autograph=False)
        def update_memory(inputs: Tensors) -> Tensors:
            return self.update_memory(inputs)

        @tf.function(input_signature=[memory | query | candidates], autograph=False)
        def score(inputs: Tensors) -> Tensors:
            return self.score(inputs)

        return {
            "update_memory": update_memory.get_concrete_function(),
            "score": score.get_concrete_function(),
        }

    def update_memory(self, inputs: Tensors) -> Tensors:
        """Writes one event of each user; see the class."""
        items = self._transform(raw_features(inputs, self._catalog, Side.ITEM))
        memory, step = self._model.write_event(inputs[MEMORY], inputs[STEP], items)
        return {MEMORY: memory, STEP: step}

    def score(self, inputs: Tensors) -> Tensors:
        """Scores each user's candidates; see the class."""
        num_users = tf.shape(inputs[USER_ID])[0]
        no_history = {HISTORY: tf.zeros([num_users, 0], tf.string)}
        query = self._transform(
            raw_features({**inputs, **no_history}, self._catalog, *QUERY_SIDES)
        )
        logits = self._model.score_memory(
            inputs[MEMORY], query, self._transformed_candidates(inputs)
        )
        return {"logits": logits, "scores": tf.sigmoid(logits)}

    def _transformed_candidates(self, inputs: Tensors) -> Tensors:
        """Returns tensors [B, C, ...]: rows of items are all that the transform reads."""
        shape = tf.shape(inputs[ITEM_ID])
        num_rows = [tf.reduce_prod(shape)]
        rows = {
            key: tf.reshape(
                inputs[key], tf.concat([num_rows, tf.shape(inputs[key])[2:]], axis=0)
            )
            for key in input_signature(self._catalog, Side.ITEM)
        }
        items = self._transform(raw_features(rows, self._catalog, Side.ITEM))
        return {
            name: tf.reshape(values, tf.concat([shape, tf.shape(values)[1:]], axis=0))
            for name, values in items.items()
        }
