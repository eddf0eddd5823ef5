"""Is the retrieval model good enough to be released?

Ranks every test event against the whole catalogue, beside popularity, item-kNN and the
last release, on the same rows, and answers as a gate.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import scipy.sparse
from pydantic import BaseModel, ConfigDict, Field

from components.gate import Check, GateResult, at_least
from models.retrieval.evaluation import (
    CUTOFFS,
    Interactions,
    Scorer,
    bootstrap_interval,
    item_knn_similarity,
    popularity_scores,
    ranks_of_positives,
    recall_at,
    summarize,
)

# The gate looks at the deepest cut-off that is still a choice: of a catalogue of 80, any
# model has a recall@100 of 1.
_MAX_SHARE_OF_CATALOGUE = 0.25


class RetrievalGateSettings(BaseModel):
    """When a retrieval model is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    beat_popularity: bool = Field(
        default=True,
        description="recall@100 must exceed popularity's (recall at a smaller cut-off "
        "where the catalogue has fewer than 400 items).",
    )
    beat_item_knn: bool = Field(
        default=False, description="recall@100 must exceed item-kNN's."
    )
    max_drop: float = Field(
        default=0.02,
        ge=0,
        description="How far recall@100 may fall below the last release's, absolutely.",
    )
    max_test_events: int = Field(
        default=100_000,
        ge=1,
        description="Test events ranked; from a larger log, a sample of this size.",
    )
    seed: int = Field(
        default=0, ge=0, description="Seeds the sample and the intervals."
    )


@dataclasses.dataclass(frozen=True)
class TestLog:
    """What an evaluation runs on.

    Attributes:
        interactions: all events of all splits, oldest split first.
        is_train: [N] bool, events the model learnt from.
        is_test: [N] bool, events to predict.
        histories: [N, items] how often each item is in each event's history feature.
    """

    __test__ = False  # not a test class, whatever pytest reads into the name

    interactions: Interactions
    is_train: np.ndarray
    is_test: np.ndarray
    histories: scipy.sparse.csr_matrix

    @property
    def num_items(self) -> int:
        """Size of the catalogue."""
        return self.histories.shape[1]


def evaluate_retrieval(
    log: TestLog, models: dict[str, Scorer], settings: RetrievalGateSettings
) -> dict[str, dict]:
    """Measures the models and the baselines on the same test events.

    Args:
        log: the events.
        models: scorers by name, called with rows of `log.interactions`.
        settings: sample size and seed.

    Returns:
        figures by model name: `models`' names, `popularity` and `item_knn`; each holds
        recall@{10,50,100} and ndcg@10 with `<name>_interval`. Under "test": the number
        of events, of users, of events without history; under "gain": interval of the
        paired difference to each baseline of the recall that the gate decides by.
    """
    rows = np.flatnonzero(log.is_test)
    if len(rows) > settings.max_test_events:
        rng = np.random.default_rng(settings.seed)
        rows = np.sort(rng.choice(rows, settings.max_test_events, replace=False))
    seen = log.interactions.seen_before(rows)
    positives = log.interactions.items[rows]
    users = log.interactions.users[rows]
    scorers = {**models, **_baselines(log)}
    ranks = {
        name: ranks_of_positives(scorer, rows, positives, seen)
        for name, scorer in scorers.items()
    }
    figures: dict[str, dict] = {name: summarize(r, users) for name, r in ranks.items()}
    model = next(iter(models))
    cutoff = gated_cutoff(log.num_items)
    hits = {name: recall_at(r, cutoff) for name, r in ranks.items()}
    figures["gain"] = {
        name: list(bootstrap_interval(hits[model] - hits[name], users, settings.seed))
        for name in scorers
        if name != model
    }
    figures["test"] = {
        "events": len(rows),
        "gated_cutoff": cutoff,
        "users": len(np.unique(users)),
        "events_without_history": int((log.histories[rows].getnnz(axis=1) == 0).sum()),
    }
    return figures


def gated_cutoff(num_items: int) -> int:
    """Returns the cut-off of recall that the gate decides by."""
    fitting = [k for k in CUTOFFS if k <= num_items * _MAX_SHARE_OF_CATALOGUE]
    return max(fitting, default=min(CUTOFFS))


def _baselines(log: TestLog) -> dict[str, Scorer]:
    users, items = log.interactions.users, log.interactions.items
    train = log.is_train
    popularity = popularity_scores(items[train], log.num_items)
    similarity = item_knn_similarity(users[train], items[train], log.num_items)

    return {
        "popularity": lambda rows: np.broadcast_to(
            popularity, (len(rows), log.num_items)
        ),
        "item_knn": lambda rows: (log.histories[rows] @ similarity).toarray(),
    }


def judge_retrieval(
    figures: dict[str, dict], settings: RetrievalGateSettings, model: str, last: str
) -> GateResult:
    """Decides whether the retrieval model may be released.

    Args:
        figures: what `evaluate_retrieval` returned.
        settings: the thresholds.
        model: name of the candidate in `figures`.
        last: name of the last release's model; not in `figures` where there is none.
    """
    name = f"recall@{figures['test']['gated_cutoff']}"
    seen = figures[model][name]

    def exceeds(baseline: str) -> Check:
        bound = figures[baseline][name]
        return Check(
            f"{name} against {baseline}", seen > bound, f"{seen:.4f}", f"> {bound:.4f}"
        )

    checks = [at_least("test events", figures["test"]["events"], 1)]
    if settings.beat_popularity:
        checks.append(exceeds("popularity"))
    if settings.beat_item_knn:
        checks.append(exceeds("item_knn"))
    if last in figures:
        bound = figures[last][name] - settings.max_drop
        checks.append(
            Check(
                f"{name} against the last release",
                seen >= bound,
                f"{seen:.4f}",
                f">= {bound:.4f} ({figures[last][name]:.4f} less {settings.max_drop})",
            )
        )
    return GateResult("retrieval", tuple(checks))


def dot_product_scorer(
    embed_rows: Callable[[np.ndarray], np.ndarray], item_embeddings: np.ndarray
) -> Scorer:
    """Returns the scorer of a two-tower model: query vectors times item vectors."""
    return lambda rows: embed_rows(rows) @ item_embeddings.T
