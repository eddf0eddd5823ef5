"""The embedded server in a process of its own, for gates, the demo and benchmarks."""

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from serving.errors import ServerStartError

_KILL_AFTER_S = 15.0
_LOG_TAIL_CHARS = 2000


class ServerProcess:
    """Runs `python -m serving.server` for as long as a context lasts.

    The process ends with the context and, should this process be killed, with it too.

    Args:
        root: serving root in TF Serving's layout.
        start_timeout_s: seconds within which every model must be loaded and warm.
        options: further arguments of the program.

    Attributes:
        target: "host:port" once started.
        rest_port: of the REST API; None without the option `--rest-port`.
        models: versions that answer, by model name.
        load_errors: why a model does not answer, by model name.
    """

    def __init__(
        self,
        root: Path,
        *,
        start_timeout_s: float = 180.0,
        options: Sequence[str] = (),
    ):
        self.root = Path(root)
        self._options = tuple(options)
        self.target = ""
        self.rest_port: int | None = None
        self.models: dict[str, list[int]] = {}
        self.load_errors: dict[str, str] = {}
        self._start_timeout_s = start_timeout_s
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._running().pid

    def start(self) -> Self:
        """Starts the server and waits until it answers.

        Raises:
            ServerStartError: if it ends or does not answer in time, with its log.
        """
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  closed by `stop`
        code_root = str(Path(__file__).resolve().parents[1])
        paths = [code_root, *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "serving.server"),
                *("--root", str(self.root), "--port", "0", "--stop-with-stdin"),
                *self._options,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
        try:
            ready = self._read_ready()
        except BaseException:
            self.stop()
            raise
        self.target = ready["target"]
        self.rest_port = ready["rest_port"]
        self.models = ready["models"]
        self.load_errors = ready["errors"]
        return self

    def stop(self) -> int | None:
        """Stops the server, gently first.

        Returns:
            The exit code once the process is gone; None if there was none.
        """
        if self._process is None:
            return None
        process, self._process = self._process, None
        process.terminate()
        try:
            process.wait(_KILL_AFTER_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout, self._log):
            if pipe is not None:
                pipe.close()
        return process.returncode

    def peak_rss_mib(self) -> float:
        """Returns the largest memory the process has held so far, in MiB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        line = next(x for x in status.splitlines() if x.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the server process is not running; call `start` first")
        return self._process

    def _read_ready(self) -> dict:
        """Returns the server's first line of output."""
        process = self._running()
        stdout = process.stdout
        assert stdout is not None, "it was opened as a pipe"
        lines: queue.Queue[bytes] = queue.Queue()
        reader = threading.Thread(
            target=lambda: lines.put(stdout.readline()), daemon=True
        )
        reader.start()
        try:
            line = lines.get(timeout=self._start_timeout_s)
        except queue.Empty:
            raise ServerStartError(
                f"the server did not answer within {self._start_timeout_s:g} s. "
                f"Its log ends: {self._log_tail()}"
            ) from None
        if not line:
            code = process.wait()
            raise ServerStartError(
                f"the server ended with exit code {code}. "
                f"Its log ends: {self._log_tail()}"
            )
        return json.loads(line)

    def _log_tail(self) -> str:
        self._log.flush()
        self._log.seek(0)
        return self._log.read().decode(errors="replace")[-_LOG_TAIL_CHARS:].strip()
