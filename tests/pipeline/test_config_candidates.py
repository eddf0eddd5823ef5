"""The `candidates` section of a config: where the deny list lies, what is refused."""

from pathlib import Path

import pytest

from pipeline.config import ConfigError, load_config

NAME = "movielens-100k"


@pytest.mark.component  # the runner imports TFX
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("lists/denied.txt", "/root-folder/lists/denied.txt"),
        ("/srv/denied.txt", "/srv/denied.txt"),
        ("gs://bucket/denied.txt", "gs://bucket/denied.txt"),
    ],
)
def test_relative_deny_list_starts_at_the_root(given, expected):
    from pipeline.local_runner import with_absolute_paths

    config = load_config(NAME, [f"candidates.deny_list={given}"])
    moved = with_absolute_paths(config, Path("/root-folder"))
    assert moved.candidates.deny_list == expected


@pytest.mark.component  # the runner imports TFX
def test_missing_deny_list_ends_a_run_before_it_starts(tmp_path):
    from components.ingestion.errors import IngestionError
    from pipeline.local_runner import run_pipeline
    from tests.e2e import film_log

    film_log.write_film_log(tmp_path / "data" / NAME)
    config = load_config(NAME, ["candidates.deny_list=nowhere.txt"])
    stages: list[str] = []
    with pytest.raises(IngestionError, match=r"candidates.deny_list: .*nowhere.txt"):
        run_pipeline(config, tmp_path, stages.append)
    assert stages == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("candidates.at=yesterday", "candidates.at: "),
        ("candidates.denylist=a", "Did you mean `deny_list`"),
        ("candidates.available_from_column=", "candidates.available_from_column: "),
        ("gates.retrieval.min_coverage=1.5", "gates.retrieval.min_coverage: "),
        ("gates.retrieval.max_gini=-1", "gates.retrieval.max_gini: "),
    ],
)
def test_wrong_value_is_named_with_its_place(override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(NAME, [override])


def test_moment_is_read_from_yaml_as_a_date_or_a_time():
    dated = load_config(NAME, ["candidates.at=1998-04-22T00:00:00Z"])
    assert dated.candidates.at_ms == 893_203_200_000
