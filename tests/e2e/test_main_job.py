"""The main job, end to end on a small log: killed, continued, repeated, poisoned, asked."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from pipeline.layout import Layout
from serving.release_layout import MODELS, list_releases
from tests.e2e import film_log

pytestmark = pytest.mark.e2e

# Small enough for a test; the shipped config in everything else.
OVERRIDES = (
    "retrieval.max_epochs=6",
    "retrieval.batch_size=256",
    "retrieval.embedding_dim=16",
    "ranking.max_epochs=6",
    "ranking.batch_size=256",
    "ranking.learning_rate=0.01",
    "index.exact_below=10",
    "gates.export.num_users=30",
    "gates.serving.num_timed_requests=50",
    "gates.serving.max_p99_ms=2000",
)
KILLED_AT = "ExampleValidator"

KILL_AND_RUN = """
import os, signal, sys
from pathlib import Path
from pipeline.config import load_config
from pipeline.local_runner import run_pipeline

def on_stage(stage):
    if stage == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)

run_pipeline(load_config("movielens-100k", sys.argv[3:]), Path(sys.argv[1]), on_stage)
"""


def tandem(*arguments, root: Path) -> subprocess.CompletedProcess:
    """Runs the command as a user would."""
    command = [sys.executable, "-m", "pipeline.cli", *arguments, "--root", str(root)]
    return subprocess.run(command, capture_output=True, text=True, timeout=900)


def run(root: Path) -> subprocess.CompletedProcess:
    overrides = [word for value in OVERRIDES for word in ("--set", value)]
    return tandem("run", "--config", "movielens-100k", "--json", *overrides, root=root)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A root folder whose first run was killed between two stages."""
    root = tmp_path_factory.mktemp("films")
    film_log.write_film_log(root / "data/movielens-100k")
    killed = subprocess.run(
        [sys.executable, "-c", KILL_AND_RUN, str(root), KILLED_AT, *OVERRIDES],
        timeout=600,
    )
    assert killed.returncode == -signal.SIGKILL
    return root


@pytest.fixture(scope="module")
def first(root) -> dict:
    """The figures of the run that continued the killed one."""
    done = run(root)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def second(root, first) -> dict:
    """The figures of a run on the same log, after the first release."""
    done = run(root)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


def test_killed_run_continues_from_what_was_done(first):
    stages = first["run"]["stages"]
    before = list(stages)[: list(stages).index(KILLED_AT)]
    assert {stages[stage] for stage in before if stage != "LastRelease"} == {"cached"}
    assert stages[KILLED_AT] == "done"
    assert stages["PushRelease"] == "done"


def test_models_beat_their_baselines_where_there_is_something_to_learn(first):
    retrieval, ranking = first["retrieval"], first["ranking"]
    assert retrieval["two_tower"]["recall@10"] > retrieval["popularity"]["recall@10"]
    assert ranking["deepfm"]["auc"] > 0.8
    assert ranking["deepfm"]["auc"] > ranking["popularity"]["auc"]
    for figure in ("auc", "gauc", "logloss", "calibration", "slices"):
        assert ranking[figure] == ranking["deepfm"][figure]
    assert ranking["tfma"]["slices"]["history_length"]
    assert first["serving"]["offline_agreement"] == 1.0
    assert first["serving"]["index_agreement"] >= 0.98


def test_every_record_is_accounted_for(first):
    events = first["ingest"]["sources"]["events"]
    assert events["read"] == film_log.NUM_USERS * film_log.EVENTS_PER_USER
    assert events["read"] == (
        events["accepted"] + events["duplicates"] + events["dead_letters"]
    )


def test_release_lies_in_tf_servings_layout(root, first):
    serving = Layout(root).serving
    version = str(first["release"])
    for model in MODELS:
        assert (serving / model / version / "saved_model.pb").is_file()
        warmup = "assets.extra/tf_serving_warmup_requests"
        assert (serving / model / version / warmup).is_file()
    assert (serving / "models.config").is_file()
    assert list_releases(serving) == [first["release"]]


def test_second_run_reuses_results_and_compares_with_the_release(root, first, second):
    stages = second["run"]["stages"]
    done = {name for name, state in stages.items() if state == "done"}
    # The gates have a release to compare with; the push finds it in place.
    assert done == {
        "EvaluatePolicy",
        "EvaluateRetrieval",
        "EvaluateRanking",
        "LastRelease",
        "PushRelease",
    }
    for run in (first, second):  # ratings have no propensities
        assert run["policy"]["log"]["rows"] == 0
        assert "It cannot judge" in run["gates"]["policy"]["reason"]
    for part, model in (("retrieval", "two_tower"), ("ranking", "deepfm")):
        assert "last_release" in second[part]
        metric = {"retrieval": "recall@100", "ranking": "auc"}[part]
        # The same model on the same rows.
        assert second[part]["last_release"][metric] == pytest.approx(
            second[part][model][metric], abs=1e-6
        )
    assert second["release"] == first["release"]
    assert list_releases(Layout(root).serving) == [first["release"]]


def test_tensorboard_has_what_it_promises(root, first):
    from google.protobuf import text_format
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.projector import projector_config_pb2

    tags: dict[str, set[str]] = {}
    logs = Layout(root).pipeline
    for events in logs.rglob("events.out.tfevents.*"):
        accumulator = EventAccumulator(str(events))
        accumulator.Reload()
        found = accumulator.Tags()
        run_name = str(events.parent.relative_to(logs))
        tags.setdefault(run_name, set()).update(found["tensors"], found["scalars"])

    def has(stage: str, run_name: str, tag: str) -> bool:
        return any(
            name.startswith(stage) and run_name in name and any(tag in t for t in found)
            for name, found in tags.items()
        )

    assert has("Trainer.retrieval", "search/train", "steps/loss")
    assert has("Trainer.retrieval", "search", "eval/recall@100")
    assert has("Trainer.retrieval", "refit/train", "steps/loss")
    assert has("Trainer.retrieval", "refit", "sampling_probability")
    assert has("Trainer.ranking", "train", "steps/auc")
    assert has("Trainer.ranking", "train", "steps/loss")
    assert has("Trainer.ranking", "validation", "auc")
    assert not has("Trainer.ranking", "validation", "recall")
    assert has("EvaluateRanking", "deepfm", "ranking/gauc")
    for tag in ("calibration", "roc", "slices/history_length"):
        assert has("EvaluateRanking", "board", tag)
    config_file = next(Layout(root).pipeline.rglob("projector_config.pbtxt"))
    config = text_format.Parse(
        config_file.read_text(), projector_config_pb2.ProjectorConfig()
    )
    vectors = config_file.parent / config.embeddings[0].tensor_path
    labels = config_file.parent / config.embeddings[0].metadata_path
    assert len(vectors.read_text().splitlines()) == film_log.NUM_ITEMS
    assert labels.read_text().splitlines()[:2] == ["Love Story 0", "Battle Story 1"]


def test_tensorboard_starts_and_shows_the_runs(root, first):
    # It could not: a setuptools without pkg_resources had been locked beside it.
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "pipeline.cli", "tensorboard", "--port", str(port)]
    process = subprocess.Popen([*command, "--root", str(root)])

    def get(path: str):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/data/{path}") as answer:
            return json.load(answer)

    try:
        deadline = time.monotonic() + 120
        while True:
            assert process.poll() is None, "TensorBoard ended"
            assert time.monotonic() < deadline, "TensorBoard does not show the runs"
            with contextlib.suppress(OSError):
                if get("plugin/projector/runs") and get("plugin/histograms/tags"):
                    break
            time.sleep(0.5)
        (projector,) = get("plugin/projector/runs")
        assert projector.startswith("BuildIndex/projector")
        histograms = get("plugin/histograms/tags")
        assert any("sampling_probability" in tags for tags in histograms.values())
        assert any("steps/loss" in tags for tags in get("plugin/scalars/tags").values())
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def target(root, first):
    """A server, started as a user would."""
    command = [sys.executable, "-m", "pipeline.cli", "serve", "--root", str(root)]
    ports = ("--port", "0", "--rest-port", "0", "--http-port", "0")
    process = subprocess.Popen([*command, *ports], stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        assert line.startswith("Serving release"), line
        yield line.split()[-1].rstrip(".")
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


def ask(root: Path, target: str, user: str, *options: str) -> dict:
    done = tandem(
        *("recommend", "--target", target, "--user-id", user, "--json", *options),
        root=root,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_recommend_prints_titles_scores_propensities(root, target):
    done = tandem("recommend", "--target", target, "--user-id", "u3", root=root)
    assert done.returncode == 0, done.stderr
    assert "Story" in done.stdout
    assert "propensity" in done.stdout


def test_recommended_items_are_new_to_the_user_and_to_its_taste(root, target):
    answer = ask(root, target, "u3", "--k", "5", "--seed", "4")
    shown = [item["item_id"] for item in answer["items"]]
    assert len(set(shown)) == 5
    assert answer["is_known"]
    assert not {item["title"] for item in answer["items"]} & set(answer["history"])
    # u3 is of the odd taste.
    assert sum(int(item[1:]) % 2 for item in shown) >= 4
    assert all(0 < item["propensity"] <= 1 for item in answer["items"])
    assert ask(root, target, "u3", "--k", "5", "--seed", "4") == answer


def test_unknown_user_gets_an_answer(root, target):
    answer = ask(root, target, "nobody", "--k", "7")
    assert not answer["is_known"]
    assert answer["history"] == []
    assert len(answer["items"]) == 7


def test_k_beyond_the_catalogue_returns_what_exists(root, target):
    answer = ask(root, target, "nobody", "--k", "500")
    assert len(answer["items"]) == film_log.NUM_ITEMS


def test_no_server_is_a_clear_error(root, first):
    done = tandem("recommend", "--target", "127.0.0.1:9", "--user-id", "u1", root=root)
    assert done.returncode == 1
    assert "127.0.0.1:9" in done.stderr
    assert "tandem serve" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("poison", "named"),
    [
        (film_log.replace_half_the_items, "the items table lacks"),
        (film_log.zero_propensity, "propensity"),
    ],
)
def test_poisoned_log_is_refused_and_nothing_is_pushed(root, second, poison, named):
    serving = Layout(root).serving
    before = sorted(str(path) for path in serving.rglob("*"))
    film_log.write_film_log(root / "data/movielens-100k", poison=poison)
    done = run(root)
    assert done.returncode == 3, done.stderr[-4000:]
    assert "Nothing was pushed" in done.stderr
    assert named in done.stderr
    figures = json.loads(done.stdout)
    assert "retrieval" not in figures
    assert not figures["gates"]["validate_examples"]["passed"]
    assert sorted(str(path) for path in serving.rglob("*")) == before


def test_no_process_is_left(root, target):
    """Validation's servers are gone: only the one of this module runs."""
    running = [
        Path(f"/proc/{pid}/cmdline").read_bytes()
        for pid in os.listdir("/proc")
        if pid.isdigit() and Path(f"/proc/{pid}/cmdline").exists()
    ]
    assert not [line for line in running if b"serving.server" in line]
