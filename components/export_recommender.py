"""Joins the trained parts into the four SavedModels of a release.

`recommender` searches with the configured index, `recommender_exact` with stock
TensorFlow ops only, `retrieval` and `ranking` are the stages alone. Each gets warm-up
requests, and the exporting process records requests with its answers, for
ValidateServing to replay against a server.

A ranker that keeps memories of users adds a fifth, `memory`, as its trainer left it.

All but these two hold the items, so these are what a refresh of the items writes anew.
"""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from pydantic import BaseModel, ConfigDict

from components.build_index import ITEMS_EXAMPLES, ItemVectors
from components.candidate_selection_settings import CandidateSettings
from components.item_facts import item_facts
from components.read_examples import read_serialized
from models.bandit.bayesian_fm_release import EXTRA_ASSETS
from models.bandit.bayesian_fm_towers import ITEM_VECTOR, QUERY_VECTOR
from models.index import (
    BuiltIndex,
    ExactIndex,
    Index,
    build_tuned_index,
    candidate_settings,
    estimate_memory,
    refreshed_index,
)
from models.index_settings import IndexKind, IndexSettings
from models.policy_settings import Draw, PolicyName, PolicySettings
from models.preprocessing import TransformGraph, raw_features
from models.ranking.hpmn import MEMORY_FOLDER
from models.recommender import Recommender
from models.signatures import QUERY_SIDES, example_spec, input_signature
from schemas.features import FeatureCatalog, Side
from serving.release_layout import MEMORY_MODEL

_SAVE_OPTIONS = tf.saved_model.SaveOptions(namespace_whitelist=["Scann"])
_NUM_RETRIEVED = 100
# The bundle's `retrieval` keeps the towers too: for whoever needs vectors, for the next
# run's gate, which measures the last release on its own test split, and for a refresh.
TOWER_SIGNATURES = ("query_examples", "candidate_examples")


class ExportSettings(BaseModel):
    """What the exported models do per request."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    catalog: FeatureCatalog
    index: IndexSettings
    policy: PolicySettings
    num_candidates: int
    default_k: int
    candidates: CandidateSettings = CandidateSettings()  # names the columns of windows


@dataclasses.dataclass(frozen=True)
class TrainedStages:
    """What the stages before left behind, loaded once."""

    transform: TransformGraph
    retrieval: Any  # the loaded SavedModel of models.retrieval.trainer.RetrievalModule
    ranking: Any  # the loaded SavedModel of models.ranking.trainer.RankingModule
    memory_dir: Path | None = None  # SavedModel of users' memories, of rankers with one
    record_dir: Path | None = None  # what a ranker's next training must know of it

    @classmethod
    def load(
        cls,
        transform_uri: str,
        retrieval_dir: str,
        ranking_dir: str,
        catalog: FeatureCatalog,
    ) -> "TrainedStages":
        """Loads the transform graph and both trained models."""
        memory_dir = Path(ranking_dir).parent / MEMORY_FOLDER
        record_dir = Path(ranking_dir) / EXTRA_ASSETS
        return cls(
            TransformGraph(transform_uri, catalog),
            tf.saved_model.load(retrieval_dir),
            tf.saved_model.load(ranking_dir),
            memory_dir if memory_dir.is_dir() else None,
            record_dir if record_dir.is_dir() else None,
        )

    @classmethod
    def of_release(
        cls,
        transform_uri: str,
        retrieval_dir: str,
        ranking_dir: str,
        catalog: FeatureCatalog,
    ) -> "TrainedStages":
        """Loads the same from the models of a release, without its items."""
        return cls(
            TransformGraph(transform_uri, catalog),
            tf.saved_model.load(retrieval_dir).towers,
            tf.saved_model.load(ranking_dir),
        )


class RetrievalServer(tf.Module):
    """The `retrieval` model: the K best items of each user, nothing excluded.

    Attributes:
        towers: the trained retrieval model; `TrainedStages.of_release` finds it here.
    """

    def __init__(self, catalog, item_ids, transform, towers, index: Index) -> None:
        super().__init__(name="retrieval")
        self.towers = towers
        self._catalog = catalog
        self._transform = transform
        self._index = index
        self._item_ids = tf.constant(item_ids)
        self._num_retrieved = min(_NUM_RETRIEVED, len(item_ids))

    def signatures(self) -> dict:
        """Returns `serving_default`: query inputs -> `item_ids`, `scores` [B, K]."""

        @tf.function(
            input_signature=[input_signature(self._catalog, *QUERY_SIDES)],
            autograph=False,
        )
        def serving_default(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            query = self._transform(raw_features(inputs, self._catalog, *QUERY_SIDES))
            scores, rows = self._index.search(
                self.towers.embed_query(query), tf.constant(self._num_retrieved)
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


class RebuildDueError(Exception):
    """An index that would have to be built anew, where that was not wanted."""


@dataclasses.dataclass(frozen=True)
class ReleaseIndex:
    """The index of a release, and what the next one can reuse of it.

    Attributes:
        built: what the release searches with.
        main: the index that was built, with the vectors it was built from.
        num_fresh, num_tombstones: items beside `main`, and items of it passed over.
        is_reused: whether `main` is that of an earlier release.
    """

    built: BuiltIndex
    main: IndexedItems
    num_fresh: int = 0
    num_tombstones: int = 0
    is_reused: bool = False


def release_index(
    vectors: ItemVectors,
    queries: np.ndarray,
    settings: IndexSettings,
    k: int,
    previous: IndexedItems | None = None,
    may_build: bool = True,
) -> ReleaseIndex:
    """Returns the index to serve: a tuned one, or the previous one brought up to date.

    Args:
        vectors: the catalogue's.
        queries: [Q, D] vectors of queries held out from training, to tune on.
        settings: how to build, and how large a segment beside a built index may grow.
        k: items that a search is asked for, for the target to hold there.
        previous: reused where the towers are the same, so that most vectors are too.
        may_build: whether an approximate index is built where the previous one will
            not do.

    Raises:
        RebuildDueError: if `may_build` is False and one would have to be.
    """
    if previous is not None and previous.index.is_exact:
        kinds = [s.kind for s in candidate_settings(len(vectors.item_ids), settings)]
        if IndexKind.EXACT in kinds:
            return _exact_as_before(vectors, settings)
    elif previous is not None:
        index = refreshed_index(
            previous.index,
            previous.vectors.item_ids,
            previous.vectors.embeddings,
            vectors.item_ids,
            vectors.embeddings,
        )
        if index.changed_share <= settings.max_segment_share:
            built = BuiltIndex(
                index,
                estimate_memory(*vectors.embeddings.shape, settings, index.is_exact),
                None,
                f"built before; {index.num_fresh} items are fresh, "
                f"{index.num_tombstones} are passed over",
            )
            return ReleaseIndex(
                built, previous, index.num_fresh, index.num_tombstones, is_reused=True
            )
        if not may_build:
            raise RebuildDueError(
                f"the index is to be built anew: {index.num_fresh} fresh and "
                f"{index.num_tombstones} gone items are {index.changed_share:.1%} of the "
                f"{previous.index.num_items} it was built from, and "
                f"`index.max_segment_share` is {settings.max_segment_share:.1%}"
            )
    if previous is not None and not may_build:
        raise RebuildDueError(
            f"an approximate index is to be built: {len(vectors.item_ids)} items are "
            "too many for an exact one (`index.exact_below`)"
        )
    built = build_tuned_index(vectors.embeddings, queries, settings, k=k)
    return ReleaseIndex(built, IndexedItems(vectors, built.index))


def _exact_as_before(vectors: ItemVectors, settings: IndexSettings) -> ReleaseIndex:
    index = ExactIndex(vectors.embeddings)
    memory = estimate_memory(*vectors.embeddings.shape, settings, True)
    built = BuiltIndex(index, memory, None, "exact, as before")
    return ReleaseIndex(built, IndexedItems(vectors, index))


@dataclasses.dataclass(frozen=True)
class ServedRanker:
    """What the fused recommender asks of a ranker, by what the transform graph returns.

    Attributes:
        score_candidates, beliefs: as of `Recommender`.
        candidates: tensors [N, ...] that the ranker reads of items besides.
        part: holds what both functions read.
    """

    score_candidates: Callable
    beliefs: Callable | None
    candidates: dict[str, np.ndarray]
    part: Any

    @classmethod
    def of(
        cls, ranking: Any, retrieval: Any, vectors: ItemVectors, policy: PolicySettings
    ) -> "ServedRanker":
        """Returns that of a loaded ranker, with the towers' vectors if it reads them."""
        score, beliefs = ranking.score_candidates, beliefs_of(ranking, policy)
        if not hasattr(ranking, "towers"):
            return cls(score, beliefs, {}, ranking)

        def with_vector(function: Callable) -> Callable:
            def asked(query: dict, candidates: dict) -> Any:
                vector = {QUERY_VECTOR: retrieval.embed_query(query)}
                return function(query | vector, candidates)

            return asked

        return cls(
            with_vector(score),
            beliefs and with_vector(beliefs),
            {ITEM_VECTOR: vectors.embeddings},
            ranking.model,  # the towers are in the recommender once already
        )


def export_models(
    vectors: ItemVectors,
    catalog_uri: str,
    stages: TrainedStages,
    settings: ExportSettings,
    bundle_dir: str,
    index: Index,
) -> tuple[Index, Index]:
    """Writes `<bundle_dir>/<model>` for the three models that hold the items.

    Returns:
        (index, exact): what `recommender` and `recommender_exact` search with.
    """
    transform, retrieval, ranking = stages.transform, stages.retrieval, stages.ranking
    # One copy of the vectors serves both: the approximate index keeps them too.
    exact = index.exact()
    candidates = transformed_catalogue(catalog_uri, transform, settings.catalog)
    ranker = ServedRanker.of(ranking, retrieval, vectors, settings.policy)
    facts = item_facts(
        catalog_uri, settings.candidates, settings.policy, vectors.embeddings
    )

    def recommender(search: Index) -> Recommender:
        module = Recommender(
            catalog=settings.catalog,
            item_ids=vectors.item_ids,
            transform=transform,
            embed_query=retrieval.embed_query,
            score_candidates=ranker.score_candidates,
            candidates=candidates | ranker.candidates,
            index=search,
            exact_index=exact,
            policy=settings.policy,
            num_candidates=settings.num_candidates,
            default_k=settings.default_k,
            beliefs=ranker.beliefs,
            facts=facts,
        )
        # What the graph reads is saved.
        module.parts = (transform, retrieval, ranker.part)
        return module

    server = RetrievalServer(
        settings.catalog, vectors.item_ids, transform, retrieval, exact
    )
    modules = {
        "recommender": recommender(index),
        "recommender_exact": recommender(exact),
        "retrieval": server,
    }
    towers = {name: retrieval.signatures[name] for name in TOWER_SIGNATURES}
    for name, module in modules.items():
        signatures = module.signatures() | (towers if module is server else {})
        save_module(module, signatures, bundle_dir, name)
    return index, exact


def beliefs_of(ranking: Any, policy: PolicySettings) -> Callable | None:
    """Returns the ranker's function that the policy explores by; None if by none.

    Raises:
        ValueError: if the policy needs one and the ranker has none.
    """
    if not policy.needs_posterior:
        return None
    is_shared = policy.name is PolicyName.THOMPSON and policy.draw is Draw.PARAMETERS
    found = getattr(ranking, "shared_posterior" if is_shared else "posterior", None)
    if found is None:
        raise ValueError(
            f"`policy.name: {policy.name.value}` needs a ranker that knows how unsure it "
            "is, and the trained one does not. Set `ranking.model: bayesian_fm`, or "
            "another policy, such as `softmax`"
        )
    return found


def export_ranking(stages: TrainedStages, bundle_dir: str) -> None:
    """Writes what holds no items: `<bundle_dir>/ranking`, and `memory` if there is one."""
    ranking = stages.ranking
    save_module(ranking, dict(ranking.signatures), bundle_dir, "ranking")
    if stages.record_dir is not None:
        shutil.copytree(stages.record_dir, Path(bundle_dir) / "ranking" / EXTRA_ASSETS)
    if stages.memory_dir is not None:
        shutil.copytree(stages.memory_dir, Path(bundle_dir) / MEMORY_MODEL)


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
