"""Joins the trained parts into the four SavedModels of a release.

`recommender` searches with the configured index, `recommender_exact` with stock
TensorFlow ops only, `retrieval` and `ranking` are the stages alone. Each gets warm-up
requests, and the exporting process records requests with its answers, for
ValidateServing to replay against a server.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from pydantic import BaseModel, ConfigDict

from components.build_index import ITEMS_EXAMPLES, ItemVectors
from components.read_examples import read_serialized
from models.index import (
    BuiltIndex,
    Index,
    build_tuned_index,
    estimate_memory,
    refreshed_index,
)
from models.index_settings import IndexSettings
from models.policy_settings import PolicySettings
from models.preprocessing import TransformGraph, raw_features
from models.recommender import Recommender
from models.signatures import QUERY_SIDES, example_spec, input_signature
from schemas.features import FeatureCatalog, Side

_SAVE_OPTIONS = tf.saved_model.SaveOptions(namespace_whitelist=["Scann"])
_NUM_RETRIEVED = 100
# The bundle's `retrieval` keeps the towers too: for whoever needs vectors, and for the
# next run's gate, which measures the last release on its own test split.
TOWER_SIGNATURES = ("query_examples", "candidate_examples")


class ExportSettings(BaseModel):
    """What the exported models do per request."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    catalog: FeatureCatalog
    index: IndexSettings
    policy: PolicySettings
    num_candidates: int
    default_k: int


@dataclasses.dataclass(frozen=True)
class TrainedStages:
    """What the stages before left behind, loaded once."""

    transform: TransformGraph
    retrieval: Any  # the loaded SavedModel of models.retrieval.trainer.RetrievalModule
    ranking: Any  # the loaded SavedModel of models.ranking.trainer.RankingModule

    @classmethod
    def load(
        cls,
        transform_uri: str,
        retrieval_dir: str,
        ranking_dir: str,
        catalog: FeatureCatalog,
    ) -> "TrainedStages":
        """Loads the transform graph and both trained models."""
        return cls(
            TransformGraph(transform_uri, catalog),
            tf.saved_model.load(retrieval_dir),
            tf.saved_model.load(ranking_dir),
        )


class RetrievalServer(tf.Module):
    """The `retrieval` model: the K best items of each user, nothing excluded."""

    def __init__(self, catalog, item_ids, transform, embed_query, index: Index) -> None:
        super().__init__(name="retrieval")
        self._catalog = catalog
        self._transform = transform
        self._embed_query = embed_query
        self._index = index
        self._item_ids = tf.constant(item_ids)
        self._num_retrieved = min(_NUM_RETRIEVED, len(item_ids))

    def signatures(self) -> dict:
        """Returns `serving_default`: query inputs -> `item_ids`, `scores` [B, K]."""

        @tf.function(input_signature=[input_signature(self._catalog, *QUERY_SIDES)])
        def serving_default(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            query = self._transform(raw_features(inputs, self._catalog, *QUERY_SIDES))
            scores, rows = self._index.search(
                self._embed_query(query), tf.constant(self._num_retrieved)
            )
            found = rows >= 0
            items = tf.gather(self._item_ids, tf.maximum(rows, 0))
            return {
                "item_ids": tf.where(found, items, ""),
                "scores": tf.where(found, scores, 0.0),
            }

        return {"serving_default": serving_default.get_concrete_function()}


@dataclasses.dataclass(frozen=True)
class IndexedItems:
    """An index as it was built, and the vectors it was built from."""

    vectors: ItemVectors
    index: Index


def release_index(
    vectors: ItemVectors,
    queries: np.ndarray,
    settings: IndexSettings,
    k: int,
    previous: IndexedItems | None = None,
) -> BuiltIndex:
    """Returns the index to serve: a tuned one, or the previous one brought up to date.

    Args:
        vectors: the catalogue's.
        queries: [Q, D] vectors of queries held out from training, to tune on.
        settings: how to build, and how large a segment beside a built index may grow.
        k: items that a search is asked for, for the target to hold there.
        previous: reused where the towers are the same, so that most vectors are too.
    """
    if previous is not None:
        index = refreshed_index(
            previous.index,
            previous.vectors.item_ids,
            previous.vectors.embeddings,
            vectors.item_ids,
            vectors.embeddings,
        )
        if index.changed_share <= settings.max_segment_share:
            return BuiltIndex(
                index,
                estimate_memory(*vectors.embeddings.shape, settings, index.is_exact),
                None,
                f"built before; {index.num_fresh} items are fresh, "
                f"{index.num_tombstones} are passed over",
            )
    return build_tuned_index(vectors.embeddings, queries, settings, k=k)


def export_models(
    vectors: ItemVectors,
    catalog_uri: str,
    stages: TrainedStages,
    settings: ExportSettings,
    bundle_dir: str,
    index: Index,
) -> tuple[Index, Index]:
    """Writes `<bundle_dir>/<model>` for the four models of a release.

    Returns:
        (index, exact): what `recommender` and `recommender_exact` search with.
    """
    transform, retrieval, ranking = stages.transform, stages.retrieval, stages.ranking
    # One copy of the vectors serves both: the approximate index keeps them too.
    exact = index.exact()
    candidates = transformed_catalogue(catalog_uri, transform, settings.catalog)

    def recommender(search: Index) -> Recommender:
        module = Recommender(
            catalog=settings.catalog,
            item_ids=vectors.item_ids,
            transform=transform,
            embed_query=retrieval.embed_query,
            score_candidates=ranking.score_candidates,
            candidates=candidates,
            index=search,
            exact_index=exact,
            policy=settings.policy,
            num_candidates=settings.num_candidates,
            default_k=settings.default_k,
        )
        module.parts = (transform, retrieval, ranking)  # what the graph reads is saved
        return module

    server = RetrievalServer(
        settings.catalog, vectors.item_ids, transform, retrieval.embed_query, exact
    )
    server.parts = (transform, retrieval)
    modules = {
        "recommender": recommender(index),
        "recommender_exact": recommender(exact),
        "retrieval": server,
    }
    towers = {name: retrieval.signatures[name] for name in TOWER_SIGNATURES}
    for name, module in modules.items():
        signatures = module.signatures() | (towers if module is server else {})
        save_module(module, signatures, bundle_dir, name)
    save_module(ranking, dict(ranking.signatures), bundle_dir, "ranking")
    return index, exact


def save_module(
    module: tf.Module, signatures: dict, bundle_dir: str, name: str
) -> None:
    """Saves one model of the bundle."""
    path = str(Path(bundle_dir) / name)
    tf.saved_model.save(module, path, signatures=signatures, options=_SAVE_OPTIONS)


def transformed_catalogue(
    catalog_uri: str, transform: TransformGraph, catalog: FeatureCatalog
) -> dict[str, np.ndarray]:
    """Applies the transform graph to every item: tensors [N, ...] by transformed name."""
    spec = example_spec(transform.raw_spec, catalog, Side.ITEM)
    examples = read_serialized([str(Path(catalog_uri) / ITEMS_EXAMPLES)])
    raw = tf.io.parse_example(tf.constant(examples, tf.string), spec)
    outputs = transform(raw)
    return {name: values.numpy() for name, values in outputs.items()}
