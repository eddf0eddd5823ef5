"""A search from a log to an overlay, as a person types it."""

import json

import pytest
from click.testing import CliRunner

from pipeline.cli import cli
from pipeline.config import load_config
from tests.e2e.film_log import write_film_log

SPACE = "tuning.space={ranking.learning_rate: {choices: [0.02]}}"
OPTIONS = ["--set", "ranking.model=fm", "--set", "ranking.max_epochs=1"]


def test_config_without_a_space_is_told_how_to_declare_one(tmp_path):
    with pytest.raises(Exception, match="tuning.space: names nothing to search"):
        CliRunner().invoke(
            cli,
            ["tune", "--config", "movielens-100k", "--root", str(tmp_path)],
            catch_exceptions=False,
        )


def test_wrong_path_is_refused_before_anything_runs(tmp_path):
    space = "tuning.space={ranking.deepfm.hiden: {choices: [[4]]}}"
    with pytest.raises(Exception, match="Did you mean `ranking.deepfm.hidden`"):
        CliRunner().invoke(
            cli,
            ["tune", "--config", "movielens-100k", "--set", space],
            catch_exceptions=False,
        )


@pytest.mark.component
def test_search_ends_in_an_overlay(tmp_path):
    write_film_log(tmp_path / "data" / "movielens-100k")
    command = ["tune", "--config", "movielens-100k", "--root", str(tmp_path)]
    command += ["--set", SPACE, *OPTIONS, "--trials", "5", "--json"]
    answer = CliRunner().invoke(cli, command, catch_exceptions=False)
    assert answer.exit_code == 0, answer.output
    found = json.loads(answer.stdout)
    assert (found["section"], found["objective"]) == ("ranking", "log_loss")
    # There is but one value to try; the default rate is too slow for one epoch.
    assert [trial["number"] for trial in found["trials"]] == [0, 1]
    losses = [trial["metrics"]["log_loss"] for trial in found["trials"]]
    assert found["best"]["values"] == {"ranking.learning_rate": 0.02}
    assert found["gain"] == losses[0] - losses[1] > 0
    low, high = found["interval"]
    assert low < found["gain"] < high
    assert "as configured" in answer.stderr
    assert f"@{found['overlay']}" in answer.stderr
    config = load_config("movielens-100k", [f"@{found['overlay']}"])
    assert config.ranking.learning_rate == 0.02
    boards = list((tmp_path / "pipeline" / "Tune").rglob("events.out.tfevents*"))
    assert any(board.parent.name == "hparams" for board in boards)
