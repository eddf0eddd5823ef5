"""The command: what it says and with which code it ends when something is wrong."""

import json
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from tests.e2e import film_log

pytestmark = pytest.mark.component  # each starts the command in a process of its own


def tandem(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pipeline.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def check_error(done: subprocess.CompletedProcess, code: int, *said: str) -> None:
    """One message that says what is wrong, the right code, no traceback."""
    assert done.returncode == code, done.stderr
    for words in said:
        assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_unknown_config_key_names_place_and_nearest(tmp_path):
    done = tandem(
        *("run", "--config", "movielens-100k", "--root", str(tmp_path)),
        *("--set", "retrieval.temprature=0.2"),
    )
    check_error(done, 2, "retrieval.temprature", "Did you mean `temperature`?")


def test_wrong_type_names_the_place(tmp_path):
    done = tandem(
        *("run", "--config", "movielens-100k", "--root", str(tmp_path)),
        *("--set", "retrieval.batch_size=many"),
    )
    check_error(done, 2, "retrieval.batch_size", "many")


def test_missing_config_lists_the_shipped_ones(tmp_path):
    done = tandem("run", "--config", "nowhere.yaml", "--root", str(tmp_path))
    check_error(done, 2, "nowhere.yaml", "movielens-100k")


def test_missing_log_names_path_and_mend(tmp_path):
    done = tandem("run", "--config", "movielens-100k", "--root", str(tmp_path))
    check_error(done, 1, "data/movielens-100k/events.parquet")


def test_empty_log_is_a_clear_error(tmp_path):
    folder = tmp_path / "data/movielens-100k"
    film_log.write_film_log(folder)
    events = pq.read_table(folder / "events.parquet")
    pq.write_table(events.slice(0, 0), folder / "events.parquet")
    done = tandem("run", "--config", "movielens-100k", "--root", str(tmp_path))
    check_error(done, 1, "the event log is empty")
    assert not (tmp_path / "serving").exists()


def test_log_of_one_user_is_refused_by_the_data_gate(tmp_path):
    folder = tmp_path / "data/movielens-100k"

    def one_user(events, rng):
        events["user_id"] = ["u1"] * len(events["user_id"])

    film_log.write_film_log(folder, poison=one_user)
    done = tandem(
        "run", "--config", "movielens-100k", "--root", str(tmp_path), "--json"
    )
    check_error(done, 3, "users with an event: seen 1, expected at least 2")
    assert not json.loads(done.stdout)["gates"]["validate_examples"]["passed"]
    assert not (tmp_path / "serving").exists()


def test_unknown_data_set_is_a_bad_argument(tmp_path):
    done = tandem("data", "fetch", "netflix", "--root", str(tmp_path))
    check_error(done, 2, "netflix", "movielens-100k")


def test_no_dead_letters_to_mend_says_how_to_make_a_run(tmp_path):
    done = tandem("data", "dead-letters", "--root", str(tmp_path))
    check_error(done, 1, str(tmp_path), "tandem run")


def test_nothing_to_serve_says_how_to_make_a_release(tmp_path):
    done = tandem("serve", "--root", str(tmp_path))
    check_error(done, 1, str(tmp_path), "tandem run")


def test_no_runs_to_show_says_how_to_make_one(tmp_path):
    done = tandem("tensorboard", "--root", str(tmp_path))
    check_error(done, 1, "tandem run")


def test_compile_refuses_a_file_of_another_kind(tmp_path):
    output = str(tmp_path / "pipeline.txt")
    done = tandem("compile", "--config", "movielens-100k", "--output", output)
    check_error(done, 2, "should end in .yaml")


@pytest.mark.parametrize(
    "command",
    ["doctor", "data", "run", "compile", "serve", "recommend", "tensorboard", "demo"],
)
def test_every_command_explains_itself(command):
    from click.testing import CliRunner

    from pipeline.cli import cli

    done = CliRunner().invoke(cli, [command, "--help"])
    assert done.exit_code == 0
    assert "Usage" in done.output
