"""Tandem as a contestant: its default ranker, trained by its own trainer, on a table's rows.

Run as `python -m benchmarks.ctr_tandem TABLE OUTCOME [--quick]`, or with `--paced` in place of
OUTCOME: then it trains some steps for each line it reads; see `benchmarks.ctr_pace`. Nothing is
tuned here beyond what the trainer does by itself on the rows for validation, and nothing
differs between the tables: the settings are the shipped defaults.
"""

import functools
import math
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

import models  # noqa: F401  (sets the Keras switch, before TensorFlow is loaded)

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf  # isort: skip

from benchmarks.ctr_contest import Setting, compete_by_files
from benchmarks.ctr_data import ITEM, USER, CtrTable
from benchmarks.ctr_pace import STEPS, keep_pace
from models.feature_space import FeatureSpace
from models.ranking.settings import RankingSettings
from models.ranking.trainer import compiled, fit
from schemas.features import (
    HISTORY,
    Feature,
    FeatureCatalog,
    FeatureKind,
    Side,
    transformed_name,
)

_SHARED = 2  # numbers of `CtrTable.known` that are no value of their own


class TableRows:
    """Rows of a table in the form that the trainer reads; see `LabelledRows`.

    Args:
        tensors: [N, ...] by name, as the Transform stage gives them.
        labels: [N].
        some: which rows.
        settings: of the training.
    """

    def __init__(
        self,
        tensors: dict[str, np.ndarray],
        labels: np.ndarray,
        some: slice,
        settings: RankingSettings,
    ) -> None:
        self._tensors = {
            name: tf.constant(all_[some]) for name, all_ in tensors.items()
        }
        self._labels = tf.constant(labels[some])
        self._settings = settings
        self.num_batches = math.ceil(len(self._labels) / settings.batch_size)

    def in_order(self) -> tf.data.Dataset:
        return self._batches(np.arange(len(self._labels)))

    def epochs(self, first: int) -> tf.data.Dataset:
        return functools.reduce(
            tf.data.Dataset.concatenate,
            [self._shuffled(n) for n in range(first, self._settings.max_epochs)],
        )

    def _shuffled(self, epoch: int) -> tf.data.Dataset:
        rng = np.random.default_rng([self._settings.seed, epoch])
        return self._batches(rng.permutation(len(self._labels)))

    def _batches(self, rows: np.ndarray) -> tf.data.Dataset:
        def of(places: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
            features = {
                name: tf.gather(values, places)
                for name, values in self._tensors.items()
            }
            return features, tf.gather(self._labels, places)

        places = tf.constant(rows)
        size = self._settings.batch_size
        begins = tf.data.Dataset.range(0, len(rows), size)
        batches = begins.map(lambda begin: of(places[begin : begin + size]))
        return batches.prefetch(tf.data.AUTOTUNE)


class Tandem:
    """Trains the default ranker.

    Args:
        settings: of the ranker.
    """

    def __init__(self, settings: RankingSettings) -> None:
        self._settings = settings

    def candidates(self, table: CtrTable) -> Iterator[tuple[Setting, np.ndarray]]:
        space, tensors = transformed(table)
        train, validation = (
            TableRows(tensors, table.labels, some, self._settings)
            for some in (table.fit, table.validation)
        )
        with tempfile.TemporaryDirectory() as logs:
            model = fit(space, self._settings, train, validation, Path(logs))
        later = slice(int(table.num_fit), None)
        rows = TableRows(tensors, table.labels, later, self._settings)
        score = tf.function(lambda features: tf.sigmoid(model(features)))
        probs = [score(features).numpy() for features, _ in rows.in_order()]
        yield {}, np.concatenate(probs)


def catalog_of(table: CtrTable) -> FeatureCatalog:
    """Declares the table's columns as a service's config would."""
    kinds = {
        **dict.fromkeys(table.category_names.tolist(), FeatureKind.CATEGORICAL),
        **dict.fromkeys(table.number_names.tolist(), FeatureKind.NUMERIC),
    }
    if table.lists.shape[1]:
        kinds[str(table.list_name)] = FeatureKind.MULTI_CATEGORICAL
    del kinds[USER], kinds[ITEM]  # the ids need no declaration

    def of(side: Side) -> Sequence[Feature]:
        start = f"{side.value}_"
        return [
            Feature(name=name.removeprefix(start), kind=kind)
            for name, kind in kinds.items()
            if name.startswith(start)
        ]

    return FeatureCatalog(
        user=of(Side.USER),
        item=of(Side.ITEM),
        context=of(Side.CONTEXT),
        history_length=table.history.shape[1],
    )


def transformed(table: CtrTable) -> tuple[FeatureSpace, dict[str, np.ndarray]]:
    """Returns what the Transform stage would make of the table, and the tensors' space.

    Vocabularies and scales are those of the rows to fit.
    """
    catalog, known = catalog_of(table), table.known()
    buckets = {key: feature.num_hash_buckets for key, feature in catalog.features()}
    buckets |= dict.fromkeys((USER, ITEM), catalog.id_hash_buckets)
    sizes, tensors = {}, {}

    def add(key: str, values: np.ndarray, numbers: np.ndarray) -> None:
        sizes[key] = max(0, int(numbers.max(initial=0)) + 1 - _SHARED)
        tensors[transformed_name(key)] = ids(values, numbers, buckets[key])

    for place, key in enumerate(table.category_names.tolist()):
        add(key, table.categories[:, place], known.categories[:, place])
    if table.lists.shape[1]:
        add(str(table.list_name), table.lists, known.lists)
    tensors[transformed_name(HISTORY)] = ids(
        table.history, known.history, buckets[ITEM]
    )
    fitted = table.numbers[table.fit]
    scaled = (table.numbers - fitted.mean(axis=0)) / fitted.std(axis=0)
    for key, column in zip(table.number_names.tolist(), scaled.T, strict=True):
        tensors[transformed_name(key)] = column.astype(np.float32)
    return FeatureSpace.from_vocabulary_sizes(catalog, sizes), tensors


def ids(values: np.ndarray, numbers: np.ndarray, buckets: int) -> np.ndarray:
    """Returns int64 ids as `preprocessing.lookup_ids` lays them out.

    Args:
        values: as the table has them, 0 for missing.
        numbers: the same of `CtrTable.known`.
        buckets: ids that unknown values share.
    """
    shared = np.where(values > 0, 1 + values % buckets, 0)
    return np.where(numbers >= _SHARED, numbers - _SHARED + 1 + buckets, shared).astype(
        np.int64
    )


def paced(table: CtrTable) -> None:
    """Trains as many steps as `ctr_pace` wants, each time it asks."""
    settings = RankingSettings(max_epochs=1)
    space, tensors = transformed(table)
    some = slice(0, STEPS * settings.batch_size)
    rows = TableRows(tensors, table.labels, some, settings)
    trainee = compiled(space, settings, rows)
    keep_pace(lambda: trainee.fit(rows.epochs(0), verbose=0))


FULL = Tandem(RankingSettings())
QUICK = Tandem(RankingSettings(max_epochs=2))

if __name__ == "__main__":
    if "--paced" in sys.argv:
        paced(CtrTable.load(Path(sys.argv[1])))
    else:
        compete_by_files({False: FULL, True: QUICK})
