"""What a config may say of slates: caps name features that items have."""

import pytest

from pipeline.config import ConfigError, load_config


def test_caps_and_diversity_are_read():
    overrides = ["policy.caps={genres: 2}", "policy.diversity={relevance: 0.7}"]
    policy = load_config("movielens-100k", overrides).policy
    assert policy.caps == {"genres": 2} and policy.diversity.relevance == 0.7
    assert policy.has_rules
    assert not load_config("movielens-100k").policy.has_rules


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "policy.caps={genre: 2}",
            r"policy.caps.genre.* of which there are .*'genres'",
        ),
        ("policy.caps={title: 2}", r"policy.caps.title.* Received: a text"),
        (
            "policy.caps={genres: 0}",
            r"policy.caps.genres: .*greater than or equal to 1",
        ),
        (
            "policy.diversity={relevance: 0}",
            "policy.diversity.relevance: .*greater than",
        ),
        ("policy.diversity={lambda: 0.5}", "policy.diversity.lambda"),
    ],
)
def test_rules_that_cannot_hold_are_refused(override, message):
    with pytest.raises(ConfigError, match=message):
        load_config("movielens-100k", [override])
