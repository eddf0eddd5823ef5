"""The data gate stops on each kind of poison, and says which."""

import pytest

from components.comparison import Comparison, Distance, Kind
from components.gate import Check, GateResult
from components.ingestion.summary import (
    ImpressionFacts,
    Reason,
    ResponseCounts,
    SourceCounts,
    SpanCounts,
    Summary,
)
from components.validate_examples import validate_examples
from components.validate_examples_settings import ValidationSettings

CLEAN = {f"{split}": {} for split in ("train", "eval", "test")}


def facts(num_rows, **changes):
    """Returns facts of labelled rows that each have a propensity of 0.1 to 0.5."""
    record = {
        "rows": num_rows,
        "sampled": 0,
        "label_min": 0.0,
        "label_max": 1.0,
        "label_mean": 0.25,
        "propensities": num_rows,
        "propensity_min": 0.1,
        "effective_sample_size": num_rows / 2,
    }
    return ImpressionFacts.model_validate(record | changes)


def impressions(**by_split):
    """Returns facts of each split, with changes by split."""
    rows = {"train": 70, "eval": 7, "test": 20}
    return {
        "impressions": {
            split: facts(number, **by_split.get(split, {}))
            for split, number in rows.items()
        }
    }


def responses(**changes):
    counts = {"joined": 30, "late": 5, "early": 1, "orphans": 4}
    record = counts | {"answered_impressions": 28, "open_impressions": 2} | changes
    return {"responses": ResponseCounts.model_validate(record)}


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
        "capped_events": 3,
        "capped_users": 1,
        **impressions(),
        **responses(),
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


def in_spans(**dead_by_day):
    """Returns sources of 50 events a day, with so many refused on each."""
    spans = {
        f"2026-11-{day[1:]}": SpanCounts(
            read=50, accepted=50 - dead, duplicates=0, dead_letters=dead
        )
        for day, dead in dead_by_day.items()
    }
    read, dead = 50 * len(spans), sum(dead_by_day.values())
    source = SourceCounts(
        files=len(spans),
        read=read,
        accepted=read - dead,
        duplicates=0,
        dead_letters=dead,
        spans=spans,
    )
    return {"sources": {"events": source}}


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
        "events on items that the items table lacks: seen 52.13% (49 of 94)",
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
    "a bad day behind good ones": (
        summary(**in_spans(d17=0, d18=0, d19=0, d20=0, d21=12)),
        CLEAN,
        (
            "dead letters of events in a single span: seen 24.00% (12 of 50), of "
            "2026-11-21, expected at most 20.00%"
        ),
    ),
    "a runaway account": (
        summary(capped_events=60),
        CLEAN,
        (
            "events over the daily cap of a user: seen 61.86% (60 of 97), of 1 users, "
            "expected at most 20.00%"
        ),
    ),
    "responses whose requests are unknown": (
        summary(**responses(orphans=60)),
        CLEAN,
        (
            "responses without an impression of their user, request and item: seen "
            "62.50% (60 of 96), expected at most 50.00%"
        ),
    ),
    "responses before their impressions": (
        summary(**responses(early=60)),
        CLEAN,
        "responses before each of their impressions: seen 60.61% (60 of 99)",
    ),
    "one label only": (
        summary(**impressions(test={"label_max": 0.0, "label_mean": 0.0})),
        CLEAN,
        (
            "`label` of the test split: seen 0 to 0 in 20 rows, expected low and high "
            "labels"
        ),
    ),
    "hardly a high label": (
        summary(**impressions(train={"label_mean": 0.00001})),
        CLEAN,
        "mean `label` of the train split: seen 1e-05, expected 0.0001 to 0.9999",
    ),
    "hardly a low label": (
        summary(**impressions(eval={"label_mean": 0.99999})),
        CLEAN,
        "mean `label` of the eval split: seen 1, expected 0.0001 to 0.9999",
    ),
    "rows that nobody looked at": (
        summary(impressions={}),
        CLEAN,
        (
            "rows whose label and propensity were looked at: seen 0, expected at least 97"
        ),
    ),
    "propensities in some rows": (
        summary(**impressions(eval={"propensities": 0}, test={"propensities": 5})),
        CLEAN,
        (
            "rows with a `propensity`: seen 75 of 97 (train 70, eval 0, test 5), "
            "expected all or none"
        ),
    ),
    "a propensity of next to nothing": (
        summary(**impressions(test={"propensity_min": 1e-9})),
        CLEAN,
        (
            "smallest `propensity` of the test split: seen 1e-09, expected at least 1e-06"
        ),
    ),
    "weights of a single row": (
        summary(**impressions(train={"effective_sample_size": 0.5})),
        CLEAN,
        (
            "effective sample size by `propensity` of the train split: seen 0.71% (0.5 "
            "of 70 rows), expected at least 1.00%"
        ),
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


def looks_at_train_alone(account, anomalies, settings):
    train = account.impressions.get("train", facts(0))
    later = {split: facts(n) for split, n in (("eval", 7), ("test", 20))}
    account = account.model_copy(update={"impressions": {"train": train} | later})
    return validate_examples(account, anomalies, settings)


@pytest.mark.parametrize(
    "wrong",
    [only_warns, ignores_anomalies, ignores_summary, looks_at_train_alone],
)
def test_gate_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_gate_stops(wrong)


def test_log_without_accepted_events_says_why():
    reason = Reason(field="propensity", rule="should lie in (0, 1]", count=100)
    result = validate_examples(
        summary(sources=refused(100, reason)), CLEAN, ValidationSettings()
    )
    assert result.gate == "validate_examples"
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


@pytest.mark.parametrize(
    ("account", "changes"),
    [
        (
            summary(**impressions(test={"label_min": 1.0, "label_mean": 1.0})),
            {"allow_single_label": True},
        ),
        (
            summary(**impressions(train={"label_mean": 0.00001})),
            {"min_label_mean": 0.0},
        ),
        (
            summary(**impressions(eval={"propensities": 0})),
            {"allow_partial_propensities": True},
        ),
        (
            summary(**impressions(test={"propensity_min": 1e-9})),
            {"min_propensity": 0.0},
        ),
        (
            summary(**impressions(train={"effective_sample_size": 0.5})),
            {"min_effective_sample_share": 0.001},
        ),
        (summary(**responses(orphans=60)), {"max_orphan_response_share": 0.7}),
        (summary(**responses(early=60)), {"max_early_response_share": 0.7}),
        (summary(capped_events=60), {"max_capped_share": 0.7}),
        (
            summary(**in_spans(d17=0, d18=0, d19=0, d20=0, d21=12)),
            {"max_span_dead_letter_share": 0.3},
        ),
    ],
)
def test_what_is_refused_by_default_passes_where_the_settings_allow_it(
    account, changes
):
    assert not validate_examples(account, CLEAN, ValidationSettings()).passed
    result = validate_examples(account, CLEAN, ValidationSettings(**changes))
    assert result.passed, result.reason


def test_late_responses_pass_unless_a_limit_is_set():
    late = summary(**responses(late=965))
    assert validate_examples(late, CLEAN, ValidationSettings()).passed
    strict = ValidationSettings(max_late_response_share=0.9)
    assert (
        "responses later than `response_window_minutes`: seen 96.50% (965 of 1000), "
        "expected at most 90.00%"
    ) in validate_examples(late, CLEAN, strict).reason


def test_log_without_propensities_is_not_asked_for_them():
    none = {split: {"propensities": 0} for split in CLEAN}
    result = validate_examples(
        summary(**impressions(**none)), CLEAN, ValidationSettings()
    )
    assert result.passed
    names = [check.name for check in result.checks]
    assert "events whose `propensity` is outside (0, 1]" in names
    assert sum("propensity`" in name for name in names) == 1


def test_sampled_negatives_need_no_propensity():
    sampled = {"rows": 140, "sampled": 70, "propensities": 70}
    account = summary(**impressions(train=sampled))
    assert validate_examples(account, CLEAN, ValidationSettings()).passed
    partly = summary(**impressions(train=sampled | {"sampled": 69}))
    assert not validate_examples(partly, CLEAN, ValidationSettings()).passed


def comparison(kind=Kind.DRIFT, seen=0.05, **changes):
    distance = Distance(
        feature="item_id",
        measure="linf",
        seen=seen,
        threshold=0.1,
        detail="most by `i1`, 5.00% to 10.00%",
    )
    record = {
        "kind": kind,
        "base": "2026-11-20",
        "current": "2026-11-21",
        "base_rows": 40,
        "current_rows": 50,
        "distances": (distance,),
    }
    return Comparison(**record | changes)


THRESHOLDS = {"item_id": {"linf": 0.1}}
DISTANCES = {
    "too far apart": (
        comparison(seen=0.2),
        (
            "drift of `item_id` (linf) from 2026-11-20 to 2026-11-21: seen 0.2 (most by "
            "`i1`, 5.00% to 10.00%; 40 and 50 rows), expected at most 0.1"
        ),
    ),
    "no distance": (comparison(seen=None), "seen no distance (most by"),
    "a distance of NaN": (comparison(seen=float("nan")), "seen nan (most by"),
    "no rows of the newest day": (
        comparison(current_rows=0),
        "rows of 2026-11-21 to measure drift by: seen 0, expected at least 1",
    ),
    "never measured": (
        comparison(distances=()),
        "drift of `item_id` (linf): seen not measured, expected at most 0.1",
    ),
    "skew in place of drift": (comparison(Kind.SKEW), "seen not measured"),
}


def check_distances_stop(gate):
    settings = ValidationSettings.model_validate({"drift": THRESHOLDS})
    assert gate(summary(), CLEAN, settings, [comparison()]).passed
    assert not gate(summary(), CLEAN, settings, []).passed
    for name, (found, sentence) in DISTANCES.items():
        result = gate(summary(), CLEAN, settings, [found])
        assert not result.passed, name
        assert sentence in result.reason, name


def test_gate_stops_on_each_distance():
    check_distances_stop(validate_examples)


def takes_what_is_missing_for_none(account, anomalies, settings, comparisons):
    far = [c for c in comparisons if any((d.seen or 0) > 0.1 for d in c.distances)]
    return validate_examples(account, anomalies, settings, far or [comparison()])


def forgets_the_distances(account, anomalies, settings, comparisons):
    without = settings.model_copy(update={"drift": {}})
    return validate_examples(account, anomalies, without, comparisons)


@pytest.mark.parametrize(
    "wrong", [takes_what_is_missing_for_none, forgets_the_distances]
)
def test_distance_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_distances_stop(wrong)


def test_skew_is_asked_for_by_its_own_thresholds():
    settings = ValidationSettings.model_validate(
        {"skew": THRESHOLDS, "serving_examples": "served"}
    )
    near = comparison(Kind.SKEW, base="the train split", current="what was served")
    assert validate_examples(summary(), CLEAN, settings, [near]).passed
    far = near.model_copy(update={"distances": comparison(seen=0.3).distances})
    reason = validate_examples(summary(), CLEAN, settings, [far]).reason
    assert (
        "skew of `item_id` (linf) from the train split to what was served: seen 0.3"
    ) in reason


def test_anomaly_from_the_log_cannot_move_the_cursor():
    anomalies = CLEAN | {"test": {"item_title": "Unexpected: \x1b[2J\u202egnp"}}
    reason = validate_examples(summary(), anomalies, ValidationSettings()).reason
    assert "Unexpected: \\u001b[2J\\u202egnp" in reason
