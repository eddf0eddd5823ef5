"""Exports the trained stages as the bundle of a release, and tries it.

What ExportRecommender does, without TFX: choose the index, write the models, compare
them with the offline computation, keep what a refresh of the items needs.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from components.build_index import ItemVectors, run_in_batches
from components.export_recommender import (
    ExportSettings,
    TrainedStages,
    export_models,
    export_ranking,
    release_index,
)
from components.gate import GateResult
from components.item_changes import Items
from components.offline_recommendation import OfflineModels
from components.record_release import judge_export, record_release
from components.record_release_settings import ExportGateSettings
from components.recorded_requests import UserRequest
from components.release_parts import parts_of_bundle, write_parts
from models.index import BuiltIndex, recall_against_exact
from models.index_settings import IndexSettings

RECALL_CUTOFF = 100


@dataclasses.dataclass(frozen=True)
class ExportedBundle:
    """What came of an export.

    Attributes:
        built: what `recommender` searches with.
        figures: the agreement, the index's recall and its size.
        gate: the export gate's answer.
    """

    built: BuiltIndex
    figures: dict[str, float]
    gate: GateResult


def export_bundle(
    stages: TrainedStages,
    transform_uri: str,
    candidates_uri: str,
    vectors: ItemVectors,
    requests: Sequence[UserRequest],
    bundle: Path,
    settings: ExportSettings,
    gate: ExportGateSettings,
) -> ExportedBundle:
    """Writes the four models, their recorded answers and the parts of a release.

    Args:
        stages: what was trained.
        transform_uri: of the transform graph.
        candidates_uri: the `Catalog` of what may be recommended.
        vectors: of its items.
        requests: of users; half of them tune the index, the others measure its recall.
        bundle: folder that receives it all.
        settings: what the models do.
        gate: what they must show.
    """
    offline = offline_models(stages, vectors, Items.read(candidates_uri))
    examples = np.array([request.example for request in requests], object)
    queries = run_in_batches(offline.embed_query, examples, "embeddings")
    index = release_index(
        vectors, queries[::2], tuned_for(settings, gate), results_of(settings)
    )
    indexes = export_models(
        vectors, candidates_uri, stages, settings, str(bundle), index.built.index
    )
    export_ranking(stages, str(bundle))
    write_parts(
        parts_of_bundle(bundle),
        settings,
        transform_uri,
        candidates_uri,
        vectors,
        index,
        examples.tolist(),
    )
    figures = record_release(bundle, list(requests), offline, settings).figures
    judges = queries[1::2] if len(queries) > 1 else queries
    figures = figures | {
        f"recall@{RECALL_CUTOFF}": recall_against_exact(
            *indexes, judges, RECALL_CUTOFF
        ),
        "index_megabytes": index.built.memory.total / 1e6,
    }
    return ExportedBundle(index.built, figures, judge_export(figures, gate))


def offline_models(
    stages: TrainedStages, vectors: ItemVectors, items: Items
) -> OfflineModels:
    """Returns what exported models are compared with, over the items of `vectors`."""
    return OfflineModels(
        stages.retrieval.signatures["query_examples"],
        stages.ranking.signatures["logits"],
        vectors,
        np.array([items.examples[item] for item in items.ids], object),
        stages.ranking.signatures.get("posterior"),
    )


def tuned_for(settings: ExportSettings, gate: ExportGateSettings) -> IndexSettings:
    """Returns the index's settings: what the gate would refuse is no choice."""
    target = max(settings.index.recall_target, gate.min_index_agreement)
    return settings.index.model_copy(update={"recall_target": target})


def results_of(settings: ExportSettings) -> int:
    """Returns how many items a search is asked for, for its target to hold there."""
    return max(RECALL_CUTOFF, settings.num_candidates)
