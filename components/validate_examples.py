"""The data gate: may models learn from what was ingested?

It reads the account of the ingestion, the anomalies that TFDV found against the curated
schema, and how far the rows have drifted and lie from what was served. ExampleValidator
alone stops nothing: it records anomalies and returns.
"""

from collections.abc import Iterator, Mapping, Sequence

from components.comparison import Comparison, Distance, Kind
from components.gate import Check, GateResult, at_least, at_most, share_at_most
from components.ingestion.summary import ImpressionFacts, SourceCounts, Summary
from components.validate_examples_settings import DATA_GATE, ValidationSettings
from components.visible_text import visible
from schemas.events import SPLITS
from schemas.features import LABEL, PROPENSITY

_NAMED_ANOMALIES = 5
_SHOWN_ANOMALY = 300  # characters


def validate_examples(
    summary: Summary,
    anomalies: Mapping[str, Mapping[str, str]],
    settings: ValidationSettings,
    comparisons: Sequence[Comparison] = (),
) -> GateResult:
    """Decides on the ingested data.

    Args:
        summary: the account of the ingestion.
        anomalies: by artifact and split (e.g. "interactions[train]"), then by feature,
            what TFDV objects to; "" stands for the data set as a whole.
        settings: thresholds.
        comparisons: drift and skew, where the settings have thresholds for them.

    Returns:
        The result; its checks name the source, the split or the feature.
    """
    return GateResult(
        DATA_GATE,
        (
            *_volume_checks(summary, settings),
            *_record_checks(summary, settings),
            *_response_checks(summary, settings),
            *_label_checks(summary, settings),
            *_propensity_checks(summary, settings),
            *_anomaly_checks(anomalies, settings),
            *_comparison_checks(comparisons, settings),
        ),
    )


def _volume_checks(summary: Summary, settings: ValidationSettings) -> list[Check]:
    events = summary.sources["events"]
    detail = ""
    if events.accepted == 0 and events.reasons:
        worst = events.reasons[0]
        rule = f"`{worst.field}` {worst.rule}" if worst.field else worst.rule
        detail = f"; {worst.count} of {events.read} records refused because {rule}"
    return [
        at_least("accepted events", events.accepted, settings.min_events, detail),
        at_least("users with an event", summary.users, settings.min_users),
        at_least("items in the catalogue", summary.items, settings.min_items),
        *(
            at_least(f"{what} in the {split} split", summary.rows[examples][split], 1)
            for examples, what in (
                ("interactions", "positive events"),
                ("impressions", "rows with a label"),
            )
            for split in SPLITS
        ),
    ]


def _record_checks(summary: Summary, settings: ValidationSettings) -> list[Check]:
    checks = []
    for table, source in summary.sources.items():
        detail = ""
        if source.reasons:
            worst = source.reasons[0]
            rule = f"`{worst.field}` {worst.rule}" if worst.field else worst.rule
            detail = f", {worst.count} because {rule}"
        checks.append(
            share_at_most(
                f"dead letters of {table}",
                source.dead_letters,
                source.read,
                settings.max_dead_letter_share,
                detail,
            )
        )
        checks += _span_checks(table, source, settings)
    events = summary.sources["events"]
    bad_propensities = sum(
        reason.count for reason in events.reasons if reason.field == PROPENSITY
    )
    return [
        *checks,
        at_most(
            "events whose `propensity` is outside (0, 1]",
            bad_propensities,
            settings.max_bad_propensities,
        ),
        share_at_most(
            "events on items that the items table lacks",
            summary.unknown_item_events,
            events.accepted - summary.capped_events,
            settings.max_unknown_item_share,
        ),
        share_at_most(
            "events over the daily cap of a user",
            summary.capped_events,
            events.accepted,
            settings.max_capped_share,
            f", of {summary.capped_users} users" if summary.capped_users else "",
        ),
    ]


def _span_checks(
    table: str, source: SourceCounts, settings: ValidationSettings
) -> Iterator[Check]:
    """Yields a check of the worst span, where a source has more than one."""
    if len(source.spans) < 2:
        return
    name, worst = max(
        source.spans.items(),
        key=lambda item: (item[1].dead_letters / max(item[1].read, 1), item[0]),
    )
    yield share_at_most(
        f"dead letters of {table} in a single span",
        worst.dead_letters,
        worst.read,
        settings.max_span_dead_letter_share,
        f", of {name}" if name else ", of replayed dead letters",
    )


def _response_checks(summary: Summary, settings: ValidationSettings) -> list[Check]:
    responses = summary.responses
    total = responses.joined + responses.late + responses.early + responses.orphans
    if not total:
        return []
    return [
        share_at_most(f"responses {what}", part, total, limit)
        for what, part, limit in (
            (
                "without an impression of their user, request and item",
                responses.orphans,
                settings.max_orphan_response_share,
            ),
            (
                "before each of their impressions",
                responses.early,
                settings.max_early_response_share,
            ),
            (
                "later than `response_window_minutes`",
                responses.late,
                settings.max_late_response_share,
            ),
        )
    ]


def _facts(summary: Summary) -> Iterator[tuple[str, ImpressionFacts]]:
    """Yields the facts of each split that has rows with a label."""
    for split in SPLITS:
        facts = summary.impressions.get(split)
        if facts is not None and facts.rows:
            yield split, facts


def _label_checks(summary: Summary, settings: ValidationSettings) -> Iterator[Check]:
    known = sum(facts.rows for _, facts in _facts(summary))
    rows = sum(summary.rows["impressions"].values())
    yield at_least("rows whose label and propensity were looked at", known, rows)
    low, high = settings.min_label_mean, settings.max_label_mean
    for split, facts in _facts(summary):
        where = f"of the {split} split"
        if not settings.allow_single_label:
            yield Check(
                f"`{LABEL}` {where}",
                facts.label_min < facts.label_max,
                f"{facts.label_min:g} to {facts.label_max:g} in {facts.rows:,} rows",
                "low and high labels",
            )
        if settings.allow_single_label and facts.label_min == facts.label_max:
            continue
        yield Check(
            f"mean `{LABEL}` {where}",
            low <= facts.label_mean <= high,
            f"{facts.label_mean:.4g}",
            f"{low:g} to {high:g}",
        )


def _propensity_checks(
    summary: Summary, settings: ValidationSettings
) -> Iterator[Check]:
    facts = dict(_facts(summary))
    having = {split: split_facts.propensities for split, split_facts in facts.items()}
    # Sampled negatives were never shown: they have no propensity in any log.
    logged = sum(
        split_facts.rows - split_facts.sampled for split_facts in facts.values()
    )
    if not any(having.values()):
        return
    if not settings.allow_partial_propensities:
        by_split = ", ".join(f"{split} {number:,}" for split, number in having.items())
        yield Check(
            f"rows with a `{PROPENSITY}`",
            sum(having.values()) == logged,
            f"{sum(having.values()):,} of {logged:,} ({by_split})",
            "all or none",
        )
    for split, number in having.items():
        if number:
            yield at_least(
                f"smallest `{PROPENSITY}` of the {split} split",
                facts[split].propensity_min,
                settings.min_propensity,
            )
            share = facts[split].effective_sample_size / number
            size = facts[split].effective_sample_size
            yield Check(
                f"effective sample size by `{PROPENSITY}` of the {split} split",
                share >= settings.min_effective_sample_share,
                f"{share:.2%} ({size:,.1f} of {number:,} rows)",
                f"at least {settings.min_effective_sample_share:.2%}",
            )


def _anomaly_checks(
    anomalies: Mapping[str, Mapping[str, str]], settings: ValidationSettings
) -> list[Check]:
    """Checks the number of anomalies, naming the first few.

    Statistics that were never compared with a schema show nothing, so their absence
    refuses as well.
    """
    found = [
        visible(
            f"{split}: `{feature}` {what}" if feature else f"{split}: {what}",
            _SHOWN_ANOMALY,
        )
        for split in sorted(anomalies)
        for feature, what in sorted(anomalies[split].items())
    ]
    named = "; ".join(found[:_NAMED_ANOMALIES])
    if len(found) > _NAMED_ANOMALIES:
        named += f"; and {len(found) - _NAMED_ANOMALIES} more"
    return [
        at_least("splits compared with the schema", len(anomalies), len(SPLITS)),
        at_most(
            "anomalies against the schema",
            len(found),
            settings.max_anomalies,
            f" ({named})" if named else "",
        ),
    ]


def _comparison_checks(
    comparisons: Sequence[Comparison], settings: ValidationSettings
) -> Iterator[Check]:
    """Yields a check for each threshold; a distance that was not measured fails."""
    for kind in Kind:
        found = [comparison for comparison in comparisons if comparison.kind is kind]
        for comparison in found:
            for side, rows in (
                (comparison.base, comparison.base_rows),
                (comparison.current, comparison.current_rows),
            ):
                yield at_least(f"rows of {side} to measure {kind.value} by", rows, 1)
        for key, limits in getattr(settings, kind.value).items():
            for measure, threshold in limits.given().items():
                yield _distance_check(kind, found, key, measure, threshold)


def _distance_check(
    kind: Kind,
    comparisons: Sequence[Comparison],
    key: str,
    measure: str,
    threshold: float,
) -> Check:
    name = f"{kind.value} of `{key}` ({measure})"
    expected = f"at most {threshold:g}"
    for comparison in comparisons:
        for distance in comparison.distances:
            if (distance.feature, distance.measure) == (key, measure):
                return Check(
                    f"{name} from {comparison.base} to {comparison.current}",
                    distance.passed,
                    _seen(distance, comparison),
                    expected,
                )
    return Check(name, False, "not measured", expected)


def _seen(distance: Distance, comparison: Comparison) -> str:
    seen = "no distance" if distance.seen is None else f"{distance.seen:.4g}"
    rows = f"{comparison.base_rows:,} and {comparison.current_rows:,} rows"
    return f"{seen} ({distance.detail}; {rows})"
