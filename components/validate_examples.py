"""The data gate: may models learn from what was ingested?

It reads the account of the ingestion and the anomalies that TFDV found against the
curated schema. ExampleValidator alone stops nothing: it records anomalies and returns.
"""

from collections.abc import Mapping

from components.gate import Check, GateResult, at_least, at_most, share_at_most
from components.ingestion.summary import Summary
from components.validate_examples_settings import ValidationSettings
from schemas.events import SPLITS
from schemas.features import PROPENSITY

GATE = "validate_examples"
_NAMED_ANOMALIES = 5


def validate_examples(
    summary: Summary,
    anomalies: Mapping[str, Mapping[str, str]],
    settings: ValidationSettings,
) -> GateResult:
    """Decides on the ingested data.

    Args:
        summary: the account of the ingestion.
        anomalies: by artifact and split (e.g. "interactions[train]"), then by feature,
            what TFDV objects to; "" stands for the data set as a whole.
        settings: thresholds.

    Returns:
        The result; its checks name the source, the split or the feature.
    """
    return GateResult(
        GATE,
        (
            *_volume_checks(summary, settings),
            *_record_checks(summary, settings),
            *_anomaly_checks(anomalies, settings),
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
    events = summary.sources["events"]
    bad_propensities = sum(
        reason.count for reason in events.reasons if reason.field == PROPENSITY
    )
    checks.append(
        at_most(
            "events whose `propensity` is outside (0, 1]",
            bad_propensities,
            settings.max_bad_propensities,
        )
    )
    checks.append(
        share_at_most(
            "events on items that the items table lacks",
            summary.unknown_item_events,
            events.accepted,
            settings.max_unknown_item_share,
        )
    )
    return checks


def _anomaly_checks(
    anomalies: Mapping[str, Mapping[str, str]], settings: ValidationSettings
) -> list[Check]:
    """Checks the number of anomalies, naming the first few.

    Statistics that were never compared with a schema show nothing, so their absence
    refuses as well.
    """
    found = [
        f"{split}: `{feature}` {what}" if feature else f"{split}: {what}"
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
