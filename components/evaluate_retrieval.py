"""Is the retrieval model good enough to be released?

Ranks every test event against the whole index, beside baselines and the last release, on
the same rows, and answers as a gate.
"""

from collections.abc import Callable

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from components.gate import Check, GateResult, at_least, at_most
from components.retrieval_log import TestLog, baselines
from models.retrieval.evaluation import (
    CUTOFFS,
    Ranking,
    Scorer,
    ndcg_at,
    rank_events,
    recall_at,
    reciprocal_ranks,
    rows_per_chunk,
)
from models.retrieval.intervals import UserBootstrap
from models.retrieval.recommended_items import (
    coverage,
    gini,
    mean_percentiles,
    popularity_percentiles,
    recommendation_counts,
)
from models.retrieval.slices import (
    Slicing,
    by_history_length,
    by_item_age,
    by_popularity,
)

# The gate looks at the deepest cut-off that is still a choice: of a catalogue of 80, any
# model has a recall@100 of 1.
_MAX_SHARE_OF_CATALOGUE = 0.25
_SHOWN = 10  # the length of a list that a person sees, which the bias is measured on
_DEEPEST = max(CUTOFFS)
DEFAULT_PUBLISH_TIME = "published_at"


class RetrievalGateSettings(BaseModel):
    """When a retrieval model is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    beat_popularity: bool = Field(
        default=True,
        description="recall@100 must exceed popularity's (recall at a smaller cut-off "
        "where the index has fewer than 400 items).",
    )
    beat_recent_popularity: bool = Field(
        default=False, description="recall@100 must exceed recent popularity's."
    )
    beat_item_knn: bool = Field(
        default=False, description="recall@100 must exceed item-kNN's."
    )
    beat_item_knn_decay: bool = Field(
        default=False,
        description="recall@100 must exceed that of item-kNN with a recency-weighted "
        "history.",
    )
    max_drop: float = Field(
        default=0.02,
        ge=0,
        description="How far recall@100 may fall below the last release's, absolutely.",
    )
    max_likely_drop: float | None = Field(
        default=None,
        ge=0,
        description="How far the low end of the paired 95 % interval of that difference "
        "may lie below 0: asks for as many test events as it takes to be sure. null: "
        "not checked.",
    )
    min_coverage: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Share of the index's items that must be in someone's top 10. null: "
        "not checked.",
    )
    max_gini: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="How unequally the top 10 may fall on the items: 0 all alike, 1 one "
        "item alone. null: not checked.",
    )
    max_popularity_percentile: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Mean popularity percentile that the items of the top 10 may have; "
        "0.5 is what random items have. null: not checked.",
    )
    max_test_events: int = Field(
        default=30_000,
        ge=1,
        description="Test events ranked; from a larger log, a sample of this size.",
    )
    recent_share: float = Field(
        default=0.1,
        gt=0,
        le=1,
        description="Latest share of the training events that recent popularity counts.",
    )
    history_decay: float = Field(
        default=0.9,
        gt=0,
        le=1,
        description="Weight of an event against the next newer one's, for item-kNN with "
        "a recency-weighted history.",
    )
    publish_time_column: str = Field(
        default=DEFAULT_PUBLISH_TIME,
        min_length=1,
        description="Column of the items table that says when an item came, for the "
        "slices by age. Where there is none, an item's first event counts.",
    )
    seed: int = Field(
        default=0, ge=0, description="Seeds the sample and the intervals."
    )


_BEAT = {
    "beat_popularity": "popularity",
    "beat_recent_popularity": "recent_popularity",
    "beat_item_knn": "item_knn",
    "beat_item_knn_decay": "item_knn_decay",
}


def evaluate_retrieval(
    log: TestLog, models: dict[str, Scorer], settings: RetrievalGateSettings
) -> dict[str, dict]:
    """Measures the models and the baselines on the same test events.

    Each scorer is asked for each test event once.

    Args:
        log: the events.
        models: scorers of the index's items by name, called with rows of
            `log.interactions`; the first is the candidate.
        settings: sample size and seed.

    Returns:
        figures by name, of `models` and of `baselines`; each holds
        recall@{10,50,100}, ndcg@10, mrr and popularity_percentile@10, each with
        `<name>_interval`; coverage@{10,100} and gini@10; and `slices`, see
        `_slice_figures`. Under "test": the number of events, of users, of events without
        history and of events whose item is not in the index; under "gain": interval of
        the paired difference to each other scorer of the recall that the gate decides
        by. A log without test events has "test" alone.
    """
    rows = np.flatnonzero(log.is_test)
    if len(rows) > settings.max_test_events:
        rng = np.random.default_rng(settings.seed)
        rows = np.sort(rng.choice(rows, settings.max_test_events, replace=False))
    events = log.among_candidates()
    cutoff = gated_cutoff(len(log.candidates))
    users = events.users[rows]
    test = {
        "events": len(rows),
        "gated_cutoff": cutoff,
        "users": len(np.unique(users)),
        "events_without_history": int((log.histories[rows].getnnz(axis=1) == 0).sum()),
        "events_outside_index": int((events.items[rows] < 0).sum()),
        "items": len(log.candidates),
    }
    if not len(rows):
        return {"test": test}
    seen = events.seen_before(rows)
    slicings = {
        "history_length": by_history_length(seen.num_events),
        "item_age_days": by_item_age(
            events.timestamps[rows], log.interactions.items[rows], log.item_times
        ),
        "popularity_decile": by_popularity(
            log.interactions.items[rows], log.train_counts
        ),
    }
    draws = UserBootstrap(users, settings.seed)
    popularity = popularity_percentiles(log.train_counts[log.candidates])
    figures: dict[str, dict] = {}
    hits = {}
    for name, scorer in {**models, **baselines(log, settings.recent_share)}.items():
        ranking = rank_events(
            scorer,
            rows,
            events.items[rows],
            seen,
            _DEEPEST,
            rows_per_chunk(len(log.candidates)),
        )
        figures[name] = _model_figures(ranking, popularity, draws)
        figures[name]["slices"] = {
            slicing: _slice_figures(ranking.ranks, groups, draws)
            for slicing, groups in slicings.items()
        }
        hits[name] = recall_at(ranking.ranks, cutoff)
    model = next(iter(models))
    figures["gain"] = {
        name: draws.intervals((hits[model] - other)[:, np.newaxis])[0, 0].tolist()
        for name, other in hits.items()
        if name != model
    }
    figures["test"] = test
    return figures


def gated_cutoff(num_items: int) -> int:
    """Returns the cut-off of recall that the gate decides by."""
    fitting = [k for k in CUTOFFS if k <= num_items * _MAX_SHARE_OF_CATALOGUE]
    return max(fitting, default=min(CUTOFFS))


def _model_figures(
    ranking: Ranking, popularity: np.ndarray, draws: UserBootstrap
) -> dict[str, float | list[float]]:
    """Returns the figures of one model over all test events.

    Args:
        ranking: of the test events.
        popularity: [items] popularity percentile of each item of the index.
        draws: of the test events' users.
    """
    num_items, ranks = len(popularity), ranking.ranks
    means = {f"recall@{k}": recall_at(ranks, k) for k in CUTOFFS}
    means["ndcg@10"] = ndcg_at(ranks, 10)
    means["mrr"] = reciprocal_ranks(ranks)
    figures: dict[str, float | list[float]] = {}
    intervals = draws.intervals(np.stack(list(means.values()), axis=1))[0]
    for (name, values), interval in zip(means.items(), intervals, strict=True):
        figures[name] = float(values.mean())
        figures[f"{name}_interval"] = interval.tolist()
    shown = ranking.top[:, :_SHOWN]
    for k in (_SHOWN, _DEEPEST):
        counts = recommendation_counts(ranking.top[:, :k], num_items)
        figures[f"coverage@{k}"] = coverage(counts)
    figures[f"gini@{_SHOWN}"] = gini(recommendation_counts(shown, num_items))
    percentiles = mean_percentiles(shown, popularity)
    listed = ~np.isnan(percentiles)
    if listed.any():
        name = f"popularity_percentile@{_SHOWN}"
        figures[name] = float(percentiles[listed].mean())
        groups = np.where(listed, 0, -1)
        interval = draws.intervals(percentiles[:, np.newaxis], groups)[0, 0]
        figures[f"{name}_interval"] = interval.tolist()
    return figures


def _slice_figures(
    ranks: np.ndarray, slicing: Slicing, draws: UserBootstrap
) -> dict[str, dict]:
    """Returns {label: {"events", "recall@k" and "recall@k_interval" of each cut-off}}.

    Labels without an event are left out.
    """
    hits = np.stack([recall_at(ranks, k) for k in CUTOFFS], axis=1)
    intervals = draws.intervals(hits, slicing.groups, len(slicing.labels))
    figures = {}
    for group, label in enumerate(slicing.labels):
        inside = slicing.groups == group
        if not inside.any():
            continue
        row: dict = {"events": int(inside.sum())}
        for place, k in enumerate(CUTOFFS):
            row[f"recall@{k}"] = float(hits[inside, place].mean())
            row[f"recall@{k}_interval"] = intervals[group, place].tolist()
        figures[label] = row
    return figures


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
    checks = [at_least("test events", figures["test"]["events"], 1)]
    if model in figures:
        for key, baseline in _BEAT.items():
            if getattr(settings, key):
                checks.append(_exceeds(figures, model, baseline))
        checks += _checks_of_bias(figures[model], settings)
        if last in figures:
            checks += _checks_against_last(figures, settings, model, last)
    return GateResult("retrieval", tuple(checks))


def _exceeds(figures: dict[str, dict], model: str, baseline: str) -> Check:
    name = _gated_recall(figures)
    seen, bound = figures[model][name], figures[baseline][name]
    return Check(
        f"{name} against {baseline}", seen > bound, f"{seen:.4f}", f"> {bound:.4f}"
    )


def _gated_recall(figures: dict[str, dict]) -> str:
    return f"recall@{figures['test']['gated_cutoff']}"


def _checks_against_last(
    figures: dict[str, dict], settings: RetrievalGateSettings, model: str, last: str
) -> list[Check]:
    name = _gated_recall(figures)
    seen, before = figures[model][name], figures[last][name]
    bound = before - settings.max_drop
    checks = [
        Check(
            f"{name} against the last release",
            seen >= bound,
            f"{seen:.4f}",
            f">= {bound:.4f} ({before:.4f} less {settings.max_drop})",
        )
    ]
    if settings.max_likely_drop is not None:
        low, high = figures["gain"][last]
        checks.append(
            Check(
                f"likely gain of {name} over the last release",
                low >= -settings.max_likely_drop,
                f"{low:.4f} to {high:.4f}",
                f"at least {-settings.max_likely_drop:g}",
            )
        )
    return checks


def _checks_of_bias(row: dict, settings: RetrievalGateSettings) -> list[Check]:
    thresholds = (
        (f"coverage@{_SHOWN}", at_least, settings.min_coverage),
        (f"gini@{_SHOWN}", at_most, settings.max_gini),
        (
            f"popularity_percentile@{_SHOWN}",
            at_most,
            settings.max_popularity_percentile,
        ),
    )
    return [
        # A model that recommends nothing has no percentile: NaN fails every check.
        check(name, row.get(name, float("nan")), limit)
        for name, check, limit in thresholds
        if limit is not None
    ]


def dot_product_scorer(
    embed_rows: Callable[[np.ndarray], np.ndarray], item_embeddings: np.ndarray
) -> Scorer:
    """Returns the scorer of a two-tower model: query vectors times item vectors."""
    return lambda rows: embed_rows(rows) @ item_embeddings.T
