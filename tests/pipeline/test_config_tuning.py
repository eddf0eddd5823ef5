"""Overlays over a config, and the search space that a config may declare."""

import pytest
import yaml

from pipeline.config import ConfigError, load_config


def write(path, values):
    path.write_text(yaml.safe_dump(values))
    return f"@{path}"


def test_overlay_sets_its_keys_and_leaves_those_beside_them(tmp_path):
    values = {"ranking": {"learning_rate": 0.5, "deepfm": {"hidden": [4]}}}
    file = write(tmp_path / "best.yaml", values)
    plain = load_config("movielens-100k", ["ranking.deepfm.l2=0.25"])
    config = load_config("movielens-100k", ["ranking.deepfm.l2=0.25", file])
    assert config.ranking.learning_rate == 0.5
    assert config.ranking.deepfm.hidden == (4,)
    assert config.ranking.deepfm.l2 == 0.25
    assert config.retrieval == plain.retrieval


@pytest.mark.parametrize(
    ("order", "expected"),
    [(("ranking.patience=9", "FILE"), 5), (("FILE", "ranking.patience=9"), 9)],
)
def test_later_override_wins(order, expected, tmp_path):
    file = write(tmp_path / "best.yaml", {"ranking": {"patience": 5}})
    overrides = [file if one == "FILE" else one for one in order]
    assert load_config("movielens-100k", overrides).ranking.patience == expected


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (None, "no file"),
        ("- a list", "key: value pairs"),
        ("a: [", "not valid YAML"),
        ("ranking: {patienc: 3}", "Did you mean `patience`"),
    ],
)
def test_overlay_that_is_wrong_is_refused(content, named, tmp_path):
    file = tmp_path / "best.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=named):
        load_config("movielens-100k", [f"@{file}"])


@pytest.mark.parametrize(
    ("dimension", "named"),
    [
        ("ranking.learning_rat: {min: 1, max: 2}", "Did you mean `ranking.learning_r"),
        ("ranking.batch_size: {min: 0, max: 2}", "tuning.space.ranking.batch_size: 0:"),
        ("ranking.batch_size: {min: 3, max: 2}", "`min` should be below `max`"),
        ("ranking.batch_size: {mn: 3}", "Did you mean `min`"),
    ],
)
def test_search_space_is_held_to_the_settings(dimension, named):
    with pytest.raises(ConfigError, match=named):
        load_config("movielens-100k", [f"tuning.space={{{dimension}}}"])


def test_search_space_is_read():
    space = "tuning.space={ranking.deepfm.hidden: {choices: [[8], [4, 2]]}}"
    config = load_config("movielens-100k", [space, "tuning.trials=3"])
    assert config.tuning.space["ranking.deepfm.hidden"].choices == ((8,), (4, 2))
