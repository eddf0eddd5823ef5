"""`tandem schema infer`: a schema for a log that has none yet."""

import json
import subprocess
import sys

import pytest
import yaml
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from pipeline.config import find_config
from tests.e2e import film_log

pytestmark = pytest.mark.component  # each starts the command in a process of its own


def tandem(*arguments):
    command = [sys.executable, "-m", "pipeline.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A root with a log, and a config whose schema is still to be made."""
    root = tmp_path_factory.mktemp("films")
    film_log.write_film_log(root / "data/movielens-100k")
    config = yaml.safe_load(find_config("movielens-100k").read_text())
    config |= {"name": "films", "schema_file": str(root / "films.pbtxt")}
    (root / "films.yaml").write_text(yaml.safe_dump(config))
    return root


@pytest.fixture(scope="module")
def done(root):
    """The command's run, into the place that the config names."""
    done = tandem(
        *("schema", "infer", "--config", root / "films.yaml", "--root", root),
        *("--output", root / "films.pbtxt", "--json"),
    )
    assert done.returncode == 0, done.stderr
    return done


def test_command_writes_a_schema_and_one_object(root, done):
    told = json.loads(done.stdout)
    schema = text_format.Parse((root / "films.pbtxt").read_text(), schema_pb2.Schema())
    assert told["output"] == str(root / "films.pbtxt")
    assert told["features"] == [feature.name for feature in schema.feature]
    assert told["domains"] == ["user_gender", "user_occupation", "item_genres"]
    events = film_log.NUM_USERS * film_log.EVENTS_PER_USER
    assert told["rows"] == pytest.approx(0.72 * events, abs=2)
    assert "data/movielens-100k/events.parquet" in (root / "films.pbtxt").read_text()


def test_command_leaves_nothing_else_in_the_root(root, done):
    left = {path.name for path in root.iterdir()}
    assert left == {"data", "films.yaml", "films.pbtxt", "run.log"}


def test_command_does_not_overwrite_a_curated_schema(root, done):
    before = (root / "films.pbtxt").read_text()
    again = tandem(
        *("schema", "infer", "--config", root / "films.yaml", "--root", root),
        *("--output", root / "films.pbtxt"),
    )
    assert again.returncode == 2
    assert "--force" in again.stderr
    assert "Traceback" not in again.stderr
    assert (root / "films.pbtxt").read_text() == before


def test_forced_command_overwrites_and_says_what_comes_next(root, done):
    target = root / "data" / "old.pbtxt"
    target.write_text("old")
    forced = tandem(
        *("schema", "infer", "--config", root / "films.yaml", "--root", root),
        *("--output", target, "--force"),
    )
    assert forced.returncode == 0, forced.stderr
    assert target.read_text() == (root / "films.pbtxt").read_text()
    assert f"--set schema_file={target}" in forced.stdout
    target.unlink()


def test_poisoned_log_is_refused_by_the_inferred_schema(root, done, tmp_path):
    """The gate names the feature, what was seen and expected, and where the page is."""

    def in_seconds(events, rng):
        events["timestamp"] = [time // 1000 for time in events["timestamp"]]

    film_log.write_film_log(tmp_path / "data/movielens-100k", poison=in_seconds)
    refused = tandem("run", "--config", root / "films.yaml", "--root", tmp_path)
    assert refused.returncode == 3, refused.stderr
    assert "anomalies against the schema" in refused.stderr
    assert "train: `timestamp`" in refused.stderr
    page = tmp_path / "report" / "data.html"
    assert f"open {page} in a browser" in refused.stderr
    assert "The log was refused" in page.read_text()
    assert "timestamp" in page.read_text()


def test_log_that_is_missing_is_one_message(root, tmp_path):
    output = tmp_path / "new.pbtxt"
    missing = tandem(
        *("schema", "infer", "--config", root / "films.yaml", "--root", tmp_path),
        *("--output", output),
    )
    assert missing.returncode == 1
    assert "data/movielens-100k/events.parquet" in missing.stderr
    assert "Traceback" not in missing.stderr
    assert not output.exists()
    assert not list(tmp_path.glob("schema-inference-*"))


def test_command_explains_itself():
    from click.testing import CliRunner

    from pipeline.cli import cli

    done = CliRunner().invoke(cli, ["schema", "infer", "--help"])
    assert done.exit_code == 0
    assert "--force" in done.output
