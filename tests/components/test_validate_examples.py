"""The data gate stops on each kind of poison, and says which."""

import pytest

from components import validate_examples as module
from components.gate import Check, GateResult
from components.ingestion.summary import Reason, SourceCounts, Summary
from components.validate_examples import validate_examples
from components.validate_examples_settings import ValidationSettings

CLEAN = {f"{split}": {} for split in ("train", "eval", "test")}


def summary(**changes):
    record = {
        "sources": {
            "events": SourceCounts(
                files=1, read=100, accepted=97, duplicates=1, dead_letters=2
            ),
            "items": SourceCounts(
                files=1, read=10, accepted=10, duplicates=0, dead_letters=0
            ),
        },
        "events": {"train": 70, "eval": 7, "test": 20},
        "rows": {
            "interactions": {"train": 60, "eval": 6, "test": 15},
            "impressions": {"train": 70, "eval": 7, "test": 20},
        },
        "users": 8,
        "items": 10,
        "unknown_item_events": 1,
        "unknown_user_events": 0,
        "split_times": {"first": 1, "eval_from": 5, "test_from": 7, "last": 9},
    }
    return Summary.model_validate(record | changes)


def refused(dead, *reasons):
    """Returns sources of 100 events of which `dead` were refused."""
    source = SourceCounts(
        files=1,
        read=100,
        accepted=100 - dead,
        duplicates=0,
        dead_letters=dead,
        reasons=reasons,
    )
    return {"events": source}


POISONS = {
    "too many dead letters": (
        summary(sources=refused(6, Reason(field="value", rule="is odd", count=6))),
        CLEAN,
        (
            "dead letters of events: seen 6.00% (6 of 100), 6 because `value` is odd, "
            "expected at most 5.00%"
        ),
    ),
    "a single propensity of 0": (
        summary(
            sources=refused(
                1, Reason(field="propensity", rule="should lie in (0, 1]", count=1)
            )
        ),
        CLEAN,
        "events whose `propensity` is outside (0, 1]: seen 1, expected at most 0",
    ),
    "one user": (summary(users=1), CLEAN, "users with an event: seen 1, expected at"),
    "one item": (summary(items=1), CLEAN, "items in the catalogue: seen 1"),
    "half the item ids replaced": (
        summary(unknown_item_events=49),
        CLEAN,
        "events on items that the items table lacks: seen 50.52% (49 of 97)",
    ),
    "an empty split": (
        summary(
            rows={
                "interactions": {"train": 60, "eval": 0, "test": 15},
                "impressions": {"train": 70, "eval": 7, "test": 20},
            }
        ),
        CLEAN,
        "positive events in the eval split: seen 0, expected at least 1",
    ),
    "no label to test on": (
        summary(
            rows={
                "interactions": {"train": 60, "eval": 6, "test": 15},
                "impressions": {"train": 70, "eval": 7, "test": 0},
            }
        ),
        CLEAN,
        "rows with a label in the test split: seen 0, expected at least 1",
    ),
    "no label": (
        summary(
            rows={
                "interactions": {"train": 1, "eval": 1, "test": 1},
                "impressions": {"train": 0, "eval": 0, "test": 0},
            }
        ),
        CLEAN,
        "rows with a label in the train split: seen 0",
    ),
    "an anomaly": (
        summary(),
        CLEAN | {"eval": {"item_title": "present in 50%"}},
        (
            "anomalies against the schema: seen 1 (eval: `item_title` present in 50%), "
            "expected at most 0"
        ),
    ),
    "an anomaly of the whole": (
        summary(),
        CLEAN | {"eval": {"": "there are no examples"}},
        "seen 1 (eval: there are no examples)",
    ),
    "statistics never compared": (
        summary(),
        {},
        "splits compared with the schema: seen 0, expected at least 3",
    ),
}


def check_gate_stops(gate):
    """The checker: the clean log passes, and each poison is refused by its name."""
    settings = ValidationSettings()
    assert gate(summary(), CLEAN, settings).passed
    for name, (poisoned, anomalies, sentence) in POISONS.items():
        result = gate(poisoned, anomalies, settings)
        assert not result.passed, name
        assert sentence in result.reason, name


def test_gate_stops_on_each_poison():
    check_gate_stops(validate_examples)


def only_warns(account, anomalies, settings):
    result = validate_examples(account, anomalies, settings)
    checks = (Check(c.name, True, c.seen, c.expected) for c in result.checks)
    return GateResult(result.gate, tuple(checks))


def ignores_anomalies(account, anomalies, settings):
    return validate_examples(account, CLEAN, settings)


def ignores_summary(account, anomalies, settings):
    return validate_examples(summary(), anomalies, settings)


@pytest.mark.parametrize("wrong", [only_warns, ignores_anomalies, ignores_summary])
def test_gate_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_gate_stops(wrong)


def test_log_without_accepted_events_says_why():
    reason = Reason(field="propensity", rule="should lie in (0, 1]", count=100)
    result = validate_examples(
        summary(sources=refused(100, reason)), CLEAN, ValidationSettings()
    )
    assert result.gate == module.GATE
    assert result.reason.startswith(
        "validate_examples refused: accepted events: seen 0; 100 of 100 records refused "
        "because `propensity` should lie in (0, 1], expected at least 1."
    )


def test_thresholds_come_from_the_settings():
    settings = ValidationSettings(
        max_dead_letter_share=0.06, max_bad_propensities=6, max_anomalies=1
    )
    poisoned = summary(
        sources=refused(6, Reason(field="propensity", rule="is odd", count=6))
    )
    anomalies = CLEAN | {"test": {"item_title": "rare"}}
    assert validate_examples(poisoned, anomalies, settings).passed
    assert not validate_examples(poisoned, anomalies, ValidationSettings()).passed
