"""Thresholds of the data gate are checked against the declared features."""

from pathlib import Path

import pytest

from pipeline.config import ConfigError, load_config

SERVED = "gates.data.serving_examples=served/*.gz"


def refusal(*overrides):
    with pytest.raises(ConfigError) as error:
        load_config("movielens-100k", overrides)
    return str(error.value)


def test_thresholds_are_read_by_feature():
    config = load_config(
        "movielens-100k",
        [
            "gates.data.drift={item_id: {linf: 0.3}, label: {jensen_shannon: 0.1}}",
            "gates.data.skew={item_genres: {linf: 0.2, missing: 0.01}}",
            SERVED,
        ],
    )
    drift, skew = config.gates.data.drift, config.gates.data.skew
    assert drift["item_id"].given() == {"linf": 0.3}
    assert drift["label"].given() == {"jensen_shannon": 0.1}
    assert skew["item_genres"].given() == {"linf": 0.2, "missing": 0.01}


def test_unknown_feature_names_the_place_and_the_nearest():
    said = refusal("gates.data.drift={user_agee: {jensen_shannon: 0.1}}")
    assert "gates.data.drift.user_agee: unknown feature." in said
    assert "Did you mean `user_age`?" in said
    assert "movielens-100k.yaml" in said


def test_unknown_measure_names_the_nearest():
    said = refusal("gates.data.drift={user_age: {jensen_shanon: 0.1}}")
    assert "gates.data.drift.user_age.jensen_shanon: unknown key." in said
    assert "Did you mean `jensen_shannon`?" in said


def test_feature_that_is_never_served_has_no_skew():
    said = refusal("gates.data.skew={label: {jensen_shannon: 0.1}}", SERVED)
    assert "gates.data.skew.label: unknown feature." in said


@pytest.mark.parametrize("key", ["user_age", "label", "user_mean_label", "propensity"])
def test_numbers_are_not_compared_value_by_value(key):
    said = refusal(f"gates.data.drift={{{key}: {{linf: 0.1}}}}")
    assert f"gates.data.drift.{key}.linf: `{key}` is a number" in said
    assert "Use `jensen_shannon`." in said


def test_feature_without_a_threshold_says_which_there_are():
    said = refusal("gates.data.drift={user_age: {}}")
    assert "gates.data.drift.user_age: give `linf`, `jensen_shannon` or" in said


def test_skew_without_examples_names_the_setting():
    said = refusal("gates.data.skew={user_age: {jensen_shannon: 0.1}}")
    assert "gates.data.serving_examples: missing" in said


def test_every_problem_is_named_at_once():
    said = refusal(
        "gates.data.drift={nothing: {linf: 0.1}}",
        "gates.data.skew={label: {jensen_shannon: 0.1}}",
    )
    assert len(said.splitlines()) == 3


def test_means_that_cross_are_refused():
    said = refusal("gates.data.min_label_mean=0.5", "gates.data.max_label_mean=0.4")
    assert "`min_label_mean` should be <= `max_label_mean`" in said


@pytest.mark.component  # the runner imports TFX
def test_served_examples_start_at_the_root_unless_absolute():
    from pipeline.local_runner import with_absolute_paths

    for path, expected in (
        ("served/*.gz", "/root-folder/served/*.gz"),
        ("/srv/served", "/srv/served"),
        ("gs://b/served", "gs://b/served"),
    ):
        config = load_config("movielens-100k", [f"gates.data.serving_examples={path}"])
        moved = with_absolute_paths(config, Path("/root-folder"))
        assert moved.gates.data.serving_examples == expected
