"""Approximate search by ScaNN inside the graph."""

import json
from pathlib import Path

import numpy as np
import tensorflow as tf

from models.index.exact_index import ExactIndex
from models.index.interface import Result, check_embeddings, padded
from models.index.scann_state import Layout, build_state, parts_of, state_of
from models.index_settings import IndexSettings
from models.scann_ops import register_scann_ops

_ALL_LEAVES = -1  # what the op takes where there are no partitions
_VECTORS = "vectors.npy"
_SETTINGS = "settings.json"


class ScannIndex(tf.Module):
    """Searches quantised vectors by ScaNN, then scores the best of them exactly.

    A SavedModel that holds it is written with
    `tf.saved_model.SaveOptions(namespace_whitelist=["Scann"])`, and a process that
    loads one calls `models.scann_ops.register_scann_ops` before.

    Args:
        embeddings: [N, D] float32, finite, N >= 1.
        settings: how to partition, quantise and reorder.

    References:
        [1] Guo et al. Accelerating Large-Scale Inference with Anisotropic Vector
            Quantization. ICML 2020.
    """

    is_exact = False

    def __init__(
        self,
        embeddings: np.ndarray,
        settings: IndexSettings | None = None,
        name: str | None = None,
    ):
        super().__init__(name=name)
        check_embeddings(embeddings)
        self._settings = settings or IndexSettings()
        self._layout = Layout.of(self._settings, len(embeddings))
        self._state = build_state(np.asarray(embeddings, np.float32), self._layout)

    @classmethod
    def _of_state(
        cls, state: tf.Module, layout: Layout, settings: IndexSettings
    ) -> "ScannIndex":
        index = cls.__new__(cls)
        tf.Module.__init__(index)
        index._settings, index._layout, index._state = settings, layout, state
        return index

    @property
    def embeddings(self) -> tf.Variable:
        """The vectors themselves, float32 [N, D]; an `ExactIndex` can share them."""
        return self._state.dataset

    @property
    def num_items(self) -> int:
        return int(self.embeddings.shape[0])

    @property
    def num_leaves(self) -> int:
        """Partitions; 0 where a search scans all codes."""
        return self._layout.num_leaves

    @property
    def settings(self) -> IndexSettings:
        return self._settings

    def searched_with(self, settings: IndexSettings) -> "ScannIndex":
        """Returns the same index, not built anew, searched as `settings` say.

        Raises:
            ValueError: if it would have to be built anew.
        """
        layout = Layout.of(settings, self.num_items)
        if layout != self._layout:
            raise ValueError(
                "`settings` should differ only in `leaves_to_search`, `min_reordered` "
                f"and `reordered_per_result`. Received: {layout}, built as "
                f"{self._layout}; build another ScannIndex."
            )
        return self._of_state(self._state, layout, settings)

    def search(self, queries: tf.Tensor, k: tf.Tensor | int) -> Result:
        """See `Index.search`; the scores are exact, the choice of rows is not."""
        k = tf.maximum(tf.cast(k, tf.int32), 0)
        asked = tf.cast(tf.minimum(k, self.num_items), tf.float32)
        per_result = tf.math.ceil(asked * self._settings.reordered_per_result)
        num_reordered = tf.maximum(
            tf.cast(per_result, tf.int32), self._settings.min_reordered
        )
        num_leaves = max(1, round(self.num_leaves * self._settings.leaves_to_search))
        return self.search_with(queries, k, num_leaves, num_reordered)

    def search_with(
        self,
        queries: tf.Tensor,
        k: tf.Tensor,
        num_leaves: tf.Tensor | int,
        num_reordered: tf.Tensor | int,
    ) -> Result:
        """Searches with an effort of the caller's choice.

        Args:
            queries: [B, D] float32.
            k: [] int32.
            num_leaves: partitions to look at; without partitions it says nothing.
            num_reordered: candidates scored exactly; k where that is more.

        Returns:
            See `Index.search`.
        """
        from scann.scann_ops.py import scann_ops

        # ScaNN takes a count of 0 for "as configured": ask for one and cut it off.
        fetched = tf.clip_by_value(k, 1, self.num_items)
        searcher = scann_ops.searcher_from_module(self._state)
        rows, scores = searcher.search_batched(
            queries,
            final_num_neighbors=fetched,
            pre_reorder_num_neighbors=tf.clip_by_value(
                num_reordered, fetched, self.num_items
            ),
            leaves_to_search=num_leaves if self.num_leaves else _ALL_LEAVES,
        )
        # ScaNN fills up a row for which it found too little by item 0 and a score NaN.
        is_missing = tf.math.is_nan(scores)
        scores = tf.where(is_missing, float("-inf"), scores)
        rows = tf.where(is_missing, -1, rows)
        return padded(scores[:, :k], rows[:, :k], k)

    def exact(self) -> ExactIndex:
        """See `Index.exact`."""
        return ExactIndex(self.embeddings)

    def serialized_bytes(self) -> dict[str, int]:
        """Returns the bytes of each part as a SavedModel holds them."""
        sizes = {
            name: len(part) if isinstance(part, bytes) else part.nbytes
            for name, part in parts_of(self._state).items()
        }
        return sizes | {"dataset": self.embeddings.numpy().nbytes}

    def write(self, folder: Path) -> None:
        """Writes the built index into a new folder, for `read`."""
        folder.mkdir(parents=True)
        np.save(folder / _VECTORS, self.embeddings.numpy())
        for name, part in parts_of(self._state).items():
            if isinstance(part, bytes):
                (folder / f"{name}.pb").write_bytes(part)
            else:
                np.save(folder / f"{name}.npy", part)
        (folder / _SETTINGS).write_text(self._settings.model_dump_json())

    @classmethod
    def read(cls, folder: Path) -> "ScannIndex":
        """Reads what `write` wrote; takes as long as reading the files.

        Raises:
            FileNotFoundError: if the folder holds no index.
        """
        vectors = np.load(folder / _VECTORS)
        parts: dict[str, bytes | np.ndarray] = {
            path.stem: path.read_bytes() for path in folder.glob("*.pb")
        }
        parts |= {
            path.stem: np.load(path)
            for path in folder.glob("*.npy")
            if path.name != _VECTORS
        }
        settings = IndexSettings(**json.loads((folder / _SETTINGS).read_text()))
        register_scann_ops()
        return cls._of_state(
            state_of(parts, vectors), Layout.of(settings, len(vectors)), settings
        )
