"""A release with other items: the same towers and ranker, over today's catalogue.

New items and those with other features are embedded by the release's own item tower and
searched in a segment beside the index as it was built; those that are gone are passed
over. All models that hold items are written anew, in the layout of any release, and tried
as an export tries them.
"""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from components.build_index import ItemVectors, run_in_batches
from components.embed_items import BATCH, check_finite
from components.export_bundle import offline_models, results_of, tuned_for
from components.export_recommender import (
    ExportSettings,
    RebuildDueError,
    ReleaseIndex,
    TrainedStages,
    export_models,
    release_index,
)
from components.gate import GateResult, at_least
from components.item_changes import ItemChanges, Items, find_changes
from components.push_release import PushError
from components.record_release import judge_export, record_release
from components.record_release_settings import ExportGateSettings
from components.recorded_requests import requests_of
from components.release_parts import ReleaseParts, parts_of_bundle, write_parts
from models.index import Index
from models.index_settings import IndexSettings
from serving.release_layout import MEMORY_MODEL, PARTS, Refresh, model_dir, release_dir

# The models have passed the export's gate: what is tried is that they were put together
# rightly, on fewer users than an export asks for.
_NUM_USERS = 20
_TOLERANCE = 1e-4


class RefreshError(PushError):
    """A release that cannot be refreshed; the serving root is as it was."""


@dataclasses.dataclass(frozen=True)
class BaseRelease:
    """The release that a refresh starts from."""

    serving_root: Path
    version: int

    @property
    def parts(self) -> ReleaseParts:
        """Returns what it keeps of its making."""
        return ReleaseParts(release_dir(self.serving_root, self.version) / PARTS)

    def model(self, name: str) -> Path:
        """Returns the folder of one of its models."""
        return model_dir(self.serving_root, name, self.version)

    def settings(self) -> ExportSettings:
        """Returns what its models were exported with.

        Raises:
            RefreshError: if it keeps nothing to refresh it by.
        """
        try:
            return self.parts.settings()
        except (OSError, ValueError) as error:
            raise RefreshError(
                f"release {self.version} cannot be refreshed: what it should keep for it "
                f"in `{self.parts.folder}` cannot be read ({type(error).__name__}). An "
                "earlier version of Tandem made it; call `tandem run` once."
            ) from error


@dataclasses.dataclass(frozen=True)
class RefreshSettings:
    """How a release is refreshed.

    Attributes:
        index: how items are searched, and when an index is built anew.
        gate: what the models must show.
        may_build: whether an index may be built anew where that is due.
    """

    index: IndexSettings
    gate: ExportGateSettings
    may_build: bool = True


@dataclasses.dataclass(frozen=True)
class RefreshedBundle:
    """What came of a refresh, ready to be validated and pushed."""

    refresh: Refresh
    gate: GateResult
    index_reason: str


def refresh_bundle(
    base: BaseRelease,
    candidates_uri: str,
    bundle: Path,
    settings: RefreshSettings,
    on_step: Callable[[str], None] = lambda step: None,
) -> RefreshedBundle:
    """Writes a bundle with the models of `base` over other items.

    Args:
        base: the release.
        candidates_uri: the `Catalog` of what may be recommended now.
        bundle: folder that receives the four models, their recorded answers and the
            parts for the next refresh.
        settings: how.
        on_step: called with the name of each step as it starts.

    Raises:
        RefreshError: if the index is to be built anew and may not be.
        ValueError: if a vector is not finite.
    """
    export = base.settings().model_copy(update={"index": settings.index})
    on_step("load the release")
    stages = TrainedStages.of_release(
        base.parts.transform_uri,
        str(base.model("retrieval")),
        str(base.model("ranking")),
        export.catalog,
    )
    before, after = Items.read(base.parts.candidates_uri), Items.read(candidates_uri)
    changes = find_changes(before, after)
    on_step("embed new items")
    embed = stages.retrieval.signatures["candidate_examples"]
    vectors = refreshed_vectors(base.parts.vectors(), changes, after, embed)
    offline = offline_models(stages, vectors, after)
    all_requests = base.parts.requests()
    queries = run_in_batches(offline.embed_query, all_requests, "embeddings")
    on_step("update the index")
    index = _index_of(vectors, queries[::2], base.parts, export, settings)
    on_step("write the models")
    served, _ = export_models(
        vectors, candidates_uri, stages, export, str(bundle), index.built.index
    )
    for name in ("ranking", MEMORY_MODEL):  # they hold no items
        if base.model(name).is_dir():
            shutil.copytree(base.model(name), bundle / name)
    write_parts(
        parts_of_bundle(bundle),
        export,
        base.parts.transform_uri,
        candidates_uri,
        vectors,
        index,
        all_requests.tolist(),
        base.parts,
    )
    on_step("try the models")
    requests = requests_of(
        all_requests[:_NUM_USERS], stages.transform.raw_spec, export.catalog
    )
    figures = record_release(bundle, requests, offline, export).figures
    gate = judge_export(figures, settings.gate)
    fresh = [*changes.added, *changes.changed]
    if fresh:
        check = at_least(
            "new and changed items that their own vector finds, share of them",
            share_found(served, vectors, fresh),
            settings.gate.min_index_agreement,
        )
        gate = dataclasses.replace(gate, checks=(*gate.checks, check))
    refresh = _note_of(base, changes, index)
    return RefreshedBundle(refresh, gate, index.built.reason)


def _index_of(
    vectors: ItemVectors,
    queries: np.ndarray,
    parts: ReleaseParts,
    export: ExportSettings,
    settings: RefreshSettings,
) -> ReleaseIndex:
    try:
        return release_index(
            vectors,
            queries,
            tuned_for(export, settings.gate),
            results_of(export),
            parts.main(),
            settings.may_build,
        )
    except RebuildDueError as error:
        raise RefreshError(
            f"{error}. Let it be built, or call `tandem run`."
        ) from error


def _note_of(base: BaseRelease, changes: ItemChanges, index: ReleaseIndex) -> Refresh:
    return Refresh(
        base=base.version,
        added=len(changes.added),
        changed=len(changes.changed),
        removed=len(changes.removed),
        fresh=index.num_fresh,
        tombstones=index.num_tombstones,
        rebuilt=not (index.is_reused or index.main.index.is_exact),
    )


def refreshed_vectors(
    before: ItemVectors,
    changes: ItemChanges,
    after: Items,
    embed: Callable,
) -> ItemVectors:
    """Returns the vectors of a new catalogue; those of unchanged items to the bit.

    Args:
        before: of the old catalogue.
        changes: from the old catalogue to the new one.
        after: the new one.
        embed: SavedModel signature: examples -> embeddings.

    Raises:
        ValueError: if a vector is not finite.
    """
    embedded = [*changes.added, *changes.changed]
    row_of = {item: row for row, item in enumerate(before.item_ids)}
    row_of |= {item: len(row_of) + n for n, item in enumerate(embedded)}
    known = np.asarray(before.embeddings)
    if embedded:
        examples = np.array([after.examples[item] for item in embedded], object)
        new = run_in_batches(embed, examples, "embeddings")
        check_finite([new], embedded)
        known = np.concatenate([known, new])
    return ItemVectors(after.ids, known[[row_of[item] for item in after.ids]])


def share_found(index: Index, vectors: ItemVectors, item_ids: list[str]) -> float:
    """Returns the share of items whose own vector, as a query, finds them.

    Or one as near: two items may have the same vector.
    """
    row_of = {item: row for row, item in enumerate(vectors.item_ids)}
    rows = np.array([row_of[item] for item in item_ids])
    found = 0
    for begin in range(0, len(rows), BATCH):
        queries = np.asarray(vectors.embeddings[rows[begin : begin + BATCH]])
        own = np.einsum("nd,nd->n", queries, queries)
        scores = index.search(tf.constant(queries), 1)[0].numpy()[:, 0]
        found += int((scores >= own - _TOLERANCE).sum())
    return found / len(rows)
