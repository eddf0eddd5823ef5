"""Planted drift and skew are caught by real TFDV; rows that did not change pass."""

import dataclasses

import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from components.compare_statistics import (
    compare_log,
    is_sampled,
    newest_days,
    sampled_splits,
)
from components.comparison import Kind
from components.ingestion.errors import IngestionError
from components.serving_examples import serving_fingerprint
from components.validate_examples_settings import ValidationSettings
from tests.components import rated_days
from tests.components.rated_days import DAYS, beam_pipeline, rows, write_records

pytestmark = pytest.mark.component

SCHEMA = text_format.Parse(
    """
    feature { name: "item_id" type: BYTES presence { min_fraction: 1 } shape { } }
    feature { name: "label" type: FLOAT float_domain { min: 0 max: 1 } }
    feature { name: "user_age" type: FLOAT drift_comparator {
      jensen_shannon_divergence { threshold: 0 } } }
    """,
    schema_pb2.Schema(),
)
THRESHOLDS = {
    "item_id": {"linf": 0.1, "jensen_shannon": 0.1},
    "label": {"jensen_shannon": 0.02},
    "user_age": {"jensen_shannon": 0.15, "missing": 0.1},
    "history_item_ids": {"linf": 0.1},
}
DRIFT = ValidationSettings.model_validate({"drift": THRESHOLDS})
PLANTED = {
    ("item_id", "linf"): {"favourite": 0.5},
    ("user_age", "jensen_shannon"): {"mean_age": 38.0},
    ("label", "jensen_shannon"): {"label_rate": 0.6},
    ("user_age", "missing"): {"without_age": 0.4},
}


def failed(comparison):
    return {(d.feature, d.measure) for d in comparison.distances if not d.passed}


@pytest.fixture(scope="module")
def statistics(tmp_path_factory):
    """Of a day's rows as the train split, the next day's as the test split."""
    folder = tmp_path_factory.mktemp("statistics")
    return rated_days.split_statistics(folder, rows(DAYS[0]), rows(DAYS[1]))


def drift_of(compare, folder, statistics, today):
    """Returns the drift between a day and `today`, each in both splits."""
    before = rows(DAYS[0])
    train, test = before[:300] + today[:300], before[300:] + today[300:]
    log = rated_days.make_log(folder, SCHEMA, statistics, train, test)
    (found,) = compare(beam_pipeline(), log, DRIFT, str(folder)).comparisons
    assert found.kind is Kind.DRIFT
    return found


def check_drift_between_days(compare, folder, statistics, planted):
    """The checker: only the planted change is found; the same rows a day later pass."""
    same = drift_of(compare, folder / "same", statistics, rows(DAYS[1]))
    assert (same.base, same.current) == DAYS
    assert (same.base_rows, same.current_rows) == (600, 600)
    assert failed(same) == set()
    assert {d.feature for d in same.distances} == set(THRESHOLDS)
    assert all(distance.seen is not None for distance in same.distances)
    for place, changes in planted.items():
        today = rows(DAYS[1], **changes)
        found = drift_of(compare, folder / "-".join(place), statistics, today)
        assert place in failed(found)
        assert failed(found) <= {place, ("item_id", "jensen_shannon")}


def test_drift_between_days_is_found(tmp_path, statistics):
    check_drift_between_days(compare_log, tmp_path, statistics, PLANTED)


def with_splits_for_days(pipeline, log, settings, folder):
    undated = rated_days.summary((), 600)
    return compare_log(
        pipeline, dataclasses.replace(log, summary=undated), settings, folder
    )


def with_the_first_day_twice(pipeline, log, settings, folder):
    earlier = rated_days.summary(("2026-11-19", DAYS[0]), 600)
    return compare_log(
        pipeline, dataclasses.replace(log, summary=earlier), settings, folder
    )


@pytest.mark.parametrize("wrong", [with_splits_for_days, with_the_first_day_twice])
def test_drift_checker_rejects(wrong, tmp_path, statistics):
    with pytest.raises(AssertionError):
        check_drift_between_days(wrong, tmp_path, statistics, {})


def test_drift_of_an_undated_log_is_between_splits(tmp_path):
    before, after = rows(DAYS[0]), rows(DAYS[1], mean_age=38.0)
    statistics = rated_days.split_statistics(tmp_path, before, after)
    log = rated_days.make_log(tmp_path, SCHEMA, statistics, [], [], spans=("",))
    (found,) = compare_log(beam_pipeline(), log, DRIFT, str(tmp_path)).comparisons
    assert (found.base, found.current) == ("the train split", "the test split")
    assert failed(found) == {("user_age", "jensen_shannon")}
    (age,) = (d for d in found.distances if d.measure != "missing" and not d.passed)
    before_mean, after_mean = (
        float(age.detail.split()[place]) for place in (1, 3)
    )  # "mean 30.1 to 38.2"
    assert before_mean == pytest.approx(30, abs=0.8)  # 4 standard errors
    assert after_mean == pytest.approx(38, abs=0.8)


def test_drift_on_a_day_without_rows_has_no_distance(tmp_path, statistics):
    first, more = rows(DAYS[0]), rows(DAYS[0], seed=1)
    log = rated_days.make_log(tmp_path, SCHEMA, statistics, first, more)
    (found,) = compare_log(beam_pipeline(), log, DRIFT, str(tmp_path)).comparisons
    assert (found.base_rows, found.current_rows) == (1200, 0)
    measures = [(key, m) for key, limits in THRESHOLDS.items() for m in limits]
    assert failed(found) == set(measures)


def test_days_are_the_newest_dated_spans():
    days = ("2026-11-19", "2026-11-21", "2026-10-30", "")
    assert newest_days(rated_days.summary(days, 5)) == ("2026-11-19", "2026-11-21")
    for spans in ((), ("",), ("16", "17"), ("2026-11-21", "")):
        assert newest_days(rated_days.summary(spans, 5)) is None


def test_large_days_are_sampled_the_same_way_each_time(tmp_path, statistics):
    few = DRIFT.model_copy(update={"max_compared_rows": 300})
    before, after = rows(DAYS[0], 1200), rows(DAYS[1], 1200)
    log = rated_days.make_log(
        tmp_path, SCHEMA, statistics, before, after, accepted=1200
    )
    (found,) = compare_log(beam_pipeline(), log, few, str(tmp_path)).comparisons
    assert found.base_rows == sum(is_sampled(row, 0.25) for row in before)
    # A quarter, within 5 standard deviations of sqrt(1200 * 3 / 16) = 15.
    assert found.current_rows == pytest.approx(300, abs=75)


def test_sampled_statistics_of_splits_are_not_compared(tmp_path, statistics):
    """TFDV's sample is of whole batches; the rows are read and sampled one by one."""
    settings = DRIFT.model_copy(
        update={"statistics_sample_share": 0.5, "max_compared_rows": 300}
    )
    before, after = rows(DAYS[0], 1200), rows(DAYS[1], 400, mean_age=38.0)
    log = rated_days.make_log(tmp_path, SCHEMA, statistics, before, after, spans=("",))
    (found,) = compare_log(beam_pipeline(), log, settings, str(tmp_path)).comparisons
    # The account says that train has 600 rows, so half of them are looked at.
    assert found.base_rows == sum(is_sampled(row, 0.5) for row in before)
    assert found.current_rows == 400
    assert failed(found) == {("user_age", "jensen_shannon")}


def test_splits_are_read_where_their_statistics_are_a_sample():
    whole = ValidationSettings.model_validate(
        {"drift": THRESHOLDS, "skew": THRESHOLDS, "serving_examples": "served"}
    )
    sampled = whole.model_copy(update={"statistics_sample_share": 0.5})
    assert sampled_splits(whole, None) == sampled_splits(whole, DAYS) == ()
    assert sampled_splits(sampled, None) == ("train", "test")
    assert sampled_splits(sampled, DAYS) == ("train",)
    without_skew = sampled.model_copy(update={"skew": {}})
    assert sampled_splits(without_skew, DAYS) == ()


def test_sample_keeps_its_share():
    records = [f"row {number}".encode() for number in range(10_000)]
    assert all(is_sampled(record, 1.0) for record in records)
    kept = [record for record in records if is_sampled(record, 0.3)]
    assert len(kept) == pytest.approx(3000, abs=5 * 46)  # sqrt(10,000 * 0.21) = 46
    assert all(is_sampled(record, 0.4) for record in kept)


def skew_of(folder, statistics, served, name="served.tfrecord.gz"):
    write_records(folder / name, served)
    settings = ValidationSettings.model_validate(
        {"skew": THRESHOLDS, "serving_examples": f"{folder}/served*"}
    )
    log = rated_days.make_log(folder, SCHEMA, statistics, [], [])
    (found,) = compare_log(beam_pipeline(), log, settings, str(folder)).comparisons
    assert found.kind is Kind.SKEW
    assert (found.base, found.current) == ("the train split", "what was served")
    return found


@pytest.mark.parametrize("name", ["served.tfrecord.gz", "served-00000-of-00001"])
def test_what_was_served_like_the_rows_passes(tmp_path, statistics, name):
    found = skew_of(tmp_path, statistics, rows(DAYS[1], 500, seed=3), name)
    assert (found.base_rows, found.current_rows) == (600, 500)
    assert failed(found) == set()


@pytest.mark.parametrize("place", PLANTED)
def test_skew_is_found(tmp_path, statistics, place):
    found = skew_of(tmp_path, statistics, rows(DAYS[1], seed=3, **PLANTED[place]))
    assert place in failed(found)
    assert failed(found) <= {place, ("item_id", "jensen_shannon")}


def test_feature_that_was_never_served_is_skew(tmp_path, statistics):
    found = skew_of(tmp_path, statistics, rows(DAYS[1], without_age=1.0))
    ages = [d for d in found.distances if d.feature == "user_age"]
    assert [(d.measure, d.seen, d.passed) for d in ages] == [
        ("jensen_shannon", None, False),
        ("missing", 1.0, False),
    ]
    assert ages[0].detail == "no values in what was served"


def test_feature_served_as_another_type_is_a_finding(tmp_path, statistics):
    found = skew_of(tmp_path, statistics, rows(DAYS[1], age_type=str))
    (age,) = (
        d for d in found.distances if d.feature == "user_age" and d.threshold > 0.1
    )
    assert not age.passed
    assert age.detail == "FLOAT in the train split, STRING in what was served"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no file matches"),
        (b"id,age\n1,30\n", "cannot read"),
        (b"\x1f\x8b not gzip", "cannot read"),
    ],
)
def test_served_files_that_cannot_be_read_are_a_clear_error(tmp_path, content, said):
    path = tmp_path / "served.tfrecord"
    if content is not None:
        path.write_bytes(content)
    settings = ValidationSettings.model_validate(
        {"skew": THRESHOLDS, "serving_examples": str(path)}
    )
    with pytest.raises(IngestionError, match=said) as error:
        serving_fingerprint(settings)
    assert str(error.value).startswith("gates.data.serving_examples: ")
    assert str(path) in str(error.value)


def test_served_records_that_are_no_examples_are_a_clear_error(tmp_path):
    write_records(tmp_path / "served", [b""])
    settings = ValidationSettings.model_validate(
        {"skew": THRESHOLDS, "serving_examples": str(tmp_path / "served")}
    )
    with pytest.raises(IngestionError, match="the first record holds no feature"):
        serving_fingerprint(settings)


def test_damage_in_a_later_served_file_names_the_setting(tmp_path, statistics):
    good = rows(DAYS[1], 20)
    write_records(tmp_path / "served-0", good)
    write_records(tmp_path / "served-1", [*good, b"\xff\xff\xff"])
    log = rated_days.make_log(tmp_path, SCHEMA, statistics, [], [])
    settings = ValidationSettings.model_validate(
        {"skew": THRESHOLDS, "serving_examples": f"{tmp_path}/served*"}
    )
    with pytest.raises(IngestionError, match="gates.data.serving_examples: cannot"):
        compare_log(beam_pipeline(), log, settings, str(tmp_path))


def test_fingerprint_changes_with_the_served_files(tmp_path):
    settings = ValidationSettings.model_validate(
        {"skew": THRESHOLDS, "serving_examples": f"{tmp_path}/served*"}
    )
    write_records(tmp_path / "served-0", rows(DAYS[1], 5))
    first = serving_fingerprint(settings)
    assert serving_fingerprint(settings) == first
    write_records(tmp_path / "served-1", rows(DAYS[1], 5))
    assert serving_fingerprint(settings) != first
    assert serving_fingerprint(settings.model_copy(update={"skew": {}})) == ""


def test_nothing_is_compared_where_nothing_has_a_threshold(tmp_path, statistics):
    log = rated_days.make_log(tmp_path, SCHEMA, statistics, [], [])
    # No pipeline is run: there is none.
    assert compare_log(None, log, ValidationSettings(), str(tmp_path)).comparisons == ()
