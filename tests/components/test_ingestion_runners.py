"""The ingestion on each kind of Beam runner: the same bytes in every output file.

The Flink job server is looked for in the file that TANDEM_FLINK_JOB_SERVER_JAR names and
in Beam's own jar cache; nothing here downloads one (docs/operations.md says how).
"""

import hashlib
import json
import os
import random
import shutil
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.utils.subprocess_server import JavaJarServer

from components.ingestion.pipeline import ingest
from components.ingestion.settings import DataSettings
from tests.components import ingestion_world as world

pytestmark = pytest.mark.component

IN_MEMORY = ["--runner=FnApiRunner", "--direct_running_mode=in_memory"]
MULTI_PROCESSING = [
    "--runner=FnApiRunner",
    "--direct_running_mode=multi_processing",
    "--direct_num_workers=2",
]
FLINK = [
    "--runner=FlinkRunner",
    "--flink_master=[local]",
    "--environment_type=LOOPBACK",
    "--parallelism=2",
    "--job_server_timeout=300",
    "--job_server_jvm_properties=-Xmx1g",
]
JAR_VARIABLE = "TANDEM_FLINK_JOB_SERVER_JAR"
NUM_EVENTS = 600
MINUTE = 60_000


def a_log():
    """Returns impressions, some answered, other events, copies and bad records."""
    chance = random.Random(11)
    log = []
    for number in range(NUM_EVENTS):
        event = world.event(
            f"e{number:04d}",
            timestamp=chance.randrange(300) * MINUTE,
            user_id=f"u{chance.randrange(12)}",
            item_id=f"i{chance.randrange(5)}",
            event_type=chance.choice(["impression", "impression", "purchase"]),
            value=chance.choice([None, 1.0, 4.0]),
            propensity=chance.choice([None, 0.5, 2.0]),
            request_id=f"r{number}",
        )
        log.append(event)
        if chance.random() < 0.4:
            wait = chance.choice([-1, 0, 1, 9, 10, 11])
            answer = {"event_type": chance.choice(["click", "mute"])}
            moment = max(0, event["timestamp"] + wait * MINUTE)
            log.append(event | answer | {"event_id": f"a{number}", "timestamp": moment})
        if chance.random() < 0.1:
            log.append(chance.choice(log))
    return log


def settings(folder):
    event_types = world.event_type_settings()
    for answer in ("click", "mute"):
        event_types[answer] |= {"answers": "impression"}
    declared = world.settings(folder).model_dump() | {"event_types": event_types}
    return DataSettings.model_validate(declared)


def run(folder, out, options):
    """Ingests the log of `folder` into `out` below it; returns the digests."""
    summary = ingest(
        beam.Pipeline(options=PipelineOptions(options)),
        settings(folder),
        world.CATALOG,
        world.output_paths(folder / out),
    )
    return summary, digests(folder / out)


def digests(folder):
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def check_same_files(seen, expected):
    assert sorted(seen) == sorted(expected)
    assert [name for name in expected if seen[name] != expected[name]] == []


@pytest.fixture(scope="module")
def in_memory(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runners")
    log = a_log()
    middle = len(log) // 2
    world.write(folder, [*log[:middle], "{oops"], "events-1.jsonl")
    bad = json.dumps(world.event("bad", timestamp=-1))
    world.write(folder, [bad, *log[middle:]], "events-2.jsonl")
    return folder, *run(folder, "in_memory", IN_MEMORY)


def job_server():
    """Returns the job server's jar, or skips saying what is missing."""
    if shutil.which("java") is None:
        pytest.skip("Flink needs Java, and no `java` is on the PATH")
    named = os.environ.get(JAR_VARIABLE)
    if named:
        assert Path(named).is_file(), f"{JAR_VARIABLE} names no file: {named}"
        return named
    cached = sorted(Path(JavaJarServer.JAR_CACHE).glob("beam-runners-flink-*server*"))
    if not cached:
        pytest.skip(
            f"no Flink job server: {JAR_VARIABLE} is not set and Beam's jar cache has "
            "none; docs/operations.md says how to get one"
        )
    return str(cached[-1])


def test_log_reaches_every_output(in_memory):
    _, summary, files = in_memory
    events = summary.sources["events"]
    assert min(events.accepted, events.duplicates, events.dead_letters) > 0
    # 3 shards x 3 splits x 2 kinds of examples, and the other four artifacts.
    assert len([name for name in files if "data_tfrecord" in name]) == 18
    folders = {name.split("/")[0] for name in files}
    assert folders == {
        *("interactions", "impressions", "catalog", "profiles"),
        *("dead_letters", "summary"),
    }


def test_check_rejects_changed_missing_and_added_files(in_memory):
    _, _, expected = in_memory
    name = next(iter(expected))
    without = {key: expected[key] for key in expected if key != name}
    for wrong in (expected | {name: "0" * 64}, without, expected | {"more": "0" * 64}):
        with pytest.raises(AssertionError):
            check_same_files(wrong, expected)


def test_second_run_in_memory_writes_the_same_bytes(in_memory):
    folder, _, expected = in_memory
    check_same_files(run(folder, "again", IN_MEMORY)[1], expected)


def test_worker_processes_write_the_same_bytes(in_memory):
    folder, _, expected = in_memory
    check_same_files(run(folder, "processes", MULTI_PROCESSING)[1], expected)


# A thread of Beam's worker ends with its channel, which the job server closes.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_flink_writes_the_same_bytes(in_memory):
    jar = job_server()
    folder, _, expected = in_memory
    options = [*FLINK, f"--flink_job_server_jar={jar}"]
    check_same_files(run(folder, "flink", options)[1], expected)
