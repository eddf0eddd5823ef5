"""The server in its own process: it starts, says why it does not, and never stays."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from serving.client import RecommendationClient
from serving.errors import ServerStartError
from serving.server_process import ServerProcess
from tests.serving.toy_release import place

pytestmark = pytest.mark.component


def _is_running(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def _ends(pid: int, within_s: float = 30.0) -> bool:
    deadline = time.monotonic() + within_s
    while _is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not _is_running(pid)


def test_process_serves_and_ends_with_the_context(good_bundle, tmp_path):
    place(good_bundle, tmp_path, 4)
    with ServerProcess(tmp_path) as server:
        pid = server.pid
        assert server.models["recommender"] == [4]
        assert server.peak_rss_mib() > 50
        with RecommendationClient(server.target) as client:
            assert client.recommend("ana", k=2).item_ids == ["i00", "i01"]
        assert server.stop() == 0
    assert not _is_running(pid)


def test_process_that_cannot_start_says_why(tmp_path):
    with (
        pytest.raises(ServerStartError, match=r"exit code 1\..*push a release"),
        ServerProcess(tmp_path),
    ):
        pass


def test_process_that_is_not_ready_in_time_is_ended(good_bundle, tmp_path):
    place(good_bundle, tmp_path, 1, "ranking")
    with (
        pytest.raises(ServerStartError, match=r"did not answer within 0.1 s"),
        ServerProcess(tmp_path, start_timeout_s=0.1),
    ):
        pass


def test_process_ends_when_its_parent_is_killed(good_bundle, tmp_path):
    place(good_bundle, tmp_path, 1, "ranking")
    code = (
        "import sys, json, time; from serving.server_process import ServerProcess\n"
        "server = ServerProcess(sys.argv[1]).start()\n"
        "print(json.dumps(server.pid), flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        env=dict(os.environ),
    )
    try:
        pid = json.loads(parent.stdout.readline())
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    assert _ends(pid)
